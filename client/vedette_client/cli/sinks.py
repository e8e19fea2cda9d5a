"""The commands of `vedette sinks`."""

from __future__ import annotations

from typing import Annotated

import typer

from vedette_client.cli.connected import connected
from vedette_client.cli.outcome import FAILED, say
from vedette_client.client import Client  # noqa: TC001  connected() has the annotations evaluated
from vedette_client.sinks import REPLAY_TIMEOUT_S

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="See where events are delivered to, and put through again what was refused.",
)


@app.command("list")
@connected
async def list_command(client: Client) -> None:
    """List the server's sinks, and how delivering goes."""
    from vedette_client.cli.sinks_pages import sinks_notes, sinks_table  # noqa: PLC0415  other commands need no table
    from vedette_client.cli.terminal import WIDEST, console  # noqa: PLC0415

    sinks = await client.sinks.list()
    if not sinks:
        typer.echo("no sinks")
        return
    page = console(file_width=WIDEST)
    page.print(sinks_table(sinks, f"sinks of {client.address}"))
    for note in sinks_notes(sinks):
        # Not wrapped: an address that is broken can be neither read nor copied.
        page.print(note, soft_wrap=True)


@app.command("replay")
@connected
async def replay_command(
    client: Client,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The sink.")],
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=1, help="Wait so long; the server goes on all the same.")
    ] = REPLAY_TIMEOUT_S,
) -> None:
    """Put a sink's dead letters through again, the oldest first; those that fail again are kept."""
    from vedette_client.cli.outcome import printable  # noqa: PLC0415

    replayed = await client.sinks.replay(name, timeout_s=timeout)
    if not replayed.delivered and not replayed.kept:
        typer.echo(f"{name}: no dead letters")
        return
    typer.echo(f"{name}: {replayed.delivered} delivered, {replayed.kept} kept")
    if replayed.kept:
        why = printable(replayed.reason) or "the server's log says why"
        say("vedette sinks replay", f"{name}: {replayed.kept} failed again: {why}")
        raise typer.Exit(FAILED)
