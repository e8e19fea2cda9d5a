"""Tables and pages of events, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette_client.cli.engine_pages import readable_bytes
from vedette_client.cli.events_lines import (
    ID_CHARS,
    acknowledged,
    evidence_words,
    kind_words,
    measures,
    printable,
    score,
    state_words,
    who,
)
from vedette_client.cli.events_times import show_span, show_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_client.events_data import Event, Evidence


def events_table(events: Sequence[Event], title: str) -> Table:
    """Show events, one a row."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("began", no_wrap=True)
    for name in ("channel", "kind", "rule", "place", "object"):
        table.add_column(name, overflow="fold")
    for name in ("lasted", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("seen by", overflow="fold")
    for name in ("clip", "event"):
        table.add_column(name, no_wrap=True)
    for event in events:
        table.add_row(
            Text(show_time(event.start_time_ns), style="dim"),
            Text(printable(event.channel), style="bold"),
            Text(*kind_words(event)),
            Text(printable(event.rule)),
            Text(printable(event.place or "-")),
            Text(who(event), style="cyan"),
            Text(show_span(event.duration_s)),
            Text(score(event).strip()),
            Text(*state_words(event)),
            Text(*acknowledged(event)),
            Text(*evidence_words(event.clip)),
            Text(event.event_id[:ID_CHARS], style="dim"),
        )
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
    kind, style = kind_words(event)
    yield "what", Text(kind, style=style).append(f" ({printable(event.rule)})", style="default")
    if event.detail:
        yield "", Text(printable(event.detail))
    if event.place:
        yield "where", Text(printable(event.place))
    yield "state", Text(*state_words(event))
    yield "began", Text(show_time(event.start_time_ns))
    yield "last seen", Text(show_time(event.update_time_ns))
    if event.end_time_ns is not None:
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
    words = Text(*acknowledged(event))
    if seen := event.acknowledgement:
        words.append(f", {show_time(seen.time_ns)}", style="default")
        if seen.note:
            words.append(f": {printable(seen.note)}", style="default")
    return words


def _evidence(evidence: Evidence) -> Text:
    words = Text(*evidence_words(evidence))
    if evidence.size_bytes:
        words.append(f", {readable_bytes(evidence.size_bytes)}, {printable(evidence.media_type)}", style="default")
    if evidence.detail:
        words.append(f": {printable(evidence.detail)}", style="default")
    if evidence.sha256:
        words.append(f"\nsha256 {printable(evidence.sha256)}", style="dim")
    return words
