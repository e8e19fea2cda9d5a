"""Reusable buffers of one letterboxed frame each.

A pool belongs to one engine. All its memory is taken when it is made; a frame that finds no free slot
waits with its channel, never in a queue of pixels.

Threads: any may acquire and release.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import NDArray

ALIGNMENT_BYTES = 64


class Allocator(Protocol):
    """Gives a pool its memory, for example pinned for a GPU."""

    def __call__(self, size_bytes: int) -> NDArray[np.uint8]:
        """Return ``uint8 [size_bytes]``, contiguous, kept alive by the array."""
        ...


def allocate_aligned(size_bytes: int) -> NDArray[np.uint8]:
    """Allocate ordinary memory that begins at a cache line: ``uint8 [size_bytes]``."""
    memory = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[offset : offset + size_bytes]


class Slot:
    """One buffer of a pool; whoever acquired it owns it until it is released.

    Attributes:
        pixels: ``uint8 [height, width, 3]``, BGR, C-contiguous; the same memory for the pool's whole life.
        index: Number within the pool, from 0.
    """

    __slots__ = ("_pool", "index", "pixels")

    def __init__(self, pool: SlotPool, index: int, pixels: NDArray[np.uint8]) -> None:
        self._pool = pool
        self.index = index
        self.pixels = pixels

    def release(self) -> None:
        """Give it back to its pool; see ``SlotPool.release``."""
        self._pool.release(self)

    def belongs_to(self, pool: SlotPool) -> bool:
        """Tell whether it is one of the pool's."""
        return self._pool is pool

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _index(slot: Slot) -> int:
    return slot.index


class SlotPool:
    """A fixed number of slots.

    Args:
        count: How many slots, at least 1.
        width: Width of the engine's input in pixels.
        height: Height of the engine's input in pixels.
        allocate: Gives the memory of one slot.

    Raises:
        ValueError: A number below 1.
    """

    def __init__(self, count: int, width: int, height: int, allocate: Allocator = allocate_aligned) -> None:
        if min(count, width, height) < 1:
            raise ValueError(f"{count} slots of {width}x{height}; allowed is 1 and up for each")
        size_bytes = height * width * 3
        self._slots = tuple(Slot(self, index, allocate(size_bytes).reshape(height, width, 3)) for index in range(count))
        self._lock = threading.Lock()
        self._free = list(reversed(self._slots))
        self._taken = [False] * count

    @property
    def count(self) -> int:
        """Slots in all."""
        return len(self._slots)

    @property
    def in_use(self) -> int:
        """Slots that are owned by somebody now."""
        return len(self._slots) - len(self._free)

    @property
    def indices_in_use(self) -> tuple[int, ...]:
        """Which slots are owned by somebody now, for a report of leaks."""
        with self._lock:
            return tuple(index for index, taken in enumerate(self._taken) if taken)

    def acquire(self) -> Slot | None:
        """Take a free slot, the one used last; None when all are in use. Never blocks."""
        with self._lock:
            if not self._free:
                return None
            slot = self._free.pop()
            self._taken[slot.index] = True
            return slot

    def release(self, slot: Slot) -> None:
        """Give back a slot.

        Raises:
            ValueError: It is not in use, or belongs to another pool.
        """
        with self._lock:
            self._release(slot)

    def release_all(self, slots: Iterable[Slot]) -> None:
        """Give back the slots of a batch, under one lock; they are acquired again in the order of their numbers.

        Raises:
            ValueError: As `release`; those before the wrong one are given back.
        """
        with self._lock:
            for slot in sorted(slots, key=_index, reverse=True):
                self._release(slot)

    def _release(self, slot: Slot) -> None:
        if not slot.belongs_to(self):
            raise ValueError(f"slot {slot.index} belongs to another pool")
        if not self._taken[slot.index]:
            raise ValueError(f"slot {slot.index} was released already")
        self._taken[slot.index] = False
        self._free.append(slot)
