"""What is wanted of a channel beyond its detections: places, rules, masks, tracking, gate, health.

Plain data, never changed, only replaced as a whole; checked when it is built from the wire or from a file. Coordinates
are normalised to the upright picture, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

Points = tuple[tuple[float, float], ...]

# Stands for the whole picture where a condition names a zone.
EVERYWHERE = ""


class Anchor(StrEnum):
    """What of a box is where the object is."""

    BOTTOM_CENTRE = "bottom-centre"
    CENTRE = "centre"
    TOP_CENTRE = "top-centre"


class MaskKind(StrEnum):
    """What a mask hides."""

    PRIVACY = "privacy"
    DETECTION = "detection"
    MOTION = "motion"


class EvidencePolicy(StrEnum):
    """What may be kept and shown of a channel's pictures."""

    ORIGINAL = "original"
    MASKED = "masked"
    NONE = "none"


class CrossDirection(IntEnum):
    """Which way a line is crossed, seen along it from its first point to its last."""

    BOTH = 0
    LEFT_TO_RIGHT = 1
    RIGHT_TO_LEFT = -1


class GateMode(StrEnum):
    """Which frames the engines run on."""

    OFF = "off"
    MOTION = "motion"


@dataclass(frozen=True, slots=True)
class Zone:
    """An area: corners in order, the last joined to the first."""

    name: str
    vertices: Points


@dataclass(frozen=True, slots=True)
class Line:
    """A line of two points or more."""

    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class Mask:
    """An area that is hidden."""

    kind: MaskKind
    vertices: Points


@dataclass(frozen=True, slots=True)
class ScheduleSpan:
    """A span of each week.

    Attributes:
        days: 1 Monday to 7 Sunday, on which it begins; empty: all.
        from_minute: When it begins, minutes after midnight of the channel's time zone, 0..1439.
        to_minute: When it ends, 1..1440; not above `from_minute`: on the next day.
    """

    days: tuple[int, ...] = ()
    from_minute: int = 0
    to_minute: int = 1440


@dataclass(frozen=True, slots=True)
class Enter:
    """An object comes into a zone."""

    zone: str = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Leave:
    """An object leaves a zone."""

    zone: str = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Inside:
    """An object is in a zone; the event lasts as long as it is."""

    zone: str = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Cross:
    """An object crosses a line."""

    line: str
    direction: CrossDirection = CrossDirection.BOTH


@dataclass(frozen=True, slots=True)
class Dwell:
    """An object stays in a zone for `at_least_s`: loitering."""

    zone: str
    at_least_s: float


@dataclass(frozen=True, slots=True)
class Occupancy:
    """So many objects or more, or so many or fewer, are in a zone; one of both is set."""

    zone: str = EVERYWHERE
    at_least: int | None = None
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Crowd:
    """Of `at_least` objects each is within `distance` of another; metres with a scale, else widths of the picture."""

    zone: str
    at_least: int
    distance: float


@dataclass(frozen=True, slots=True)
class Speed:
    """An object is faster or slower, per second; metres with a scale, else widths of the picture; one is set."""

    zone: str = EVERYWHERE
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class WrongWay:
    """An object moves against the allowed direction.

    Attributes:
        zone: Where.
        allowed_degrees: Clockwise from the top of the picture, 0..360.
        tolerance_degrees: Off by more is the wrong way.
        min_speed: Slower objects are not judged, widths of the picture per second.
    """

    zone: str
    allowed_degrees: float
    tolerance_degrees: float = 90.0
    min_speed: float = 0.02


@dataclass(frozen=True, slots=True)
class Left:
    """Something that does not move was left in a zone for `at_least_s`."""

    zone: str
    at_least_s: float


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that stood in a zone is gone for `at_least_s`."""

    zone: str
    at_least_s: float


@dataclass(frozen=True, slots=True)
class Absence:
    """Nothing was in a zone for `at_least_s`."""

    zone: str
    at_least_s: float


Condition = Enter | Leave | Inside | Cross | Dwell | Occupancy | Crowd | Speed | WrongWay | Left | Removed | Absence


@dataclass(frozen=True, slots=True)
class Rule:
    """What is judged.

    Attributes:
        name: Unique within the channel.
        condition: What has to hold.
        labels: Labels that it holds for; empty: all.
        min_score: Lowest score of a track's best detection.
        min_time_s: It must hold for so long.
        schedule: When it is judged; empty: always.
        cool_down_s: After an event of the same object (where no single object causes it: of the rule) none begins.
        anchor: What of a box is where the object is.
        hysteresis: A condition that holds goes on to hold until the anchor is beyond the edge by this share of the
            picture's width.
        evidence: Keep a snapshot and a clip.
    """

    name: str
    condition: Condition
    labels: tuple[str, ...] = ()
    min_score: float = 0.0
    min_time_s: float = 0.0
    schedule: tuple[ScheduleSpan, ...] = ()
    cool_down_s: float = 0.0
    anchor: Anchor = Anchor.BOTTOM_CENTRE
    hysteresis: float = 0.01
    evidence: bool = True


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    """How objects are followed.

    Attributes:
        enabled: Follow them even where no rule needs it.
        max_lost_s: A track that was not seen for so long has ended.
        confirm_frames: A track counts when it was seen in so many frames.
    """

    enabled: bool = False
    max_lost_s: float = 3.0
    confirm_frames: int = 3


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Which frames the engines run on.

    Attributes:
        mode: Whether there is a gate.
        min_area: Share of the picture that has to change.
        floor_fps: So many frames per second are analysed without motion.
    """

    mode: GateMode = GateMode.OFF
    min_area: float = 0.002
    floor_fps: float = 0.2


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """What is watched of the camera itself; `ignored` has names of `EventKind`."""

    enabled: bool = True
    ignored: frozenset[str] = frozenset()
    offline_after_s: float = 10.0
    min_time_s: float = 5.0


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """All that is wanted of one channel beyond its detections.

    Attributes:
        time_zone: IANA name of the zone that schedules are in.
        zones: Areas by name.
        lines: Lines by name.
        rules: What is judged.
        masks: What is hidden.
        evidence: What may be kept and shown.
        tracking: How objects are followed.
        gate: Which frames the engines run on.
        health: What is watched of the camera.
        width_metres: Metres per width of the picture; None: there is no scale.
        revision: Counts changes.
    """

    time_zone: str = "UTC"
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    rules: tuple[Rule, ...] = ()
    masks: tuple[Mask, ...] = ()
    evidence: EvidencePolicy = EvidencePolicy.ORIGINAL
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    width_metres: float | None = None
    revision: int = 0
