"""Brings changes from the pipeline to the store without making it wait.

One thread keeps what waits, many changes in one commit: while one commit waits for the disk, the next group gathers.
A store that fails is tried again until it takes the group, with growing pauses; meanwhile changes wait in the bounded
queue (see `waiting.py` for what is thinned when it is full). Nobody is told of a change before its commit.

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
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError
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
        refused: Changes that were not taken because the queue was full.
        lost: Changes dropped because of a fault of ours.
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
        self._closing = self._abandoned = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submit(self, change: Change, on_committed: Callable[[Stored], None] | None = None) -> Thinning:
        """Take a change to be kept; returns at once.

        Args:
            change: What changed.
            on_committed: Told what became of it, once the commit is on the disk. Of an update that was coalesced
                both are told of the later one. Of an update that has to make room for another change, the thread
                that submits that one tells, with `Outcome.THINNED`.

        Raises:
            InvalidError: It cannot be kept.
        """
        check(change)
        with self._changed:
            if self._closing:
                self._counts["refused"] += 1
                return Thinning.REFUSED
            result, evicted = self._waiting.put(change, on_committed, self._in_hand)
            if result is not Thinning.QUEUED:
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
        while entries := self._next_group():
            stored = self._keep(entries)
            if stored is None:
                return
            for entry, one in zip(entries, stored, strict=True):
                _tell(entry, one)
            with self._changed:
                self._in_hand = 0
                self._changed.notify_all()

    def _next_group(self) -> list[Entry]:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) or self._closing)
            entries = [] if self._abandoned else self._waiting.take(self._group)
            self._in_hand = len(entries)
            return entries

    def _keep(self, entries: list[Entry]) -> list[Stored] | None:
        """Keep a group, however often it has to be tried; None: it was given up because the writer closes."""
        changes = [entry.change for entry in entries]
        pause_s = SHORTEST_PAUSE_S
        while True:
            try:
                stored = self._append(changes)
            except (StoreUnavailableError, StoreUnusableError) as error:
                if not self._pause(error, pause_s):
                    return None
                pause_s = min(pause_s * 2, self._longest_pause_s)
                continue
            with self._lock:
                if self._failing:
                    _log.info("event_store_recovered")
                self._failing = ""
                self._counts["kept"] += len(stored)
            return stored

    def _append(self, changes: list[Change]) -> list[Stored]:
        """Keep a group; where a fault of ours stops it, one by one, so that it costs no more than its cause."""
        try:
            return list(self._store.append(changes))
        except (StoreUnavailableError, StoreUnusableError):
            raise
        except Exception:  # noqa: BLE001 - it is logged, and its cause is looked for
            _log.exception("event_group_failed")
        stored: list[Stored] = []
        for change in changes:
            try:
                stored += self._store.append([change])
            except (StoreUnavailableError, StoreUnusableError):
                raise
            except Exception:  # noqa: BLE001 - the other channels' events are still to be kept
                _log.exception("event_lost", extra={"event_id": change.event_id})
                with self._lock:
                    self._counts["lost"] += 1
                stored.append(Stored(Outcome.FAILED, change.event_id))
        return stored

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
