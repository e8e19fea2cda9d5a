"""Tables of channels, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette_client.channels_data import PullState
from vedette_client.cli.events_lines import printable
from vedette_client.cli.events_times import show_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_client.channels_data import Channel

_COUNTED = (("zones", "zone"), ("lines", "line"), ("rules", "rule"), ("masks", "mask"), ("stages", "stage"))


def channels_table(channels: Sequence[Channel], title: str) -> Table:
    """Show channels, one a row."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    for name in ("channel", "state", "latest picture", "camera faults", "has", "evidence", "made by"):
        table.add_column(name, no_wrap=name != "has", overflow="ellipsis" if name != "has" else "fold")
    table.add_column("revision", justify="right", no_wrap=True)
    for one in channels:
        status = one.status
        faults = ", ".join(fault.word.removeprefix("camera_").replace("_", " ") for fault in status.faults)
        table.add_row(
            Text(printable(one.name), style="bold"),
            _state(one),
            Text(show_time(status.frame_time_ns) if status.frame_time_ns is not None else "-", style="dim"),
            Text(faults or "-", style="red" if faults else "dim"),
            Text(_has(one) or "-"),
            Text(str(one.settings.get("evidence", "original"))),
            Text("file" if status.from_file else "call" if one.create_time_ns is not None else "stream"),
            Text(str(one.revision) if one.revision else "-"),
        )
    return table


def status_lines(channel: Channel) -> Iterator[str]:
    """Say where a channel stands, in lines without a break in them."""
    status = channel.status
    yield f"{'connected' if status.connected else 'not connected'}, revision {channel.revision}"
    if status.pull is not PullState.NONE:
        yield f"source: {status.pull.word}" + (f": {printable(status.detail)}" if status.detail else "")
    if status.faults:
        yield f"camera faults: {', '.join(fault.word for fault in status.faults)}"
    if status.from_file:
        yield "made by the server's file of channels: it is changed there"


def _state(channel: Channel) -> Text:
    status = channel.status
    words = Text("connected", style="green") if status.connected else Text("-", style="dim")
    if status.pull is PullState.NONE or (status.connected and status.pull is PullState.STREAMING):
        return words
    state = (status.pull.word, "green" if status.pull is PullState.STREAMING else "yellow")
    return Text.assemble(state, (f": {printable(status.detail)[:40]}" if status.detail else "", "dim"))


def _has(channel: Channel) -> str:
    counts = ((len(channel.settings.get(key, ())), word) for key, word in _COUNTED)
    told = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    told += ["source"] if "source" in channel.settings else []
    told += ["recording"] if channel.settings.get("recording", {}).get("enabled") else []
    return ", ".join(told)
