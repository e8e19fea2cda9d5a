"""One camera's stream: what a caller holds while its session lives.

Threads: everything here belongs to one event loop. Two tasks per stream: one opens connections and reads,
one writes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self, Unpack

from vedette_client.errors import OptionsError, StreamClosedError
from vedette_client.keeper import Keeper
from vedette_client.link import Signals
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
        *,
        pool: ChannelPool,
        address: str,
        reconnect: ReconnectOptions,
        on_flow: Callable[[Flow], None] | None = None,
    ) -> None:
        self.format = video
        self._session = session
        self._signals = Signals()
        self._keeper = Keeper(session, self._signals, pool=pool, address=address, reconnect=reconnect, on_flow=on_flow)
        self._updates = asyncio.Lock()
        self._error: BaseException | None = None
        self._runner = asyncio.create_task(self._run(), name=f"vedette {session.config.channel}")

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
    def connections(self) -> int:
        """How many connections were opened for it."""
        return self._keeper.connections

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
            self._signals.wake.set()
            await asyncio.sleep(0)
            return dropped
        while outbox.full:
            self._signals.room.clear()
            await self._signals.room.wait()
            self._check_open()
        outbox.put(packet, time.monotonic())
        self._signals.wake.set()
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
            self._signals.updated.clear()
            self._session.request_update(update)
            self._signals.wake.set()
            await self._signals.updated.wait()
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
        self._signals.wake.set()
        self._signals.taken.set()
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
            self._signals.news.clear()
            await self._signals.news.wait()
        self._signals.taken.set()
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
        await self._signals.opened.wait()
        if self._session.accepted is None:
            self._raise_error()
            raise StreamClosedError("the stream was closed before it was accepted")

    async def _run(self) -> None:
        try:
            await self._keeper.run()
        except Exception as error:  # noqa: BLE001  it is handed to whoever waits for the stream
            self._session.give_up()
            self._error = error
        finally:
            asyncio.get_running_loop().call_soon(self._signals.set_all)

    def _check_open(self) -> None:
        if self._runner.done():
            self._raise_error()
        if self._session.finished or self._runner.done():
            raise StreamClosedError(f"the stream of {self.channel} is over")

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
