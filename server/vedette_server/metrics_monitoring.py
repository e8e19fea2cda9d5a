"""Turn what monitoring has done into Prometheus families, at each scrape anew.

A series per channel and reason of the gate, and per fault of a camera that goes on; channels that were never made have
none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vedette_server.cascade.tallies import StageTally
from vedette_server.sinks.figures import SinkFigures
from vedette_server.store.writer import WriterFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric


@dataclass(frozen=True, slots=True)
class ChannelFigures:
    """What one channel's monitor has counted.

    Attributes:
        tracks: Objects that are followed now.
        gate: Pictures that the gate looked at, by reason.
        faults: Kinds of camera faults that go on.
    """

    tracks: int = 0
    gate: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MonitoringFigures:
    """All that monitoring has counted.

    Attributes:
        channels: By channel.
        events: Events that began, by kind.
        writer: What the writer of events has done.
        chain_length: Records in the chain.
        evidence_bytes: Size of all files.
        evidence_trouble: Evidence cannot be kept now.
        jobs: Clips and snapshots under way.
        watchers: Watchers now.
        dropped: Results that watchers did not get: who read too slowly, and what was not even looked at.
        sources: Cameras that the server calls, by state.
        sinks: What each sink has done.
        stages: What each engine of second stages has done.
        crops: Crops for second stages under way.
        unsendable: Records of events that lists and watches go on without.
    """

    channels: Mapping[str, ChannelFigures]
    events: Mapping[str, int]
    writer: WriterFigures
    chain_length: int = 0
    evidence_bytes: int = 0
    evidence_trouble: bool = False
    jobs: int = 0
    watchers: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    sinks: Mapping[str, SinkFigures] = field(default_factory=dict)
    stages: Mapping[str, StageTally] = field(default_factory=dict)
    crops: int = 0
    unsendable: int = 0


def one_of_each() -> MonitoringFigures:
    """Give figures with one of everything, for who lists the families."""
    writer = WriterFigures(0, 0, 0, 0, 0, 0, 0, "")
    sink = SinkFigures(0, 0, 0, 0, 0, 0, 0, 0, 0, "")
    channel = ChannelFigures(0, {"motion": 1}, ("camera_dark",))
    return MonitoringFigures(
        {"one": channel},
        {"enter": 1},
        writer,
        dropped={"slow": 1},
        sources={"streaming": 1},
        sinks={"one": sink},
        stages={"one": StageTally()},
    )


class MonitoringExporter(Collector):
    """Gives the families.

    Args:
        figures: Tells what was counted.
    """

    def __init__(self, figures: Callable[[], MonitoringFigures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        figures = self._figures()
        yield from _channels(figures.channels)
        yield from _events(figures)
        yield from _evidence(figures)
        yield from _sinks(figures.sinks)
        yield from _stages(figures)


def _channels(channels: Mapping[str, ChannelFigures]) -> Iterator[Metric]:
    tracks = GaugeMetricFamily("vedette_tracks", "Objects that are followed now.", labels=("channel",))
    gate = CounterMetricFamily(
        "vedette_gate_pictures", "Pictures that the motion gate looked at.", labels=("channel", "reason")
    )
    faults = GaugeMetricFamily("vedette_camera_fault", "1 while a camera has a fault.", labels=("channel", "kind"))
    for name, one in channels.items():
        tracks.add_metric((name,), one.tracks)
        for reason, count in one.gate.items():
            gate.add_metric((name, reason), count)
        for kind in one.faults:
            faults.add_metric((name, kind), 1)
    yield from (tracks, gate, faults)


def _events(figures: MonitoringFigures) -> Iterator[Metric]:
    events = CounterMetricFamily("vedette_events", "Events that began.", labels=("kind",))
    for kind, count in figures.events.items():
        events.add_metric((kind,), count)
    yield events
    writer = figures.writer
    changes = CounterMetricFamily(
        "vedette_event_changes", "Changes of events, by what became of them.", labels=("outcome",)
    )
    for outcome in ("kept", "coalesced", "thinned", "refused", "lost"):
        changes.add_metric((outcome,), getattr(writer, outcome))
    yield changes
    yield _gauge("vedette_event_changes_waiting", "Changes of events that wait to be kept.", writer.waiting)
    failures = CounterMetricFamily("vedette_event_store_failures", "Times that the store of events has failed.")
    failures.add_metric((), writer.failures)
    yield failures
    yield _gauge("vedette_event_store_failing", "1 while the store of events fails.", bool(writer.failing))
    yield _gauge("vedette_event_chain_records", "Records in the chain of events.", figures.chain_length)
    unsendable = CounterMetricFamily(
        "vedette_event_records_unsendable", "Kept records of events that cannot be sent; the log names each."
    )
    unsendable.add_metric((), figures.unsendable)
    yield unsendable


def _evidence(figures: MonitoringFigures) -> Iterator[Metric]:
    yield _gauge("vedette_evidence_bytes", "Size of all snapshots, clips and recordings.", figures.evidence_bytes)
    yield _gauge("vedette_evidence_jobs", "Clips and snapshots under way.", figures.jobs)
    yield _gauge("vedette_evidence_failing", "1 while evidence cannot be kept.", figures.evidence_trouble)
    yield _gauge("vedette_watchers", "Watchers now.", figures.watchers)
    dropped = CounterMetricFamily("vedette_results_dropped", "Results that watchers did not get.", labels=("cause",))
    for cause, count in figures.dropped.items():
        dropped.add_metric((cause,), count)
    yield dropped
    sources = GaugeMetricFamily("vedette_sources", "Cameras that the server calls itself.", labels=("state",))
    for state, count in figures.sources.items():
        sources.add_metric((state,), count)
    yield sources


def _sinks(sinks: Mapping[str, SinkFigures]) -> Iterator[Metric]:
    messages = CounterMetricFamily(
        "vedette_sink_messages", "Messages to sinks, by what became of them.", labels=("sink", "outcome")
    )
    lag = GaugeMetricFamily("vedette_sink_lag_records", "Records that a sink has still to look at.", labels=("sink",))
    dead = GaugeMetricFamily("vedette_sink_dead_letters", "Messages that were given up and are kept.", labels=("sink",))
    failing = GaugeMetricFamily("vedette_sink_failing", "1 while a sink fails.", labels=("sink",))
    for name, one in sinks.items():
        for outcome in ("delivered", "retried", "failed", "dead", "removed"):
            messages.add_metric((name, outcome), getattr(one, outcome))
        lag.add_metric((name,), one.lag)
        dead.add_metric((name,), one.dead_letters)
        failing.add_metric((name,), bool(one.failing))
    yield from (messages, lag, dead, failing)


def _stages(figures: MonitoringFigures) -> Iterator[Metric]:
    crops = CounterMetricFamily("vedette_crops", "Crops for second stages.", labels=("engine", "outcome"))
    for name, tally in figures.stages.items():
        for outcome in ("done", "failed", "undecodable", "hung", "outlived", "no_slot"):
            crops.add_metric((name, outcome), getattr(tally, outcome))
    yield crops
    yield _gauge("vedette_crops_under_way", "Crops for second stages under way.", figures.crops)


def _gauge(name: str, says: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, says)
    family.add_metric((), value)
    return family
