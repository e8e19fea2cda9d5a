"""One AnalyzeStream call: a reader and a writer around a session.

Lives on the event loop. The reader takes the client's messages apart and hands packets to the session;
the writer sends what the session has to tell, whenever it is woken. The call ends when the closing
account was told, when either raises, or when the client goes; the session outlives it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from vedette.v1 import stream_pb2
from vedette_server.errors import (
    DisplacedError,
    InvalidError,
    LimitError,
    RefusedError,
    SilentError,
    UnavailableError,
)
from vedette_server.rpc.answers import accepted_to_wire, clock_to_wire, flow_to_wire
from vedette_server.rpc.convert import account_to_wire, config_to_wire, set_duration, write_verdict
from vedette_server.rpc.fragments import Assembler

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.rpc.bell import Bell
    from vedette_server.session.outgoing import Outgoing
    from vedette_server.session.seams import Attachment
    from vedette_server.session.session import Session
    from vedette_server.settings import Settings
    from vedette_server.trace import ChannelTrace

Context = grpc.aio.ServicerContext[Any, Any]

# Verdicts in one message: enough to spare calls, few enough that a message stays small.
VERDICTS_PER_MESSAGE = 64
# A cut connection looks like the client's half-close to the reader; the cancellation of the call
# follows within the same turn or two of the loop. Only what outlives this is a half-close.
HALF_CLOSE_GUARD_S = 0.02
# So long a call that cannot be written to waits for its cancellation.
GONE_S = 5.0
# So long a call that ends waits for the message that is being written: gRPC takes no status before, and
# a client that is not told would wait for ever. A dead one ends sooner, by the transport's keepalive.
LAST_WRITE_S = 300.0
SILENT_INTERVALS = 3
# Answers that may wait to be sent; a client that does not read them is not read either.
MAX_WAITING_REPLIES = 32


class Host(Protocol):
    """What a call needs of the service."""

    def update_config(self, session: Session, update: stream_pb2.UpdateConfig) -> tuple[ChannelConfig, int]:
        """Change a session's configuration; return it and the first sequence that it holds for."""
        ...


def check_size(request: stream_pb2.AnalyzeStreamRequest, allowed: int) -> None:
    """Refuse a message that is too large.

    Raises:
        LimitError: It is.
    """
    size = request.ByteSize()
    if size > allowed:
        raise LimitError("MESSAGE_TOO_LARGE", f"a message has {size} bytes; allowed: {allowed}")


