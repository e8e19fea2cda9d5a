"""The seams of monitoring: what a tracker gives, what rules look at, and what they give.

All of it belongs to one channel and is called in presentation order by one thread at a time. Times are seconds since
the epoch by the channel's capture clock where it has one, else by receipt; they do not run back (whoever calls sees to
it). Boxes and points are normalised to the upright picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.event import Event
    from vedette_server.data.rules import WatchConfig
    from vedette_server.post.detections import Detections

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TrackView:
    """One track as it stands at one frame.

    Attributes:
        track_id: Unique for ever.
        label: Its class, the one seen most.
        box: x1, y1, x2, y2; where it is not seen, where it is thought to be.
        score: Of its detection in this frame; 0 where it is not seen.
        best_score: Highest so far.
        seen: A detection of this frame belongs to it.
        confirmed: It was seen often enough to count.
        first_s: When it was seen first.
        last_s: When it was seen last.
    """

    track_id: str
    label: str
    box: Box
    score: float
    best_score: float
    seen: bool
    confirmed: bool
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What rules see of one analysed frame.

    Attributes:
        time_s: When it was taken.
        session: Bare name of the session.
        sequence: Its packet; -1: none, the stream is over.
        aspect: Width of the upright picture over its height.
        tracks: All tracks that live, confirmed or not.
        ended: Identities of the tracks that ended with this frame.
        engine_version: `NAME@VERSION` of the engine.
    """

    time_s: float
    session: str
    sequence: int
    aspect: float
    tracks: tuple[TrackView, ...] = ()
    ended: tuple[str, ...] = ()
    engine_version: str = ""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a tracker makes of one frame's detections.

    Attributes:
        track_ids: One per detection, in their order; empty where it belongs to none yet.
        tracks: All tracks that live.
        ended: Tracks that ended.
    """

    track_ids: tuple[str, ...]
    tracks: tuple[TrackView, ...]
    ended: tuple[str, ...] = ()


class Tracker(Protocol):
    """Follows the objects of one channel."""

    def update(self, detections: Detections, labels: Sequence[str], time_s: float, aspect: float) -> Tracked:
        """Take one analysed frame.

        Args:
            detections: What was found, after thresholds and masks.
            labels: Names of the classes, by class id.
            time_s: When the frame was taken; the time since the one before may be anything from 0 up.
            aspect: Width of the upright picture over its height.
        """
        ...

    def reset(self) -> tuple[str, ...]:
        """End all tracks, for instance when the camera was moved; return those that were confirmed."""
        ...


@dataclass(slots=True)
class Changes:
    """What a frame changed.

    Attributes:
        events: Events that began, changed or ended, as they stand now, in order.
    """

    events: list[Event] = field(default_factory=list)


class Judge(Protocol):
    """Judges the rules of one channel."""

    def step(self, scene: Scene) -> Changes:
        """Take one analysed frame."""
        ...

    def tick(self, time_s: float, packet: tuple[str, int] | None = None) -> Changes:
        """Take a frame in which nothing moved: what waits for a time (absence, ends) is judged.

        Args:
            time_s: When it was taken.
            packet: Its session's bare name and its packet; None: the latest one before stands for it.
        """
        ...

    def unwatched(self) -> None:
        """Take note that nobody looks until the next frame: what has to be so for some time begins anew with it."""
        ...

    def change(self, config: WatchConfig, time_s: float) -> Changes:
        """Judge by another configuration from now on; events of rules that are gone or changed end."""
        ...

    def close(self, time_s: float) -> Changes:
        """End all events that go on: the channel is forgotten."""
        ...
