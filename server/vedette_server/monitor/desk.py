"""Where the events of all channels go: to the store, with their evidence on its way.

What the store has taken is told to whoever follows (`store/feed.py`); a file whose event is not there any more, or
tells of another one by now, is removed. Nothing here waits: what finds no room in the writer's queue is thinned as
`store/waiting.py` says. What may not be thinned is owed: it is brought again, in its order, when there is room, so
that no event stays open and no evidence pending because the store was slow for a while. What is owed is bounded, too;
beyond that it is lost, and that is counted and logged.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from vedette_server.data.event import Event, EventState, EvidenceState
from vedette_server.errors import EvidenceError, InvalidError
from vedette_server.store.changes import Outcome
from vedette_server.store.waiting import Thinning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette_server.evidence.collecting import Collector
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.store.changes import Change, EvidenceChange, Stored
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.writer import EventWriter

_log = logging.getLogger(__name__)

MOST_OWED = 8192


class EventDesk:
    """Takes events.

    Args:
        writer: Brings them to the store.
        feed: Wakes those who follow.
        files: Where evidence lies; None: none is kept.
        most_owed: So many changes are brought again later at most.
    """

    def __init__(
        self, writer: EventWriter, feed: EventFeed, files: EvidenceStore | None, most_owed: int = MOST_OWED
    ) -> None:
        self._writer = writer
        self._feed = feed
        self._files = files
        self._lock = threading.Lock()
        self._begun: dict[str, int] = {}
        self._active: set[str] = set()
        self._most_owed = most_owed
        self._owed: deque[tuple[Change, Callable[[Stored], None]]] = deque()
        self._owed_of: Counter[str] = Counter()
        self._paying = threading.Lock()
        self._lost = 0
        self._losing = False

    @property
    def counts(self) -> dict[str, int]:
        """Events that began, by kind."""
        with self._lock:
            return dict(self._begun)

    @property
    def owed(self) -> int:
        """How many changes wait for room in the writer's queue."""
        return len(self._owed)

    @property
    def lost(self) -> int:
        """How many changes were given up: too much was owed, or they cannot be kept."""
        return self._lost

    def take(self, events: Sequence[Event], collector: Collector | None, wants: Callable[[Event], bool]) -> None:
        """Take what a channel's events have become.

        Args:
            events: In order.
            collector: Sees to their evidence; None: none is kept.
            wants: Tells whether an event's rule wants evidence.
        """
        for event in events:
            self._count(event)
            ready, errands = (event, ()) if collector is None else collector.prepare(event, wanted=wants(event))
            try:
                taken = self._submit(ready, self._told)
            except InvalidError:
                self._lose()
                _log.exception("an event cannot be kept", extra={"channel": event.channel, "rule": event.rule})
                continue
            if collector is not None and taken:
                collector.start(errands)

    def evidence(self, change: EvidenceChange, instead_of: tuple[str, ...] = ()) -> None:
        """Take what became of a piece of evidence.

        Args:
            change: What became of it.
            instead_of: Files that are of no use any more once it is kept.
        """

        def kept(stored: Stored) -> None:
            self._sweep(change, instead_of, stored)
            self._told(stored)

        if not self._submit(change, kept):
            self._discard(_paths(change))

    def pay(self) -> bool:
        """Bring again what is owed, as far as there is room; tell whether nothing is owed any more.

        Called when something was kept, and once a second or so.
        """
        if not self._owed:
            return True
        if not self._paying.acquire(blocking=False):
            return False
        try:
            while self._pay_one():
                pass
        finally:
            self._paying.release()
        return not self._owed

    def _submit(self, change: Change, told: Callable[[Stored], None]) -> bool:
        """Hand a change to the writer, or owe it; False: it is lost.

        Raises:
            InvalidError: It cannot be kept.
        """
        with self._lock:
            behind = self._owed_of[change.event_id] > 0 if self._owed_of else False
        if not behind and self._writer.submit(change, told) is not Thinning.REFUSED:
            return True
        if behind and isinstance(change, Event) and change.state is EventState.ACTIVE:
            # Its begin still waits: a later change tells more.
            return True
        with self._lock:
            losing = len(self._owed) >= self._most_owed
            if not losing:
                self._owed.append((change, told))
                self._owed_of[change.event_id] += 1
            self._lost += losing
            first, self._losing = losing and not self._losing, losing
        if first:
            _log.error("events are lost: the store has not taken any for too long")
        return not losing

    def _pay_one(self) -> bool:
        """Bring again what is owed first; whoever calls is alone. False: there is nothing, or no room."""
        with self._lock:
            if not self._owed:
                return False
            change, told = self._owed.popleft()
        try:
            taken = self._writer.submit(change, told, again=True) is not Thinning.REFUSED
        except InvalidError:
            self._lose()
            _log.exception("an event cannot be kept", extra={"event_id": change.event_id})
            taken = True
        with self._lock:
            if not taken:
                self._owed.appendleft((change, told))
                return False
            self._owed_of[change.event_id] -= 1
            if not self._owed_of[change.event_id]:
                del self._owed_of[change.event_id]
        return True

    def _lose(self) -> None:
        with self._lock:
            self._lost += 1

    def _told(self, stored: Stored) -> None:
        self._feed.told(stored)
        self.pay()

    def _count(self, event: Event) -> None:
        with self._lock:
            if event.event_id not in self._active:
                self._begun[event.kind.value] = self._begun.get(event.kind.value, 0) + 1
            (self._active.discard if event.state is EventState.ENDED else self._active.add)(event.event_id)

    def _sweep(self, change: EvidenceChange, instead_of: tuple[str, ...], stored: Stored) -> None:
        """Remove the files that the event does not tell of: retention was quicker, or a better one has come."""
        event = stored.event
        named = () if event is None else (event.snapshot, event.annotated, event.clip)
        held = {one.path for one in named if one.state is EvidenceState.READY}
        # What cannot be kept has replaced nothing.
        needless = _paths(change) if stored.outcome is Outcome.FAILED else (*_paths(change), *instead_of)
        self._discard(path for path in needless if path not in held)

    def _discard(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                if self._files is not None:
                    self._files.remove(path)
            except EvidenceError:
                # It is told already; the next start removes what no event names.
                _log.warning("a file without an event stays", extra={"path": path})


def _paths(change: EvidenceChange) -> tuple[str, ...]:
    return tuple(one.path for one in (change.snapshot, change.annotated, change.clip) if one is not None and one.path)
