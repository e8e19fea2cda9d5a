"""Tables and pages of events, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from vedette_client.cli.engine_pages import readable_bytes
from vedette_client.cli.events_lines import (
    ID_CHARS,
    acknowledged,
    evidence_words,
    kind_words,
    lasted,
    measures,
    score,
    state_words,
    who,
)
from vedette_client.cli.events_times import show_span, show_time
from vedette_client.cli.outcome import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vedette_client.events_data import Event, Evidence

_ROOMY = 160


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table of events.

    Attributes:
        name: Its head.
        cell: What it says of an event, in a window of so many characters.
        from_width: It is shown in windows that are no narrower.
        most: So wide at most, where there is not room for all.
        justify: To which side.
    """

    name: str
    cell: Callable[[Event, int], Text]
    from_width: int = 0
    most: int | None = None
    justify: Literal["left", "right"] = "left"


def _began(event: Event, width: int) -> Text:
    told = show_time(event.start_time_ns)
    # Month, day and time of day are enough for whoever has little room.
    return Text(told if width >= _ROOMY else told[5:19], style="dim")


_COLUMNS = (
    _Column("began", _began),
    _Column("channel", lambda event, _: Text(printable(event.channel), style="bold"), most=12),
    _Column("kind", lambda event, _: Text(*kind_words(event)), most=14),
    _Column("rule", lambda event, _: Text(printable(event.rule)), 100, most=14),
    _Column("place", lambda event, _: Text(printable(event.place or "-")), 120, most=10),
    _Column("object", lambda event, _: Text(who(event), style="cyan"), most=16),
    _Column("lasted", lambda event, _: Text(lasted(event)), 140, justify="right"),
    _Column("score", lambda event, _: Text(score(event).strip()), _ROOMY, justify="right"),
    _Column("state", lambda event, _: Text(*state_words(event))),
    _Column("seen by", lambda event, _: Text(*acknowledged(event)), 120, most=12),
    _Column("clip", lambda event, _: Text(*evidence_words(event.clip)), 100),
    _Column("event", lambda event, _: Text(printable(event.event_id[:ID_CHARS]), style="dim")),
)


def events_table(events: Sequence[Event], title: str, width: int) -> Table:
    """Show events, one a row; in a narrow window with what tells most."""
    columns = [one for one in _COLUMNS if one.from_width <= width]
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    for one in columns:
        most = one.most if width < _ROOMY else None
        table.add_column(one.name, justify=one.justify, no_wrap=True, overflow="ellipsis", max_width=most)
    for event in events:
        table.add_row(*(one.cell(event, width) for one in columns))
    return table


def event_page(event: Event) -> Table:
    """Show all that is known of an event."""
    page = Table.grid(padding=(0, 2))
    page.add_column(style="dim", no_wrap=True)
    page.add_column(overflow="fold")
    for name, words in _facts(event):
        page.add_row(name, words)
    return page


def _facts(event: Event) -> Iterator[tuple[str, Text]]:
    yield "event", Text(printable(event.name), style="bold")
    yield "what", Text.assemble(kind_words(event), f" ({printable(event.rule)})")
    if event.detail:
        yield "", Text(printable(event.detail))
    if event.place:
        yield "where", Text(printable(event.place))
    yield "state", Text(*state_words(event))
    yield "began", Text(show_time(event.start_time_ns))
    if event.end_time_ns is None:
        yield "last seen", Text(show_time(event.update_time_ns))
    else:
        yield "ended", Text(show_time(event.end_time_ns))
    yield "lasted", Text(show_span(event.duration_s))
    yield from _objects(event)
    yield "seen by", _seen(event)
    for name, evidence in (
        ("snapshot", event.snapshot),
        ("with boxes", event.annotated_snapshot),
        ("clip", event.clip),
    ):
        yield name, _evidence(evidence)
    if event.engine_version:
        yield "engine", Text(printable(event.engine_version))
    if event.session:
        yield "session", Text(f"{printable(event.session)}, frame {event.sequence}")
    yield "record", Text(f"{event.record} of the chain")


def _objects(event: Event) -> Iterator[tuple[str, Text]]:
    if event.label or event.track_ids:
        yield "object", Text(who(event), style="cyan")
    if len(event.track_ids) > 1:
        yield "tracks", Text(printable(", ".join(event.track_ids)))
    if event.peak_score is not None:
        at = f" at {show_time(event.peak_time_ns)}" if event.peak_time_ns is not None else ""
        yield "best score", Text(score(event).strip() + at)
    if event.box is not None:
        yield "box", Text("{:.3f} {:.3f} to {:.3f} {:.3f}".format(*event.box))
    if event.measures:
        yield "measured", Text(measures(event))
    if event.trail:
        first, last = event.trail[0], event.trail[-1]
        ends = f"from {first.x:.3f} {first.y:.3f} to {last.x:.3f} {last.y:.3f}"
        yield "way", Text(f"{len(event.trail)} points, {ends}")


def _seen(event: Event) -> Text:
    words = Text.assemble(acknowledged(event))
    if seen := event.acknowledgement:
        if seen.token and seen.token != seen.user:
            words.append(f" (token {printable(seen.token)})")
        words.append(f", {show_time(seen.time_ns)}")
        if seen.note:
            words.append(f": {printable(seen.note)}")
    return words


def _evidence(evidence: Evidence) -> Text:
    words = Text.assemble(evidence_words(evidence))
    if evidence.size_bytes:
        words.append(f", {readable_bytes(evidence.size_bytes)}, {printable(evidence.media_type)}")
    if evidence.detail:
        words.append(f": {printable(evidence.detail)}")
    if evidence.sha256:
        words.append(f"\nsha256 {printable(evidence.sha256)}", style="dim")
    return words
