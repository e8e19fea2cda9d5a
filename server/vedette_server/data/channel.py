"""A channel as it is kept: what is wanted of one camera, and where its packets come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy, EngineRef
from vedette_server.data.rules import WatchConfig

if TYPE_CHECKING:
    from vedette_server.data.config import Polygon


@dataclass(frozen=True, slots=True)
class StageConfig:
    """An engine that looks closer at what the channel's detector found: a classifier or an embedder.

    Attributes:
        engine: Which.
        labels: Labels of the objects that it looks at; empty: all.
        margin: Enlarges the box by this share on each side, 0..1.
        refresh_s: Looks at a track again after so long.
    """

    engine: EngineRef
    labels: tuple[str, ...] = ()
    margin: float = 0.0
    refresh_s: float = 1.0


@dataclass(frozen=True, slots=True)
class SourceStream:
    """How a server-pulled camera is analysed; as in `ChannelConfig`, whose format its packets bring.

    Attributes:
        engines: The engines to run on every frame.
        policy: What happens when the server is busy.
        max_fps: At most so many analysed frames per second; None: no limit.
        max_age_s: A live frame older than this is skipped; None: the server's default.
        min_score: Lowest score of a reported detection; None: the engine's default.
        iou: Overlap above which two boxes of one class are one; None: the engine's default.
        classes: Labels to report; empty: all.
        regions: Polygons; a detection is reported when its centre lies in one; empty: the whole picture.
        priority: Weight among the channels that wait, 1..100.
        max_detections: At most so many detections per engine and frame; None: the default.
        rotation_degrees: The clockwise turn that makes its pictures upright.
    """

    engines: tuple[EngineRef, ...]
    policy: DeliveryPolicy = DeliveryPolicy.LIVE
    max_fps: float | None = None
    max_age_s: float | None = None
    min_score: float | None = None
    iou: float | None = None
    classes: tuple[str, ...] = ()
    regions: tuple[Polygon, ...] = ()
    priority: int = 10
    max_detections: int | None = None
    rotation_degrees: int = 0


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A camera that the server calls.

    Attributes:
        url: `rtsp://`, `rtsps://`, `http://`, `https://` or `file:`; may hold a password: see `shown_url`.
        stream: How it is analysed.
        loop: A file is sent again from its start.
        prefer_tcp: Connect over TCP where the protocol leaves a choice.
    """

    url: str = field(repr=False)
    stream: SourceStream
    loop: bool = False
    prefer_tcp: bool = True


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """Recording all the time: whether, and the length of one file."""

    enabled: bool = False
    segment_s: float = 60.0


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """How long a channel's events and files are kept; None: as the server's settings say."""

    max_age_s: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """One channel as it is kept; never changed, only replaced.

    Attributes:
        name: Bare name, without `channels/`.
        display_name: For people.
        watch: Zones, lines, rules, masks, tracking, gate, health; its `revision` is the record's.
        stages: Engines that look closer.
        source: A camera that the server calls; None: it calls the server.
        recording: Recording all the time.
        retention: How long is kept.
        create_s: When it was made, seconds since the epoch.
        update_s: When it was changed.
        from_file: The file of channels made it: it is changed there.
    """

    name: str
    display_name: str = ""
    watch: WatchConfig = field(default_factory=WatchConfig)
    stages: tuple[StageConfig, ...] = ()
    source: SourceConfig | None = None
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    create_s: float = 0.0
    update_s: float = 0.0
    from_file: bool = False

    @property
    def revision(self) -> int:
        """Counts changes."""
        return self.watch.revision
