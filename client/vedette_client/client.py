"""The client: one server, any number of cameras.

```python
async with Client("localhost:50051") as client:
    async for verdict in client.analyze("rtsp://camera/1", "front-door", engines=["person"]):
        print(verdict.sequence, verdict.detections)
```

Threads: a client and its streams belong to one event loop; `vedette_client.sync` is the blocking twin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc
import grpc.aio

from vedette_client.analysis import Analysis
from vedette_client.channels import Channels
from vedette_client.connection import ChannelPool
from vedette_client.credentials import checked_token
from vedette_client.engines import Engines
from vedette_client.errors import OptionsError
from vedette_client.events import Events
from vedette_client.feed import open_source_in_thread
from vedette_client.options import AnalyzeFields, AnalyzeOptions, ReconnectOptions, StreamLimits, channel_name
from vedette_client.session import Session
from vedette_client.sessions import SessionInfo, SessionService
from vedette_client.sinks import Sinks
from vedette_client.status import error_from_rpc
from vedette_client.stream import Stream
from vedette_client.watching import Watch, watch_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from vedette_client.errors import ConnectionLostError
    from vedette_client.events_data import EventFilter
    from vedette_client.flow import Flow
    from vedette_client.options import TlsOptions
    from vedette_client.sources.base import Source, SourceFormat, SourcePacket
    from vedette_client.verdicts import Verdict


class Client:
    """Talks to one server.

    Args:
        address: `host:port`.
        tls: How to trust the server; None: unencrypted.
        token: Bearer token.
        reconnect: How lost connections are repaired.
        limits: What each stream may hold.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: TlsOptions | None = None,
        token: str | None = None,
        reconnect: ReconnectOptions | None = None,
        limits: StreamLimits | None = None,
    ) -> None:
        if not address:
            raise OptionsError("address is empty; host:port is wanted")
        self.address = address
        self._tls = tls
        self._token = checked_token(token)
        self._reconnect = reconnect or ReconnectOptions()
        self._limits = limits or StreamLimits()
        self._pool: ChannelPool | None = None
        self._streams: set[Stream] = set()
        self._analyses: set[Analysis] = set()
        self._watches: set[Watch] = set()

    async def __aenter__(self) -> Self:
        self._channels()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all streams and close all connections; may be called twice."""
        for analysis in list(self._analyses):
            await analysis.close()
        for stream in list(self._streams):
            await stream.close()
        for watch in list(self._watches):
            await watch.close()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def analyze(
        self,
        source: Source | str,
        channel: str,
        options: AnalyzeOptions | None = None,
        **fields: Unpack[AnalyzeFields],
    ) -> AsyncGenerator[Verdict, None]:
        """Send a source and iterate over its verdicts, until every packet has one.

        Leaving the loop early ends the stream.

        Args:
            source: A source, or what `open_source` understands: a path, a URL, `synthetic:...`.
            channel: Name of the channel.
            options: What is wanted.
            fields: Single options, over those in `options`.

        Raises:
            SourceError: The source cannot be opened, or failed half-way.
            AccountMismatchError: The server counted differently.
            ClientError: What else ended the stream.
        """
        analysis = await self.start(source, channel, options, **fields)
        try:
            async for verdict in analysis:
                yield verdict
        finally:
            await analysis.close()

    async def start(
        self,
        source: Source | str,
        channel: str,
        options: AnalyzeOptions | None = None,
        *,
        on_sent: Callable[[int, SourcePacket], None] | None = None,
        on_flow: Callable[[Flow], None] | None = None,
        **fields: Unpack[AnalyzeFields],
    ) -> Analysis:
        """Begin to send a source; as `analyze`, for those who want the stream, too.

        Args:
            source: A source, or what `open_source` understands.
            channel: Name of the channel.
            options: What is wanted.
            on_sent: Called with each packet and its number when it is sent for the first time.
            on_flow: Called after each flow message of the server: rate hints, keyframe requests.
            fields: Single options, over those in `options`.

        Raises:
            SourceError: The source cannot be opened.
            ClientError: The server cannot be reached, or does not take the stream.
        """
        video, opened = await self._open_source(source)
        try:
            stream = await self.open(channel, video, options, on_sent=on_sent, on_flow=on_flow, **fields)
        except BaseException:
            opened.close()
            raise
        analysis = Analysis(opened, stream)
        self._analyses.add(analysis)
        stream.add_done_callback(lambda _: self._analyses.discard(analysis))
        return analysis

    async def open(
        self,
        channel: str,
        video: SourceFormat,
        options: AnalyzeOptions | None = None,
        *,
        on_sent: Callable[[int, SourcePacket], None] | None = None,
        on_flow: Callable[[Flow], None] | None = None,
        **fields: Unpack[AnalyzeFields],
    ) -> Stream:
        """Open a stream, and return when the server has accepted it.

        Args:
            channel: Name of the channel.
            video: What the packets will contain.
            options: What is wanted.
            on_sent: Called with each packet and its number when it is sent for the first time.
            on_flow: Called after each flow message of the server: rate hints, keyframe requests.
            fields: Single options, over those in `options`.

        Raises:
            OptionsError: An option is wrong.
            RefusedError: The server does not take the stream.
            ConnectionLostError: The server cannot be reached.
        """
        wanted = replace(options or AnalyzeOptions(), **fields)
        session = Session(wanted.to_wire(channel, video), self._limits, on_sent)
        stream = Stream(
            session,
            video,
            pool=self._channels(),
            address=self.address,
            reconnect=self._reconnect,
            on_flow=on_flow,
        )
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)
        try:
            await stream.wait_open()
        except BaseException:
            await stream.close()
            raise
        return stream

    async def session(self, name: str) -> SessionInfo:
        """Get the account of a session, also after its end.

        Args:
            name: `channels/NAME/sessions/ID`, or `channels/NAME/sessions/-` for the latest.

        Raises:
            RefusedError: It is unknown or forgotten.
            ConnectionLostError: The server cannot be reached.
        """
        return await SessionService(self._channels(), self.address).get(name)

    async def sessions(self, channel: str | None = None, *, limit: int = 1000) -> list[SessionInfo]:
        """List the sessions that the server remembers, newest first.

        Args:
            channel: Only those of this channel; None: of all.
            limit: At most so many.

        Raises:
            RefusedError: The token does not allow it.
            ConnectionLostError: The server cannot be reached.
        """
        parent = "channels/-" if channel is None else channel_name(channel)
        return await SessionService(self._channels(), self.address).list(parent, limit)

    @property
    def engines(self) -> Engines:
        """The server's engines: what there is, what is loaded, which version the channels get."""
        return Engines(self._channels(), self.address)

    @property
    def channels(self) -> Channels:
        """The channels that the server keeps: zones, rules, masks, sources."""
        return Channels(self._channels(), self.address)

    @property
    def events(self) -> Events:
        """The server's events: find, acknowledge and verify them, and fetch their pictures and clips."""
        return Events(self._channels(), self.address)

    @property
    def sinks(self) -> Sinks:
        """Where the server delivers events to; what was refused can be put through again."""
        return Sinks(self._channels(), self.address)

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
        on_connection: Callable[[ConnectionLostError | None], None] | None = None,
    ) -> Watch:
        """Watch channels: iterate over their news as they come; a lost connection is repaired.

        Events come each change once, none missing and none twice, from the moment when the server first answers or from
        `offset` on. Results come as far as they are read in time; what is missing is told by a `Gap`.

        Args:
            channels: Their names; empty: all that the caller may watch, also those that come later.
            results: Send verdicts.
            events: Send events.
            offset: Go on behind `Watch.offset` of an earlier watch; empty: from now on; `earliest`: all that is kept.
            wanted: Which events; None: all. Its times are not looked at.
            found_only: Only verdicts in which something was found.
            max_results_per_second: At most so many verdicts per second and channel; None: all.
            on_connection: Called when a connection was lost, with the reason, and when one stands, with None.

        Raises:
            OptionsError: An option is wrong.
        """
        request = watch_request(
            channels,
            results=results,
            events=events,
            offset=offset,
            wanted=wanted,
            found_only=found_only,
            max_results_per_second=max_results_per_second,
        )
        watch = Watch(
            request,
            pool=self._channels(),
            address=self.address,
            reconnect=self._reconnect,
            on_connection=on_connection,
            on_close=self._watches.discard,
        )
        self._watches.add(watch)
        return watch

    async def health(self, service: str = "", *, timeout_s: float = 5.0) -> str:
        """Ask for the server's health: `SERVING`, `NOT_SERVING`, `SERVICE_UNKNOWN` or `UNKNOWN`.

        Raises:
            RefusedError: The service is not known.
            ConnectionLostError: The server cannot be reached.
        """
        from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415  only few callers want it

        pool = self._channels()
        lease = pool.acquire(self.address)
        try:
            stub: Any = health_pb2_grpc.HealthStub(lease.channel)  # its types know blocking channels only
            answer = await stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s, metadata=pool.metadata
            )
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            await pool.release(lease)

    def _channels(self) -> ChannelPool:
        if self._pool is None:
            self._pool = ChannelPool(self._tls, self._token)
        return self._pool

    async def _open_source(self, source: Source | str) -> tuple[SourceFormat, Source]:
        if isinstance(source, str):
            from vedette_client.sources import open_source  # noqa: PLC0415  it imports PyAV

            source = open_source(source)
        return await open_source_in_thread(source), source
