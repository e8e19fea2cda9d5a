"""The Prometheus families of what really runs engines, and of the parts of their batches on GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from vedette_server.metrics_figures import BATCH_PARTS, EngineMetrics, Histogram

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

ENGINE_LABELS = ("engine", "version")


def engine_runs(engines: Sequence[EngineMetrics]) -> Iterator[Metric]:
    """Give what runs each version that is loaded, and how its batches pass through GPUs."""
    backends = GaugeMetricFamily(
        "vedette_engine_backend",
        "1: what really runs a loaded version, and why not what was to; empty: it is that.",
        labels=(*ENGINE_LABELS, "backend", "fallback"),
    )
    parts = HistogramMetricFamily(
        "vedette_batch_part_seconds",
        "Time of the parts of a batch on a GPU, by the GPU's clock.",
        labels=(*ENGINE_LABELS, "part"),
    )
    ways = CounterMetricFamily(
        "vedette_frames_fed",
        "Frames that a GPU got, letterboxed (slot), as they were decoded (host), or decoded by itself (device).",
        labels=(*ENGINE_LABELS, "way"),
    )
    for figures in engines:
        names = (figures.engine, figures.version)
        if figures.depths is not None and figures.backend:
            backends.add_metric((*names, figures.backend, figures.fallback), 1)
        with figures.lock:
            fed = dict(figures.ways)
        if not fed:
            continue
        for part, histogram in zip(BATCH_PARTS, figures.parts, strict=True):
            add_histogram(parts, (*names, part), histogram)
        for way, count in fed.items():
            ways.add_metric((*names, way), count)
    yield from (backends, parts, ways)


def overlaps(shares: Mapping[int, float]) -> Metric:
    """Give of each GPU the share of its busy time in which more than one part of batches ran."""
    family = GaugeMetricFamily(
        "vedette_lane_overlap_ratio",
        "Share of the time at work in which copies and computing of several batches ran at once, of late.",
        labels=("gpu",),
    )
    for gpu, share in shares.items():
        family.add_metric((str(gpu),), share)
    return family


def lost_gpus(gpus: Iterable[int], lost: Container[int]) -> Metric:
    """Tell of each GPU that runs engines whether it is lost."""
    family = GaugeMetricFamily(
        "vedette_gpu_lost", "1: nothing runs on this GPU until the next restart; others go on.", labels=("gpu",)
    )
    for gpu in gpus:
        family.add_metric((str(gpu),), gpu in lost)
    return family


def add_histogram(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    """Add one histogram; its buckets hold counts, those of Prometheus hold running sums."""
    running = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        running += count
        buckets.append((bound, running))
    family.add_metric(labels, buckets, histogram.total)
