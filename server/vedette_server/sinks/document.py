"""An event as JSON: what every sink delivers. Pure functions.

One object with the fields of the contract's `Event`, in their spelling of the `.proto`, and before them:

- `version`: 1, the version of this layout. Fields may be added under the same number; none changes or goes away.
- `type`: `event.active` or `event.ended`, by the state.
- `timestamp`: when the event was last seen to go on; the same as `update_time`.
- `id`: the same for every delivery of this change, and for no other: drop what you have seen before.
- `channel`: `channels/{channel}`.

Kinds and states are the names of their enumerations in lower case without prefix (`camera_offline`, `active`). Times
are RFC 3339 in UTC with microseconds (`2026-01-31T12:00:00.000000Z`). What is absent is null, or an empty string or
list where the contract has no `optional`. `record` rises within a channel: what has a lower one is older news.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vedette_server.data.event import Acknowledgement, Event, Evidence

PAYLOAD_VERSION = 1
_FIRST_S = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST_S = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def identity(number: int, event: Event) -> str:
    """Name one change of one event."""
    return f"{event.event_id}-{number}"


def body(number: int, event: Event) -> bytes:
    """Give a change as JSON, on one line."""
    return json.dumps(document(number, event), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def document(number: int, event: Event) -> dict[str, Any]:
    """Give a change as plain data."""
    channel = f"channels/{event.channel}"
    return {
        "version": PAYLOAD_VERSION,
        "type": f"event.{event.state.value}",
        "timestamp": _time(event.update_s),
        "id": identity(number, event),
        "channel": channel,
        "name": f"{channel}/events/{event.event_id}",
        "kind": event.kind.value,
        "rule": event.rule,
        "state": event.state.value,
        "place": event.place,
        "label": event.label,
        "track_ids": list(event.track_ids),
        "start_time": _time(event.start_s),
        "update_time": _time(event.update_s),
        "end_time": _optional_time(event.end_s),
        "peak_score": event.peak_score,
        "peak_time": _optional_time(event.peak_s),
        "box": _box(event.box),
        "measures": dict(event.measures),
        "trail": [{"time": _time(one.time_s), "point": {"x": one.x, "y": one.y}} for one in event.trail],
        "snapshot": _evidence(event.snapshot),
        "annotated_snapshot": _evidence(event.annotated),
        "clip": _evidence(event.clip),
        "engine_version": _engine(event.engine_version),
        "session": f"{channel}/sessions/{event.session}" if event.session else "",
        "sequence": event.sequence,
        "acknowledgement": _acknowledgement(event.acknowledgement),
        "detail": event.detail,
        "record": number,
    }


def _time(time_s: float) -> str:
    # A camera's clock may say anything: what no calendar has is told as its first or last moment.
    moment = datetime.fromtimestamp(min(max(time_s, _FIRST_S), _LAST_S), tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _optional_time(time_s: float | None) -> str | None:
    return None if time_s is None else _time(time_s)


def _box(box: tuple[float, float, float, float] | None) -> dict[str, float] | None:
    return None if box is None else dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "state": one.state.value,
        "size_bytes": one.size_bytes,
        "sha256": one.sha256,
        "media_type": one.media_type,
        "detail": one.detail,
    }


def _engine(name_and_version: str) -> str:
    name, _at, version = name_and_version.partition("@")
    return f"engines/{name}/versions/{version}" if version else name


def _acknowledgement(one: Acknowledgement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"user": one.user, "time": _time(one.time_s), "note": one.note, "token": one.token}
