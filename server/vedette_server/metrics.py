"""Count what passes, and show it to Prometheus on a port of its own.

The way of a frame touches plain integers only: one object per channel (`ChannelMetrics`) and per engine
(`EngineMetrics`), handed to whoever counts, each with one short lock. Names and labels are put together when
Prometheus asks (`metrics_export.py`). A channel's series are let go some time after its end, so that their
number stays bounded.

Threads: every method may be called from any.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from vedette_server.decode.figures import DecoderFigures
from vedette_server.errors import SettingsError
from vedette_server.gpu_metrics import GpuMetrics
from vedette_server.metrics_export import Exporter
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
from vedette_server.worker_words import Past

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self
    from wsgiref.simple_server import WSGIServer

    from vedette_server.settings import MetricsSettings

__all__ = ["ChannelDepths", "ChannelMetrics", "EngineDepths", "EngineMetrics", "Metrics", "RouteMetrics"]

# Ended channels beyond so many are forgotten before their time.
_MAX_ENDED = 1024


class Metrics:
    """All figures of the process, and the port on which Prometheus finds them.

    Args:
        settings: Where to listen, and how long an ended channel is remembered.
        clock: Monotonic seconds.

    Attributes:
        decoders: Counts what really decodes.
        registry: Gives all families.
        port: Where Prometheus finds them; None: nowhere.

    Raises:
        SettingsError: The port cannot be listened on.
    """

    def __init__(self, settings: MetricsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._forget_after_s = settings.forget_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], ChannelMetrics] = {}
        self._engines: dict[tuple[str, str], EngineMetrics] = {}
        self._routes: dict[str, RouteMetrics] = {}
        # Stage times by engine of the channels that were forgotten: a counter must not fall.
        self._retired: dict[str, tuple[Histogram, ...]] = {}
        self._refused: dict[str, int] = {}
        self._overlaps: dict[int, Callable[[], float]] = {}
        self._lost: set[int] = set()
        self._past = Past({})
        self.decoders = DecoderFigures()
        self.registry = CollectorRegistry()
        self.registry.register(Exporter(self))
        ProcessCollector(registry=self.registry)
        self.port: int | None = None
        self._gpus: GpuMetrics | None = None
        if settings.port != "off":
            self._server, self._thread = _listen(settings.host, settings.port, self.registry)
            self.port = self._server.server_port
            if settings.gpu:
                self._gpus = GpuMetrics()
                self._gpus.start()
                self.registry.register(self._gpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more; may be called twice."""
        if self.port is None:
            return
        self.port = None
        if self._gpus is not None:
            self._gpus.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def channel(self, name: str, engine: str) -> ChannelMetrics:
        """Give the figures of a channel: those it had, when it was there before and is not yet forgotten."""
        with self._lock:
            self._prune()
            found = self._channels.get((name, engine))
            if found is None:
                found = self._channels[name, engine] = ChannelMetrics(name, engine)
            found.ended_s = None
            return found

    def forget(self, name: str) -> None:
        """Say that a channel has ended: its series go after the time that the settings say."""
        with self._lock:
            for figures in self._channels.values():
                if figures.channel == name and figures.ended_s is None:
                    figures.ended_s = self._clock()
                    figures.depths = None
            self._prune()

    def engine(self, name: str, version: str) -> EngineMetrics:
        """Give the figures of an engine."""
        with self._lock:
            return self._engines.setdefault((name, version), EngineMetrics(name, version))

    def route(self, name: str) -> RouteMetrics:
        """Give the figures of what concerns all versions of an engine."""
        with self._lock:
            return self._routes.setdefault(name, RouteMetrics(name))

    def watch_gpu(self, gpu: int, overlap: Callable[[], float]) -> None:
        """Say whom to ask for the share of a GPU's time in which several batches ran at once."""
        with self._lock:
            self._overlaps[gpu] = overlap

    def gpu_lost(self, gpu: int) -> None:
        """Say that nothing runs on a GPU any more; others go on."""
        with self._lock:
            self._lost.add(gpu)

    def refused(self, reason: str) -> None:
        """Count a call that ended with an error; reasons are those of `errors.py`, few and stable."""
        with self._lock:
            self._refused[reason] = self._refused.get(reason, 0) + 1

    def restarted(self, past: Past) -> None:
        """Say what happened to the workers before this one."""
        with self._lock:
            self._past = past

    def snapshot(self) -> Snapshot:
        """List what there is now, for the export."""
        with self._lock:
            self._prune()
            return Snapshot(
                tuple(self._channels.values()),
                tuple(self._engines.values()),
                dict(self._refused),
                dict(self._retired),
                tuple(self._routes.values()),
                self._past,
                dict(self._overlaps),
                frozenset(self._lost),
                self.decoders.decoders,
                self.decoders.fallbacks,
            )

    def _prune(self) -> None:
        """Let go of the channels that ended long ago, and of the oldest ended ones when they are too many."""
        ended = [(figures.ended_s, key) for key, figures in self._channels.items() if figures.ended_s is not None]
        if not ended:
            return
        ended.sort()
        oldest_s = self._clock() - self._forget_after_s
        surplus = len(ended) - _MAX_ENDED
        for rank, (ended_s, key) in enumerate(ended):
            if ended_s > oldest_s and rank >= surplus:
                break
            figures = self._channels.pop(key)
            with figures.lock:
                self._retire(figures)

    def _retire(self, figures: ChannelMetrics) -> None:
        # Replaced, not changed in place: an export may be reading the old ones.
        totals = tuple(Histogram(STAGE_BUCKETS_S) for _ in STAGES)
        for before in (self._retired.get(figures.engine, ()), figures.stages):
            for total, stage in zip(totals, before, strict=False):
                total.add(stage)
        self._retired[figures.engine] = totals


def _listen(host: str, port: int, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"metrics.port is {port} on {host}, which cannot be listened on: {error.strerror}; "
            "allowed: a free port, 0 for any, off for none"
        ) from error
