"""The commands `vedette engine import`, `list`, `inspect` and `verify`.

`app` is mounted by the command line of the client's package. Nothing that the base install lacks is imported
before a command needs it; what is wrong gets one line and an exit code: 2 where the command was, 1 where the
engine is.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from vedette_engines.cli_bench import bench_command, profile_command, view_command
from vedette_engines.cli_build import build_command
from vedette_engines.cli_import import import_command
from vedette_engines.cli_page import listing, page
from vedette_engines.cli_plan import plan_command
from vedette_engines.cli_repository import (
    diff_command,
    gc_command,
    history_command,
    restore_command,
    rollback_command,
)
from vedette_engines.cli_roots import DEFAULT_ROOT, VARIABLE, user_roots
from vedette_engines.errors import (
    BundleError,
    EngineNotFoundError,
    EnginesError,
    ImportInputError,
    MissingRuntimeError,
)
from vedette_engines.repository import EngineRepository, Listed, boxed_root
from vedette_engines.withdrawn import withdrawal_reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.runners.verdicts import Forecaster

P = ParamSpec("P")

_WRONG_COMMAND = 2
_WRONG_ENGINE = 1

app = typer.Typer(
    name="engine", help="Import, list and check engines.", no_args_is_help=True, pretty_exceptions_enable=False
)

EnginesDir = Annotated[
    list[Path] | None,
    typer.Option(
        "--engines-dir",
        metavar="DIR",
        help="Where to look, besides the engines in the box; may be repeated. "
        f"Default: ${VARIABLE}, else {DEFAULT_ROOT}.",
    ),
]


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn this package's errors into one line and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except EnginesError as error:
            typer.echo(f"vedette engine: {error}", err=True)
            wrong_command = isinstance(error, ImportInputError | EngineNotFoundError | MissingRuntimeError)
            raise typer.Exit(_WRONG_COMMAND if wrong_command else _WRONG_ENGINE) from error

    return guarded


app.command("import")(_guarded(import_command))
app.command("build")(_guarded(build_command))
app.command("diff")(_guarded(diff_command))
app.command("rollback")(_guarded(rollback_command))
app.command("restore")(_guarded(restore_command))
app.command("history")(_guarded(history_command))
app.command("gc")(_guarded(gc_command))
app.command("bench")(_guarded(bench_command))
app.command("profile")(_guarded(profile_command))
app.command("plan")(_guarded(plan_command))
app.command("view")(_guarded(view_command))


@app.command("list")
@_guarded
def list_command(engines_dir: EnginesDir = None) -> None:
    """List all engines: the newest version of each first, what would run them here, bad ones with the reason."""
    typer.echo(listing(_repository(engines_dir).list(), _forecaster()))


@app.command("inspect")
@_guarded
def inspect_command(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The engine. Default version: the newest.")],
    engines_dir: EnginesDir = None,
) -> None:
    """Show all that an engine's manifest says, and of each file what would run it here, or why nothing would."""
    engine, _, version = name.partition("@")
    bundle = _repository(engines_dir).resolve(engine, version)
    withdrawn = withdrawal_reasons(bundle.path.parent.parent, bundle.name).get(bundle.version)
    typer.echo(page(bundle, _forecaster(), withdrawn))


@app.command("verify")
@_guarded
def verify_command(
    name: Annotated[
        str, typer.Argument(metavar="[NAME[@VERSION]]", help="The engine. Default: all versions of all engines.")
    ] = "",
    engines_dir: EnginesDir = None,
) -> None:
    """Check engines again: hashes, declared shapes, and what they give on noise. Exit code 1: one is bad."""
    engine, _, version = name.partition("@")
    found = [
        entry
        for entry in _repository(engines_dir).list()
        if engine in {"", entry.name} and version in {"", entry.version}
    ]
    if not found:
        raise EngineNotFoundError(f"no engine {name!r}; `vedette engine list` shows what there is")
    reasons = [_verify(entry) for entry in found]
    for entry, reason in zip(found, reasons, strict=True):
        typer.echo(f"{entry.name} {entry.version}: {reason or 'ok'}")
    if any(reasons):
        raise typer.Exit(_WRONG_ENGINE)


def _verify(entry: Listed) -> str:
    """Check one engine and tell what is wrong with it; empty: nothing."""
    if entry.bundle is None:
        return f"bad: {entry.reason}"
    try:
        from vedette_engines.graft.trial import try_engine  # noqa: PLC0415  (needs a runtime)
    except ImportError as error:
        raise MissingRuntimeError(f"{error.name} not installed; verifying needs: pip install 'vedette[cpu]'") from error
    try:
        try_engine(entry.bundle)
    except BundleError as error:
        return f"bad: {error}"
    return ""


def _forecaster() -> Forecaster:
    from vedette_engines.runners.verdicts import Forecaster  # noqa: PLC0415  (looks at the machine)

    return Forecaster()


def _repository(engines_dir: list[Path] | None) -> EngineRepository:
    return EngineRepository([*user_roots(engines_dir), boxed_root()])


if __name__ == "__main__":
    app()
