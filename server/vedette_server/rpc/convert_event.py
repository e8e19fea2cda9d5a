"""Take what the contract says of events apart into plain data, and put it together again.

Times are seconds since the epoch here and timestamps of nanoseconds there: a time that went there and back is the
same. Threads: pure functions, callable from any.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

from vedette.v1 import event_pb2
from vedette_server.data.event import EventKind, EventState, EvidenceState
from vedette_server.errors import InvalidError
from vedette_server.store.chain import HASH_BYTES, ChainHead
from vedette_server.store.querying import EventFilter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.timestamp_pb2 import Timestamp

    from vedette_server.data.event import Acknowledgement, Event, Evidence, TrailPoint

V = TypeVar("V")

_NAME = re.compile(r"channels/([A-Za-z0-9._-]{1,128})/events/([A-Za-z0-9._-]{1,128})")
_NS = 1_000_000_000
# What a google.protobuf.Timestamp can say, years 1 to 9999, in seconds since the epoch.
_FIRST_S = -62_135_596_800
_LAST_S = 253_402_300_799
_MOST_TRACKS = 64
_MOST_POINTS = 256
_MOST_NAMES = 256
_MAX_NAME_CHARS = 256
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32

_KIND_TO_WIRE = {kind: event_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}") for kind in EventKind}
_KIND_FROM_WIRE: dict[int, EventKind] = {wire: kind for kind, wire in _KIND_TO_WIRE.items()}
_STATE_TO_WIRE = {
    EventState.ACTIVE: event_pb2.EVENT_STATE_ACTIVE,
    EventState.ENDED: event_pb2.EVENT_STATE_ENDED,
}
_STATE_FROM_WIRE: dict[int, EventState] = {wire: state for state, wire in _STATE_TO_WIRE.items()}
_EVIDENCE_TO_WIRE = {
    EvidenceState.NONE: event_pb2.EVIDENCE_STATE_UNSPECIFIED,
    EvidenceState.PENDING: event_pb2.EVIDENCE_STATE_PENDING,
    EvidenceState.READY: event_pb2.EVIDENCE_STATE_READY,
    EvidenceState.FAILED: event_pb2.EVIDENCE_STATE_FAILED,
    EvidenceState.EXPIRED: event_pb2.EVIDENCE_STATE_EXPIRED,
}


def event_name(channel: str, event_id: str) -> str:
    """Give the resource name of an event."""
    return f"channels/{channel}/events/{event_id}"


def event_from_name(name: str) -> tuple[str, str]:
    """Take channel and identity out of `channels/{channel}/events/{event}`.

    Raises:
        InvalidError: INVALID_NAME.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidError("INVALID_NAME", f"name is {name!r}; allowed: channels/{{channel}}/events/{{event}}")
    return match[1], match[2]


def event_to_wire(event: Event, record: int, *, trail: bool = True) -> event_pb2.Event:
    """Put an event together.

    Args:
        event: As it stands.
        record: Number of its latest change in the chain.
        trail: With its trail.
    """
    wire = event_pb2.Event(
        name=event_name(event.channel, event.event_id),
        kind=_KIND_TO_WIRE[event.kind],
        rule=event.rule,
        state=_STATE_TO_WIRE[event.state],
        place=event.place,
        label=event.label,
        track_ids=event.track_ids[:_MOST_TRACKS],
        peak_score=event.peak_score,
        measures=event.measures,
        engine_version=_engine_name(event.engine_version),
        session=f"channels/{event.channel}/sessions/{event.session}" if event.session else "",
        # What began between two streams was once kept with -1: one such event must not keep all others from being read.
        sequence=max(event.sequence, 0),
        detail=event.detail,
        record=record,
    )
    _write_times(event, wire)
    if event.box is not None:
        wire.box.x_min, wire.box.y_min, wire.box.x_max, wire.box.y_max = event.box
    if trail:
        for point in _thinned(event.trail):
            _write_point(point, wire.trail.add())
    _write_evidence(event.snapshot, wire.snapshot)
    _write_evidence(event.annotated, wire.annotated_snapshot)
    _write_evidence(event.clip, wire.clip)
    if event.acknowledgement is not None:
        _write_acknowledgement(event.acknowledgement, wire.acknowledgement)
    return wire


def filter_from_wire(wire: event_pb2.EventFilter, channels: tuple[str, ...] | None = None) -> EventFilter:
    """Check a filter and take it apart.

    Args:
        wire: As received.
        channels: Bare names of the channels that are asked for; None: all.

    Raises:
        InvalidError: INVALID_FILTER, INVALID_TIME.
    """
    start_s = time_from_wire(wire.start_time, "filter.start_time") if wire.HasField("start_time") else None
    end_s = time_from_wire(wire.end_time, "filter.end_time") if wire.HasField("end_time") else None
    return EventFilter(
        channels=channels,
        start_s=start_s,
        end_s=end_s,
        rules=_names(wire.rules, "rules"),
        kinds=tuple(_known(wire.kinds, _KIND_FROM_WIRE, "kinds")),
        states=tuple(_known(wire.states, _STATE_FROM_WIRE, "states")),
        labels=_names(wire.labels, "labels"),
        unacknowledged=wire.unacknowledged,
    )


