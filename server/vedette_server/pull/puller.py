"""The cameras that the server calls itself: one thread for each channel whose record has a source.

Follows the catalogue of channels: a source that is added is called, one that changes is called anew, one that is
removed ends. At most so many are called at once; the others wait for a place.

Threads: lives on the event loop; the catalogue may tell of changes from any thread. `pulls`, `status` and `states` may
be called from any thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from vedette_server.pull.address import check_url
from vedette_server.pull.channel import PulledChannel
from vedette_server.pull.desk import Desk
from vedette_server.pull.status import PullState, PullStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.channel import ChannelRecord, SourceConfig
    from vedette_server.pull.desk import Factory
    from vedette_server.pull.options import PullOptions
    from vedette_server.session.registry import Registry

_log = logging.getLogger(__name__)

_LOOK_S = 0.02


class Catalogue(Protocol):
    """What is needed of the `ChannelCatalogue`."""

    def records(self) -> tuple[ChannelRecord, ...]:
        """Return all channels."""
        ...

    def listen(self, callback: Callable[[str, ChannelRecord | None], None]) -> Callable[[], None]:
        """Have every change told, from any thread; what is returned ends that."""
        ...


class Puller:
    """Calls the cameras of a catalogue.

    Args:
        catalogue: The channels.
        registry: The sessions of this process.
        factory: Builds what sessions are made of.
        loop: The event loop.
        options: Timeouts and limits.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        registry: Registry,
        factory: Factory,
        loop: asyncio.AbstractEventLoop,
        options: PullOptions,
    ) -> None:
        self._catalogue = catalogue
        self._desk = Desk(registry, factory, loop)
        self._loop = loop
        self._options = options
        self._end_listening: Callable[[], None] = lambda: None
        self._closing = False
        # What is wanted, what has a thread, and whoever waits for one, in order.
        self._wanted: dict[str, SourceConfig] = {}
        self._channels: dict[str, PulledChannel] = {}
        self._finished: dict[str, PullStatus] = {}
        self._queue: dict[str, None] = {}

    def start(self) -> None:
        """Call the cameras that are in the catalogue, and follow it; on the event loop."""
        self._end_listening = self._catalogue.listen(self._heard)
        for record in self._catalogue.records():
            self._changed(record.name, record)

    def check(self, source: SourceConfig) -> None:
        """Refuse a source that may not be called; any thread.

        Raises:
            InvalidError: SOURCE_NOT_ALLOWED or INVALID_SOURCE.
        """
        check_url(source.url, self._options.folders)

    def pulls(self, name: str) -> bool:
        """Whether the channel is one that the server calls, so that nobody else may stream to it; any thread."""
        return name in self._wanted

    def status(self, name: str) -> PullStatus | None:
        """Where a channel's camera stands; None: it has no source. Any thread."""
        if name not in self._wanted:
            return None
        if (finished := self._finished.get(name)) is not None:
            return finished
        channel = self._channels.get(name)
        if channel is not None and name not in self._queue:
            return channel.status
        return PullStatus(
            PullState.WAITING, f"{self._options.max_channels} cameras are called already; no more are allowed at once"
        )

    def states(self) -> Counter[PullState]:
        """How many cameras stand where; any thread."""
        found = (self.status(name) for name in tuple(self._wanted))
        return Counter(status.state for status in found if status is not None)

    async def close(self, timeout_s: float) -> None:
        """Hang up on all cameras and have their sessions told to the end, within the time; may be called twice.

        A thread whose read hangs is left behind: it ends by itself after its timeout, and touches nothing.
        """
        self._closing = True
        self._end_listening()
        self._end_listening = lambda: None
        self._queue.clear()
        channels = tuple(self._channels.values())
        for channel in channels:
            channel.stop()
        deadline = self._loop.time() + timeout_s
        while self._loop.time() < deadline and not all(channel.exited for channel in channels):
            for channel in channels:
                if channel.told_all:
                    channel.leave()
            await asyncio.sleep(_LOOK_S)
        hanging = [channel.name for channel in channels if not channel.exited]
        for channel in channels:
            channel.leave()
        if hanging:
            _log.warning("%d cameras did not answer when they were hung up on: %s", len(hanging), ", ".join(hanging))

    # -- the event loop -------------------------------------------------------------------------

    def _heard(self, name: str, record: ChannelRecord | None) -> None:
        """Take note of a change; any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed, name, record)

    def _changed(self, name: str, record: ChannelRecord | None) -> None:
        source = None if record is None else record.source
        if self._closing or source == self._wanted.get(name):
            return
        self._finished.pop(name, None)
        self._queue.pop(name, None)
        if source is not None:
            self._wanted[name] = source
            self._call(name, source)
            return
        del self._wanted[name]
        if (channel := self._channels.get(name)) is not None:
            channel.stop()

    def _call(self, name: str, source: SourceConfig) -> None:
        """Call a camera, now or when there is a place."""
        channel = self._channels.get(name)
        if channel is not None:
            if not channel.change(source):
                self._queue[name] = None  # until the news of its end has come
        elif len(self._channels) >= self._options.max_channels:
            self._queue[name] = None
        else:
            self._channels[name] = PulledChannel(name, source, self._desk, self._options, self._exited_soon)
            self._channels[name].start()

    def _exited_soon(self, channel: PulledChannel) -> None:
        """Take note of a thread's end; from that thread."""
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._exited, channel)
            except RuntimeError:
                _log.debug("channel %s: ended after the event loop", channel.name)

    def _exited(self, channel: PulledChannel) -> None:
        name = channel.name
        del self._channels[name]
        if name in self._wanted and name not in self._queue:
            self._finished[name] = channel.status
        while self._queue and not self._closing and len(self._channels) < self._options.max_channels:
            waiting = next(iter(self._queue))
            del self._queue[waiting]
            self._call(waiting, self._wanted[waiting])
