"""Hands the verdicts of all channels to those who watch.

The pipeline calls `publish` for every verdict, from any thread. While nobody watches the channel that costs one look
and one note of the time; while somebody does, the verdict is put on a bounded pile and the event loop is rung for.
There it is put on the wire once, however many watch, and shared. Each watcher has its own bounded queue.

A result's position is a count that only grows within one run of the server. It follows the monotonic clock, so that
of a position it can be told later whether a channel had results since, watched or not.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from vedette.v1 import watch_pb2
from vedette_server.rpc.convert import write_verdict
from vedette_server.watch.offsets import PROCESS_BYTES
from vedette_server.watch.results import DEFAULT_ROOM, ResultQueue, ResultWish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vedette_server.data.verdict import Verdict
    from vedette_server.rpc.bell import Bell

# Verdicts that wait for the loop at most: seconds of a full server.
MOST_PILED = 4096
# Put on the wire in one go: the loop has others to serve.
SLICE = 64
# Channels whose last result's time is known; of older ones it is only known that they had one.
MOST_REMEMBERED = 65_536


class _Published(NamedTuple):
    channel: str
    session: str
    verdict: Verdict
    verdict_index: int
    request_id: str


class ResultHub:
    """Where results are published, and watched.

    Args:
        bell: Wakes this on the event loop.
        room: Results that wait for one watcher at most.
        clock_ns: Monotonic nanoseconds.

    Attributes:
        process: Names this run of the server, in offsets.
        lost: Results that the event loop was too slow for; all watchers are told.
    """

    def __init__(
        self, bell: Bell, *, room: int = DEFAULT_ROOM, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.process = secrets.token_bytes(PROCESS_BYTES)
        self.lost = 0
        self._bell = bell
        self._room = room
        self._clock_ns = clock_ns
        self._pile: deque[_Published] = deque()
        self._position = clock_ns()
        # Of each channel, not later than when its latest result was published; of those not in it, at all.
        self._last: dict[str, int] = {}
        self._forgotten = 0
        self._told_lost = 0
        self._dropped_before = 0
        self._named: dict[str, list[ResultQueue]] = {}
        self._of_all: list[ResultQueue] = []

    def publish(self, channel: str, session: str, verdict: Verdict, verdict_index: int | None, request_id: str) -> None:
        """Show a verdict to those who watch; any thread, never waits, and of one channel one thread at a time.

        Args:
            channel: Bare name.
            session: Bare name.
            verdict: Not changed any more.
            verdict_index: Its number; None where it has none.
            request_id: Of its frame.
        """
        self._last[channel] = self._clock_ns()
        if not self._of_all and channel not in self._named:
            if len(self._last) > MOST_REMEMBERED:
                self._bell.ring(self)
            return
        if len(self._pile) >= MOST_PILED:
            self.lost += 1
        else:
            self._pile.append(_Published(channel, session, verdict, verdict_index or 0, request_id))
        self._bell.ring(self)

    # -- on the event loop ----------------------------------------------------------------------

    @property
    def watchers(self) -> int:
        """How many watch results now."""
        return len(self._queues())

    @property
    def dropped(self) -> int:
        """Results that watchers read too slowly for, so far."""
        return self._dropped_before + sum(queue.dropped for queue in self._queues())

    @property
    def position(self) -> int:
        """Where a watcher that begins now stands."""
        self._drain()
        return self._advance()

    def watch(self, wish: ResultWish, wake: Callable[[], None]) -> ResultQueue:
        """Begin to watch; whoever does ends it with `unwatch`."""
        self._drain()
        queue = ResultQueue(wish, wake, self._room)
        if wish.channels is None:
            self._of_all.append(queue)
        else:
            for channel in wish.channels:
                self._named.setdefault(channel, []).append(queue)
        return queue

    def unwatch(self, queue: ResultQueue) -> None:
        """Stop watching; may be called twice."""
        self._dropped_before += queue.dropped
        queue.dropped = 0
        if queue in self._of_all:
            self._of_all.remove(queue)
        for channel in queue.wish.channels or ():
            queues = self._named.get(channel, [])
            if queue in queues:
                queues.remove(queue)
            if not queues:
                self._named.pop(channel, None)

    def missed(self, position: int, wish: ResultWish) -> Collection[str]:
        """Tell which channels had results behind a position of this process; an empty name: it is not known which."""
        self._drain()
        # A copy, since channels that nobody watches publish meanwhile.
        last = dict(self._last)
        names = last.keys() if wish.channels is None else wish.channels & last.keys()
        found = {name for name in names if last[name] > position and wish.may_see(name)}
        is_complete = wish.channels is not None and wish.channels <= last.keys()
        if self._forgotten > position and not is_complete:
            found.add("")
        return found

    def wake(self) -> None:
        """Hand over what was published."""
        if self._drain(SLICE):
            asyncio.get_running_loop().call_soon(self.wake)

    def _drain(self, most: int = MOST_PILED) -> bool:
        """Hand over what waits; tell whether there is more."""
        if self.lost != self._told_lost:
            self._told_lost = self.lost
            for queue in self._queues():
                queue.lose()
        while self._pile and most:
            most -= 1
            self._hand_over(self._pile.popleft())
        if len(self._last) > MOST_REMEMBERED:
            self._forget()
        return bool(self._pile)

    def _hand_over(self, published: _Published) -> None:
        position = self._last[published.channel] = self._advance()
        now_s = time.monotonic()
        found = is_found(published.verdict)
        result = None
        for queue in (*self._named.get(published.channel, ()), *self._of_all):
            if queue.wants(published.channel, found, now_s):
                if result is None:
                    result = _to_wire(published)
                queue.put(position, published.channel, result)

    def _advance(self) -> int:
        self._position = max(self._position + 1, self._clock_ns())
        return self._position

    def _queues(self) -> set[ResultQueue]:
        return {*self._of_all, *(one for queues in self._named.values() for one in queues)}

    def _forget(self) -> None:
        """Forget the half of the channels that published longest ago."""
        by_age = sorted(dict(self._last).items(), key=lambda item: item[1])
        for channel, last in by_age[: len(by_age) // 2]:
            self._forgotten = max(self._forgotten, last)
            self._last.pop(channel, None)


def is_found(verdict: Verdict) -> bool:
    """Tell whether a detector found anything in the frame."""
    return any(one.detections is not None and len(one.detections.scores) for one in verdict.results)


def _to_wire(published: _Published) -> watch_pb2.ChannelResult:
    name = f"channels/{published.channel}"
    wire = watch_pb2.ChannelResult(channel=name, session=f"{name}/sessions/{published.session}")
    write_verdict(published.verdict, wire.verdict, published.verdict_index, published.request_id)
    return wire
