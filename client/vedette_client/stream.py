"""One camera's stream: what a caller holds while its session lives.

Threads: everything here belongs to one event loop. Two tasks per stream: one opens connections and reads,
one writes; a timer watches over silence and heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Self, Unpack

from vedette_client.connection import Connection
from vedette_client.errors import ConnectionLostError, OptionsError, ProtocolError, StreamClosedError
from vedette_client.options import UPDATABLE, AnalyzeFields, AnalyzeOptions, Policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from vedette.v1 import stream_pb2
    from vedette_client.account import Account
    from vedette_client.connection import ChannelPool
    from vedette_client.flow import Flow
    from vedette_client.options import ReconnectOptions
    from vedette_client.session import Session
    from vedette_client.sources.base import SourceFormat, SourcePacket
    from vedette_client.verdicts import Verdict

_MAX_REDIRECTS = 5
_CLOSE_S = 5.0
_DRAIN_QUIET_S = 1.0
"""A draining server may hold pictures that it cannot give out before the stream's end."""


class Stream:
    """Sends the packets of one camera and iterates over its verdicts.

    Built by `Client.open`. Take the verdicts while sending: when too many wait, reading pauses.

    Args:
        session: The session.
        video: What the packets contain.
        pool: Where channels come from.
        address: Where to connect.
        reconnect: How a lost connection is repaired.
        on_flow: Called after each flow message of the server.
    """

    def __init__(
        self,
        session: Session,
        video: SourceFormat,
        pool: ChannelPool,
        address: str,
        reconnect: ReconnectOptions,
        on_flow: Callable[[Flow], None] | None = None,
    ) -> None:
        self.format = video
        self.connections = 0
        self._session = session
        self._pool = pool
        self._home = self._address = address
        self._reconnect = reconnect
        self._on_flow = on_flow
        self._connection: Connection | None = None
        self._open = asyncio.Event()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self._updates = asyncio.Lock()
        self._update_done = asyncio.Event()
        self._error: BaseException | None = None
        self._heard_s = 0.0
        self._verdict_s = 0.0
        self._progress_s = time.monotonic()
        self._reading_paused = False
        self._silent_ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._runner = asyncio.create_task(self._run(), name=f"vedette {session.config.channel}")

    # --- what the caller sees --------------------------------------------------------------------------

    @property
    def channel(self) -> str:
        """The channel's resource name."""
        return self._session.config.channel

    @property
    def policy(self) -> Policy:
        """What happens when the server is busy."""
        return Policy(self._session.config.policy)

    @property
    def accepted(self) -> stream_pb2.Accepted | None:
        """The server's latest answer to the configuration."""
        return self._session.accepted

    @property
    def session_name(self) -> str:
        """Resource name of the session; empty before it is accepted."""
        return self._session.accepted.session if self._session.accepted else ""

    @property
    def flow(self) -> Flow:
        """What the server allows and wishes."""
        return self._session.flow

    @property
    def clock_offset_s(self) -> float | None:
        """The server's clock minus ours; None before the first answer."""
        return self._session.clock.seconds

    @property
    def account(self) -> Account:
        """What was counted so far; a copy."""
        return self._session.totals()

    @property
    def waiting(self) -> int:
        """Packets that wait to be sent."""
        return len(self._session.outbox)

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended, well or not."""
        return self._runner.done()

    def add_done_callback(self, callback: Callable[[Stream], object]) -> None:
        """Have something called on the loop when the stream is over."""
        self._runner.add_done_callback(lambda _: callback(self))

    async def send(self, packet: SourcePacket, *, wait: bool | None = None) -> int:
        """Queue one packet.

        Args:
            packet: The packet; belongs to the stream from now on.
            wait: Wait while too many packets wait already, instead of dropping some; by default only a
                stream of Policy.LIVE drops.

        Returns:
            How many packets were dropped to keep a live stream fresh.

        Raises:
            StreamClosedError: The stream is over, or `finish` was called.
            ClientError: What ended the stream.
        """
        outbox = self._session.outbox
        if wait is None:
            wait = self.policy is Policy.EVERY_FRAME
        self._check_open()
        if not wait:
            dropped = outbox.put_live(packet, time.monotonic())
            self._wake.set()
            await asyncio.sleep(0)
            return dropped
        while outbox.full:
            self._room.clear()
            await self._room.wait()
            self._check_open()
        outbox.put(packet, time.monotonic())
        self._wake.set()
        return 0

    async def update(self, **fields: Unpack[AnalyzeFields]) -> stream_pb2.ConfigUpdated:
        """Change settings in mid-stream; None takes a setting back to its default.

        Returns:
            The configuration now in effect, and the first packet that it holds for.

        Raises:
            OptionsError: A field cannot be changed, or its value is not allowed.
            ClientError: What ended the stream.
        """
        if not fields or not fields.keys() <= UPDATABLE:
            raise OptionsError(f"{sorted(fields)} cannot be changed in mid-stream; {sorted(UPDATABLE)} can")
        update = AnalyzeOptions(**fields).to_update(sorted(fields))
        async with self._updates:
            self._check_open()
            self._update_done.clear()
            self._session.request_update(update)
            self._wake.set()
            await self._update_done.wait()
            if self._session.updated is None:
                self._check_open()
                raise StreamClosedError("the stream ended before the server answered")
            return self._session.updated

    async def finish(self) -> Account:
        """Send what waits, have every packet judged, and compare the accounts.

        Returns:
            The totals of the whole stream. Verdicts that were not taken yet can still be.

        Raises:
            AccountMismatchError: The server counted differently.
            ClientError: What else ended the stream.
        """
        self._session.finished = True
        self._wake.set()
        self._taken.set()
        await asyncio.wait([self._runner])
        self._raise_error()
        if self._session.closing is None:
            raise StreamClosedError(f"the stream of {self.channel} was closed before its end")
        return self._session.totals()

    async def close(self) -> None:
        """End the stream at once, whatever is still open; may be called twice."""
        self._session.finished = True
        if not self._runner.done():
            self._runner.cancel()
            await asyncio.wait([self._runner])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Verdict:
        verdicts = self._session.verdicts
        while not verdicts:
            if self._runner.done():
                self._raise_error()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        self._taken.set()
        return verdicts.popleft()

    async def read(self) -> list[Verdict]:
        """Take all verdicts that wait, at least one; an empty list says that the stream is over.

        Raises:
            ClientError: What ended the stream.
        """
        try:
            first = await anext(self)
        except StopAsyncIteration:
            return []
        verdicts = [first, *self._session.verdicts]
        self._session.verdicts.clear()
        return verdicts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_open(self) -> None:
        """Wait until the server has accepted the stream for the first time.

        Raises:
            ClientError: It did not.
        """
        await self._open.wait()
        if self._session.accepted is None:
            self._raise_error()
            raise StreamClosedError("the stream was closed before it was accepted")

    def _check_open(self) -> None:
        if self._runner.done():
            self._raise_error()
        if self._session.finished or self._runner.done():
            raise StreamClosedError(f"the stream of {self.channel} is over")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    # --- connections -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._connect_until_closed()
        except Exception as error:  # noqa: BLE001  it is handed to whoever waits for the stream
            self._session.give_up()
            self._error = error
        finally:
            self._stop_timers()
            asyncio.get_running_loop().call_soon(self._wake_everybody)

    def _wake_everybody(self) -> None:
        for event in (self._open, self._news, self._room, self._update_done, self._taken):
            event.set()

    async def _connect_until_closed(self) -> None:
        failures = redirects = 0
        while True:
            began_s = self._progress_s
            try:
                endpoint = await self._serve_one_connection()
            except ConnectionLostError as error:
                failures = 0 if self._progress_s > began_s else failures + 1
                await self._back_off(error, failures)
                continue
            if endpoint is None:
                return
            redirects = redirects + 1 if self._progress_s == began_s else 0
            if redirects > _MAX_REDIRECTS:
                raise ProtocolError(f"sent from one server to another {redirects} times, at last to {endpoint}")
            self._address = endpoint or self._home

    async def _back_off(self, error: ConnectionLostError, failures: int) -> None:
        options = self._reconnect
        self._address = self._home if failures else self._address
        limit_s = options.connect_s if self._session.accepted is None else options.give_up_s
        wait_s = min(options.max_s, options.initial_s * 2.0 ** min(failures, 30))
        wait_s *= 1 - options.jitter * random.random()  # noqa: S311  no secret hangs on it
        if time.monotonic() + wait_s - self._progress_s > limit_s:
            raise ConnectionLostError(f"{self._address}: {error}; given up after {limit_s:g} s") from error
        await asyncio.sleep(wait_s)

    async def _serve_one_connection(self) -> str | None:
        """Open one connection and use it to its end.

        Returns:
            None when the stream is over; else where to go now, empty for home.
        """
        lease = self._pool.acquire(self._address)
        broken = False
        metadata = (*self._pool.metadata, ("x-vedette-channel", self.channel))
        connection = Connection(lease, metadata, reconnecting=self.connections > 0)
        self.connections += 1
        try:
            accepted = await self._shake_hands(connection)
            return accepted.endpoint or await self._serve(connection)
        except ConnectionLostError:
            broken = True
            raise
        finally:
            connection.abort("the stream was closed")
            await self._pool.release(lease, broken=broken)

    async def _shake_hands(self, connection: Connection) -> stream_pb2.Accepted:
        options = self._reconnect
        left_s = options.accept_s
        if self._session.accepted is None:
            left_s = max(0.05, min(left_s, options.connect_s))
        try:
            async with asyncio.timeout(left_s):
                await connection.write(self._session.opening())
                answer = await connection.read()
        except TimeoutError:
            raise ConnectionLostError(f"no answer within {left_s:g} s") from None
        if answer is None:
            raise ConnectionLostError("the server ended the call before it accepted the stream")
        if answer.WhichOneof("control") != "accepted":
            raise ProtocolError("the server's first message does not accept the stream")
        if not answer.accepted.endpoint:
            self._session.accept(answer.accepted, time.monotonic())
            self._open.set()
        return answer.accepted

    async def _serve(self, connection: Connection) -> str | None:
        session = self._session
        self._connection = connection
        self._heard_s = self._verdict_s = time.monotonic()
        self._tick()
        writer = asyncio.create_task(self._write(connection), name=f"vedette {self.channel} writer")
        writer.add_done_callback(lambda _: connection.abort("writing failed") if _failure(writer) else None)
        try:
            while (message := await connection.read()) is not None:
                self._take(message)
                if session.closing is not None:
                    await self._await_end(connection)
                    return None
                if len(session.verdicts) >= session.limits.queued_verdicts and not session.finished:
                    await self._pause_reading()
            if session.drain is not None:
                return session.drain.endpoint
            raise ConnectionLostError("the server ended the call without a closing account")
        except ConnectionLostError:
            if session.drain is not None and session.drain.endpoint:
                return session.drain.endpoint
            raise
        finally:
            self._connection = None
            self._stop_timers()
            connection.abort("the connection ended")
            writer.cancel()
            await asyncio.wait([writer])
            if (failure := _failure(writer)) is not None:
                raise failure

    async def _await_end(self, connection: Connection) -> None:
        """Let the server end the call itself: a cancelled call looks like a lost client there."""
        timer = asyncio.get_running_loop().call_later(_CLOSE_S, connection.abort, "no end after the closing account")
        with contextlib.suppress(ConnectionLostError):
            await connection.read()
        timer.cancel()

    # --- one connection at work ------------------------------------------------------------------------

    async def _write(self, connection: Connection) -> None:
        session = self._session
        while True:
            self._wake.clear()
            message = session.next_message(time.monotonic(), time.time_ns())
            if not session.outbox.full:
                self._room.set()
            if session.verdicts:
                self._news.set()
            if message is not None:
                if not await connection.write(message):
                    return
            elif session.all_sent:
                await connection.half_close()
                return
            else:
                await self._wake.wait()

    def _take(self, message: stream_pb2.AnalyzeStreamResponse) -> None:
        session = self._session
        self._heard_s = self._progress_s = time.monotonic()
        self._silent_ticks = 0
        session.take(message, self._heard_s, time.time_ns())
        if session.verdicts:
            self._news.set()
        if message.HasField("flow"):
            if self._on_flow is not None:
                self._on_flow(session.flow)
            self._wake.set()
        elif message.verdicts and (session.outbox or session.is_ack_due(self._heard_s)):
            self._wake.set()
        if session.updated is not None:
            self._update_done.set()
        self._arm_ack_timer()
        if message.verdicts:
            self._verdict_s = self._heard_s
        self._leave_draining(self._heard_s)

    def _arm_ack_timer(self) -> None:
        due_s = self._session.ack_due_s()
        if self._ack_timer is None and due_s is not None:
            delay_s = max(0.0, due_s - time.monotonic())
            self._ack_timer = asyncio.get_running_loop().call_later(delay_s, self._ack_now)

    def _ack_now(self) -> None:
        self._ack_timer = None
        self._wake.set()

    async def _pause_reading(self) -> None:
        session = self._session
        self._reading_paused = True
        try:
            while len(session.verdicts) >= session.limits.queued_verdicts and not session.finished:
                self._taken.clear()
                await self._taken.wait()
        finally:
            self._reading_paused = False
            self._heard_s = time.monotonic()

    def _tick(self) -> None:
        """Watch over silence and heartbeats.

        Silence counts from the second look on: after the loop itself was held up, what has come must
        be read before the server is taken for dead.
        """
        interval_s = self._session.heartbeat_s
        self._timer = asyncio.get_running_loop().call_later(min(1.0, interval_s / 4), self._tick)
        now_s = time.monotonic()
        if self._reading_paused or now_s - self._heard_s <= 3 * interval_s:
            self._silent_ticks = 0
        else:
            self._silent_ticks += 1
        if self._silent_ticks > 1 and self._connection is not None:
            self._connection.abort(f"the server was silent for {now_s - self._heard_s:.1f} s")
        self._leave_draining(now_s)
        self._wake.set()

    def _leave_draining(self, now_s: float) -> None:
        """Leave a server that goes away when it has nothing more for us: what it lacks is sent elsewhere."""
        session = self._session
        if session.drain is None or session.all_sent or self._connection is None:
            return
        if session.buffer.unsettled == 0 or now_s - self._verdict_s > _DRAIN_QUIET_S:
            self._connection.abort("the server drains")

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._ack_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._ack_timer = None


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """The error that ended a task; None while it runs, and when it ended well or was cancelled."""
    return task.exception() if task.done() and not task.cancelled() else None
