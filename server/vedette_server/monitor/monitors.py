"""The monitors of all channels that are known, and who looks at sessions for them.

A channel that nobody made an entry for is analysed without a monitor. An entry that is made, changed or deleted while
its channel streams takes effect with the next packet.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from vedette_server.evidence.collecting import Collector
from vedette_server.monitor.channel import ChannelMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette_server.cascade.cascades import Cascades
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.packet import Packet
    from vedette_server.data.verdict import Verdict
    from vedette_server.decode.base import Decoded
    from vedette_server.evidence.collecting import EvidenceParts
    from vedette_server.monitor.desk import EventDesk
    from vedette_server.session.identity import Identity

_log = logging.getLogger(__name__)


class Monitors:
    """The monitors of this process.

    Args:
        records: The channels that are known.
        desk: Where events go.
        parts: What evidence is made with; None: none is kept.
        cascades: Look closer at what is followed; None: nobody does.
        publish: Told of every verdict with its channel, its session, its index and its request id; quick.
        clock: Seconds since the epoch.
        steady: The clock that packets' `received_s` are of.
    """

    def __init__(
        self,
        records: Iterable[ChannelRecord],
        desk: EventDesk,
        parts: EvidenceParts | None,
        publish: Callable[[str, str, Verdict, int | None, str], None],
        cascades: Cascades | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._parts = parts
        self._cascades = cascades
        self.publish = publish
        self.clock, self._steady = clock, steady
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._monitors: dict[str, ChannelMonitor] = {}
        self._closed = False
        for record in records:
            self._monitors[record.name] = self._open(record)

    def watch(self, identity: Identity, config: ChannelConfig) -> SessionWatcher:
        """Give who looks at a session."""
        return SessionWatcher(self, identity, config)

    def get(self, channel: str) -> ChannelMonitor | None:
        """Return the monitor of a channel; None: there is no entry for it."""
        return self._monitors.get(channel)

    def all(self) -> tuple[ChannelMonitor, ...]:
        """Return all monitors."""
        with self._lock:
            return tuple(self._monitors.values())

    def changed(self, channel: str, record: ChannelRecord | None) -> None:
        """Take note of a channel that was made or changed, or that is gone; one change at a time."""
        # Opening may read a folder: nobody who only looks waits for that.
        with self._changing:
            monitor = self._monitors.get(channel)
            if self._closed:
                return
            if record is None:
                with self._lock:
                    self._monitors.pop(channel, None)
                if monitor is not None:
                    monitor.close(self.clock())
            elif monitor is None:
                opened = self._open(record)
                with self._lock:
                    self._monitors[channel] = opened
            else:
                monitor.change(record, self.clock())

    def tick(self) -> None:
        """Let time pass; once a second or so."""
        now_s = self.clock()
        for monitor in self.all():
            monitor.tick(now_s)

    def close(self) -> None:
        """End all that goes on; may be called twice."""
        with self._changing, self._lock:
            self._closed = True
            monitors, self._monitors = tuple(self._monitors.values()), {}
        for monitor in monitors:
            try:
                monitor.close(self.clock())
            except Exception:  # noqa: BLE001 - the others' events are still to be ended
                _log.exception("a channel's monitoring could not be ended", extra={"channel": monitor.name})

    def _open(self, record: ChannelRecord) -> ChannelMonitor:
        collector = None if self._parts is None else Collector(record, self._parts)
        cascade = None if self._cascades is None else self._cascades.open(record.name, record.stages)
        return ChannelMonitor(record, self._desk, collector, cascade, self._steady)


class SessionWatcher:
    """Looks at one session for the monitor of its channel, while there is one; a `session.seams.Watcher`.

    Args:
        monitors: All monitors.
        identity: The session.
        config: Its configuration.
    """

    def __init__(self, monitors: Monitors, identity: Identity, config: ChannelConfig) -> None:
        self._monitors = monitors
        self._channel, self._session = identity.channel, identity.session
        self._config = config
        self._begun: ChannelMonitor | None = None

    @property
    def keeps_pictures(self) -> bool:
        """Whether verdicts are to bring their pictures along."""
        monitor = self._monitors.get(self._channel)
        return monitor is not None and monitor.cascade is not None and monitor.cascade.wants_pictures

    def attached(self, config: ChannelConfig) -> None:
        """Take note that a client is connected."""
        self._config = config
        self._begun = None
        self._monitor()

    def changed(self, config: ChannelConfig) -> None:
        """Take note of another configuration."""
        self._config = config
        if (monitor := self._monitor()) is not None:
            monitor.changed(config)

    def packet(self, packet: Packet) -> None:
        """Take note of a packet that was let in."""
        try:
            if (monitor := self._monitor()) is not None and not packet.decode_only:
                monitor.packet(packet)
        except Exception:  # noqa: BLE001 - a packet is taken in, whatever becomes of its channel's monitoring
            _log.exception("a packet could not be monitored", extra={"channel": self._channel})

    def look(self, answers: Sequence[Decoded]) -> None:
        """Look at what was decoded."""
        monitor = self._monitors.get(self._channel)
        if monitor is not None and monitor.is_of(self._session):
            monitor.look(answers)

    def judge(self, verdict: Verdict) -> None:
        """Look at a verdict before it is told."""
        monitor = self._monitors.get(self._channel)
        if monitor is None:
            return
        # First of all, and whatever fails behind: what is hidden is not told.
        monitor.mask(verdict)
        # What was received before the monitor was there has no time.
        if verdict.packet.time_s and monitor.is_of(self._session):
            monitor.judge(verdict, self._session, self._config.min_score)

    def told(self, verdict: Verdict, index: int | None) -> None:
        """Take note that a verdict was numbered."""
        # Who streams is told the same.
        request_id = f"{self._channel}-{verdict.packet.sequence}"
        self._monitors.publish(self._channel, self._session, verdict, index, request_id)

    def ended(self, end_reason: str) -> None:
        """Take note that the session is over."""
        if (monitor := self._monitors.get(self._channel)) is not None:
            monitor.ended(self._session, end_reason)

    def _monitor(self) -> ChannelMonitor | None:
        """Return the channel's monitor; on the event loop, where it is told of the session that it sees first."""
        monitor = self._monitors.get(self._channel)
        if monitor is not None and monitor is not self._begun:
            self._begun = monitor
            monitor.begin(self._session, self._config, self._monitors.clock())
        return monitor
