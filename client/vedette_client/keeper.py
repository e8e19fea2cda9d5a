"""Keep a session connected: connect, follow the server's directions, reconnect with backoff, give up."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from vedette_client.connection import Connection
from vedette_client.errors import ConnectionLostError, ProtocolError
from vedette_client.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.v1 import stream_pb2
    from vedette_client.connection import ChannelPool
    from vedette_client.flow import Flow
    from vedette_client.link import Signals
    from vedette_client.options import ReconnectOptions
    from vedette_client.session import Session

_MAX_REDIRECTS = 5


class Keeper:
    """Serves one session through as many connections as it takes; `run` is a task of its own.

    Args:
        session: The session.
        signals: Whom to wake.
        pool: Where channels come from.
        address: Where to connect, unless a server says otherwise.
        reconnect: How a lost connection is repaired.
        on_flow: Called after each flow message of the server.
    """

    def __init__(
        self,
        session: Session,
        signals: Signals,
        *,
        pool: ChannelPool,
        address: str,
        reconnect: ReconnectOptions,
        on_flow: Callable[[Flow], None] | None = None,
    ) -> None:
        self.connections = 0
        self._session = session
        self._signals = signals
        self._pool = pool
        self._home = self._address = address
        self._reconnect = reconnect
        self._on_flow = on_flow
        self._progress_s = time.monotonic()
        self._failures = 0
        self._redirects = 0

    async def run(self) -> None:
        """Return when the session is closed and its accounts agree.

        Raises:
            ConnectionLostError: It could not be connected, or not again, in time.
            ClientError: What else ended it.
        """
        over = False
        while not over:
            try:
                over = await self._serve_one_connection()
            except ConnectionLostError as error:
                drain = self._session.drain
                if drain is not None:
                    self._session.drain = None
                    self._redirect(drain.endpoint)
                if drain is None or not drain.endpoint:
                    await self._back_off(error)

    async def _serve_one_connection(self) -> bool:
        """Open one connection and use it to its end; True when the stream is over."""
        lease = self._pool.acquire(self._address)
        broken = False
        metadata = (*self._pool.metadata, ("x-vedette-channel", self._session.config.channel))
        connection = Connection(lease, metadata, reconnecting=self.connections > 0)
        self.connections += 1
        try:
            accepted = await self._shake_hands(connection)
            if accepted.endpoint:
                self._redirect(accepted.endpoint)
                return False
            return await self._work(connection)
        except ConnectionLostError:
            broken = True
            raise
        finally:
            connection.abort("the stream was closed")
            await self._pool.release(lease, broken=broken)

    async def _work(self, connection: Connection) -> bool:
        link = Link(connection, self._session, self._signals, self._on_flow)
        try:
            over = await link.run()
        finally:
            if link.worked:
                self._progress_s = time.monotonic()
                self._failures = self._redirects = 0
        if not over:
            raise ConnectionLostError("the server went away")
        return True

    async def _shake_hands(self, connection: Connection) -> stream_pb2.Accepted:
        options, loop = self._reconnect, asyncio.get_running_loop()
        # A server that is there may have to load the engine first, which takes longer than a connection may.
        connect_s = max(0.05, min(options.connect_s, options.accept_s))
        limit = asyncio.timeout(max(connect_s, options.accept_s))

        def hurry() -> None:
            if not (connection.is_up or limit.expired()):
                limit.reschedule(loop.time())

        hurrying = loop.call_later(connect_s, hurry)
        try:
            async with limit:
                await connection.write(self._session.opening())
                answer = await connection.read()
        except TimeoutError:
            what = f"no answer within {options.accept_s:g} s" if connection.is_up else f"not up within {connect_s:g} s"
            raise ConnectionLostError(what) from None
        finally:
            hurrying.cancel()
        if answer is None:
            raise ConnectionLostError("the server ended the call before it accepted the stream")
        if answer.WhichOneof("control") != "accepted":
            raise ProtocolError("the server's first message does not accept the stream")
        if not answer.accepted.endpoint:
            self._session.accept(answer.accepted, time.monotonic())
            self._signals.opened.set()
            self._signals.news.set()
        return answer.accepted

    def _redirect(self, endpoint: str) -> None:
        self._redirects += 1
        if self._redirects > _MAX_REDIRECTS:
            raise ProtocolError(f"sent from one server to another {self._redirects} times, at last to {endpoint}")
        self._address = endpoint or self._home

    async def _back_off(self, error: ConnectionLostError) -> None:
        options = self._reconnect
        limit_s = options.connect_s if self._session.accepted is None else options.give_up_s
        wait_s = min(options.max_s, options.initial_s * 2.0 ** min(self._failures, 30))
        wait_s *= 1 - options.jitter * random.random()  # noqa: S311  no secret hangs on it
        if time.monotonic() + wait_s - self._progress_s > limit_s:
            raise ConnectionLostError(f"{self._address}: {error}; given up after {limit_s:g} s") from error
        if self._failures:
            self._address = self._home  # the server that we were sent to may be gone for good
        self._failures += 1
        self._redirects = 0
        await asyncio.sleep(wait_s)