class StreamCall:
    """One connection of one session.

    Args:
        context: The call.
        session: The session that it belongs to.
        host: The service.
        settings: All settings.
        bell: Wakes the writer.
        version: Version of the server.
        trace: Records what is told and acknowledged; None: nobody does.
    """

    def __init__(
        self,
        context: Context,
        session: Session,
        host: Host,
        settings: Settings,
        bell: Bell,
        version: str,
        trace: ChannelTrace | None = None,
    ) -> None:
        self.session = session
        self._context = context
        self._host = host
        self._settings = settings
        self._bell = bell
        self._version = version
        self._trace = trace
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._half_closed = False
        self._ending = False
        self._displaced: RefusedError | None = None
        self._assembler = Assembler(settings.server.max_packet_bytes)
        self._replies: list[stream_pb2.AnalyzeStreamResponse] = []
        self._replies_taken = asyncio.Event()
        self._heard_s = self._spoke_s = time.monotonic()

    # -- called by others -----------------------------------------------------------------------

    def news(self) -> None:
        """Wake the writer, from any thread."""
        self._bell.ring(self)

    def wake(self) -> None:
        """Wake the writer, from the event loop."""
        self._woken.set()

    def displaced(self) -> None:
        """End the call, because another connection has the session now."""
        self._end(
            DisplacedError("TAKEN_OVER", f"another connection resumed {self.session.identity.name}; this one ends")
        )

    def drain(self, grace_s: float) -> None:
        """Tell the client that the server is going away."""
        response = stream_pb2.AnalyzeStreamResponse()
        response.drain.detail = "the server is shutting down"
        set_duration(response.drain.grace, grace_s)
        self._reply(response)

    def tick(self, now: float) -> None:
        """Send a heartbeat when nothing else was sent, and end the call of a silent client."""
        interval = self._settings.server.heartbeat_interval_s
        # A client that has half-closed cannot say that it lives: there the transport's keepalive watches.
        if now - self._heard_s > SILENT_INTERVALS * interval and not self._half_closed:
            self._end(self._silence(now - self._heard_s))
        elif now - self._spoke_s > interval and not self._replies:
            response = stream_pb2.AnalyzeStreamResponse()
            response.heartbeat.SetInParent()
            self._reply(response)

    def _silence(self, silent_s: float) -> RefusedError:
        """Tell why nothing was heard of the client for so long."""
        if len(self._replies) >= MAX_WAITING_REPLIES:
            return LimitError(
                "UNREAD_REPLIES", f"{len(self._replies)} answers wait to be read; allowed: {MAX_WAITING_REPLIES - 1}"
            )
        allowed_s = SILENT_INTERVALS * self._settings.server.heartbeat_interval_s
        return SilentError("HEARTBEAT_TIMEOUT", f"nothing was heard for {silent_s:.1f} s; allowed: {allowed_s:g} s")

    def _end(self, error: RefusedError) -> None:
        if self._displaced is None:
            self._displaced = error
            self._ended.set()

    # -- the call -------------------------------------------------------------------------------

    async def run(self, attachment: Attachment) -> None:
        """Serve until the end of the call.

        Raises:
            RefusedError: What ends it.
        """
        accepted = accepted_to_wire(self.session, attachment, self._settings, self._version)
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write(accepted))
        # The writer may be held up by a client that does not read: the end must not wait for it.
        ended = asyncio.create_task(self._ended.wait())
        tasks = {reader, writer, ended}
        self._woken.set()
        try:
            await self._run_until_over(tasks, writer)
        except asyncio.CancelledError:
            raise
        except Exception:
            self.session.detach(self)
            await self._finish_writing(writer)
            raise
        finally:
            self.session.detach(self)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_until_over(self, tasks: set[asyncio.Task[Any]], writer: asyncio.Task[None]) -> None:
        """Return when the writer has told all, or raise what ends the call before."""
        pending = tasks
        while writer in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if self._displaced is not None:
                raise self._displaced
            for task in done:
                task.result()

    async def _finish_writing(self, writer: asyncio.Task[None]) -> None:
        """Let the writer end after the message that it has begun, for a while: a client may not read."""
        self._ending = True
        self._woken.set()
        await asyncio.wait({writer}, timeout=LAST_WRITE_S)

    async def _read(self) -> None:
        """Take messages until the client has half-closed."""
        while True:
            request = await self._context.read()
            if self._displaced is not None:
                return
            if request is grpc.aio.EOF:
                break
            self._heard_s = time.monotonic()
            check_size(request, self._settings.server.max_message_bytes)
            self._take(request)
            while len(self._replies) >= MAX_WAITING_REPLIES:
                self._replies_taken.clear()
                await self._replies_taken.wait()
        await asyncio.sleep(HALF_CLOSE_GUARD_S)
        if self._displaced is None:
            self._half_closed = True
            self.session.finish()

    def _take(self, request: stream_pb2.AnalyzeStreamRequest) -> None:
        if request.WhichOneof("control") is not None:
            self._control(request)
        if request.HasField("ack_verdicts"):
            self.session.acknowledge(request.ack_verdicts.through_index)
            if self._trace is not None:
                self._trace.acknowledged(request.ack_verdicts.through_index, self._heard_s)
        if request.packets:
            now, wall_ns = self._heard_s, time.time_ns()
            for wire in request.packets:
                whole = self._assembler.take(wire, now, wall_ns)
                if whole is not None:
                    self.session.receive(*whole)

    def _control(self, request: stream_pb2.AnalyzeStreamRequest) -> None:
        kind = request.WhichOneof("control")
        if kind == "config":
            raise InvalidError("CONFIG_TWICE", "config came twice; it must be the first message, and only that")
        if kind == "update_config":
            config, from_sequence = self._host.update_config(self.session, request.update_config)
            response = stream_pb2.AnalyzeStreamResponse()
            response.config_updated.config.CopyFrom(config_to_wire(config))
            response.config_updated.from_sequence = from_sequence
            self._reply(response)
        elif kind == "clock_sync":
            self._reply(clock_to_wire(request.clock_sync, time.time_ns()))

    def _reply(self, response: stream_pb2.AnalyzeStreamResponse) -> None:
        self._replies.append(response)
        self._woken.set()

    async def _write(self, accepted: stream_pb2.AnalyzeStreamResponse) -> None:
        """Accept the stream, and send news until the closing account was told."""
        await self._send(accepted)
        while True:
            await self._woken.wait()
            self._woken.clear()
            replies, self._replies = self._replies, []
            self._replies_taken.set()
            for response in replies:
                if self.is_over:
                    return
                await self._send(response)
            if await self._tell() or self.is_over:
                return

    async def _tell(self) -> bool:
        """Send all that the session has to tell; return whether that was the end."""
        more = True
        # What is taken out now that another connection has the session would never reach anybody.
        while more and not self.is_over:
            news = self.session.outgoing(VERDICTS_PER_MESSAGE)
            if news.verdicts or news.flow is not None or news.closing is not None:
                began = 0.0 if self._trace is None else time.monotonic()
                await self._send(self._news_to_wire(news))
                if self._trace is not None and news.verdicts:
                    self._trace.told(began, news.verdicts)
            if news.error is not None:
                raise news.error
            if news.closing is not None:
                return True
            more = len(news.verdicts) == VERDICTS_PER_MESSAGE
        return False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be written but the status."""
        return self._ending or self._displaced is not None

    async def _send(self, response: stream_pb2.AnalyzeStreamResponse) -> None:
        try:
            await self._context.write(response)
        except grpc.aio.InternalError:
            # The connection is gone, and the call is about to be cancelled.
            if not self.is_over:
                await asyncio.sleep(GONE_S)
            raise UnavailableError("CONNECTION_LOST", "the client cannot be written to") from None
        self._spoke_s = time.monotonic()

    def _news_to_wire(self, news: Outgoing) -> stream_pb2.AnalyzeStreamResponse:
        response = stream_pb2.AnalyzeStreamResponse()
        channel = self.session.identity.session
        if news.verdicts:
            for index, verdict in news.verdicts:
                write_verdict(verdict, response.verdicts.add(), index, f"{channel}-{verdict.packet.sequence}")
        if news.flow is not None:
            flow_to_wire(news.flow, response.flow)
        if news.closing is not None:
            response.closing_account.CopyFrom(account_to_wire(news.closing))
        return response
