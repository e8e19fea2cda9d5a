"""Watch channels: results and events as they come, from many channels in one stream.

```python
async with Client("localhost:50051") as client:
    async with client.watch(channels=["front-door"]) as watch:
        async for news in watch:
            print(watch.offset, news)
```

A lost connection is repaired, and the server asked to go on behind the last message that was handed out: of events
none is missing and none comes twice. Who keeps `Watch.offset` can go on there in another process.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from vedette.v1 import watch_pb2, watch_pb2_grpc
from vedette_client.errors import ClientError, ConnectionLostError, OptionsError, ProtocolError, RefusedError
from vedette_client.events_data import Event, event_from_wire
from vedette_client.numbered import Numbered
from vedette_client.options import channel_name
from vedette_client.status import error_from_rpc
from vedette_client.verdicts import verdict_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from vedette_client.connection import ChannelPool, Lease
    from vedette_client.events_data import EventFilter
    from vedette_client.options import ReconnectOptions
    from vedette_client.verdicts import Verdict

ABSENT = "this server watches no channels; it does when it is started with --state DIR or --channels FILE"
EARLIEST = "earliest"
ALL = "channels/-"
SILENCE_S = 60.0
MOST_CHANNELS = 10_000
_PASSING = {grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED}


class GapReason(Numbered):
    """Why something is missing."""

    SLOW_WATCHER = 1
    """The watcher read too slowly; results, never events, were dropped."""
    EXPIRED = 2
    """The offset lies before what is kept."""
    RESTART = 3
    """The server was started anew: results are kept in memory only."""


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """A verdict of a channel.

    Attributes:
        channel: The channel's bare name.
        session: `channels/{channel}/sessions/{session}`.
        verdict: What became of one of its packets.
    """

    channel: str
    session: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Gap:
    """News that are missing.

    Attributes:
        channel: The channel's bare name; empty: all.
        reason: Why.
        results: Results that are missing; 0: unknown.
        from_offset: Offset before the gap.
        to_offset: Offset behind it.
    """

    channel: str
    reason: GapReason
    results: int
    from_offset: str
    to_offset: str


News = Event | ChannelResult | Gap


class Watch:
    """One watch, over as many connections as it takes; `Client.watch` gives it.

    An async iterator for one task at a time, and an async context manager. A cancelled wait loses nothing.

    Attributes:
        offset: Where to go on behind what was handed out last; empty until the server has said so.
        connected: Whether the server has sent something over the present connection.
        lost: Why the connection was lost last; None: it never was.
    """

    def __init__(
        self,
        request: watch_pb2.WatchChannelsRequest,
        *,
        pool: ChannelPool,
        address: str,
        reconnect: ReconnectOptions,
        silence_s: float = SILENCE_S,
        on_connection: Callable[[ConnectionLostError | None], None] | None = None,
        on_close: Callable[[Watch], None] | None = None,
    ) -> None:
        self.offset = request.offset
        self.connected = False
        self.lost: ConnectionLostError | None = None
        self._request = request
        self._pool = pool
        self._address = address
        self._reconnect = reconnect
        self._silence_s = silence_s
        self._on_connection = on_connection
        self._on_close = on_close
        self._lease: Lease | None = None
        self._call: Any = None
        self._closed = False
        self._ever = False
        self._failures = 0
        self._since_s = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        """Give the next piece of news.

        Raises:
            RefusedError: The server does not let these channels be watched, or knows the offset not.
            ConnectionLostError: The server cannot be reached, or not again in time.
        """
        while not self._closed:
            try:
                message = await self._next_message()
            except ConnectionLostError as error:
                await self._drop(broken=True)
                await self._back_off(error)
                continue
            except BaseException:
                await self._drop()
                raise
            if (news := self._take(message)) is not None:
                return news
        raise StopAsyncIteration

    async def close(self) -> None:
        """End it; may be called twice."""
        self._closed = True
        await self._drop()
        if self._on_close is not None:
            self._on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _next_message(self) -> watch_pb2.WatchChannelsResponse:
        call = self._call or self._open()
        limit_s = self._silence_s if self.connected else self._reconnect.connect_s
        try:
            async with asyncio.timeout(limit_s):
                message = await call.read()
        except TimeoutError:
            raise ConnectionLostError(f"the server was silent for {limit_s:g} s") from None
        except asyncio.CancelledError:
            if self._closed and not _is_cancelled():
                raise StopAsyncIteration from None  # `close` ended the call under a waiting reader
            raise
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        if not isinstance(message, watch_pb2.WatchChannelsResponse):
            raise ConnectionLostError("the server ended the watch")
        return message

    def _open(self) -> Any:
        self._lease = self._pool.acquire(self._address)
        self._request.offset = self.offset
        stub = watch_pb2_grpc.WatchServiceStub(self._lease.channel)
        self._call = stub.WatchChannels(self._request, metadata=self._pool.metadata)
        return self._call

    async def _drop(self, *, broken: bool = False) -> None:
        lease, self._lease = self._lease, None
        call, self._call = self._call, None
        self.connected = False
        if call is not None:
            call.cancel()
        if lease is not None:
            await self._pool.release(lease, broken=broken)

    def _take(self, message: watch_pb2.WatchChannelsResponse) -> News | None:
        if not message.offset:
            raise ProtocolError("the server sent news without an offset: the watch could not go on behind it")
        self.offset = message.offset
        self._failures = 0
        if not self.connected:
            self.connected = self._ever = True
            if self._on_connection is not None:
                self._on_connection(None)
        return news_from_wire(message)

    def _error(self, error: grpc.aio.AioRpcError) -> ClientError:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return RefusedError("UNIMPLEMENTED", "", f"{self._address}: {ABSENT}")
        # A token that may more or less now, or a server that is too busy to have us back yet: the offset still holds.
        if error.code() in _PASSING and self._ever:
            return ConnectionLostError(f"{error.details()} ({error.code().name})")
        return error_from_rpc(error)

    async def _back_off(self, error: ConnectionLostError) -> None:
        options = self._reconnect
        self.lost = error
        if not self._failures:
            self._since_s = time.monotonic()  # not since the last news: whoever reads may have been busy for long
        limit_s = options.give_up_s if self._ever else options.connect_s
        wait_s = min(options.max_s, options.initial_s * 2.0 ** min(self._failures, 30))
        wait_s *= 1 - options.jitter * random.random()  # noqa: S311  no secret hangs on it
        if time.monotonic() + wait_s - self._since_s > limit_s:
            raise ConnectionLostError(f"{self._address}: {error}; given up after {limit_s:g} s") from error
        if self._ever and not self._failures and self._on_connection is not None:
            self._on_connection(error)
        self._failures += 1
        await asyncio.sleep(wait_s)


def watch_request(
    channels: Sequence[str] | str = (),
    *,
    results: bool = False,
    events: bool = True,
    offset: str = "",
    wanted: EventFilter | None = None,
    found_only: bool = False,
    max_results_per_second: float | None = None,
) -> watch_pb2.WatchChannelsRequest:
    """Write what is to be watched.

    Raises:
        OptionsError: Nothing is, or a channel's name is not allowed.
    """
    if not (results or events):
        raise OptionsError("neither results nor events are to be watched; one of them is wanted")
    if isinstance(channels, str):
        raise OptionsError(f"channels is {channels!r}; a list of names is wanted")
    if len(channels) > MOST_CHANNELS:
        raise OptionsError(f"channels has {len(channels)} names; at most {MOST_CHANNELS} are allowed, or none for all")
    if max_results_per_second is not None and not max_results_per_second > 0:
        raise OptionsError(f"max_results_per_second is {max_results_per_second:g}; above 0 is wanted")
    request = watch_pb2.WatchChannelsRequest(
        channels=list(dict.fromkeys(channel_name(one) for one in channels)) or [ALL],
        results=results,
        events=events,
        offset=offset,
        found_only=found_only,
        max_results_per_second=max_results_per_second,
    )
    if wanted is not None:
        request.filter.CopyFrom(wanted.to_wire())
    return request


def news_from_wire(message: watch_pb2.WatchChannelsResponse) -> News | None:
    """Build a piece of news from its message; None of a heartbeat, and of what a newer server sends."""
    what = message.WhichOneof("news")
    if what == "event":
        return event_from_wire(message.event)
    if what == "result":
        result = message.result
        return ChannelResult(
            result.channel.removeprefix("channels/"), result.session, verdict_from_wire(result.verdict)
        )
    if what == "gap":
        gap = message.gap
        channel = gap.channel.removeprefix("channels/")
        return Gap(channel, GapReason(int(gap.reason)), gap.results, gap.from_offset, gap.to_offset)
    return None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
