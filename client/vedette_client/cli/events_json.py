"""Events and other news as JSON, one object a line; the same keys in `watch`, `events list` and `events export`.

An event has these keys:

- `name`, `channel`, `id`: `channels/CHANNEL/events/ID`, and its parts
- `kind`, `rule`, `state`, `place`, `label`: in lower case, `state` is `active` or `ended`
- `tracks`: the tracks that took part, the one that caused it first
- `start_time`, `update_time`, `end_time`, `peak_time`: ISO 8601 in UTC; null where there is none
- `duration_s`: how long it lasted
- `peak_score`, `box` (x_min, y_min, x_max, y_max, 0 to 1 of the picture): at its highest score; null of cameras
- `measures`: what the rule measured
- `trail`: `[time, x, y]` each; where it was asked for
- `snapshot`, `annotated_snapshot`, `clip`: `state`, `size_bytes`, `sha256`, `media_type`, `detail`
- `engine_version`, `session`, `sequence`: what it stands on
- `acknowledgement`: `user`, `time`, `note`, `token` (name of the token that the user had); null: nobody's
- `detail`: in words
- `record`: number of its latest change in the chain

A line of `watch` has `offset`, and `event`, `result` (`channel`, `session`, `sequence`, `outcome`, `reason`,
`detections`) or `gap` (`channel`, `reason`, `results`, `from_offset`, `to_offset`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vedette_client.cli.events_times import iso_time
from vedette_client.events_data import Event
from vedette_client.watching import ChannelResult

if TYPE_CHECKING:
    from vedette_client.events_data import Evidence
    from vedette_client.verdicts import Detection
    from vedette_client.watching import Gap, News


def event_line(event: Event, *, trail: bool = False) -> str:
    """Write an event in a line."""
    return _line(event_page(event, trail=trail))


def news_line(news: News, offset: str) -> str:
    """Write a piece of news in a line, with where to go on behind it."""
    if isinstance(news, Event):
        return _line({"offset": offset, "event": event_page(news)})
    if isinstance(news, ChannelResult):
        return _line({"offset": offset, "result": _result(news)})
    return _line({"offset": offset, "gap": _gap(news)})


def event_page(event: Event, *, trail: bool = False) -> dict[str, Any]:
    """Give an event as plain data."""
    page: dict[str, Any] = {
        "name": event.name,
        "channel": event.channel,
        "id": event.event_id,
        "kind": event.kind.word,
        "rule": event.rule,
        "state": event.state.word,
        "place": event.place,
        "label": event.label,
        "tracks": list(event.track_ids),
        "start_time": iso_time(event.start_time_ns),
        "update_time": iso_time(event.update_time_ns),
        "end_time": _maybe_time(event.end_time_ns),
        "duration_s": round(event.duration_s, 6),
        "peak_score": None if event.peak_score is None else round(event.peak_score, 6),
        "peak_time": _maybe_time(event.peak_time_ns),
        "box": None if event.box is None else [round(edge, 6) for edge in event.box],
        "measures": dict(event.measures),
        "snapshot": _evidence(event.snapshot),
        "annotated_snapshot": _evidence(event.annotated_snapshot),
        "clip": _evidence(event.clip),
        "engine_version": event.engine_version,
        "session": event.session,
        "sequence": event.sequence,
        "acknowledgement": None,
        "detail": event.detail,
        "record": event.record,
    }
    if seen := event.acknowledgement:
        said = {"user": seen.user, "time": iso_time(seen.time_ns), "note": seen.note, "token": seen.token}
        page["acknowledgement"] = said
    if trail:
        page["trail"] = [[iso_time(one.time_ns), round(one.x, 6), round(one.y, 6)] for one in event.trail]
    return page


def _result(result: ChannelResult) -> dict[str, Any]:
    verdict, times = result.verdict, result.verdict.times
    return {
        "channel": result.channel,
        "session": result.session,
        "sequence": verdict.sequence,
        "receive_time": _maybe_time(times.receive_time_ns if times is not None else None),
        "outcome": "analysed" if verdict.analysed else "skipped",
        "reason": verdict.reason.name if verdict.reason is not None else None,
        "detections": [_detection(one) for one in verdict.detections],
    }


def _detection(one: Detection) -> dict[str, Any]:
    page = {"label": one.label, "score": round(one.score, 6), "box": [round(edge, 6) for edge in one.box]}
    return page | ({"track_id": one.track_id} if one.track_id else {})


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "channel": gap.channel,
        "reason": gap.reason.word,
        "results": gap.results,
        "from_offset": gap.from_offset,
        "to_offset": gap.to_offset,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "state": evidence.state.word,
        "size_bytes": evidence.size_bytes,
        "sha256": evidence.sha256,
        "media_type": evidence.media_type,
        "detail": evidence.detail,
    }


def _maybe_time(time_ns: int | None) -> str | None:
    return None if time_ns is None else iso_time(time_ns)


def _line(page: dict[str, Any]) -> str:
    # Line separators of Unicode would end a line for some readers: only ASCII is written.
    return json.dumps(page, separators=(",", ":"))
