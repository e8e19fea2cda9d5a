"""The commands of `vedette channels`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette_client.cli.connected import connected
from vedette_client.cli.events_times import read_time, show_span, show_time
from vedette_client.cli.files import check_jpeg_place, check_place, write_whole
from vedette_client.cli.outcome import FAILED, say, tell
from vedette_client.client import Client  # noqa: TC001  connected() has the annotations evaluated
from vedette_client.errors import OptionsError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Keep channels: zones, rules and masks, and cameras that the server calls itself.",
)

Name = Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write it here.")]


@app.command("list")
@connected
async def list_command(client: Client) -> None:
    """List the server's channels, and where each stands."""
    from vedette_client.cli.channels_pages import channels_table  # noqa: PLC0415  other commands need no table
    from vedette_client.cli.terminal import WIDEST, console  # noqa: PLC0415

    channels = await client.channels.list()
    if not channels:
        typer.echo("no channels")
        return
    output = console(file_width=WIDEST)
    output.print(channels_table(channels, f"channels of {client.address}", output.width))


@app.command("show")
@connected
async def show_command(
    client: Client,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="The channels. Default: all.", show_default=False)
    ] = None,
) -> None:
    """Show channels as TOML, for `vedette channels apply` and `vedette serve --channels`; passwords are hidden."""
    from vedette_client.cli.channels_pages import status_lines  # noqa: PLC0415

    channels = [await client.channels.get(name) for name in names] if names else await client.channels.list()
    blocks = ["".join(f"# {line}\n" for line in status_lines(one)) + one.to_toml() for one in channels]
    typer.echo("\n".join(blocks), nl=False)


@app.command("apply")
@connected
async def apply_command(
    client: Client,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, as `vedette serve --channels` takes it.")],
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="NAME", help="Only this channel of it; may be repeated. Default: all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read the file, and change nothing.")] = False,
) -> None:
    """Make the channels of a file, and change those that there are to what it says.

    Channels that the file does not name stay as they are. One that the server refuses does not stop the others.
    """
    from vedette_client.channels_file import read_channels_file  # noqa: PLC0415

    chosen = _chosen(file, read_channels_file(file, os.environ), channel or ())
    if dry_run:
        typer.echo(f"{file}: {len(chosen)} channels can be read: {', '.join(chosen)}")
        return
    refused = 0
    for name, settings in chosen.items():
        try:
            made, outcome = await client.channels.apply(name, settings)
        except RefusedError as error:
            if error.code in {"UNAUTHENTICATED", "UNIMPLEMENTED"}:
                raise
            refused += 1
            say("vedette channels apply", f"{name}: {error}")
        else:
            tell(f"{name}: {outcome}, revision {made.revision}")
    if refused:
        raise typer.Exit(FAILED)


def _chosen(file: Path, wanted: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    if not wanted:
        raise OptionsError(f"{file}: no channels in it")
    if unknown := [name for name in names if name not in wanted]:
        raise OptionsError(f"--channel is {unknown[0]!r}; {file} has {', '.join(wanted)}")
    return {name: settings for name, settings in wanted.items() if not names or name in names}


@app.command("delete")
@connected
async def delete_command(
    client: Client, names: Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="The channels.")]
) -> None:
    """Forget channels: their streams end, their events are kept as retention says."""
    for name in names:
        await client.channels.delete(name)
        typer.echo(f"{name}: deleted")


@app.command("snapshot")
@connected
async def snapshot_command(
    client: Client,
    name: Name,
    output: Output,
    annotated: Annotated[bool, typer.Option("--annotated", help="With boxes, zones and lines drawn in.")] = False,
    max_width: Annotated[
        int, typer.Option("--max-width", metavar="PX", min=0, help="Widest picture; 0: as it came.")
    ] = 0,
) -> None:
    """Fetch a channel's latest picture, a JPEG, masked where the channel says so."""
    check_jpeg_place(output, "-o")
    shown = await client.channels.snapshot(name, annotated=annotated, max_width=max_width)
    write_whole(output, shown.jpeg)
    when = f", taken {show_time(shown.time_ns)}" if shown.time_ns is not None else ""
    typer.echo(f"{output}: {len(shown.jpeg)} bytes{when}")


@app.command("recording")
@connected
async def recording_command(
    client: Client,
    name: Name,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="What time it is to show: -1h, 18:00, ISO.")],
    output: Output,
    playable: Annotated[
        bool, typer.Option("--playable", help="What browsers play: transcoded where the camera sends something else.")
    ] = False,
) -> None:
    """Fetch the file of a channel's recording that shows a time, or the next one behind it."""
    check_place(output, "-o")
    at_ns = read_time(at, "--at")
    recorded = await client.channels.recording(name, at_ns, output, playable=playable)
    info = recorded.info
    begins = f", begins {show_time(info.start_time_ns)}" if info.start_time_ns is not None else ""
    where = f"the last keyframe before the time is {show_span(recorded.seek_s)} into it"
    if info.start_time_ns is not None and info.start_time_ns > at_ns:
        where = f"{show_span((info.start_time_ns - at_ns) / 1e9)} after the time"
    typer.echo(f"{output}: {info.size_bytes} bytes{begins}; {where}")
