"""The command `vedette serve`.

Having read the settings, it becomes the supervisor (`supervise.py`) of a worker that gets the same flags, or serves
by itself when told `--no-supervise`. `python -m vedette_server` is the worker.

Its options are made from the declarations in `settings.py`, one flag each. Imports nothing but the standard
library and typer until it runs, so that a client's install, which lacks the server's libraries, can still
show the help and say what is missing.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette_server.errors import SettingsError
from vedette_server.settings_load import load
from vedette_server.settings_options import Option, options
from vedette_server.settings_page import page, toml

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.settings import Settings
    from vedette_server.supervise import Plan

# What a server needs beyond the base install, by the name under which it is imported.
_LIBRARIES = ("onnxruntime", "cv2", "simplejpeg", "structlog", "psutil", "prometheus_client", "grpc_reflection")
_WRONG = 2


def _serve(config: Path | None, print_settings: bool, flags: dict[str, object], *, supervised: bool) -> int:
    """Read the settings, look for what is missing, and hand over to the server or to its supervisor."""
    try:
        settings = load(config, os.environ, flags)
        if print_settings:
            typer.echo(page(settings), nl=False)
            return 0
        _refuse_missing()
        if supervised and settings.supervise.enabled and os.name == "posix":
            _become_supervisor(settings, ["--config", str(config)] if config else [], flags)
        return _runner()(settings)
    except SettingsError as error:
        typer.echo(f"vedette serve: {error}", err=True)
        return _WRONG


def _refuse_missing() -> None:
    """Look for the server's libraries.

    Raises:
        SettingsError: A library is not installed; says which extra has it.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} not installed; the server needs an extra: "
            "pip install 'vedette[cpu]', or pip install 'vedette[gpu]' for CUDA"
        )


def _runner() -> Callable[[Settings], int]:
    """Import the server itself."""
    if sys.__stderr__ is not None:
        # A crash in a decoder or a driver says where, and so does a worker that hangs, at SIGABRT.
        faulthandler.enable(sys.__stderr__)
    runner: Callable[[Settings], int] = importlib.import_module("vedette_server.app").run
    return runner


def _become_supervisor(settings: Settings, config: list[str], flags: dict[str, object]) -> None:
    """Put the supervisor in this process's place; what was imported here, it needs not."""
    # -P: without it -m would look for modules in the working directory first, which `vedette` does not.
    python = [sys.executable, "-P", "-m"]
    command = [*python, "vedette_server", *config, *_arguments(flags)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*python, "vedette_server.supervise", _plan(settings).text(), *command])  # noqa: S606


def _plan(settings: Settings) -> Plan:
    # The worker needs none of it.
    from vedette_server.restarts import Limits  # noqa: PLC0415
    from vedette_server.supervise import Plan  # noqa: PLC0415
    from vedette_server.worker_process import Patience  # noqa: PLC0415

    told = settings.supervise
    return Plan(
        host=settings.server.host,
        port=settings.server.port,
        metrics_host=settings.metrics.host,
        metrics_port=None if settings.metrics.port == "off" else settings.metrics.port,
        json=settings.log.format == "json",
        limits=Limits(told.backoff_s, told.backoff_max_s, told.settled_s, told.max_restarts, told.window_s),
        patience=Patience(told.start_timeout_s, told.hang_timeout_s),
    )


def _arguments(flags: dict[str, object]) -> list[str]:
    """Write flags that were given as a command line has them."""
    arguments: list[str] = []
    for option in options():
        value = flags.get(option.name)
        if isinstance(value, bool):
            arguments.append(option.flag if value else _negative(option))
        elif value is not None:
            arguments += [f"{option.flag}={item}" for item in (value if isinstance(value, list | tuple) else [value])]
    return arguments


def _negative(option: Option) -> str:
    return f"--no-{option.flag.removeprefix('--')}"


def _commanded(values: dict[str, Any], *, supervised: bool) -> None:
    config = values.pop("config") or os.environ.get("VEDETTE_CONFIG") or None
    print_settings = values.pop("print_settings")
    flags = {option.name: values[_parameter(option)] for option in options()}
    # A list without items is a flag that was not given.
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    raise typer.Exit(_serve(Path(config) if config else None, print_settings, given, supervised=supervised))


def _parameter(option: Option) -> str:
    return f"{option.section}_{option.key}"


def _annotation(option: Option) -> Any:
    """Make the flag of an option; wrong values are refused by the settings, in one line, not by typer."""
    unit = option.flag_unit or option.unit
    default = "none" if option.default in (None, ()) else toml(option.default).strip('"')
    if option.flag_unit and isinstance(option.default, float):
        default = f"{option.default * 1000:g}"
    facts = f"default: {default}{' ' + unit if unit and default != 'auto' else ''}"
    if option.choices:
        facts = f"{', '.join(option.choices)}; {facts}"
    help_text = f"{option.help} ({facts}{'; repeatable' if option.is_list else ''})"
    panel = f"{option.section.capitalize()} options"
    if option.kind is bool:
        names = f"{option.flag}/{_negative(option)}"
        return Annotated[bool | None, typer.Option(names, help=help_text, show_default=False, rich_help_panel=panel)]
    kind = list[str] | None if option.is_list else str | None
    metavar = (unit or {int: "number", float: "number", Path: "path", str: "text"}[option.kind]).upper()
    return Annotated[
        kind, typer.Option(option.flag, help=help_text, metavar=metavar, show_default=False, rich_help_panel=panel)
    ]


def _signature() -> inspect.Signature:
    """Put all flags together as the signature that typer reads."""
    file = typer.Option("--config", help="TOML file with settings (default: none).", metavar="FILE", show_default=False)
    show = typer.Option("--print-settings", help="Print the effective settings as commented TOML, and end.")
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("config", keyword, default=None, annotation=Annotated[str | None, file])]
    parameters += [
        inspect.Parameter(_parameter(option), keyword, default=None, annotation=_annotation(option))
        for option in options()
    ]
    parameters += [inspect.Parameter("print_settings", keyword, default=False, annotation=Annotated[bool, show])]
    return inspect.Signature(parameters)


def _app(*, supervised: bool) -> typer.Typer:
    def command(**values: Any) -> None:
        _commanded(values, supervised=supervised)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    signature = _signature()
    # typer reads the signature and the annotations of the function that it is given.
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app.command("serve", help="Serve: take cameras over gRPC and answer with what is seen.")(command)
    return app


serve = _app(supervised=True)
worker = _app(supervised=False)
