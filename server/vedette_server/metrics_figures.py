"""The plain figures of channels and engines, counted where a frame passes.

Threads: every method may be called from any; each object has one short lock of its own.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from vedette_server.data.outcome import SkipReason
from vedette_server.worker_words import Past

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.gpu.base import LaneTimes
    from vedette_server.data.times import StageTimes
    from vedette_server.execute.pulse import Rhythm

AGE_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
BATCH_PARTS = ("upload", "compute", "download")
STAGES = ("receive", "decode", "wait", "convert", "batch", "execute", "post")


class ChannelDepths(NamedTuple):
    """How much of one channel waits, and where.

    Attributes:
        inbox: Packets that wait for a decoder.
        pending: Decoded pictures that wait for an engine.
        unacknowledged: Verdicts that the client has not acknowledged.
    """

    inbox: int = 0
    pending: int = 0
    unacknowledged: int = 0


class EngineDepths(NamedTuple):
    """How much of one engine is in use.

    Attributes:
        ready: Frames that wait for their batch to leave.
        slots_in_use: Slots that hold a frame.
        slots: Slots there are.
        lanes: Lanes there are.
        in_flight: Batches that run now.
    """

    ready: int = 0
    slots_in_use: int = 0
    slots: int = 0
    lanes: int = 0
    in_flight: int = 0


class Histogram:
    """Counts of values by bucket; guarded by its owner's lock.

    Args:
        bounds: Upper bounds of the buckets, rising; one more is without bound.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Count all that another one of the same bounds has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class ChannelMetrics:
    """What passed one channel; made by `Metrics.channel`.

    Args:
        channel: The channel's bare name.
        engine: Its engines, joined by `+`.
    """

    def __init__(self, channel: str, engine: str) -> None:
        self.channel = channel
        self.engine = engine
        self.lock = threading.Lock()
        self.packets = 0
        self.packet_bytes = 0
        self.pictures = 0
        self.analysed = 0
        self.skipped = [0] * (max(SkipReason) + 1)
        self.age = Histogram(AGE_BUCKETS_S)
        self.stages = tuple(Histogram(STAGE_BUCKETS_S) for _ in STAGES)
        self.depths: Callable[[], ChannelDepths] | None = None
        self.ended_s: float | None = None

    def packet(self, size_bytes: int) -> None:
        """Count a packet that was received."""
        with self.lock:
            self.packets += 1
            self.packet_bytes += size_bytes

    def picture(self, count: int = 1) -> None:
        """Count pictures that the decoder gave."""
        with self.lock:
            self.pictures += count

    def verdict(self, reason: SkipReason | None, times: StageTimes) -> None:
        """Count a verdict; ages and stage times are those of analysed frames only."""
        with self.lock:
            if reason is not None:
                self.skipped[reason] += 1
                return
            self.analysed += 1
            self.age.observe(times.total_s)
            receive, decode, wait, convert, batch, execute, post = self.stages
            receive.observe(times.receive_s)
            decode.observe(times.decode_s)
            wait.observe(times.wait_s)
            convert.observe(times.convert_s)
            batch.observe(times.batch_s)
            execute.observe(times.execute_s)
            post.observe(times.post_s)

    def watch(self, depths: Callable[[], ChannelDepths]) -> None:
        """Say whom to ask for the channel's depths; asked from the metrics' thread, until the channel ends."""
        self.depths = depths


