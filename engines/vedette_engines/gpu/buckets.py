"""Which batch sizes a lane is made for, and which of them a batch runs at."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError
from vedette_engines.runners.base import BatchMode

if TYPE_CHECKING:
    from collections.abc import Sequence


def choose_sizes(sizes: Sequence[int], max_batch: int, mode: BatchMode) -> tuple[int, ...]:
    """Choose the sizes of a lane's programs, rising: the last one takes `max_batch` frames.

    Args:
        sizes: What the engine can run, rising.
        max_batch: Most frames of a batch.
        mode: BUCKET: powers of two and the largest, each padded to what the engine has; EXACT: all there are.

    Raises:
        LoadError: The engine cannot run `max_batch` frames at once.
    """
    if not sizes or not 1 <= max_batch <= sizes[-1]:
        raise LoadError(f"max_batch is {max_batch}; the engine allows 1..{sizes[-1] if sizes else 0}")
    if mode is BatchMode.EXACT:
        return tuple(size for size in sizes if size <= size_for(max_batch, sizes))
    wanted = {min(1 << exponent, max_batch) for exponent in range(max_batch.bit_length() + 1)}
    return tuple(sorted({size_for(size, sizes) for size in wanted}))


def size_for(count: int, sizes: Sequence[int]) -> int:
    """Give the smallest of the rising sizes that takes `count` frames; the largest takes them."""
    return sizes[bisect_left(sizes, count)]
