"""Bring the verdicts of one channel into presentation order.

Frames take their places in the order in which the decoder answers, which is that of presentation. They get their
verdicts in any order: some are skipped at once, others come back from an engine much later. A verdict is released when
all before it are settled.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class PlaceError(RuntimeError):
    """A bug of the caller: it settled a place twice, or one that was never opened."""


class _Unsettled:
    """What stands in a place until it is settled."""


_UNSETTLED: Final = _Unsettled()


class Timeline(Generic[T]):
    """Places in order; values leave in that order."""

    def __init__(self) -> None:
        self._first = 0
        self._values: deque[T | _Unsettled] = deque()
        self._open = 0

    @property
    def open_places(self) -> int:
        """How many places are not settled yet."""
        return self._open

    @property
    def held(self) -> int:
        """How many values wait behind a place that is not settled."""
        return len(self._values) - self._open

    def open(self) -> int:
        """Take the next place and return its number, counted from 0."""
        self._values.append(_UNSETTLED)
        self._open += 1
        return self._first + len(self._values) - 1

    def settle(self, place: int, value: T) -> list[T]:
        """Put a value in its place and return all that can leave now, in order.

        Raises:
            PlaceError: The place is settled already, or was never opened.
        """
        index = place - self._first
        if not 0 <= index < len(self._values):
            end = self._first + len(self._values)
            raise PlaceError(f"place {place} is not open; {self._first} to {end - 1} may be")
        if self._values[index] is not _UNSETTLED:
            raise PlaceError(f"place {place} was settled already")
        self._values[index] = value
        self._open -= 1
        return self._release()

    def _release(self) -> list[T]:
        leaving: list[T] = []
        while self._values and not isinstance(value := self._values[0], _Unsettled):
            leaving.append(value)
            self._values.popleft()
        self._first += len(leaving)
        return leaving
