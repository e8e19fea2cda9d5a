"""Build the server's parts, hand them to each other, and run them from start to drain.

The only place that wires. Parts are opened in order and closed in reverse. The first SIGTERM or SIGINT
drains: no new streams, clients are told, what is held is finished within the grace. The second stops
at once. A supervisor (`supervise.py`) asks for that over the worker's line: a signal may then come twice for one
wish, from it and from whoever signals all processes of the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import cv2

from vedette_engines.gpu import nvtx
from vedette_server import log
from vedette_server.data.config import EngineRef
from vedette_server.data.outcome import SkipReason
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.opening import Decoders, open_nvdec
from vedette_server.errors import SettingsError, UnavailableError, VedetteError
from vedette_server.execute.engines import Engines
from vedette_server.execute.keeper import Keeper
from vedette_server.execute.opener import GpuOpener
from vedette_server.execute.steering import Steering
from vedette_server.lifeline import Lifeline
from vedette_server.metrics import Metrics
from vedette_server.pipeline import Pipeline
from vedette_server.rpc.auth import Authenticator
from vedette_server.rpc.bell import Bell
from vedette_server.rpc.engine_service import EngineService
from vedette_server.rpc.server import Server
from vedette_server.rpc.session_service import SessionService
from vedette_server.rpc.stream_service import StreamService
from vedette_server.session.factory import SessionFactory
from vedette_server.session.registry import Registry
from vedette_server.trace import tracing
from vedette_server.trace_depths import draw_depths
from vedette_server.worker_words import DEVICE_LOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.execute.opener import Opener
    from vedette_server.monitoring_edge import MonitoringEdge
    from vedette_server.session.session import Session
    from vedette_server.settings import Settings
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

TICKS_PER_HEARTBEAT = 4
LAST_WORDS_S = 2.0
# A process that has lost its GPU is gone after so long, whatever holds it.
STRANDED_S = 20.0
# Threads that wait for the interpreter get it this soon. Decoders and lanes leave it for most of their work and
# want it back at once: at the default of 5 ms cores stand idle meanwhile.
SWITCH_INTERVAL_S = 0.001


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code.

    Raises:
        SettingsError: The server cannot start as it is told to.
    """
    log.configure(settings.log)
    if settings.metrics.nvtx:
        nvtx.switch_on()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Channels run in parallel; threads inside one small resize would only be in the way.
    cv2.setNumThreads(1)
    with contextlib.closing(Lifeline.inherited(os.environ)) as lifeline:
        return asyncio.run(App(settings, lifeline=lifeline).serve())


