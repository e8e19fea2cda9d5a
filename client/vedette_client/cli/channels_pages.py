"""Tables of channels, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from vedette_client.channels_data import PullState
from vedette_client.cli.events_times import show_time
from vedette_client.cli.outcome import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vedette_client.channels_data import Channel

_COUNTED = (("zones", "zone"), ("lines", "line"), ("rules", "rule"), ("masks", "mask"), ("stages", "stage"))
_ROOMY = 200
_GAP = 2
_LEAST_STATE = 16


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table of channels.

    Attributes:
        name: Its head.
        cell: What it says of a channel, in a window of so many characters.
        from_width: It is shown in windows that are no narrower.
        most: So wide at most, where there is not room for all.
        justify: To which side.
    """

    name: str
    cell: Callable[[Channel, int], Text]
    from_width: int = 0
    most: int | None = None
    justify: Literal["left", "right"] = "left"


def channels_table(channels: Sequence[Channel], title: str, width: int) -> Table:
    """Show channels, one a row; in a narrow window with what tells most: which it is, and where it stands."""
    columns = [one for one in _COLUMNS if one.from_width <= width]
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    rows = [[one.cell(channel, width) for one in columns] for channel in channels]
    widths = [_wide(one, [row[at] for row in rows], width) for at, one in enumerate(columns)]
    # The state has what the others leave: why a camera waits may be long.
    widths[_STATE] = min(
        widths[_STATE], max(_LEAST_STATE, width - (sum(widths) - widths[_STATE]) - _GAP * (len(columns) - 1))
    )
    for one, most in zip(columns, widths, strict=True):
        table.add_column(one.name, justify=one.justify, no_wrap=True, overflow="ellipsis", width=most)
    for row in rows:
        table.add_row(*row)
    return table


def _wide(column: _Column, cells: Sequence[Text], width: int) -> int:
    longest = max([len(column.name), *(cell.cell_len for cell in cells)])
    return longest if column.most is None or width >= _ROOMY else min(longest, column.most)


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
    words = Text("connected", style="green") if status.connected else Text("not streaming", style="dim")
    if status.pull is PullState.NONE or (status.connected and status.pull is PullState.STREAMING):
        return words
    state = (status.pull.word, "green" if status.pull is PullState.STREAMING else "yellow")
    return Text.assemble(state, (f": {printable(status.detail)}" if status.detail else "", "dim"))


def _has(channel: Channel) -> str:
    counts = ((len(channel.settings.get(key, ())), word) for key, word in _COUNTED)
    told = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    told += ["source"] if "source" in channel.settings else []
    told += ["recording"] if channel.settings.get("recording", {}).get("enabled") else []
    return ", ".join(told)


def _latest(channel: Channel, width: int) -> Text:
    time_ns = channel.status.frame_time_ns
    told = "-" if time_ns is None else show_time(time_ns)
    # Month, day and time of day are enough for whoever has little room.
    return Text(told if width >= _ROOMY or time_ns is None else told[5:19], style="dim")


def _faults(channel: Channel, _: int) -> Text:
    faults = ", ".join(fault.word.removeprefix("camera_").replace("_", " ") for fault in channel.status.faults)
    return Text(faults or "-", style="red" if faults else "dim")


def _made_by(channel: Channel, _: int) -> Text:
    return Text("file" if channel.status.from_file else "call" if channel.create_time_ns is not None else "stream")


_COLUMNS = (
    _Column("channel", lambda one, _: Text(printable(one.name), style="bold"), most=20),
    _Column("state", lambda one, _: _state(one)),
    _Column("latest picture", _latest, 72),
    _Column("camera faults", _faults, 60, most=14),
    _Column("has", lambda one, _: Text(_has(one) or "-"), 140, most=28),
    _Column("evidence", lambda one, _: Text(printable(str(one.settings.get("evidence", "original")))), 100),
    _Column("made by", _made_by, 120),
    _Column("revision", lambda one, _: Text(str(one.revision) if one.revision else "-"), 120, justify="right"),
)
_STATE = 1
