"""Events and other news for people: a line each, coloured where there is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from vedette_client.cli.events_times import show_span, show_time
from vedette_client.cli.outcome import printable
from vedette_client.events_data import Event, EventState, EvidenceState
from vedette_client.watching import ChannelResult, GapReason

if TYPE_CHECKING:
    from collections.abc import Collection

    from vedette_client.events_data import Evidence
    from vedette_client.watching import Gap, News

ID_CHARS = 8
"""So much of an event's identity is shown, and enough to name it by."""
_GAPS = {
    GapReason.SLOW_WATCHER: "read too slowly",
    GapReason.EXPIRED: "older than what is kept",
    GapReason.RESTART: "the server was started anew",
}
_EVIDENCE = {
    EvidenceState.NONE: ("-", "dim"),
    EvidenceState.PENDING: ("coming", "yellow"),
    EvidenceState.READY: ("ready", "green"),
    EvidenceState.FAILED: ("failed", "red"),
    EvidenceState.EXPIRED: ("expired", "dim"),
}
_MOST_DETECTIONS = 6
_TRACK_CHARS = 16


def news_text(news: News) -> Text:
    """Say a piece of news in a line."""
    if isinstance(news, Event):
        return event_text(news)
    if isinstance(news, ChannelResult):
        return _result_text(news)
    return _gap_text(news)


def event_text(event: Event) -> Text:
    """Say an event in a line, as it stands: when, where, what, who, how long, how sure, and what is kept."""
    line = Text.assemble((show_time(_changed_ns(event)), "dim"))
    pieces = (
        (printable(event.channel).ljust(10), "bold"),
        state_words(event, width=6),
        kind_words(event, width=10),
        (printable(event.rule).ljust(12), ""),
        (printable(event.place or "-").ljust(8), ""),
        (who(event).ljust(12), "cyan"),
        (lasted(event).rjust(6), ""),
        (score(event), ""),
        seen_words(event),
        _clip(event),
        (printable(event.event_id[:ID_CHARS]), "dim"),
    )
    for words, style in pieces:
        line.append("  ").append(words, style=style)
    # How long it lasts stands there already.
    if rest := printable(event.detail) if event.kind.is_camera else measures(event, but=("dwell_s",)):
        line.append("  ").append(rest, style="dim")
    return line


def state_words(event: Event, width: int = 0) -> tuple[str, str]:
    """Say where an event stands, and in which style."""
    style = "bold yellow" if event.state is EventState.ACTIVE else "dim"
    return event.state.word.ljust(width), style


def kind_words(event: Event, width: int = 0) -> tuple[str, str]:
    """Say what an event tells of, and in which style."""
    words = event.kind.word.replace("_", " ")
    return words.ljust(width), "magenta" if event.kind.is_camera else "bold"


def who(event: Event) -> str:
    """Say what took part: label and track, and how many more."""
    track = event.track_ids[0] if event.track_ids else ""
    if len(track) > _TRACK_CHARS:
        track = f"{track[: _TRACK_CHARS - 1]}…"
    words = " ".join(word for word in (event.label, f"#{track}" if track else "") if word)
    more = len(event.track_ids) - 1
    return printable(words + (f" +{more}" if more > 0 else "")) or "-"


def lasted(event: Event) -> str:
    """Say how long it lasted: where the rule measured how long the object stayed, that.

    A dwell begins as an event only when it has lasted long enough.
    """
    return show_span(event.measures.get("dwell_s", event.duration_s))


def score(event: Event) -> str:
    """Say the highest score."""
    return f"{event.peak_score:.2f}" if event.peak_score is not None else "   -"


def acknowledged(event: Event) -> tuple[str, str]:
    """Say who has acknowledged it, and in which style."""
    if event.acknowledgement is None:
        return "unseen", "yellow"
    seen = event.acknowledgement
    return printable(seen.user or seen.token) or "unnamed", "green"


def seen_words(event: Event) -> tuple[str, str]:
    """Say whether it was seen and by whom, in words that stand alone, and in which style."""
    words, style = acknowledged(event)
    seen = event.acknowledgement
    if seen is None:
        return words, style
    return f"seen by {words}" if seen.user or seen.token else f"seen, {words}", style


def measures(event: Event, but: Collection[str] = ()) -> str:
    """Say what the rule measured, but for some of it."""
    pairs = sorted(pair for pair in event.measures.items() if pair[0] not in but)
    return ", ".join(f"{printable(name)} {value:.4g}" for name, value in pairs)


def evidence_words(evidence: Evidence) -> tuple[str, str]:
    """Say what became of a piece of evidence, and in which style."""
    return _EVIDENCE.get(evidence.state, (evidence.state.word, ""))


def _clip(event: Event) -> tuple[str, str]:
    words, style = evidence_words(event.clip)
    return ("no clip" if event.clip.state is EvidenceState.NONE else f"clip {words}").ljust(11), style


def _changed_ns(event: Event) -> int:
    """Tell when it changed last, as far as the event itself tells."""
    times = [event.update_time_ns, event.end_time_ns or 0]
    if event.acknowledgement is not None:
        times.append(event.acknowledgement.time_ns)
    return max(times)


def _result_text(result: ChannelResult) -> Text:
    verdict = result.verdict
    # The capture times of a recording count from its beginning, and are no time of day.
    when = verdict.times and (verdict.times.receive_time_ns or verdict.times.capture_time_ns)
    line = Text.assemble((show_time(when) if when else "-", "dim"))
    line.append("  ").append(printable(result.channel).ljust(10), style="bold")
    line.append(f"  frame {verdict.sequence}  ", style="dim")
    if verdict.reason is not None:
        return line.append(f"skipped: {verdict.reason.name.lower()}", style="yellow")
    found = [
        f"{printable(one.label)} {one.score:.2f}{f' #{printable(one.track_id)}' if one.track_id else ''}"
        for one in verdict.detections[:_MOST_DETECTIONS]
    ]
    if (more := len(verdict.detections) - len(found)) > 0:
        found.append(f"and {more} more")
    return line.append(", ".join(found) or "nothing found", style="cyan" if found else "dim")


def _gap_text(gap: Gap) -> Text:
    what = f"{gap.results} results are missing" if gap.results else "something is missing"
    where = f" of {printable(gap.channel)}" if gap.channel else ""
    return Text(f"-- {what} here{where}: {_GAPS.get(gap.reason, gap.reason.word)} --", style="bold red")
