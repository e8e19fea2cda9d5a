"""The changes that wait to be kept: bounded, and thinned by a rule when there are too many.

An event that lasts changes often, and each of its changes tells all that the one before told. So of one event at most
one update waits: a newer one takes its place, and so does its end. Begins, ends, evidence and acknowledgements are
never thinned. When the queue is full, the update that waits longest makes room for one of those; where no update
waits, or when it is an update itself that comes, the change is refused, and whoever brought it is told.

Not for several threads: `EventWriter` holds its lock around every call.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from vedette_server.data.event import Event, EventState

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.store.changes import Change, Stored

# Events whose begin was taken are remembered, so many at most: an update of one that is forgotten is not thinned.
MOST_REMEMBERED = 65_536


class Thinning(StrEnum):
    """What became of a change that was submitted.

    Attributes:
        QUEUED: It waits, and will be kept.
        COALESCED: It waits in the place of an update of the same event, which it makes needless.
        THINNED: An update, and the queue is full: it will not be kept, and need not be brought again.
        REFUSED: The queue is full of what may not be thinned: bring it again later.
    """

    QUEUED = "queued"
    COALESCED = "coalesced"
    THINNED = "thinned"
    REFUSED = "refused"


@dataclass(slots=True)
class Entry:
    """A change that waits, and who is told when it is kept.

    Attributes:
        change: What changed.
        told: Who is told.
        is_update: It may be thinned.
        strikes: So often it could not be kept by itself while others could.
    """

    change: Change
    told: list[Callable[[Stored], None]] = field(default_factory=list)
    is_update: bool = False
    strikes: int = 0


class Waiting:
    """The queue.

    Args:
        capacity: So many changes wait at most.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # By the order in which they came; the number is never used again.
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._updates: OrderedDict[str, int] = OrderedDict()
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self, change: Change, told: Callable[[Stored], None] | None, in_hand: int = 0
    ) -> tuple[Thinning, Entry | None]:
        """Take a change; `in_hand` others count as waiting, too.

        Returns:
            What became of it, and the update that had to make room for it.
        """
        is_update = self._is_update(change)
        entry = Entry(change, [told] if told is not None else [], is_update)
        before = self._updates.get(change.event_id)
        if isinstance(change, Event) and before is not None:
            self._replace(before, entry)
            return Thinning.COALESCED, None
        evicted = None
        if len(self._entries) + in_hand >= self.capacity:
            if is_update:
                return Thinning.THINNED, None
            if not self._updates:
                return Thinning.REFUSED, None
            _event_id, number = self._updates.popitem(last=False)
            evicted = self._entries.pop(number)
        self._count += 1
        self._entries[self._count] = entry
        if is_update:
            self._updates[change.event_id] = self._count
        self._remember(change)
        return Thinning.QUEUED, evicted

    def take(self, most: int) -> list[Entry]:
        """Give the first that wait."""
        taken: list[Entry] = []
        while self._entries and len(taken) < most:
            number, entry = self._entries.popitem(last=False)
            if self._updates.get(entry.change.event_id) == number:
                del self._updates[entry.change.event_id]
            taken.append(entry)
        return taken

    def _is_update(self, change: Change) -> bool:
        return isinstance(change, Event) and change.state is EventState.ACTIVE and change.event_id in self._begun

    def _replace(self, number: int, entry: Entry) -> None:
        entry.told[:0] = self._entries[number].told
        self._entries[number] = entry
        if not entry.is_update:
            del self._updates[entry.change.event_id]
            self._remember(entry.change)

    def _remember(self, change: Change) -> None:
        if not isinstance(change, Event):
            return
        if change.state is EventState.ENDED:
            self._begun.pop(change.event_id, None)
            return
        self._begun[change.event_id] = None
        self._begun.move_to_end(change.event_id)
        if len(self._begun) > MOST_REMEMBERED:
            self._begun.popitem(last=False)