def head_to_wire(head: ChainHead) -> event_pb2.ChainHead:
    """Put the head of the chain together."""
    wire = event_pb2.ChainHead(
        length=head.length, hash=head.hash.hex(), signature=head.signature, public_key=head.public_key
    )
    wire.sign_time.seconds, wire.sign_time.nanos = divmod(head.sign_time_ns, _NS)
    return wire


def head_from_wire(wire: event_pb2.ChainHead) -> ChainHead:
    """Take a head apart; its signature is not looked at.

    Raises:
        InvalidError: INVALID_HEAD.
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", wire.hash) is None:
        raise InvalidError("INVALID_HEAD", f"head.hash is {wire.hash!r}; allowed: {2 * HASH_BYTES} hexadecimal digits")
    for field, size in (("signature", _SIGNATURE_BYTES), ("public_key", _KEY_BYTES)):
        if len(getattr(wire, field)) != size:
            raise InvalidError(
                "INVALID_HEAD", f"head.{field} has {len(getattr(wire, field))} bytes; allowed: {size} bytes"
            )
    sign_time_ns = wire.sign_time.seconds * _NS + wire.sign_time.nanos
    return ChainHead(wire.length, bytes.fromhex(wire.hash), sign_time_ns, wire.signature, wire.public_key)


def set_time(wire: Timestamp, time_s: float) -> None:
    """Set a google.protobuf.Timestamp in place, from seconds since the epoch; beyond its years, to its first or last.

    Apart, since whole nanoseconds since the epoch are more than a double can hold.
    """
    seconds = math.floor(time_s)
    nanos = round((time_s - seconds) * _NS)
    if nanos == _NS:
        seconds, nanos = seconds + 1, 0
    if not _FIRST_S <= seconds <= _LAST_S:
        seconds, nanos = (_FIRST_S, 0) if seconds < _FIRST_S else (_LAST_S, _NS - 1)
    # A Timestamp of zeros is the epoch, not an absent one.
    wire.SetInParent()
    wire.seconds, wire.nanos = seconds, nanos


def time_from_wire(wire: Timestamp, field: str) -> float:
    """Give seconds since the epoch.

    Raises:
        InvalidError: INVALID_TIME.
    """
    if not _FIRST_S <= wire.seconds <= _LAST_S or not 0 <= wire.nanos < _NS:
        raise InvalidError(
            "INVALID_TIME", f"{field} is {wire.seconds} s and {wire.nanos} ns; allowed: the years 1 to 9999"
        )
    return wire.seconds + wire.nanos / _NS


def _engine_name(version: str) -> str:
    """Turn `NAME@VERSION` into a resource name."""
    name, _, number = version.rpartition("@")
    return f"engines/{name}/versions/{number}" if name else version and f"engines/{version}"


def _write_times(event: Event, wire: event_pb2.Event) -> None:
    set_time(wire.start_time, event.start_s)
    set_time(wire.update_time, event.update_s)
    if event.end_s is not None:
        set_time(wire.end_time, event.end_s)
    if event.peak_s is not None:
        set_time(wire.peak_time, event.peak_s)


def _thinned(trail: tuple[TrailPoint, ...]) -> Iterable[TrailPoint]:
    """Give at most as many points as the contract allows, evenly, the first and the last among them."""
    if len(trail) <= _MOST_POINTS:
        return trail
    last = len(trail) - 1
    return (trail[round(number * last / (_MOST_POINTS - 1))] for number in range(_MOST_POINTS))


def _write_point(point: TrailPoint, wire: event_pb2.TrailPoint) -> None:
    set_time(wire.time, point.time_s)
    wire.point.x, wire.point.y = point.x, point.y


def _write_evidence(evidence: Evidence, wire: event_pb2.Evidence) -> None:
    if evidence.state is EvidenceState.NONE and not evidence.detail:
        return
    wire.state = _EVIDENCE_TO_WIRE[evidence.state]
    wire.size_bytes = evidence.size_bytes
    wire.sha256 = evidence.sha256
    wire.media_type = evidence.media_type
    wire.detail = evidence.detail


def _write_acknowledgement(seen: Acknowledgement, wire: event_pb2.Acknowledgement) -> None:
    wire.user = seen.user
    set_time(wire.time, seen.time_s)
    wire.note = seen.note
    wire.token = seen.token


def _names(names: Iterable[str], field: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(names))
    if len(found) > _MOST_NAMES:
        raise _wrong(field, f"a list of {len(found)}", f"at most {_MOST_NAMES}")
    for name in found:
        # An empty label stands for events that several objects caused, or none.
        if len(name) > _MAX_NAME_CHARS or "\0" in name:
            raise _wrong(field, repr(name), f"texts of at most {_MAX_NAME_CHARS} characters without NUL")
    return found


def _known(values: Iterable[int], table: dict[int, V], field: str) -> Iterable[V]:
    for value in values:
        if value not in table:
            raise _wrong(field, str(value), ", ".join(str(one) for one in sorted(table)))
        yield table[value]


def _wrong(field: str, value: str, allowed: str) -> InvalidError:
    return InvalidError("INVALID_FILTER", f"filter.{field} is {value}; allowed: {allowed}")
