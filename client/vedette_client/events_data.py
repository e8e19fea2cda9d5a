"""Events and their evidence, as plain records built from the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf import timestamp_pb2

from vedette.v1 import event_pb2
from vedette_client.errors import OptionsError
from vedette_client.numbered import Numbered
from vedette_client.verdicts import Box

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EventKind(Numbered):
    """What an event tells of."""

    ENTER = 1
    LEAVE = 2
    INSIDE = 3
    CROSS = 4
    DWELL = 5
    OCCUPANCY = 6
    CROWD = 7
    SPEED = 8
    WRONG_WAY = 9
    LEFT = 10
    REMOVED = 11
    ABSENCE = 12
    CAMERA_OFFLINE = 20
    CAMERA_FROZEN = 21
    CAMERA_DARK = 22
    CAMERA_BRIGHT = 23
    CAMERA_MOVED = 24
    CAMERA_COVERED = 25
    CAMERA_DEFOCUSED = 26
    CAMERA_LOW_BITRATE = 27
    CAMERA_LOW_FRAME_RATE = 28
    CAMERA_CLOCK_JUMP = 29
    CAMERA_DECODE_ERRORS = 30

    @property
    def is_camera(self) -> bool:
        """Whether it is about the camera itself."""
        return 20 <= self.value < 40


class EventState(Numbered):
    """Where an event stands."""

    ACTIVE = 1
    ENDED = 2


class EvidenceState(Numbered):
    """What was kept of a piece of evidence."""

    NONE = 0
    PENDING = 1
    READY = 2
    FAILED = 3
    EXPIRED = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that is kept with an event.

    Attributes:
        state: Whether it is there.
        size_bytes: Its length.
        sha256: 64 hexadecimal digits; stays when the file is removed by retention.
        media_type: Such as `image/jpeg`.
        detail: Why it is not there.
    """

    state: EvidenceState = EvidenceState.NONE
    size_bytes: int = 0
    sha256: str = ""
    media_type: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has seen an event, when (nanoseconds since the epoch), and what was to be remembered.

    `user` is whoever the caller said, empty where nobody was named; `token` is the name of the token that the call had,
    empty where the server has none.
    """

    user: str
    time_ns: int
    note: str = ""
    token: str = ""


class TrailPoint(NamedTuple):
    """Where an object's reference point was, normalised, and when in nanoseconds since the epoch."""

    time_ns: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a channel, as it stands. Times are nanoseconds since the epoch.

    Attributes:
        name: `channels/{channel}/events/{event}`; the same cause never gives two.
        kind: What kind.
        rule: Name of the rule; of camera health: `camera`.
        state: Where it stands.
        place: Name of the zone or line; empty where the rule has none.
        label: Class of the object that caused it; empty where several or none did.
        track_ids: Tracks that took part, the one that caused it first.
        start_time_ns: When it began.
        update_time_ns: When it was last seen to go on.
        end_time_ns: When it was over; None while it goes on.
        peak_score: Highest score of the object, 0..1; None of camera health.
        peak_time_ns: When that was.
        box: Where the object was then, normalised.
        measures: What the rule measured: `count`, `speed`, `dwell_s`, ...
        trail: Where the object's reference point was; empty in lists.
        snapshot: The picture at its highest score.
        annotated_snapshot: The same with what was seen drawn in.
        clip: The pictures before, while and after.
        engine_version: The engine whose detections it stands on, `engines/{engine}/versions/{version}`.
        session: Session in which it was seen.
        sequence: Number of the frame that began it, in that session.
        acknowledgement: Who has acknowledged it; None: nobody.
        detail: In words.
        record: Number of its latest change in the chain, from 1.
    """

    name: str
    kind: EventKind
    rule: str
    state: EventState
    start_time_ns: int
    update_time_ns: int
    end_time_ns: int | None = None
    place: str = ""
    label: str = ""
    track_ids: tuple[str, ...] = ()
    peak_score: float | None = None
    peak_time_ns: int | None = None
    box: Box | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    trail: tuple[TrailPoint, ...] = ()
    snapshot: Evidence = field(default_factory=Evidence)
    annotated_snapshot: Evidence = field(default_factory=Evidence)
    clip: Evidence = field(default_factory=Evidence)
    engine_version: str = ""
    session: str = ""
    sequence: int = 0
    acknowledgement: Acknowledgement | None = None
    detail: str = ""
    record: int = 0

    @property
    def channel(self) -> str:
        """The channel's bare name."""
        return self.name.split("/")[1] if self.name.count("/") == 3 else ""

    @property
    def event_id(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def duration_s(self) -> float:
        """How long it lasted, or has lasted as far as it was seen, in seconds."""
        until_ns = self.end_time_ns if self.end_time_ns is not None else self.update_time_ns
        return max(0, until_ns - self.start_time_ns) / 1e9


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Chooses events; all that is set must hold, what is empty is not looked at.

    Attributes:
        start_time_ns: Those that were going on at or after this time, nanoseconds since the epoch.
        end_time_ns: Those that began before this time.
        rules: Names of rules.
        kinds: Kinds.
        states: States.
        unacknowledged: Only those that nobody has acknowledged.
        labels: Labels of the objects.
    """

    start_time_ns: int | None = None
    end_time_ns: int | None = None
    rules: Sequence[str] = ()
    kinds: Sequence[EventKind] = ()
    states: Sequence[EventState] = ()
    unacknowledged: bool = False
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("rules", "kinds", "states", "labels"):
            if isinstance(getattr(self, name), str):
                raise OptionsError(f"{name} is {getattr(self, name)!r}; a list is wanted")
        if self.start_time_ns is not None and self.end_time_ns is not None and self.end_time_ns < self.start_time_ns:
            raise OptionsError("the filter's end_time_ns lies before its start_time_ns; nothing could be found")

    def to_wire(self) -> event_pb2.EventFilter:
        """Write it."""
        wire = event_pb2.EventFilter(
            rules=self.rules,
            kinds=[event_pb2.EventKind.ValueType(int(kind)) for kind in self.kinds],
            states=[event_pb2.EventState.ValueType(int(state)) for state in self.states],
            unacknowledged=self.unacknowledged,
            labels=self.labels,
        )
        if self.start_time_ns is not None:
            wire.start_time.CopyFrom(time_to_wire(self.start_time_ns))
        if self.end_time_ns is not None:
            wire.end_time.CopyFrom(time_to_wire(self.end_time_ns))
        return wire


def event_from_wire(wire: event_pb2.Event) -> Event:
    """Build an event from its message."""
    return Event(
        name=wire.name,
        kind=EventKind(int(wire.kind)),
        rule=wire.rule,
        state=EventState(int(wire.state)),
        start_time_ns=time_from_wire(wire.start_time),
        update_time_ns=time_from_wire(wire.update_time),
        end_time_ns=time_from_wire(wire.end_time) if wire.HasField("end_time") else None,
        place=wire.place,
        label=wire.label,
        track_ids=tuple(wire.track_ids),
        peak_score=wire.peak_score if wire.HasField("peak_score") else None,
        peak_time_ns=time_from_wire(wire.peak_time) if wire.HasField("peak_time") else None,
        box=Box(wire.box.x_min, wire.box.y_min, wire.box.x_max, wire.box.y_max) if wire.HasField("box") else None,
        measures=dict(wire.measures),
        trail=tuple(TrailPoint(time_from_wire(one.time), one.point.x, one.point.y) for one in wire.trail),
        snapshot=_evidence(wire.snapshot),
        annotated_snapshot=_evidence(wire.annotated_snapshot),
        clip=_evidence(wire.clip),
        engine_version=wire.engine_version,
        session=wire.session,
        sequence=wire.sequence,
        acknowledgement=_acknowledgement(wire.acknowledgement) if wire.HasField("acknowledgement") else None,
        detail=wire.detail,
        record=wire.record,
    )


def time_to_wire(time_ns: int) -> timestamp_pb2.Timestamp:
    """Write a time, nanoseconds since the epoch."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)


def time_from_wire(wire: timestamp_pb2.Timestamp) -> int:
    """Read a time, nanoseconds since the epoch."""
    return wire.seconds * 1_000_000_000 + wire.nanos


def _evidence(wire: event_pb2.Evidence) -> Evidence:
    return Evidence(EvidenceState(int(wire.state)), wire.size_bytes, wire.sha256, wire.media_type, wire.detail)


def _acknowledgement(wire: event_pb2.Acknowledgement) -> Acknowledgement:
    return Acknowledgement(wire.user, time_from_wire(wire.time), wire.note, wire.token)
