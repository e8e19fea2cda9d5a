"""WatchService: results and events of many channels in one stream.

Lives on the event loop. What is sent when is decided in `watch/`; here requests are checked, watchers are counted, and
messages are written, for as long as the watcher reads.
"""

from __future__ import annotations

import functools
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from vedette.v1 import watch_pb2_grpc
from vedette_server.errors import InvalidError, LimitError, OutdatedError, UnavailableError
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.convert_config import channel_from_wire
from vedette_server.rpc.convert_event import filter_from_wire
from vedette_server.rpc.pieces import PATIENCE_S, write
from vedette_server.rpc.status import ending
from vedette_server.watch.offsets import decoded
from vedette_server.watch.tail import EventTail
from vedette_server.watch.wanted import WatchWish
from vedette_server.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import grpc

    from vedette.v1 import watch_pb2
    from vedette_server.rpc.auth import Authenticator, Principal
    from vedette_server.rpc.bell import Bell
    from vedette_server.rpc.sendable import SendableEvents
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.store import EventStore
    from vedette_server.watch.hub import ResultHub

    Context = grpc.aio.ServicerContext[Any, Any]

ALL_CHANNELS = "channels/-"
EARLIEST = "earliest"
MOST_CHANNELS = 10_000
MOST_WATCHERS = 1000
HEARTBEAT_S = 5.0
# The least of all numbers has no inverse; once in thirty years is never.
_LOWEST_RATE = 1e-9
# Names of channels whose permission one watcher remembers.
_REMEMBERED = 4096


class WatchService(watch_pb2_grpc.WatchServiceServicer):
    """Watches channels.

    Args:
        hub: Results.
        store: Events.
        feed: Tells of more events.
        authenticator: Knows who may watch.
        bell: Wakes what follows the events.
        sendable: Puts events on the wire.
        heartbeat_s: A watcher without news is told so after so long.
        most_watchers: So many at once.
        patience_s: So long a watcher may take to read one message.
    """

    def __init__(
        self,
        hub: ResultHub,
        store: EventStore,
        feed: EventFeed,
        authenticator: Authenticator,
        bell: Bell,
        sendable: SendableEvents,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        most_watchers: int = MOST_WATCHERS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._hub = hub
        self._feed = feed
        self._tail = EventTail(store, feed, bell, sendable)
        self._authenticator = authenticator
        self._heartbeat_s = heartbeat_s
        self._most_watchers = most_watchers
        self._patience_s = patience_s
        self._watchers: set[Watcher] = set()
        self._draining = False

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def drain(self) -> None:
        """Take no new watchers, and end those there are: each goes on elsewhere, or here later, from its offset."""
        self._draining = True
        for watcher in self._watchers:
            watcher.end(_draining())

    def close(self) -> None:
        """End all; may be called twice."""
        self.drain()
        self._tail.close()

    # grpc.aio also takes a coroutine that writes through the context; the stubs know generators only. A generator
    # would not see the write that it waits for, and so could not end it.
    async def WatchChannels(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        self, request: watch_pb2.WatchChannelsRequest, context: Context
    ) -> None:
        """Send results and events of channels as they come."""
        async with ending(context):
            if self._draining:
                raise _draining()
            watcher = self._open(request, context)
            self._watchers.add(watcher)
            try:
                await context.send_initial_metadata(())
                async with aclosing(watcher.news()) as news:
                    async for response in news:
                        await write(context, response, self._patience_s)
            finally:
                watcher.close()
                self._watchers.discard(watcher)

    def _open(self, request: watch_pb2.WatchChannelsRequest, context: Context) -> Watcher:
        metadata = tuple(context.invocation_metadata() or ())
        principal = self._authenticator.identify(metadata)
        channels = _channels(request.channels)
        _let(principal, channels)
        wish = _wish(request, channels, principal)
        if len(self._watchers) >= self._most_watchers:
            raise LimitError("TOO_MANY_WATCHERS", f"{len(self._watchers)} watch; allowed: {self._most_watchers}")

        def check() -> None:
            now = self._authenticator.identify(metadata)
            if (now.channels, now.permissions) != (principal.channels, principal.permissions):
                _let(now, channels)
                raise OutdatedError("TOKEN_CHANGED", "what the token may was changed; go on from the last offset")

        return Watcher(wish, self._hub, self._tail, now=self._feed.length, check=check, heartbeat_s=self._heartbeat_s)


def _wish(request: watch_pb2.WatchChannelsRequest, channels: frozenset[str] | None, principal: Principal) -> WatchWish:
    """Take a request apart.

    Raises:
        InvalidError: Something is not allowed to be what it is.
    """
    if not request.results and not request.events:
        raise InvalidError("NOTHING_WANTED", "neither results nor events are asked for; allowed: one of them, or both")
    earliest = request.offset == EARLIEST
    return WatchWish(
        channels=channels,
        may_see=_may_watch(principal),
        results=request.results,
        events=request.events,
        filter=filter_from_wire(request.filter),
        found_only=request.found_only,
        interval_s=_interval_s(request),
        offset=decoded(request.offset) if request.offset and not earliest else None,
        earliest=earliest,
    )


def _channels(names: Iterable[str]) -> frozenset[str] | None:
    """Give bare names; None: all."""
    asked = list(names)
    if asked == [ALL_CHANNELS]:
        return None
    if not 1 <= len(asked) <= MOST_CHANNELS:
        allowed = f"1 to {MOST_CHANNELS}, or {ALL_CHANNELS} alone"
        raise InvalidError("INVALID_CHANNELS", f"{len(asked)} channels are named; allowed: {allowed}")
    if ALL_CHANNELS in asked:
        raise InvalidError("INVALID_CHANNELS", f"{ALL_CHANNELS} stands beside others; allowed: alone")
    return frozenset(channel_from_wire(name) for name in asked)


def _let(principal: Principal, channels: frozenset[str] | None) -> None:
    for channel in [None] if channels is None else sorted(channels):
        principal.require(Permission.WATCH, channel)


def _may_watch(principal: Principal) -> Callable[[str], bool]:
    @functools.lru_cache(_REMEMBERED)
    def may(channel: str) -> bool:
        return principal.may(Permission.WATCH, channel)

    return may


def _interval_s(request: watch_pb2.WatchChannelsRequest) -> float:
    if not request.HasField("max_results_per_second"):
        return 0.0
    rate = request.max_results_per_second
    if not (math.isfinite(rate) and rate > 0.0):
        raise InvalidError("INVALID_RATE", f"max_results_per_second is {rate:g}; allowed: above 0, or absent")
    return 1.0 / max(rate, _LOWEST_RATE)


def _draining() -> UnavailableError:
    return UnavailableError("DRAINING", "the server is shutting down; go on from the last offset")
