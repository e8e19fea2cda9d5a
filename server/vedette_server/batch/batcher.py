"""Gather items into batches for one engine.

A batch leaves when it is full, or ``max_wait_s`` after its oldest item came, whichever is first. Which channel's item
comes next was decided before (`fair_queue.py`): here everything is first in, first out.

Threads: none of this locks; the caller holds one lock around every call. ``now`` is the server's monotonic clock in
seconds.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """A FIFO that hands out batches when they are due.

    Args:
        max_batch: Most items of a batch, 1 or more.
        max_wait_s: How long an item waits for others, 0 or more; 0: not at all.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, max_batch: int, max_wait_s: float) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; it must be at least 1")
        if not 0 <= max_wait_s < float("inf"):
            raise ValueError(f"max_wait_s is {max_wait_s}; it must be a number of seconds from 0 up")
        self.max_batch = max_batch
        self.max_wait_s = max_wait_s
        self._waiting: deque[tuple[float, T]] = deque()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def put(self, item: T, now: float) -> None:
        """Add an item; its wait begins ``now``."""
        self._waiting.append((now, item))

    def due_at(self) -> float | None:
        """When the next batch is due; not later than now when it is due already, None when nothing waits."""
        if not self._waiting:
            return None
        if len(self._waiting) >= self.max_batch:
            return self._waiting[self.max_batch - 1][0]
        return self._waiting[0][0] + self.max_wait_s

    def take(self, now: float) -> list[T]:
        """Take the batch that is due, at most ``max_batch`` items, oldest first; empty when none is."""
        due_at = self.due_at()
        if due_at is None or (len(self._waiting) < self.max_batch and now < due_at):
            return []
        return [self._waiting.popleft()[1] for _ in range(min(self.max_batch, len(self._waiting)))]

    def drain(self) -> list[T]:
        """Take everything, due or not, oldest first."""
        items = [item for _, item in self._waiting]
        self._waiting.clear()
        return items
