"""What is wanted of one channel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.format import VideoFormat

Polygon = tuple[tuple[float, float], ...]


class DeliveryPolicy(IntEnum):
    """What happens to a frame that finds the server busy."""

    LIVE = 1
    EVERY_FRAME = 2


@dataclass(frozen=True, slots=True)
class EngineRef:
    """Names an engine; an empty version means the newest."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """The configuration in effect; checked when it is built from the wire.

    Attributes:
        channel: The channel's bare name, without `channels/`.
        format: What the packets contain.
        engines: The engines to run on every frame, each name once.
        policy: What happens when the server is busy.
        max_fps: At most so many analysed frames per second; None: no limit.
        max_age_s: A live frame older than this is skipped as STALE.
        min_score: Lowest score of a reported detection; None: the engine's default.
        iou: Overlap above which two boxes of one class are one; None: the engine's default.
        classes: Labels to report; empty: all.
        regions: Polygons, normalised to the upright picture; a detection is reported when its
            centre lies in one; empty: the whole picture.
        priority: Weight among the channels that wait, 1..100.
        omit_skips: Skipped packets are counted, not told one by one.
        max_detections: At most so many detections per engine and frame.
        capture_clock: Number of the contract's CaptureClock; monitoring does not go by FILE's times.
    """

    channel: str
    format: VideoFormat
    engines: tuple[EngineRef, ...]
    policy: DeliveryPolicy = DeliveryPolicy.LIVE
    max_fps: float | None = None
    max_age_s: float = 2.0
    min_score: float | None = None
    iou: float | None = None
    classes: tuple[str, ...] = ()
    regions: tuple[Polygon, ...] = ()
    priority: int = 10
    omit_skips: bool = False
    max_detections: int = 300
    capture_clock: int = 0
