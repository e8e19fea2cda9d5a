"""Brings changes from the pipeline to the store without making it wait.

One thread keeps what waits, many changes in one commit: while one commit waits for the disk, the next group gathers.
A store that fails is tried again until it takes the group, with growing pauses; meanwhile changes wait in the bounded
queue (see `waiting.py` for what is thinned when it is full). Nobody is told of a change before its commit.

Of a group that fails for a reason that nobody foresaw, each change is tried by itself, so that it costs no more than
its cause. A change is given up as the cause only when it failed by itself several times while others were kept; while
none is, it is the store that fails.

Threads: any thread may call any method; callbacks of what is kept come from the writer's thread, in the order of the
numbers, and must be quick.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from vedette_server.store.changes import Outcome, Stored
from vedette_server.store.errors import UNKNOWN, StoreUnavailableError, StoreUnusableError
from vedette_server.store.store import check
from vedette_server.store.waiting import Entry, Thinning, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from vedette_server.store.changes import Change

_log = logging.getLogger(__name__)

DEFAULT_CAPACITY = 8192
DEFAULT_GROUP = 256
SHORTEST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
# So often a change fails by itself, each time while others are kept, before it is given up.
MOST_STRIKES = 3


class Appends(Protocol):
    """What the writer needs of a store."""

    def append(self, changes: Sequence[Change]) -> Sequence[Stored]:
        """Keep changes; see `EventStore.append`."""
        ...


@dataclass(frozen=True, slots=True)
class WriterFigures:
    """What the writer has done so far.

    Attributes:
        waiting: Changes not yet kept, those in hand counted.
        kept: Changes that the store has answered for.
        coalesced: Updates that a later change of the same event has replaced.
        thinned: Updates that were dropped because the queue was full.
        refused: Changes that found no room when they first came; who brought them may bring them again.
        lost: Changes that were given up for good.
        failures: Times that the store has failed.
        failing: Why the store fails now; empty: it does not.
    """

    waiting: int
    kept: int
    coalesced: int
    thinned: int
    refused: int
    lost: int
    failures: int
    failing: str


class EventWriter:
    """The thread that writes.

    Args:
        store: Where to; stays its owner's.
        capacity: So many changes wait at most, those in hand counted.
        group: So many are kept in one commit at most.
        longest_pause_s: After a failure it waits at most so long.
    """

    def __init__(
        self,
        store: Appends,
        *,
        capacity: int = DEFAULT_CAPACITY,
        group: int = DEFAULT_GROUP,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._store = store
        self._group = group
        self._longest_pause_s = longest_pause_s
        self._waiting = Waiting(capacity)
        self._in_hand = 0
        self._counts = dict.fromkeys(("kept", "coalesced", "thinned", "refused", "lost", "failures"), 0)
        self._failing = ""
        # Whether nobody knows why the group before failed.
        self._doubtful = False
        self._closing = self._abandoned = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submit(
        self, change: Change, on_committed: Callable[[Stored], None] | None = None, *, again: bool = False
    ) -> Thinning:
        """Take a change to be kept; returns at once.

        Args:
            change: What changed.
            on_committed: Told what became of it, once the commit is on the disk. Of an update that was coalesced
                both are told of the later one. Of an update that has to make room for another change, the thread
                that submits that one tells, with `Outcome.THINNED`.
            again: Whether it was refused before; that was counted then.

        Raises:
            InvalidError: It cannot be kept.
        """
        check(change)
        with self._changed:
            if self._closing:
                self._counts["refused"] += not again
                return Thinning.REFUSED
            result, evicted = self._waiting.put(change, on_committed, self._in_hand)
            if result is not Thinning.QUEUED and not (again and result is Thinning.REFUSED):
                self._counts[result.value] += 1
            if evicted is not None:
                self._counts["thinned"] += 1
            self._changed.notify_all()
        if evicted is not None:
            _tell(evicted, Stored(Outcome.THINNED, evicted.change.event_id))
        return result

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits any more; False: something still does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._left(), timeout_s)

    def close(self, timeout_s: float = 5.0) -> int:
        """Take nothing more, keep what waits, end; may be called twice.

        Returns:
            So many changes could not be kept in time; they are lost, and nobody was told of them.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._abandoned or not self._left(), timeout_s)
            self._abandoned = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            return self._left()

    def figures(self) -> WriterFigures:
        """Say what it has done so far."""
        with self._lock:
            return WriterFigures(waiting=self._left(), failing=self._failing, **self._counts)

    def _left(self) -> int:
        return len(self._waiting) + self._in_hand

    def _run(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        left: list[Entry] = []
        while entries := self._next_group(left):
            left, error = self._keep(entries)
            with self._changed:
                self._in_hand = len(left)
                self._changed.notify_all()
            if error is None:
                self._recovered()
                pause_s = SHORTEST_PAUSE_S
            elif self._pause(error, pause_s):
                pause_s = min(pause_s * 2, self._longest_pause_s)
            else:
                return

    def _next_group(self, left: list[Entry]) -> list[Entry]:
        """Give what is left of the group before; where nothing is, wait for some."""
        with self._changed:
            if not left:
                self._changed.wait_for(lambda: len(self._waiting) or self._closing)
            # Beside what is left, one more shows whether it is the store that fails; the others may be thinned yet.
            room = min(int(self._doubtful), self._group - len(left)) if left else self._group
            more = [] if self._abandoned else self._waiting.take(room)
            self._in_hand = len(left) + len(more)
            return left + more

    def _keep(self, entries: list[Entry]) -> tuple[list[Entry], Exception | None]:
        """Keep a group; return those that are to be tried again, and why."""
        try:
            self._kept(entries, self._store.append([entry.change for entry in entries]))
        except (StoreUnavailableError, StoreUnusableError) as error:
            self._doubtful = error.reason == UNKNOWN
            if not self._doubtful:
                return entries, error
        except Exception:  # noqa: BLE001 - it is logged, and its cause is looked for
            _log.exception("event_group_failed")
        else:
            return [], None
        return self._keep_each(entries)

    def _keep_each(self, entries: list[Entry]) -> tuple[list[Entry], Exception | None]:
        """Keep a group one by one, each event's changes in their order; see `_keep`."""
        self._doubtful = True
        left: dict[str, list[Entry]] = {}
        error: Exception | None = None
        proven = False
        for number, entry in enumerate(entries):
            if behind := left.get(entry.change.event_id):
                behind.append(entry)
                continue
            try:
                self._kept([entry], self._store.append([entry.change]))
                proven = True
            except (StoreUnavailableError, StoreUnusableError, MemoryError) as fault:
                if getattr(fault, "reason", UNKNOWN) != UNKNOWN:
                    return [*_flat(left), *entries[number:]], fault
                error, left[entry.change.event_id] = fault, [entry]
            except Exception as fault:  # noqa: BLE001 - the other channels' events are still to be kept
                self._lost(entry, fault)
        if proven and error is not None:
            self._strike(left, error)
        return _flat(left), error if any(left.values()) else None

    def _strike(self, left: dict[str, list[Entry]], error: Exception) -> None:
        """Give up what has failed too often while others were kept."""
        for behind in left.values():
            behind[0].strikes += 1
            if behind[0].strikes >= MOST_STRIKES:
                self._lost(behind.pop(0), error)

    def _kept(self, entries: list[Entry], stored: Sequence[Stored]) -> None:
        with self._lock:
            self._counts["kept"] += len(stored)
        for entry, one in zip(entries, stored, strict=True):
            _tell(entry, one)

    def _lost(self, entry: Entry, fault: BaseException) -> None:
        _log.error("event_lost", extra={"event_id": entry.change.event_id}, exc_info=fault)
        with self._lock:
            self._counts["lost"] += 1
        _tell(entry, Stored(Outcome.FAILED, entry.change.event_id))

    def _recovered(self) -> None:
        with self._lock:
            if self._failing:
                _log.info("event_store_recovered")
            self._failing = ""

    def _pause(self, error: Exception, pause_s: float) -> bool:
        """Wait before the next try; False: the writer closes and nobody waits any more."""
        with self._changed:
            if not self._failing:
                _log.warning("event_store_failed", extra={"error": str(error)})
            self._failing = str(error)
            self._counts["failures"] += 1
            until_s = time.monotonic() + pause_s
            return not self._changed.wait_for(lambda: self._abandoned, max(0.0, until_s - time.monotonic()))


def _tell(entry: Entry, stored: Stored) -> None:
    for told in entry.told:
        try:
            told(stored)
        except Exception:  # noqa: BLE001 - a listener that fails must not stop the store
            _log.exception("event_listener_failed", extra={"event_id": stored.event_id})


def _flat(groups: dict[str, list[Entry]]) -> list[Entry]:
    return [entry for group in groups.values() for entry in group]
