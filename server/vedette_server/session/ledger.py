"""Number the verdicts of a session and keep them until the client has acknowledged them.

A client that reconnects says which verdict it wants next: ``acknowledge`` what is before it and ``rewind`` to it.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class VerdictLedger(Generic[T]):
    """Verdicts with dense indices, of which those not yet acknowledged are kept.

    Args:
        capacity: From so many kept verdicts on the ledger is full. It still takes those of packets that are on their
            way, since a packet's verdict must not be lost; the caller takes no further packets.
        start_index: Index of the first verdict.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, capacity: int, start_index: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least 1")
        if start_index < 0:
            raise ValueError(f"start_index is {start_index}; it must be at least 0")
        self.capacity = capacity
        self._kept: deque[T] = deque()
        self._first_kept = start_index
        self._cursor = start_index

    @property
    def next_index(self) -> int:
        """Index of the next verdict to be numbered."""
        return self._first_kept + len(self._kept)

    @property
    def first_kept(self) -> int:
        """Index of the oldest verdict that is not acknowledged; `next_index` when there is none."""
        return self._first_kept

    @property
    def send_cursor(self) -> int:
        """Index of the next verdict that `unsent` will return."""
        return self._cursor

    @property
    def unacknowledged(self) -> int:
        """How many verdicts are kept."""
        return len(self._kept)

    @property
    def full(self) -> bool:
        """Whether the client must acknowledge before further packets are taken."""
        return len(self._kept) >= self.capacity

    def append(self, value: T | Callable[[int], T]) -> int:
        """Give a verdict its index and return that.

        Args:
            value: The verdict, or, when it can be called, what makes it from its index.
        """
        index = self.next_index
        made: Any = value(index) if callable(value) else value
        self._kept.append(made)
        return index

    def unsent(self, limit: int | None = None) -> list[tuple[int, T]]:
        """Return the verdicts that were not sent yet with their indices, at most ``limit``, and count them as sent."""
        unsent = self.since(self._cursor)[:limit]
        self._cursor += len(unsent)
        return unsent

    def since(self, index: int) -> list[tuple[int, T]]:
        """Return the kept verdicts from ``index`` on, with their indices.

        Raises:
            ValueError: The verdict was acknowledged before, or never numbered.
        """
        self._check(index)
        # From the end: what is wanted is mostly the few newest of many.
        kept = list(islice(reversed(self._kept), self.next_index - index))
        kept.reverse()
        return list(enumerate(kept, start=index))

    def rewind(self, index: int) -> None:
        """Send again from ``index`` on.

        Raises:
            ValueError: The verdict was acknowledged before, or never numbered.
        """
        self._check(index)
        self._cursor = index

    def acknowledge(self, through_index: int) -> None:
        """Forget the verdicts up to and including ``through_index``; those forgotten already do not matter.

        Raises:
            ValueError: The verdict was never numbered.
        """
        if through_index >= self.next_index:
            raise ValueError(
                f"verdict {through_index} was acknowledged, but the next one to be numbered is {self.next_index}"
            )
        while self._first_kept <= through_index:
            self._kept.popleft()
            self._first_kept += 1
        self._cursor = max(self._cursor, self._first_kept)

    def _check(self, index: int) -> None:
        if not self._first_kept <= index <= self.next_index:
            raise ValueError(f"verdict {index} is not kept; {self._first_kept} to {self.next_index} may be asked for")
