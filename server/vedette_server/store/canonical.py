"""The canonical bytes of an event: what is hashed, what is kept, and what tells whether two changes are the same.

UTF-8 JSON of one object: all fields of `Event` but `objects` always there (of an Evidence, a TrailPoint and an
Acknowledgement likewise), keys sorted by code point, no spaces, characters beyond ASCII as themselves, floats in the
shortest decimals that read back as the same double (Python's repr), no NaN and no infinity, an absent value as null;
and `"v": 1`, the version of this definition. Whoever wants to check a chain without us needs no more than that.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vedette_server.data.event import (
    Acknowledgement,
    Event,
    EventKind,
    EventState,
    Evidence,
    EvidenceState,
    TrailPoint,
)
from vedette_server.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
# What is indexed may not hold a character that PostgreSQL's texts do not bear.
_INDEXED = ("event_id", "channel", "rule", "label")
# What is only drawn into the picture is kept with the picture.
_KEPT = tuple(one.name for one in fields(Event) if one.name != "objects")
_EVIDENCE = tuple(one.name for one in fields(Evidence))


def encode(event: Event) -> bytes:
    """Give the canonical bytes of an event.

    Raises:
        InvalidError: A value cannot be kept: not finite, not Unicode, or an empty identity.
    """
    _check(event)
    content = {
        "v": VERSION,
        **{name: getattr(event, name) for name in _KEPT},
        "kind": event.kind.value,
        "state": event.state.value,
        "start_s": float(event.start_s),
        "update_s": float(event.update_s),
        "end_s": _optional(event.end_s),
        "peak_score": _optional(event.peak_score),
        "peak_s": _optional(event.peak_s),
        "box": None if event.box is None else [float(value) for value in event.box],
        "measures": {name: float(value) for name, value in event.measures.items()},
        "trail": [{"time_s": float(one.time_s), "x": float(one.x), "y": float(one.y)} for one in event.trail],
        "snapshot": _evidence(event.snapshot),
        "annotated": _evidence(event.annotated),
        "clip": _evidence(event.clip),
        "acknowledgement": _acknowledgement(event.acknowledgement),
    }
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except ValueError as error:  # a UnicodeEncodeError is one, too
        raise InvalidError("EVENT_INVALID", f"event {event.event_id!r} cannot be kept: {error}") from error


def decode(content: bytes) -> Event:
    """Give the event of canonical bytes.

    Raises:
        ValueError: They are not those of an event.
    """
    try:
        return _event(json.loads(content))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event: {error!r}") from error


def digest(content: bytes) -> bytes:
    """Give what a record's hash stands on, and what stays of a record whose content was removed: SHA-256."""
    return hashlib.sha256(content).digest()


def _check(event: Event) -> None:
    if not event.event_id or not event.channel:
        raise InvalidError(
            "EVENT_INVALID", f"event {event.event_id!r} of channel {event.channel!r}: neither may be empty"
        )
    for name in _INDEXED:
        value = getattr(event, name)
        if "\0" in value:
            raise InvalidError("EVENT_INVALID", f"event {event.event_id!r}: {name} is {value!r}; NUL is not allowed")
    times = (event.start_s, event.update_s, event.start_s if event.end_s is None else event.end_s)
    if not all(math.isfinite(time_s) for time_s in times):
        raise InvalidError("EVENT_INVALID", f"event {event.event_id!r}: a time of {times} is not finite")


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)


def _evidence(one: Evidence) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _EVIDENCE} | {"state": one.state.value}


def _acknowledgement(one: Acknowledgement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"user": one.user, "time_s": float(one.time_s), "note": one.note, "token": one.token}


def _event(content: Mapping[str, Any]) -> Event:
    if content["v"] != VERSION:
        raise ValueError(f"content of version {content['v']}; this server knows {VERSION}")
    given = {name: value for name, value in content.items() if name != "v"}
    acknowledgement = given["acknowledgement"]
    given |= {
        "kind": EventKind(given["kind"]),
        "state": EventState(given["state"]),
        "track_ids": tuple(given["track_ids"]),
        "box": None if given["box"] is None else tuple(given["box"]),
        "trail": tuple(TrailPoint(**point) for point in given["trail"]),
        "snapshot": _read_evidence(given["snapshot"]),
        "annotated": _read_evidence(given["annotated"]),
        "clip": _read_evidence(given["clip"]),
        "acknowledgement": None if acknowledgement is None else Acknowledgement(**acknowledgement),
    }
    return Event(**given)


def _read_evidence(content: Mapping[str, Any]) -> Evidence:
    return Evidence(**{**content, "state": EvidenceState(content["state"])})