class App:
    """The server of one process.

    Args:
        settings: All settings.
        lifeline: The line to the supervisor; None: there is no supervisor.
        opener: Opens engines and drives GPUs, and is closed with the server; None: what is installed does.
    """

    def __init__(self, settings: Settings, lifeline: Lifeline | None = None, *, opener: Opener | None = None) -> None:
        self._settings = settings
        self._opener = opener
        self._stranded = ""
        # What closes may wait for a GPU that never answers again.
        self._last_resort = threading.Timer(STRANDED_S, os._exit, (DEVICE_LOST,))
        self._last_resort.daemon = True
        self._lifeline = lifeline or Lifeline()
        self._signals = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._bell: Bell | None = None
        self._server: Server | None = None
        self._engines: Engines | None = None

    async def serve(self) -> int:
        """Open everything, serve, drain, close everything."""
        loop = asyncio.get_running_loop()
        with _cancelling(self._last_resort), contextlib.ExitStack() as stack:
            stack.enter_context(self._lifeline.beating(loop, self._end_at_once))
            # First to come and last to go: whatever ends before has its place in it.
            past = sum(self._lifeline.past.restarts.values())
            tracer = stack.enter_context(tracing(self._settings.trace, past))
            parts = self._build(stack, loop, tracer)
            with self._listening_to_signals(loop):
                await self._run(parts)
        return self._code

    def _build(self, stack: contextlib.ExitStack, loop: asyncio.AbstractEventLoop, tracer: Tracer | None) -> _Parts:
        """Open everything."""
        settings = self._settings
        authenticator = Authenticator(settings.auth)
        metrics = stack.enter_context(Metrics(settings.metrics))
        pipeline, engines, decoders = self._open_engines(stack, loop, metrics, tracer)
        steering = EngineService(Steering(engines), authenticator)
        stack.callback(steering.close)
        bell = Bell(loop)
        edge = _open_monitoring(settings, stack, engines, pipeline, bell)

        def over(session: Session) -> None:
            loop.call_soon_threadsafe(registry.over, session)

        factory = SessionFactory(
            settings,
            engines,
            pipeline,
            metrics,
            on_over=over,
            tracer=tracer,
            decoders=decoders,
            open_watcher=None if edge is None else edge.monitoring.monitors.watch,
        )
        registry = Registry(
            settings.server.max_channels,
            settings.server.resume_window_s,
            on_taken=partial(_take_in, pipeline, engines, factory),
            on_gone=partial(_let_go, pipeline, engines, metrics),
        )
        others = () if edge is None else edge.serve(registry, factory, authenticator, metrics, loop)
        streams = StreamService(
            settings,
            registry,
            factory,
            authenticator,
            metrics,
            bell,
            version("vedette"),
            tracer,
            admit=edge.admit if edge is not None else lambda _channel: None,
        )
        self._server = Server(settings, streams, SessionService(registry, authenticator), steering, others)
        return _Parts(self._server, streams, registry, engines, metrics, edge)

    async def _run(self, parts: _Parts) -> None:
        """Serve until told to stop, and drain."""
        server, edge = parts.server, parts.edge
        await self._preload(parts.engines)
        if self._stop.is_set():
            return
        _spare_the_collector()
        await server.start()
        await server.set_serving(serving=True)
        if edge is not None:
            edge.start()
        self._tell_where(server, parts.metrics)
        ticker = asyncio.create_task(self._tick(parts.streams, parts.registry))
        await self._stop.wait()
        await self._drain(parts)
        await server.stop(0.5)
        if edge is not None:
            # What goes on is ended, and kept, while the loop still beats.
            await asyncio.to_thread(edge.close)
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)

    def _open_engines(
        self, stack: contextlib.ExitStack, loop: asyncio.AbstractEventLoop, metrics: Metrics, tracer: Tracer | None
    ) -> tuple[Pipeline, Engines, Decoders]:
        settings = self._settings
        opener = self._opener or GpuOpener(settings.engines.cuda_library)
        pipeline = Pipeline(settings.decode.threads, settings.decode.pending_pictures, tracer=tracer)
        # Its threads keep the process alive: they must end whatever fails from here on.
        stack.callback(pipeline.close)
        engines = Engines(
            settings.engines,
            metrics,
            pipeline,
            lambda: self._health_changed(loop),
            opener=opener,
            on_stranded=partial(self._strand, loop),
            tracer=tracer,
        )
        draw_depths(tracer, pipeline, engines)
        stack.callback(engines.close)
        decoders = _decoders(settings, opener, metrics)
        # Before the engines, which have the GPUs open; after the workers, which decode.
        stack.callback(decoders.close)
        keeper = Keeper(engines, settings.engines.watch_interval_s, settings.engines.keep_previous_s)
        # Before the engines: nobody may run a batch when they go.
        stack.callback(pipeline.close)
        # Before both: it loads and closes engines.
        stack.callback(keeper.close)
        self._engines = engines
        return pipeline, engines, decoders

    async def _preload(self, engines: Engines) -> None:
        for name in self._settings.engines.preload:
            if self._stop.is_set():
                return
            engine, _, wanted = name.partition("@")
            try:
                await asyncio.to_thread(engines.get, EngineRef(engine, wanted))
            except VedetteError as error:
                if self._stranded:
                    return
                raise SettingsError(f"engines.preload: {error}") from error

    async def _tick(self, streams: StreamService, registry: Registry) -> None:
        interval = self._settings.server.heartbeat_interval_s / TICKS_PER_HEARTBEAT
        told = True
        while True:
            await asyncio.sleep(min(interval, 1.0))
            streams.tick()
            registry.sweep()
            # A run that hangs tells nobody: it has to be looked for.
            healthy = self._engines is None or self._engines.healthy
            if healthy != told and not self._stop.is_set():
                await self._tell_health()
            told = healthy

    async def _drain(self, parts: _Parts) -> None:
        """Finish what is held within the grace, then end the rest; who watches is told to the last."""
        streams, registry, edge = parts.streams, parts.registry, parts.edge
        grace_s = self._settings.server.drain_grace_s
        _log.info("draining: %d channels, grace %g s", len(registry.live), grace_s)
        await parts.server.set_serving(serving=False)
        streams.drain(grace_s)
        hanging_up = asyncio.create_task(edge.hang_up(grace_s)) if edge is not None else None
        await self._wait_until_idle(streams, registry, grace_s)
        if hanging_up is not None:
            # A camera that does not answer has had its time.
            hanging_up.cancel()
            await asyncio.gather(hanging_up, return_exceptions=True)
        for session in registry.live:
            error = UnavailableError("DRAINING", "the server is shutting down")
            session.end("DRAINING", SkipReason.DRAINING, error)
        await self._wait_until_idle(streams, registry, LAST_WORDS_S)
        if edge is not None:
            await edge.drain()

    async def _wait_until_idle(self, streams: StreamService, registry: Registry, timeout_s: float) -> None:
        """Wait until nobody has anything to send or to hear: a session is over before its last verdict is sent."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline and not self._stop_now.is_set():
            if not streams.busy and not any(session.connected for session in registry.live):
                return
            await asyncio.sleep(0.02)

    def _health_changed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the health that lanes see; called from a lane."""
        asyncio.run_coroutine_threadsafe(self._tell_health(), loop)

    async def _tell_health(self) -> None:
        if self._server is not None and self._engines is not None and not self._stop.is_set():
            await self._server.set_serving(serving=self._engines.healthy)

    def _tell_where(self, server: Server, metrics: Metrics) -> None:
        print(f"vedette: serving on {server.address}", flush=True)  # noqa: T201
        if metrics.port is not None:
            print(f"vedette: metrics on {self._settings.metrics.host}:{metrics.port}", flush=True)  # noqa: T201
        metrics.restarted(self._lifeline.past)
        self._lifeline.serves()

    def _strand(self, loop: asyncio.AbstractEventLoop, reason: str) -> None:
        """End this process, of which the GPU is lost: another may have it again; called from any thread."""
        if self._stranded:
            return
        self._stranded = reason
        _log.critical("this process ends: %s", reason)
        self._last_resort.start()
        loop.call_soon_threadsafe(self._end_at_once)

    @property
    def _code(self) -> int:
        return DEVICE_LOST if self._stranded else 0

    def _end_at_once(self) -> None:
        self._stop.set()
        self._stop_now.set()

    @contextlib.contextmanager
    def _listening_to_signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        def signalled() -> None:
            self._signals += 1
            (self._stop if self._signals == 1 or self._lifeline.is_held else self._stop_now).set()

        signals = [signal.SIGINT, signal.SIGTERM]
        if self._lifeline.is_held:
            # The supervisor's terminal is gone.
            signals.append(signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, signalled)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


