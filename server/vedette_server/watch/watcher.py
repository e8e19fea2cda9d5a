"""One watch: what is sent to one watcher, in which order, and where it stands after each message.

Events come from the tail, in the order of the chain: the position moves on with each that was looked at, so whoever
goes on from a message's offset gets what follows it and nothing else. Results come from the watcher's queue; what is
missing of them is told before the next. Event loop only.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from vedette.v1 import watch_pb2
from vedette_server.watch.offsets import Offset
from vedette_server.watch.results import ResultWish
from vedette_server.watch.tail import Batch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from vedette_server.errors import VedetteError
    from vedette_server.watch.hub import ResultHub
    from vedette_server.watch.results import ResultQueue
    from vedette_server.watch.tail import EventTail
    from vedette_server.watch.wanted import WatchWish

    Response = watch_pb2.WatchChannelsResponse

# Messages of one kind in one go, so that neither kind makes the other wait.
TURN = 64
# Whether the watcher still may watch is looked at so often while there is something to send.
CHECK_EVERY_S = 1.0


class Watcher:
    """One watch.

    Args:
        wish: What is wanted.
        hub: Gives results.
        tail: Gives events.
        now: The number of the latest change that is known to be kept, for who does not ask for events.
        check: Raises what ends the watch, for example because its token was taken away.
        heartbeat_s: After so long without news, the watcher is told that there are none.
    """

    def __init__(
        self,
        wish: WatchWish,
        hub: ResultHub,
        tail: EventTail,
        *,
        now: int,
        check: Callable[[], None],
        heartbeat_s: float,
    ) -> None:
        self._wish = wish
        self._hub = hub
        self._tail = tail
        self._check = check
        self._heartbeat_s = heartbeat_s
        self._at = wish.offset or Offset(hub.process, 0 if wish.earliest else now, hub.position)
        # Of what was removed before this, who asked for all that is kept is not told.
        self._kept_from = 0
        self._queue: ResultQueue | None = None
        self._woken = asyncio.Event()
        self._ending: VedetteError | None = None
        self._checked_s = time.monotonic()

    def close(self) -> None:
        """Let go of what is followed; may be called twice."""
        self._tail.leave(self)
        if self._queue is not None:
            self._hub.unwatch(self._queue)

    def end(self, error: VedetteError) -> None:
        """Have the watch end with an error."""
        self._ending = error
        self._woken.set()

    async def news(self) -> AsyncGenerator[Response, None]:
        """Give the messages; the first is there at once and says where the watcher stands.

        Raises:
            VedetteError: What ends the watch.
        """
        for gap in await self._begin():
            yield gap
        yield self._heartbeat()
        spoke_s = time.monotonic()
        while True:
            self._woken.clear()
            if self._ending is not None:
                raise self._ending
            before = self._at
            for response in chain(self._events(await self._more_events()), self._results()):
                yield response
                spoke_s = time.monotonic()
            # Who has moved on may have more before it.
            if self._at == before:
                await self._wait(spoke_s + self._heartbeat_s - time.monotonic())
            if time.monotonic() - spoke_s >= self._heartbeat_s:
                self._look()
                yield self._heartbeat()
                spoke_s = time.monotonic()

    async def _begin(self) -> list[Response]:
        """Follow what is wanted; give what is missing between the offset and what there is."""
        gaps: list[Response] = []
        if self._wish.events:
            end = await self._tail.follow(self, self._woken.set)
            if self._wish.earliest:
                self._kept_from = end
            elif self._wish.offset is None:
                self._at = replace(self._at, events=end)
            elif self._at.events > end:
                # Another store, or an older state of it: all that it has is sent.
                gaps.append(self._gap(watch_pb2.GAP_REASON_EXPIRED, replace(self._at, events=0)))
        if self._wish.results:
            wish = self._wish
            results = ResultWish(wish.channels, wish.may_see, wish.found_only, wish.interval_s)
            self._queue = self._hub.watch(results, self._woken.set)
            gaps += self._missed_results(results)
        return gaps

    def _missed_results(self, wish: ResultWish) -> Iterator[Response]:
        """Move on to the results from now on, and tell what lies between."""
        process, position = self._at.process, self._at.results
        now = replace(self._at, process=self._hub.process, results=self._hub.position)
        if process != self._hub.process:
            yield self._gap(watch_pb2.GAP_REASON_RESTART, now)
        elif self._wish.offset is not None and (channels := self._hub.missed(position, wish)):
            only = next(iter(channels)) if len(channels) == 1 else ""
            yield self._gap(watch_pb2.GAP_REASON_EXPIRED, now, only)
        self._at = now

    async def _more_events(self) -> Batch:
        if not self._wish.events:
            return Batch((), self._at.events)
        return await self._tail.read(self._at.events, self._wish.channels, TURN)

    def _events(self, batch: Batch) -> Iterator[Response]:
        if batch.through > self._at.events:
            self._look()
        if batch.removed and batch.through > self._kept_from:
            behind = replace(self._at, events=batch.through)
            # To go on from here is to go on before it: some of what follows is still there.
            yield self._gap(watch_pb2.GAP_REASON_EXPIRED, behind, stays=True)
        for change in batch.changes:
            self._at = replace(self._at, events=change.number)
            # What cannot be sent is passed over: who goes on from the next message's offset has passed it, too.
            if self._wish.wants(change.event) and (wire := change.wire) is not None:
                yield watch_pb2.WatchChannelsResponse(offset=self._at.encoded(), event=wire)
        self._at = replace(self._at, events=batch.through)

    def _results(self) -> Iterator[Response]:
        if self._queue is None:
            return
        for _number in range(TURN):
            missed = self._queue.take_missed()
            if missed is not None:
                ahead = self._queue.next_position()
                behind = replace(self._at, results=self._hub.position if ahead is None else ahead - 1)
                yield self._gap(watch_pb2.GAP_REASON_SLOW_WATCHER, behind, missed.channel, missed.results)
                # While that was sent, more may have been dropped, which lies before the next result, too.
                continue
            found = self._queue.take()
            if found is None:
                return
            self._look()
            self._at = replace(self._at, results=found[0])
            yield watch_pb2.WatchChannelsResponse(offset=self._at.encoded(), result=found[1])

    def _gap(
        self,
        reason: watch_pb2.GapReason.ValueType,
        behind: Offset,
        channel: str = "",
        results: int = 0,
        *,
        stays: bool = False,
    ) -> Response:
        """Tell of what is missing, and stand behind it."""
        before = self._at.encoded()
        response = watch_pb2.WatchChannelsResponse(offset=before if stays else behind.encoded())
        gap = response.gap
        gap.reason, gap.results = reason, results
        gap.channel = f"channels/{channel}" if channel else ""
        gap.from_offset, gap.to_offset = before, behind.encoded()
        if not stays:
            self._at = behind
        return response

    def _heartbeat(self) -> Response:
        if self._queue is not None:
            now = self._hub.position
            if not len(self._queue):
                self._at = replace(self._at, results=now)
        response = watch_pb2.WatchChannelsResponse(offset=self._at.encoded())
        response.heartbeat.time.GetCurrentTime()
        return response

    async def _wait(self, most_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, most_s)):
                await self._woken.wait()
        except TimeoutError:
            return

    def _look(self) -> None:
        """Look whether the watch may go on; not for every message."""
        if self._ending is not None:
            raise self._ending
        now_s = time.monotonic()
        if now_s - self._checked_s >= min(CHECK_EVERY_S, self._heartbeat_s):
            self._checked_s = now_s
            self._check()
