"""The command `vedette`: find the command that is meant, run it, and say in one line what is wrong.

A command's module is imported when the command is called or its own help is wanted, and not before: the
list of commands costs nothing, and a camera box without the server's libraries can show it. The commands of
the other packages are found through the entry points of `vedette.commands`.

Exit codes: 0 done; 1 it failed on the way; 2 the command line is wrong or an extra is missing; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vedette_client.cli.outcome import FAILED, INTERRUPTED, WRONG, say
from vedette_client.errors import ClientError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GROUP = "vedette.commands"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A command before it is imported.

    Attributes:
        help: What the list of commands says.
        target: `module:typer_app`; None: an entry point of the same name tells.
    """

    help: str
    target: str | None = None


_COMMANDS = {
    "demo": _Entry(
        "Show it all: a server, four synthetic cameras, their events, an annotated clip.", "vedette_client.cli.demo:app"
    ),
    "serve": _Entry("Serve: take cameras over gRPC and answer with what is seen."),
    "stream": _Entry("Send cameras, files or scenes and show what is seen.", "vedette_client.cli.stream:app"),
    "watch": _Entry("Watch a server: sessions, events, results.", "vedette_client.cli.watch:app"),
    "events": _Entry("Find, fetch, acknowledge and verify events.", "vedette_client.cli.events:app"),
    "channels": _Entry("Keep channels: zones, rules, masks, cameras.", "vedette_client.cli.channels:app"),
    "sinks": _Entry("See where events go; replay what was refused.", "vedette_client.cli.sinks:app"),
    "loadtest": _Entry("Send many cameras and measure what a server holds.", "vedette_client.cli.loadtest:app"),
    "engine": _Entry("Build, check, publish and steer engines."),
    "gpu": _Entry("Say what of a GPU works here, and why the rest does not."),
}


class _Commands(TyperGroup):
    """The commands; each is a mere name with its help until it is called."""

    called = ""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            self.called = name
            command = _import_command(name)
            if name == "engine":
                command = _with_server(command, rest)
        return name, command, rest


class _MissingExtraError(Exception):
    """A command's library is not installed."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    group = _Commands(
        name="vedette",
        help="Cameras in, answers out: video analytics over gRPC.",
        commands={name: TyperCommand(name, help=entry.help) for name, entry in _COMMANDS.items()},
        params=_own_options(),
        callback=lambda **_: None,
    )
    try:
        code = group.main(list(args) or ["--help"], prog_name="vedette", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        say(context.command_path if context else "vedette", error.format_message())
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (ClientError, OSError, _MissingExtraError) as error:
        say(f"vedette {group.called}", str(error))
        return WRONG if isinstance(error, OptionsError | _MissingExtraError) else FAILED
    return code if isinstance(code, int) else 0


def _own_options() -> list[Any]:
    """Make the options that stand before the command."""

    def declared(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_show_version, help="Say the version."
        ),
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.callback()(declared)
    return typer.main.get_command(app).params


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vedette {metadata.version('vedette')}")
        raise typer.Exit


def _import_command(name: str) -> Any:
    """Import a command.

    Raises:
        _MissingExtraError: What it imports is not installed.
    """
    entry = _COMMANDS[name]
    try:
        if entry.target is not None:
            module, _, attribute = entry.target.partition(":")
            app = getattr(importlib.import_module(module), attribute)
        else:
            app = _entry_point(name).load()
    except ImportError as error:
        raise _MissingExtraError(
            f"{error.name or error} is not installed; it needs an extra: pip install 'vedette[cpu]', "
            "or pip install 'vedette[gpu]' for CUDA"
        ) from error
    return typer.main.get_command(app)


def _with_server(local: Any, args: Sequence[str]) -> Any:
    """Add the commands that ask a running server to those on a repository."""
    from vedette_client.cli.engine_group import engine_group  # noqa: PLC0415  no other command needs it

    return engine_group(local, args)


def _entry_point(name: str) -> metadata.EntryPoint:
    for point in metadata.entry_points(group=_GROUP, name=name):
        return point
    raise ImportError(f"the command {name!r} of the group {_GROUP}")
