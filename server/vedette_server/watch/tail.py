"""The latest changes of events, read from the store once for all who watch.

While anybody follows, one reader waits for the feed to tell of more, reads it, and keeps the latest in memory, each
put on the wire at most once. Whoever stands further back reads the store itself, a few at a time, until it has caught
up. So nobody misses a change: what is in memory is without gap, and what is not is in the store.

Event loop only; the store is asked on threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from vedette_server.errors import VedetteError
from vedette_server.rpc.steering import Hands
from vedette_server.store.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette.v1 import event_pb2
    from vedette_server.data.event import Event
    from vedette_server.rpc.bell import Bell
    from vedette_server.rpc.sendable import SendableEvents
    from vedette_server.store.changes import Stored
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.querying import Changes
    from vedette_server.store.store import EventStore

# Changes in memory: minutes of a busy site; each a few kilobytes.
MOST_KEPT = 2048
# Read in one go.
STEP = 256
# The store is looked at, though nobody told of more: another process may write to it, too.
POLL_S = 2.0
# A store that does not answer is asked again; after so long who follows is told.
PATIENCE_S = 10.0
PAUSE_S = 0.5
CATCHERS_UP, CATCHES_WAITING = 2, 4096
# Of more channels than this the store is not asked by name.
MOST_NAMED = 500

_log = logging.getLogger(__name__)


class Change:
    """One change of an event, and its form on the wire once somebody wants it."""

    __slots__ = ("_sendable", "_wire", "event", "number")

    def __init__(self, event: Event, number: int, sendable: SendableEvents) -> None:
        self.event = event
        self.number = number
        self._sendable = sendable
        self._wire: event_pb2.Event | None = None

    @property
    def wire(self) -> event_pb2.Event | None:
        """As it is sent; shared, never changed. None: it cannot be."""
        if self._wire is None:
            self._wire = self._sendable.find(self.event, self.number)
        return self._wire


class Batch:
    """Some changes behind a position.

    Attributes:
        changes: In the order in which they were kept.
        through: Everything up to this number was looked at.
        removed: Records on the way that retention has emptied.
    """

    __slots__ = ("changes", "removed", "through")

    def __init__(self, changes: Sequence[Change], through: int, removed: int = 0) -> None:
        self.changes = changes
        self.through = through
        self.removed = removed


class EventTail:
    """Follows the chain of events for all who watch.

    Args:
        store: The events.
        feed: Tells of more.
        bell: Wakes this on the event loop.
        sendable: Puts events on the wire.
        most_kept: Changes in memory at most.
        poll_s: The store is looked at so often though nobody told of more.
        patience_s: A store that does not answer for so long is told to who follows.
    """

    def __init__(
        self,
        store: EventStore,
        feed: EventFeed,
        bell: Bell,
        sendable: SendableEvents,
        *,
        most_kept: int = MOST_KEPT,
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._feed = feed
        self._bell = bell
        self._sendable = sendable
        self._most_kept = most_kept
        self._poll_s = poll_s
        self._patience_s = patience_s
        # One reads; readers that were given up may still be counted.
        self._reader = Hands("following events", 1, CATCHES_WAITING)
        self._catching = Hands("catching up with events", CATCHERS_UP, CATCHES_WAITING)
        self._kept: deque[Change] = deque()
        # Everything behind `_first` through `_through` is in memory.
        self._first = self._through = 0
        self._followers: dict[object, Callable[[], None]] = {}
        self._more = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._end_listening: Callable[[], None] = lambda: None
        self._fault: VedetteError | None = None

    @property
    def through(self) -> int:
        """The number of the latest change that was read."""
        return self._through

    @property
    def kept(self) -> int:
        """Changes in memory."""
        return len(self._kept)

    async def follow(self, who: object, wake: Callable[[], None]) -> int:
        """Begin to follow; whoever does ends it with `leave`.

        Args:
            who: Names the follower.
            wake: Called on the event loop whenever there is more, or the store failed.

        Returns:
            The end of the chain now.

        Raises:
            StoreUnavailableError: The store does not answer now.
            StoreUnusableError: It has to be repaired first.
        """
        end = (await self._catching.run(self._store.end))[0]
        self._followers[who] = wake
        if self._following is None:
            # What was kept before may be long past: who stands back reads the store.
            self._kept.clear()
            self._first = self._through = end
            self._fault = None
            self._end_listening = self._feed.listen(lambda: self._bell.ring(self))
            self._following = asyncio.create_task(self._run())
        return end

    def leave(self, who: object) -> None:
        """Stop following; may be called twice."""
        self._followers.pop(who, None)
        if not self._followers:
            self._stop()

    def close(self) -> None:
        """Stop for all; may be called twice."""
        self._stop()
        self._reader.close()
        self._catching.close()

    def wake(self) -> None:
        """Look for more."""
        self._more.set()

    async def read(self, position: int, channels: frozenset[str] | None, most: int = STEP) -> Batch:
        """Give changes behind a position; none, and the position itself: there are none yet.

        Args:
            position: Everything through this number is known.
            channels: Bare names that are looked for; others may be among what is given. None: all.
            most: So many at most.

        Raises:
            StoreUnavailableError: The store does not answer.
            StoreUnusableError: It has to be repaired first.
        """
        if self._first <= position:
            if position >= self._through and self._fault is not None:
                raise self._fault
            skipped = position - self._first
            changes = tuple(islice(self._kept, skipped, skipped + most))
            return Batch(changes, changes[-1].number if changes else position)
        names = None if channels is None or len(channels) > MOST_NAMED else sorted(channels)
        found = await self._catching.run(self._store.changes_after, position, names, most)
        return Batch(self._changes(found.changes), found.through, found.removed)

    async def _run(self) -> None:
        failing_s = 0.0
        while True:
            self._more.clear()
            try:
                found = await self._reader.run(self._store.changes_after, self._through, None, STEP)
            except VedetteError as error:
                failing_s += PAUSE_S
                if not isinstance(error, StoreUnavailableError) or failing_s >= self._patience_s:
                    self._fail(error)
                await asyncio.sleep(PAUSE_S)
                continue
            except Exception as error:  # noqa: BLE001 - who follows must not wait for ever
                _log.exception("following events failed")
                self._fail(VedetteError(f"following events failed: {error}"))
                await asyncio.sleep(PAUSE_S)
                continue
            failing_s, self._fault = 0.0, None
            if found.through > self._through:
                self._take(found)
                continue
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._more.wait()
        except TimeoutError:
            return

    def _take(self, found: Changes) -> None:
        changes = self._changes(found.changes)
        if len(changes) == found.through - self._through:
            self._kept.extend(changes)
        else:
            # Places in memory are counted: what retention emptied leaves a hole. Who stands before it reads the store.
            self._kept.clear()
            self._first = found.through
        self._through = found.through
        while len(self._kept) > self._most_kept:
            self._first = self._kept.popleft().number
        self._wake_all()

    def _fail(self, error: VedetteError) -> None:
        self._fault = error
        self._wake_all()

    def _wake_all(self) -> None:
        for wake in tuple(self._followers.values()):
            wake()

    def _stop(self) -> None:
        self._end_listening()
        if self._following is not None:
            self._following.cancel()
            self._following = None

    def _changes(self, stored: Sequence[Stored]) -> list[Change]:
        return [Change(one.event, one.number, self._sendable) for one in stored if one.event is not None]
