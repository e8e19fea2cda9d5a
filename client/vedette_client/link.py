"""One accepted connection at work: a reader, a writer, and a timer that watches both.

Belongs to one event loop. The session says what to write and takes what was read; this moves it, acknowledges
in time, sends heartbeats, and ends a connection on which the server fell silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_client.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.v1 import stream_pb2
    from vedette_client.connection import Connection
    from vedette_client.flow import Flow
    from vedette_client.session import Session

_CLOSE_S = 5.0
_DRAIN_QUIET_S = 1.0
"""A draining server may hold pictures that it cannot give out before the stream's end."""
_SILENT_INTERVALS = 3


@dataclass(slots=True)
class Signals:
    """How the tasks of one stream wake each other.

    Attributes:
        opened: The server accepted the stream, or never will.
        wake: There may be something to write.
        room: There is room for a packet.
        news: There are verdicts, or there will be no more.
        taken: The caller took a verdict.
        updated: An update was answered.
    """

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    updated: asyncio.Event = field(default_factory=asyncio.Event)

    def set_all(self) -> None:
        """Wake everybody: the stream is over."""
        for event in (self.opened, self.wake, self.room, self.news, self.taken, self.updated):
            event.set()


class Link:
    """Moves messages between a session and an accepted connection.

    Args:
        connection: The connection.
        session: The session that it serves.
        signals: Whom to wake.
        on_flow: Called after each flow message.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        signals: Signals,
        on_flow: Callable[[Flow], None] | None,
    ) -> None:
        self._connection = connection
        self._session = session
        self._signals = signals
        self._on_flow = on_flow
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._verdict_s = time.monotonic()
        self._reading_paused = False
        self._silent_ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self.worked = False

    async def run(self) -> bool:
        """Work until the connection ends.

        Returns:
            True when the stream is over, False when the server sent us away.

        Raises:
            ConnectionLostError: The connection broke.
            ClientError: What ends the stream.
        """
        self._tick()
        writer = asyncio.create_task(self._write(), name=f"vedette {self._session.config.channel} writer")
        writer.add_done_callback(self._on_written)
        try:
            return await self._read()
        finally:
            self._stop_timers()
            self._connection.abort("the connection ended")
            writer.cancel()
            await asyncio.wait([writer])
            if (failure := _failure(writer)) is not None:
                raise failure

    def _on_written(self, writer: asyncio.Task[None]) -> None:
        if _failure(writer) is not None:
            self._connection.abort("writing failed")

    async def _read(self) -> bool:
        session = self._session
        while (message := await self._connection.read()) is not None:
            self._take(message)
            if session.closing is not None:
                await self._await_end()
                return True
            if self._is_behind():
                await self._pause_reading()
        if session.drain is None:
            raise ConnectionLostError("the server ended the call without a closing account")
        return False

    async def _await_end(self) -> None:
        """Let the server end the call itself: a cancelled call looks like a lost client there."""
        timer = self._loop.call_later(_CLOSE_S, self._connection.abort, "no end after the closing account")
        with contextlib.suppress(ConnectionLostError):
            await self._connection.read()
        timer.cancel()

    async def _write(self) -> None:
        session, signals = self._session, self._signals
        while True:
            signals.wake.clear()
            message = session.next_message(time.monotonic(), time.time_ns())
            if not session.outbox.full:
                signals.room.set()
            if session.verdicts:
                signals.news.set()
            if message is not None:
                if not await self._connection.write(message):
                    return
            elif session.all_sent:
                await self._connection.half_close()
                return
            else:
                await signals.wake.wait()

    def _take(self, message: stream_pb2.AnalyzeStreamResponse) -> None:
        session, signals = self._session, self._signals
        self._heard_s = time.monotonic()
        self._silent_ticks = 0
        self.worked = True
        session.take(message, self._heard_s, time.time_ns())
        if message.verdicts:
            self._verdict_s = self._heard_s
            self._arm_ack_timer()
            if session.outbox or session.is_ack_due(self._heard_s):
                signals.wake.set()
        if session.verdicts:
            signals.news.set()
        if message.HasField("flow"):
            signals.wake.set()
            if self._on_flow is not None:
                self._on_flow(session.flow)
        if session.updated is not None:
            signals.updated.set()
        if session.drain is not None:
            self._leave_when_drained()

    def _arm_ack_timer(self) -> None:
        due_s = self._session.ack_due_s()
        if self._ack_timer is None and due_s is not None:
            self._ack_timer = self._loop.call_later(max(0.0, due_s - self._heard_s), self._ack_now)

    def _ack_now(self) -> None:
        self._ack_timer = None
        self._signals.wake.set()

    def _is_behind(self) -> bool:
        return len(self._session.verdicts) >= self._session.limits.queued_verdicts and not self._session.finished

    async def _pause_reading(self) -> None:
        self._reading_paused = True
        while self._is_behind():
            self._signals.taken.clear()
            await self._signals.taken.wait()
        self._reading_paused = False
        self._heard_s = time.monotonic()

    def _tick(self) -> None:
        """Watch over silence, heartbeats and draining.

        Silence counts from the second look on: after the loop itself was held up, what has come must
        be read before the server is taken for dead.
        """
        interval_s = self._session.heartbeat_s
        self._timer = self._loop.call_later(min(1.0, interval_s / 4), self._tick)
        silent_s = time.monotonic() - self._heard_s
        if self._reading_paused or silent_s <= _SILENT_INTERVALS * interval_s:
            self._silent_ticks = 0
        else:
            self._silent_ticks += 1
        if self._silent_ticks > 1:
            self._connection.abort(f"the server was silent for {silent_s:.1f} s")
        if self._session.drain is not None:
            self._leave_when_drained()
        if self._ack_timer is None:
            self._arm_ack_timer()
        self._signals.wake.set()

    def _leave_when_drained(self) -> None:
        """Leave a server that goes away when it has nothing more for us: what it lacks is sent elsewhere."""
        session = self._session
        quiet = time.monotonic() - self._verdict_s > _DRAIN_QUIET_S
        if not session.all_sent and (session.buffer.unsettled == 0 or quiet):
            self._connection.abort("the server drains")

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._ack_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._ack_timer = None


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """Tell what ended a task; None while it runs, and when it ended well or was cancelled."""
    return task.exception() if task.done() and not task.cancelled() else None