class EngineMetrics:
    """What one version of one engine did; made by `Metrics.engine`.

    Args:
        engine: The engine's name.
        version: Its version.
    """

    def __init__(self, engine: str, version: str) -> None:
        self.engine = engine
        self.version = version
        self.lock = threading.Lock()
        self.batches = Histogram(tuple(float(bound) for bound in BATCH_BUCKETS))
        self.busy_s = 0.0
        self.failures = 0
        self.load_s = 0.0
        self.memory_bytes = 0
        self.depths: Callable[[], EngineDepths] | None = None
        self.backend = ""
        self.fallback = ""
        # On a GPU: the parts of each batch, and how its frames came there.
        self.parts = tuple(Histogram(STAGE_BUCKETS_S) for _ in BATCH_PARTS)
        self.ways: Counter[str] = Counter()

    def batch(self, size: int, busy_s: float, *, failed: bool = False) -> None:
        """Count a batch that a lane ran, and the time it took."""
        with self.lock:
            self.batches.observe(size)
            self.busy_s += busy_s
            self.failures += failed

    def loaded(self, load_s: float, memory_bytes: int) -> None:
        """Say how long loading took, and how much memory."""
        with self.lock:
            self.load_s, self.memory_bytes = load_s, memory_bytes

    def runs(self, backend: str, fallback: str) -> None:
        """Say what really runs it, and why not what was to; empty: it is what was to."""
        with self.lock:
            self.backend, self.fallback = backend, fallback

    def batch_times(self, times: LaneTimes) -> None:
        """Count the parts of a batch on a GPU, by the GPU's clock."""
        with self.lock:
            for part, (begin_s, end_s) in zip(self.parts, (times.upload, times.compute, times.download), strict=True):
                part.observe(end_s - begin_s)

    def fed(self, ways: Counter[str]) -> None:
        """Count how the frames of a batch come to a GPU."""
        with self.lock:
            self.ways.update(ways)

    def watch(self, depths: Callable[[], EngineDepths] | None) -> None:
        """Say whom to ask for the engine's depths; None when it is unloaded."""
        self.depths = depths


class RouteMetrics:
    """How the channels of one engine are spread over its versions; made by `Metrics.route`.

    Args:
        engine: The engine's name.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.lock = threading.Lock()
        self.swaps = 0
        self.versions_refused = 0
        self.canary_channels = 0
        self.held_channels = 0
        self.shadow_compared = 0
        self.shadow_differing = 0
        # Of the latest swap: the median batch before it, the longest gap before it, the longest around it.
        self.swap_batch_s = 0.0
        self.swap_gap_before_s = 0.0
        self.swap_gap_s = 0.0

    def channels(self, canary: int, held: int) -> None:
        """Say how many channels run the canary, and how many stay with a version that is not meant for them."""
        with self.lock:
            self.canary_channels, self.held_channels = canary, held

    def refused(self) -> None:
        """Count a version that could not take over."""
        with self.lock:
            self.versions_refused += 1

    def swapped(self, before: Rhythm, around: Rhythm) -> None:
        """Count a swap, and say how batches came before it and around it."""
        with self.lock:
            self.swaps += 1
            self.swap_batch_s = before.batch_s
            self.swap_gap_before_s = before.longest_gap_s
            self.swap_gap_s = around.longest_gap_s

    def compared(self, differing: bool) -> None:
        """Count a frame that the shadow ran, too."""
        with self.lock:
            self.shadow_compared += 1
            self.shadow_differing += differing


class Snapshot(NamedTuple):
    """What there is to export at one moment.

    Attributes:
        channels: Figures of the channels, ended ones included.
        engines: Figures of the engines.
        refused: Refused calls by reason.
        retired: Stage times by engine of forgotten channels.
        routes: Figures of what concerns all versions of an engine.
        past: What happened to the workers before this one.
        overlaps: By GPU that runs engines, whom to ask for the share of its time in which several batches ran at once.
        decoders: Open video decoders by codec and what decodes.
        fallbacks: How often the CPU had to decode in place of a GPU, by codec and cause.
    """

    channels: tuple[ChannelMetrics, ...]
    engines: tuple[EngineMetrics, ...]
    refused: dict[str, int]
    retired: dict[str, tuple[Histogram, ...]]
    routes: tuple[RouteMetrics, ...] = ()
    past: Past = Past({})
    overlaps: Mapping[int, Callable[[], float]] = MappingProxyType({})
    lost_gpus: frozenset[int] = frozenset()
    decoders: Mapping[tuple[str, str], int] = MappingProxyType({})
    fallbacks: Mapping[tuple[str, str], int] = MappingProxyType({})
