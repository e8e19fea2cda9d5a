"""The blocking twin of the client: the same code, run on an event loop in a thread of its own.

```python
with Client("localhost:50051") as client:
    for verdict in client.analyze("clip.mp4", "front-door", engines=["person"]):
        print(verdict.sequence, verdict.detections)
```

Threads: any thread may call; one at a time per stream.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from vedette_client.client import Client as AsyncClient
from vedette_client.errors import StreamClosedError
from vedette_client.sync_channels import Channels
from vedette_client.sync_engines import Engines
from vedette_client.sync_events import Events
from vedette_client.sync_sinks import Sinks
from vedette_client.sync_watching import Watch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from types import TracebackType

    from vedette.v1 import stream_pb2
    from vedette_client.account import Account
    from vedette_client.channels import Channels as AsyncChannels
    from vedette_client.engines import Engines as AsyncEngines
    from vedette_client.events import Events as AsyncEvents
    from vedette_client.events_data import EventFilter
    from vedette_client.flow import Flow
    from vedette_client.options import AnalyzeFields, AnalyzeOptions, ReconnectOptions, StreamLimits, TlsOptions
    from vedette_client.sessions import SessionInfo
    from vedette_client.sinks import Sinks as AsyncSinks
    from vedette_client.sources.base import Source, SourceFormat, SourcePacket
    from vedette_client.stream import Stream as AsyncStream
    from vedette_client.verdicts import Verdict
    from vedette_client.watching import Watch as AsyncWatch

T = TypeVar("T")


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="vedette client", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait; an interrupt here cancels it there."""
        if self._loop.is_closed():
            coroutine.close()
            raise StreamClosedError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


class Stream:
    """Sends the packets of one camera and iterates over its verdicts; see `vedette_client.stream.Stream`.

    While one thread sends, another should take the verdicts: when too many wait, reading pauses.
    """

    def __init__(self, stream: AsyncStream, thread: _LoopThread) -> None:
        self._stream = stream
        self._thread = thread
        self._ready: deque[Verdict] = deque()

    @property
    def session_name(self) -> str:
        """Resource name of the session."""
        return self._stream.session_name

    @property
    def accepted(self) -> stream_pb2.Accepted | None:
        """The server's latest answer to the configuration."""
        return self._stream.accepted

    @property
    def flow(self) -> Flow:
        """What the server allows and wishes."""
        return self._stream.flow

    @property
    def clock_offset_s(self) -> float | None:
        """The server's clock minus ours; None before the first answer."""
        return self._stream.clock_offset_s

    @property
    def account(self) -> Account:
        """What was counted so far; a copy."""
        return self._stream.account

    def send(self, packet: SourcePacket, *, wait: bool | None = None) -> int:
        """Queue one packet; see `vedette_client.stream.Stream.send`."""
        return self._thread.call(self._stream.send(packet, wait=wait))

    def update(self, **fields: Unpack[AnalyzeFields]) -> stream_pb2.ConfigUpdated:
        """Change settings in mid-stream; see `vedette_client.stream.Stream.update`."""
        return self._thread.call(self._stream.update(**fields))

    def finish(self) -> Account:
        """Have every packet judged, and compare the accounts; see `vedette_client.stream.Stream.finish`."""
        return self._thread.call(self._stream.finish())

    def close(self) -> None:
        """End the stream at once; may be called twice."""
        if not self._thread.is_closed:
            self._thread.call(self._stream.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Verdict:
        if not self._ready:
            self._ready.extend(self._thread.call(self._stream.read()))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client:
    """Talks to one server and blocks meanwhile; see `vedette_client.Client` for the arguments."""

    def __init__(
        self,
        address: str,
        *,
        tls: TlsOptions | None = None,
        token: str | None = None,
        reconnect: ReconnectOptions | None = None,
        limits: StreamLimits | None = None,
    ) -> None:
        self._client = AsyncClient(address, tls=tls, token=token, reconnect=reconnect, limits=limits)
        self._thread = _LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all streams and close all connections; may be called twice."""
        if not self._thread.is_closed:
            self._thread.call(self._client.close())
            self._thread.close()

    def analyze(
        self,
        source: Source | str,
        channel: str,
        options: AnalyzeOptions | None = None,
        **fields: Unpack[AnalyzeFields],
    ) -> Iterator[Verdict]:
        """Send a source and iterate over its verdicts; see `vedette_client.Client.analyze`."""
        analysis = self._thread.call(self._client.start(source, channel, options, **fields))
        try:
            while verdicts := self._thread.call(analysis.read()):
                yield from verdicts
        finally:
            if not self._thread.is_closed:
                self._thread.call(analysis.close())

    def open(
        self,
        channel: str,
        video: SourceFormat,
        options: AnalyzeOptions | None = None,
        **fields: Unpack[AnalyzeFields],
    ) -> Stream:
        """Open a stream, and return when the server has accepted it; see `vedette_client.Client.open`."""
        return Stream(self._thread.call(self._client.open(channel, video, options, **fields)), self._thread)

    def session(self, name: str) -> SessionInfo:
        """Get the account of a session, also after its end; see `vedette_client.Client.session`."""
        return self._thread.call(self._client.session(name))

    def sessions(self, channel: str | None = None, *, limit: int = 1000) -> list[SessionInfo]:
        """List the sessions that the server remembers; see `vedette_client.Client.sessions`."""
        return self._thread.call(self._client.sessions(channel, limit=limit))

    @property
    def engines(self) -> Engines:
        """The server's engines; see `vedette_client.Client.engines`."""
        return Engines(self._thread.call(self._async_engines()), self._thread.call)

    async def _async_engines(self) -> AsyncEngines:
        return self._client.engines  # it may open a channel, which belongs to the loop

    @property
    def channels(self) -> Channels:
        """The channels that the server keeps; see `vedette_client.Client.channels`."""
        return Channels(self._thread.call(self._async_channels()), self._thread.call)

    async def _async_channels(self) -> AsyncChannels:
        return self._client.channels

    @property
    def events(self) -> Events:
        """The server's events; see `vedette_client.Client.events`."""
        return Events(self._thread.call(self._async_events()), self._thread.call)

    async def _async_events(self) -> AsyncEvents:
        return self._client.events

    @property
    def sinks(self) -> Sinks:
        """Where the server delivers events to; see `vedette_client.Client.sinks`."""
        return Sinks(self._thread.call(self._async_sinks()), self._thread.call)

    async def _async_sinks(self) -> AsyncSinks:
        return self._client.sinks

    def watch(
        self,
        channels: Sequence[str] = (),
        *,
        results: bool = False,
        events: bool = True,
        offset: str = "",
        wanted: EventFilter | None = None,
        found_only: bool = False,
        max_results_per_second: float | None = None,
    ) -> Watch:
        """Watch channels: iterate over their news as they come; see `vedette_client.Client.watch`."""

        async def begin() -> AsyncWatch:
            return self._client.watch(
                channels,
                results=results,
                events=events,
                offset=offset,
                wanted=wanted,
                found_only=found_only,
                max_results_per_second=max_results_per_second,
            )

        return Watch(self._thread.call(begin()), self._thread.call)

    def health(self, service: str = "", *, timeout_s: float = 5.0) -> str:
        """Ask for the server's health; see `vedette_client.Client.health`."""
        return self._thread.call(self._client.health(service, timeout_s=timeout_s))
