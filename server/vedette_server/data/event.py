"""Something that happened on a channel, and how it changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventKind(StrEnum):
    """What an event tells of; the contract's EVENT_KIND_... in lower case."""

    ENTER = "enter"
    LEAVE = "leave"
    INSIDE = "inside"
    CROSS = "cross"
    DWELL = "dwell"
    OCCUPANCY = "occupancy"
    CROWD = "crowd"
    SPEED = "speed"
    WRONG_WAY = "wrong_way"
    LEFT = "left"
    REMOVED = "removed"
    ABSENCE = "absence"
    CAMERA_OFFLINE = "camera_offline"
    CAMERA_FROZEN = "camera_frozen"
    CAMERA_DARK = "camera_dark"
    CAMERA_BRIGHT = "camera_bright"
    CAMERA_MOVED = "camera_moved"
    CAMERA_COVERED = "camera_covered"
    CAMERA_DEFOCUSED = "camera_defocused"
    CAMERA_LOW_BITRATE = "camera_low_bitrate"
    CAMERA_LOW_FRAME_RATE = "camera_low_frame_rate"
    CAMERA_CLOCK_JUMP = "camera_clock_jump"
    CAMERA_DECODE_ERRORS = "camera_decode_errors"

    @property
    def of_camera(self) -> bool:
        """Whether it tells of the camera itself."""
        return self.name.startswith("CAMERA_")


class EventState(StrEnum):
    """Where an event stands; whether somebody has acknowledged it is told apart."""

    ACTIVE = "active"
    ENDED = "ended"


class EvidenceState(StrEnum):
    """What was kept of a piece of evidence."""

    NONE = "none"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class TrailPoint:
    """A place on an object's way: seconds since the epoch, and its anchor, normalised."""

    time_s: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One of the objects that an event is about, in the event's picture.

    Attributes:
        box: x1, y1, x2, y2 where it was seen last, normalised.
        label: Its class.
        score: Of that detection.
        ago_s: So long before the picture that was; 0: it is seen in it.
    """

    box: tuple[float, float, float, float]
    label: str
    score: float
    ago_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that is kept with an event; see the contract's Evidence.

    `path` is where, in the store of evidence; `policy` what was blackened in it, see `evidence/showing.py`.
    """

    state: EvidenceState = EvidenceState.NONE
    size_bytes: int = 0
    sha256: str = ""
    media_type: str = ""
    detail: str = ""
    path: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has seen an event, when (seconds since the epoch), and what was to be remembered.

    `user` is whoever the caller says, empty where nobody is named; `token` is the name of the token that the call had,
    empty where there are none.
    """

    user: str
    time_s: float
    note: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it stands after one of its changes; never changed, only replaced.

    Attributes:
        event_id: The same cause never gives two: see `event_id_of` where it is made.
        channel: The channel's bare name.
        kind: What kind.
        rule: Name of the rule; `camera` of camera health.
        state: Where it stands.
        place: Name of the zone or the line; empty where there is none.
        label: Class of the object that caused it; empty where several or none did.
        track_ids: Tracks that took part, the one that caused it first.
        start_s: When it began, seconds since the epoch, by the channel's capture clock where it has one.
        update_s: When it was last seen to go on.
        end_s: When it was over; None while it goes on.
        peak_score: Highest score of the object; None of camera health.
        peak_s: When that was; None where there is none.
        peak_sequence: Packet of the frame that it was in; 0 where there is none.
        box: x1, y1, x2, y2 where it was then, normalised; None where there is none.
        measures: What the rule measured, by name.
        trail: Where the object was.
        snapshot: The picture at its highest score.
        annotated: The same with what was seen drawn in.
        clip: The pictures before, while and after.
        engine_version: `NAME@VERSION` of the engine whose detections it stands on; empty of camera health.
        session: The session's bare name.
        sequence: Packet of the frame that began it.
        acknowledgement: Who has seen it; None: nobody.
        detail: In words, for a person.
        objects: All that counted at its highest score, where no single one caused it: what is drawn in. Not kept.
    """

    event_id: str
    channel: str
    kind: EventKind
    rule: str
    state: EventState
    start_s: float
    update_s: float
    place: str = ""
    label: str = ""
    track_ids: tuple[str, ...] = ()
    end_s: float | None = None
    peak_score: float | None = None
    peak_s: float | None = None
    peak_sequence: int = 0
    box: tuple[float, float, float, float] | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    trail: tuple[TrailPoint, ...] = ()
    snapshot: Evidence = field(default_factory=Evidence)
    annotated: Evidence = field(default_factory=Evidence)
    clip: Evidence = field(default_factory=Evidence)
    engine_version: str = ""
    session: str = ""
    sequence: int = 0
    acknowledgement: Acknowledgement | None = None
    detail: str = ""
    objects: tuple[SeenObject, ...] = field(default=(), compare=False)
