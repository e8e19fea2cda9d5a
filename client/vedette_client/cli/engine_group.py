"""The commands of `vedette engine` as one: those on a repository here, and those that ask a running server.

With `--server` anywhere in the arguments the server is asked. Some commands exist for a server only; they go to
the server of `VEDETTE_SERVER`, else to the usual address, when `--server` is not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vedette_client.cli.engine_remote import app

if TYPE_CHECKING:
    from collections.abc import Sequence

_PANEL = "Commands on a running server (--server HOST:PORT)"


def engine_group(local: Any, args: Sequence[str]) -> Any:
    """Join the commands on a repository with those on a server.

    Args:
        local: The group of the commands on a repository.
        args: What follows `vedette engine` on the command line.

    Returns:
        The group, with the commands that the arguments mean.
    """
    remote = typer.main.get_command(app)
    commands: dict[str, Any] = remote.commands  # type: ignore[attr-defined]
    asked = any(one == "--server" or one.startswith("--server=") for one in args)
    both = sorted(name for name in commands if name in local.commands)
    for name, command in commands.items():
        if name not in local.commands:
            command.rich_help_panel = _PANEL
        if asked or name not in local.commands:
            local.commands[name] = command
    told = ", ".join(both[:-1]) + f" and {both[-1]}" if len(both) > 1 else "".join(both)
    local.help = f"{local.help or ''}\n\nWith --server HOST:PORT {told} ask a running server, too."
    return local
