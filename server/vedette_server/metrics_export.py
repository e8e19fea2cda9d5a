"""Turn plain figures into Prometheus families when Prometheus asks.

Stage times are histograms per engine and sums per channel: a histogram of each stage of each channel would be
a hundred series per channel.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from vedette_server.data.outcome import SkipReason
from vedette_server.metrics_engines import add_histogram, engine_runs, lost_gpus, overlaps
from vedette_server.metrics_figures import (
    STAGE_BUCKETS_S,
    STAGES,
    ChannelDepths,
    ChannelMetrics,
    EngineDepths,
    EngineMetrics,
    Histogram,
    RouteMetrics,
    Snapshot,
)
from vedette_server.worker_words import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from vedette_server.worker_words import Past

_BROKEN = (SkipReason.UNDECODABLE, SkipReason.LOST_REFERENCE)
_CHANNEL = ("channel", "engine")
_ENGINE = ("engine", "version")
_D = TypeVar("_D")

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Whoever knows all figures."""

    def snapshot(self) -> Snapshot:
        """List what there is now."""
        ...


class Exporter(Collector):
    """Gives the families of all figures, at each scrape anew.

    Args:
        source: Who knows the figures.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the registry then asks for no figures when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        snapshot = self._source.snapshot()
        yield from _channel_counters(snapshot.channels)
        yield _verdicts(snapshot.channels)
        yield _ages(snapshot.channels)
        yield from _channel_depths(snapshot.channels)
        yield from _stages(snapshot)
        yield from _engine_counters(snapshot.engines)
        yield from _engine_depths(snapshot.engines)
        yield from _engine_loads(snapshot.engines)
        yield from engine_runs(snapshot.engines)
        yield lost_gpus(snapshot.overlaps, snapshot.lost_gpus)
        yield overlaps({gpu: _ask(share, 0.0) for gpu, share in snapshot.overlaps.items()})
        yield from _routes(snapshot.routes)
        yield _refused(snapshot.refused)
        yield from _restarts(snapshot.past)
        yield from _decoders(snapshot)


def _channel_counters(channels: Sequence[ChannelMetrics]) -> Iterator[Metric]:
    columns: tuple[tuple[str, str, Callable[[ChannelMetrics], float]], ...] = (
        ("vedette_packets", "Packets received.", lambda figures: figures.packets),
        ("vedette_packet_bytes", "Bytes of the packets received.", lambda figures: figures.packet_bytes),
        ("vedette_pictures_decoded", "Pictures that the decoders gave.", lambda figures: figures.pictures),
        (
            "vedette_decode_errors",
            "Packets that are broken or refer to a lost picture.",
            lambda figures: sum(figures.skipped[reason] for reason in _BROKEN),
        ),
    )
    for name, text, read in columns:
        family = CounterMetricFamily(name, text, labels=_CHANNEL)
        for figures in channels:
            family.add_metric((figures.channel, figures.engine), read(figures))
        yield family


def _decoders(snapshot: Snapshot) -> Iterator[Metric]:
    """Give what really decodes video."""
    text = "Open video decoders by what decodes: cpu, or nvdec and the number of the GPU."
    family = GaugeMetricFamily("vedette_decoders", text, labels=("codec", "decoder"))
    for key, count in snapshot.decoders.items():
        family.add_metric(key, count)
    yield family
    text = "How often a stream's decoding fell to the CPU in place of a GPU."
    fallbacks = CounterMetricFamily("vedette_decoder_fallbacks", text, labels=("codec", "cause"))
    for key, count in snapshot.fallbacks.items():
        fallbacks.add_metric(key, count)
    yield fallbacks


def _verdicts(channels: Sequence[ChannelMetrics]) -> Metric:
    """Give the verdicts by outcome and reason; a reason that never occurred has no series."""
    family = CounterMetricFamily("vedette_verdicts", "Verdicts.", labels=(*_CHANNEL, "outcome", "reason"))
    for figures in channels:
        names = (figures.channel, figures.engine)
        family.add_metric((*names, "analysed", ""), figures.analysed)
        for reason in SkipReason:
            if figures.skipped[reason]:
                family.add_metric((*names, "skipped", reason.name), figures.skipped[reason])
    return family


def _ages(channels: Sequence[ChannelMetrics]) -> Metric:
    text = "Age of analysed frames at their verdict, seconds since receipt."
    family = HistogramMetricFamily("vedette_age_at_verdict_seconds", text, labels=_CHANNEL)
    for figures in channels:
        add_histogram(family, (figures.channel, figures.engine), figures.age)
    return family


def _channel_depths(channels: Sequence[ChannelMetrics]) -> Iterator[Metric]:
    live = [figures for figures in channels if figures.ended_s is None]
    yield GaugeMetricFamily("vedette_channels", "Channels with a session now.", value=len({f.channel for f in live}))
    asked = [(figures, _ask(figures.depths, ChannelDepths())) for figures in live]
    columns: tuple[tuple[str, str, Callable[[ChannelDepths], int]], ...] = (
        ("vedette_inbox_packets", "Packets that wait for a decoder.", lambda depths: depths.inbox),
        ("vedette_pending_pictures", "Decoded pictures that wait for an engine.", lambda depths: depths.pending),
        (
            "vedette_unacknowledged_verdicts",
            "Verdicts that the client has not acknowledged.",
            lambda depths: depths.unacknowledged,
        ),
    )
    for name, text, read in columns:
        family = GaugeMetricFamily(name, text, labels=_CHANNEL)
        for figures, depths in asked:
            family.add_metric((figures.channel, figures.engine), read(depths))
        yield family


def _stages(snapshot: Snapshot) -> Iterator[Metric]:
    by_channel = CounterMetricFamily(
        "vedette_channel_stage_seconds", "Time of a channel's analysed frames by stage.", labels=(*_CHANNEL, "stage")
    )
    totals = {
        (engine, stage): _sum([histogram])
        for engine, stages in snapshot.retired.items()
        for stage, histogram in zip(STAGES, stages, strict=True)
    }
    for figures in snapshot.channels:
        for stage, histogram in zip(STAGES, figures.stages, strict=True):
            by_channel.add_metric((figures.channel, figures.engine, stage), histogram.total)
            totals.setdefault((figures.engine, stage), Histogram(STAGE_BUCKETS_S)).add(histogram)
    yield by_channel
    by_engine = HistogramMetricFamily(
        "vedette_stage_seconds", "Time of analysed frames by stage.", labels=("engine", "stage")
    )
    for labels, histogram in totals.items():
        add_histogram(by_engine, labels, histogram)
    yield by_engine


def _engine_counters(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    sizes = HistogramMetricFamily("vedette_batch_size", "Frames per batch.", labels=_ENGINE)
    busy = CounterMetricFamily("vedette_lane_busy_seconds", "Time that lanes ran batches, summed.", labels=_ENGINE)
    failures = CounterMetricFamily("vedette_engine_failures", "Batches that failed.", labels=_ENGINE)
    for figures in engines:
        labels = (figures.engine, figures.version)
        add_histogram(sizes, labels, figures.batches)
        busy.add_metric(labels, figures.busy_s)
        failures.add_metric(labels, figures.failures)
    yield from (sizes, busy, failures)


def _engine_depths(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    asked = [(figures, _ask(figures.depths, EngineDepths())) for figures in engines if figures.depths is not None]
    columns: tuple[tuple[str, str, Callable[[EngineDepths], int]], ...] = (
        ("vedette_ready_frames", "Frames that wait for their batch to leave.", lambda depths: depths.ready),
        ("vedette_slots_in_use", "Slots that hold a frame.", lambda depths: depths.slots_in_use),
        ("vedette_slots", "Slots there are.", lambda depths: depths.slots),
        (
            "vedette_lanes",
            "Lanes there are; rate(vedette_lane_busy_seconds_total) over this is their busy share.",
            lambda depths: depths.lanes,
        ),
        ("vedette_batches_in_flight", "Batches that run now.", lambda depths: depths.in_flight),
    )
    for name, text, read in columns:
        family = GaugeMetricFamily(name, text, labels=_ENGINE)
        for figures, depths in asked:
            family.add_metric((figures.engine, figures.version), read(depths))
        yield family


def _engine_loads(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    """Give what loading took, of the versions that are loaded."""
    seconds = GaugeMetricFamily("vedette_engine_load_seconds", "Time that loading a version took.", labels=_ENGINE)
    memory = GaugeMetricFamily("vedette_engine_memory_bytes", "Memory that a loaded version took.", labels=_ENGINE)
    for figures in engines:
        if figures.depths is not None:
            seconds.add_metric((figures.engine, figures.version), figures.load_s)
            memory.add_metric((figures.engine, figures.version), figures.memory_bytes)
    yield from (seconds, memory)


def _routes(routes: Sequence[RouteMetrics]) -> Iterator[Metric]:
    counters: tuple[tuple[str, str, Callable[[RouteMetrics], float]], ...] = (
        ("vedette_engine_swaps", "Versions that took over from another.", lambda figures: figures.swaps),
        (
            "vedette_engine_versions_refused",
            "Newer versions that are bad or cannot take over.",
            lambda figures: figures.versions_refused,
        ),
        ("vedette_shadow_compared", "Frames that a shadow ran, too.", lambda figures: figures.shadow_compared),
        ("vedette_shadow_differing", "Of those, frames that differed.", lambda figures: figures.shadow_differing),
    )
    gauges: tuple[tuple[str, str, Callable[[RouteMetrics], float]], ...] = (
        ("vedette_canary_channels", "Channels that run the canary.", lambda figures: figures.canary_channels),
        (
            "vedette_held_channels",
            "Channels that cannot go over to the version that is meant for them.",
            lambda figures: figures.held_channels,
        ),
        (
            "vedette_swap_batch_seconds",
            "Median time of a batch before the latest swap.",
            lambda figures: figures.swap_batch_s,
        ),
        (
            "vedette_swap_gap_before_seconds",
            "Longest time between two batches before the latest swap.",
            lambda figures: figures.swap_gap_before_s,
        ),
        (
            "vedette_swap_gap_seconds",
            "Longest time between two batches around the latest swap, loading included.",
            lambda figures: figures.swap_gap_s,
        ),
    )
    for kind, columns in ((CounterMetricFamily, counters), (GaugeMetricFamily, gauges)):
        for name, text, read in columns:
            family = kind(name, text, labels=("engine",))
            for figures in routes:
                family.add_metric((figures.engine,), read(figures))
            yield family


def _refused(refused: dict[str, int]) -> Metric:
    family = CounterMetricFamily("vedette_calls_refused", "Calls that ended with an error.", labels=("reason",))
    for reason, count in refused.items():
        family.add_metric((reason,), count)
    return family


def _restarts(past: Past) -> Iterator[Metric]:
    restarts = CounterMetricFamily("vedette_worker_restarts", "Restarts by the supervisor.", labels=("reason",))
    # A series that begins at 1 shows no increase: those to expect are there from the start.
    for reason, count in (dict.fromkeys(REASONS, 0) | past.restarts).items():
        restarts.add_metric((reason,), count)
    yield restarts
    last = GaugeMetricFamily(
        "vedette_worker_last_restart_timestamp_seconds", "When the last restart was, and why.", labels=("reason",)
    )
    if past.last:
        last.add_metric((past.last,), past.at_s)
    yield last


def _sum(histograms: Sequence[Histogram]) -> Histogram:
    total = Histogram(histograms[0].bounds)
    for histogram in histograms:
        total.add(histogram)
    return total


def _ask(depths: Callable[[], _D] | None, unknown: _D) -> _D:
    """Ask for depths; what is closing down meanwhile must not spoil the whole page."""
    if depths is None:
        return unknown
    try:
        return depths()
    except Exception:  # noqa: BLE001 - whatever it is, the other figures are worth telling
        _log.exception("depths not told")
        return unknown
