"""The gRPC services of monitoring, put together: what happened, what happens now, the channels, and the sinks.

Lives on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vedette.v1 import (
    channel_pb2,
    channel_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    sink_pb2,
    sink_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)
from vedette_server.cascade.cascades import Cascades
from vedette_server.channels.engines import check_engines
from vedette_server.channels.labels import KnownLabels
from vedette_server.channels.status import ChannelStatusView
from vedette_server.decode.limits import PictureLimits
from vedette_server.errors import ConflictError, NotFoundError
from vedette_server.evidence.playable import Transcoder
from vedette_server.evidence.seeking import RecordedFiles
from vedette_server.metrics_monitoring import MonitoringExporter, MonitoringFigures
from vedette_server.monitor.pictures import LatestPictures
from vedette_server.monitoring import Monitoring
from vedette_server.pull.options import PullOptions
from vedette_server.pull.puller import Puller
from vedette_server.rpc.channel_service import ChannelService
from vedette_server.rpc.event_service import EventService
from vedette_server.rpc.sendable import SendableEvents
from vedette_server.rpc.server import Service
from vedette_server.rpc.sink_service import SinkService
from vedette_server.rpc.watch_service import WatchService
from vedette_server.watch.hub import ResultHub

if TYPE_CHECKING:
    from vedette_server.evidence.recording import RecordingIndex
    from vedette_server.execute.engines import Engines
    from vedette_server.metrics import Metrics
    from vedette_server.pipeline import Pipeline
    from vedette_server.rpc.auth import Authenticator
    from vedette_server.rpc.bell import Bell
    from vedette_server.session.factory import SessionFactory
    from vedette_server.session.registry import Registry
    from vedette_server.settings import Settings


_log = logging.getLogger(__name__)

TICK_S = 1.0


class MonitoringEdge:
    """Monitoring and its services.

    Args:
        settings: All settings; `monitor.enabled` holds.
        engines: Load and run engines.
        pipeline: Runs their jobs.
        bell: Wakes watchers.

    Attributes:
        monitoring: What monitors.

    Raises:
        SettingsError: Something cannot be used as the settings say.
    """

    def __init__(self, settings: Settings, engines: Engines, pipeline: Pipeline, bell: Bell) -> None:
        self._settings = settings
        self._bell = bell
        self._hub = ResultHub(bell)
        self._sendable = SendableEvents()
        catalogue = engines.catalogue
        self._cascades = Cascades(engines, pipeline, most_under_way=settings.monitor.max_crops)
        try:
            self.monitoring = Monitoring(
                settings,
                KnownLabels(catalogue),
                self._hub.publish,
                self._cascades,
                lambda record: check_engines(record, catalogue),
            )
        except BaseException:
            self._cascades.close()
            raise
        self._puller: Puller | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._services: tuple[EventService, WatchService, ChannelService, SinkService] | None = None

    def serve(
        self,
        registry: Registry,
        factory: SessionFactory,
        authenticator: Authenticator,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> tuple[Service, ...]:
        """Put the services together.

        Args:
            registry: The sessions.
            factory: Builds what sessions are made of.
            authenticator: Knows who may do what.
            metrics: Show the figures, too.
            loop: The event loop.
        """
        settings, monitoring = self._settings, self.monitoring
        self._registry, self._loop = registry, loop
        self._puller = Puller(monitoring.catalogue, registry, factory, loop, _pull_options(settings))
        # However a channel goes, its stream ends: else it would go on without its masks.
        monitoring.catalogue.listen(lambda name, record: self._forget(name) if record is None else None)
        metrics.registry.register(MonitoringExporter(self._figures))
        limits = PictureLimits(settings.decode.max_width, settings.decode.max_height)
        transcoder = Transcoder(monitoring.files, settings.evidence.max_transcodes)
        store, feed, sendable = monitoring.store, monitoring.feed, self._sendable
        events = EventService(store, feed, monitoring.files, transcoder, authenticator, monitoring.watch_of, sendable)
        watches = WatchService(
            self._hub, store, feed, authenticator, self._bell, sendable, most_watchers=settings.monitor.max_watchers
        )
        channels = ChannelService(
            monitoring.catalogue,
            authenticator,
            self._status,
            LatestPictures(monitoring.monitors, limits),
            RecordedFiles(monitoring.files, transcoder, self._index_of, monitoring.watch_of),
            self._forget,
            streamed=self._streamed,
        )
        sinks = SinkService(monitoring.sinks, authenticator)
        self._services = events, watches, channels, sinks
        return (
            Service(_name(event_pb2, "Event"), partial(event_pb2_grpc.add_EventServiceServicer_to_server, events)),
            Service(_name(watch_pb2, "Watch"), partial(watch_pb2_grpc.add_WatchServiceServicer_to_server, watches)),
            Service(
                _name(channel_pb2, "Channel"), partial(channel_pb2_grpc.add_ChannelServiceServicer_to_server, channels)
            ),
            Service(_name(sink_pb2, "Sink"), partial(sink_pb2_grpc.add_SinkServiceServicer_to_server, sinks)),
        )

    def start(self) -> None:
        """Let time pass, and call the cameras that the server calls itself; on the event loop."""
        self._ticking = asyncio.create_task(self._tick())
        if self._puller is not None:
            self._puller.start()

    def admit(self, channel: str) -> None:
        """Let a client stream to a channel, or say why not.

        Raises:
            ConflictError: The server calls its camera itself.
            NotFoundError: Nobody made it, and only channels that were made are taken.
        """
        if self._puller is not None and self._puller.pulls(channel):
            message = f"channel {channel} has a source: the server calls its camera itself"
            raise ConflictError("CHANNEL_HAS_SOURCE", message, channel=channel)
        if self._settings.monitor.known_only and self.monitoring.catalogue.get(channel) is None:
            message = f"channel {channel} is not known; this server takes only channels that were made"
            raise NotFoundError("UNKNOWN_CHANNEL", message, channel=channel)

    async def hang_up(self, timeout_s: float) -> None:
        """Hang up on the cameras that the server calls."""
        if self._puller is not None:
            await self._puller.close(timeout_s)

    async def drain(self) -> None:
        """End those who watch or wait for a sink, when the last result was told."""
        if self._services is not None:
            self._services[1].drain()
            self._services[3].drain()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for service in self._services or ():
            service.close()

    def close(self) -> None:
        """End what goes on, and keep it; takes its time, any thread; may be called twice."""
        self.monitoring.close()
        self._cascades.close()

    async def _tick(self) -> None:
        """Let time pass: apart from all else, since it may wait for the disk."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await asyncio.to_thread(self.monitoring.tick)
            except Exception:  # noqa: BLE001 - the next tick may go well
                _log.exception("time could not pass for monitoring")

    def _status(self, channel: str) -> ChannelStatusView | None:
        session = self._registry.holder(channel)
        monitor = self.monitoring.monitors.get(channel)
        pull = None if self._puller is None else self._puller.status(channel)
        if session is None and monitor is None:
            return None
        return ChannelStatusView(
            connected=session is not None and session.connected,
            session="" if session is None else session.identity.name,
            frame_time_s=None if monitor is None else monitor.frame_s,
            pull=None if pull is None else pull.state,
            detail="" if pull is None else pull.detail,
            faults=() if monitor is None else monitor.faults,
        )

    def _figures(self) -> MonitoringFigures:
        figures = self.monitoring.figures
        states = {} if self._puller is None else self._puller.states()
        watchers = 0 if self._services is None else self._services[1].watchers
        return replace(
            figures,
            watchers=watchers,
            unsendable=self._sendable.unfit,
            stages=self._cascades.tallies,
            crops=self._cascades.under_way,
            dropped={"slow_watcher": self._hub.dropped, "overrun": self._hub.lost},
            sources={state.name.lower(): count for state, count in states.items()},
        )

    def _streamed(self) -> tuple[str, ...]:
        return tuple(session.identity.channel for session in self._registry.live)

    def _forget(self, channel: str) -> None:
        self._loop.call_soon_threadsafe(self._registry.remove, channel)

    def _index_of(self, channel: str) -> RecordingIndex | None:
        monitor = self.monitoring.monitors.get(channel)
        return None if monitor is None or monitor.collector is None else monitor.collector.index


def _pull_options(settings: Settings) -> PullOptions:
    return PullOptions(
        folders=settings.monitor.source_dirs,
        max_channels=settings.monitor.max_sources,
        max_age_s=settings.channels.max_age_s,
        max_packet_bytes=settings.server.max_packet_bytes,
        ca_file=settings.monitor.source_ca,
        hosts=settings.monitor.source_hosts,
        playlists=settings.monitor.source_playlists,
    )


def _name(module: object, service: str) -> str:
    descriptor = module.DESCRIPTOR.services_by_name[f"{service}Service"]  # type: ignore[attr-defined]
    return str(descriptor.full_name)