class _Parts(NamedTuple):
    """What a server is run with."""

    server: Server
    streams: StreamService
    registry: Registry
    engines: Engines
    metrics: Metrics
    edge: MonitoringEdge | None


def _take_in(pipeline: Pipeline, engines: Engines, factory: SessionFactory, session: Session) -> None:
    engines.join(session)
    pipeline.add(session)
    factory.watch(session)


def _let_go(pipeline: Pipeline, engines: Engines, metrics: Metrics, session: Session, channel_free: bool) -> None:
    pipeline.remove(session)
    engines.leave(session)
    if channel_free:
        metrics.forget(session.identity.channel)


def _open_monitoring(
    settings: Settings, stack: contextlib.ExitStack, engines: Engines, pipeline: Pipeline, bell: Bell
) -> MonitoringEdge | None:
    if not settings.monitor.enabled:
        if settings.sinks.file is not None:
            raise SettingsError("sinks.file is set, but nothing is monitored: it needs monitor.state_dir (--state)")
        return None
    # Whoever monitors nothing pays for nothing.
    from vedette_server.monitoring_edge import MonitoringEdge  # noqa: PLC0415

    return stack.enter_context(contextlib.closing(MonitoringEdge(settings, engines, pipeline, bell)))


@contextlib.contextmanager
def _cancelling(timer: threading.Timer) -> Iterator[None]:
    try:
        yield
    finally:
        timer.cancel()


def _decoders(settings: Settings, opener: Opener, metrics: Metrics) -> Decoders:
    """Put together what decodes.

    Raises:
        SettingsError: The GPU is to decode, and cannot.
    """
    decode = settings.decode
    nvdec = open_nvdec(
        decode,
        metrics.decoders,
        lambda: settings.engines.devices or opener.gpus,
        opener.device,
        letterboxes=settings.engines.preprocess == "device",
    )
    limits = PictureLimits(decode.max_width, decode.max_height)
    return Decoders(limits, metrics.decoders, nvdec, always=decode.device == "nvdec")


def _spare_the_collector() -> None:
    """Keep the garbage collector from walking through libraries for every few hundred packets.

    What is loaded by now stays for ever. Packets and verdicts are freed by their reference counts; cycles
    are rare, so that they may be looked for rarely.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
