"""Which of a plan's optimisation profiles runs which batch; numbers only.

Since TensorRT 10 any number of execution contexts may use one profile at once: the preview feature
PROFILE_SHARING_0806 of 8.6 "is on by default in TensorRT 10.0" (trtexec, sampleOptions.cpp), and TensorRT for RTX
knows no other way. So the profile that was tuned for a size is taken for it, and only among profiles that are as well
tuned, as when one was built several times over, the load is spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """The batches that one optimisation profile takes.

    Attributes:
        smallest: Fewest rows.
        best: The number that it was tuned for.
        largest: Most rows.
    """

    smallest: int
    best: int
    largest: int

    def takes(self, size: int) -> bool:
        """Tell whether a batch of this size runs in it."""
        return self.smallest <= size <= self.largest


def runnable_sizes(profiles: Sequence[BatchProfile], most: int) -> tuple[int, ...]:
    """Tell the sizes that some profile takes, rising, up to the one that a batch of `most` rows is run with.

    Args:
        profiles: The plan's.
        most: Most frames of a batch; at most the largest of any profile.
    """
    last = next_size(profiles, most)
    return tuple(size for size in range(1, last + 1) if any(profile.takes(size) for profile in profiles))


def next_size(profiles: Sequence[BatchProfile], size: int) -> int:
    """Tell the size that a batch is padded to: itself, or the next that some profile takes.

    Raises:
        ValueError: It is larger than all profiles allow.
    """
    fitting = [max(size, profile.smallest) for profile in profiles if profile.largest >= size]
    if not fitting:
        raise ValueError(f"no profile takes {size} rows")
    return min(fitting)


def choose_profiles(
    sizes: Sequence[int], profiles: Sequence[BatchProfile], users: MutableSequence[int]
) -> tuple[int, ...]:
    """Choose the profile of each size, by number: tuned nearest to it, then narrowest, then with the fewest users.

    Args:
        sizes: Rows, each taken by some profile.
        profiles: The plan's.
        users: Contexts that use each profile; the chosen ones are counted in.
    """
    chosen = []
    for size in sizes:
        fitting = [number for number, profile in enumerate(profiles) if profile.takes(size)]
        number = min(fitting, key=lambda number: (*_misfit(profiles[number], size), users[number], number))
        users[number] += 1
        chosen.append(number)
    return tuple(chosen)


def _misfit(profile: BatchProfile, size: int) -> tuple[float, int]:
    """Tell how far from its best a profile runs a size, as a factor, and how many sizes it has to be good for."""
    return abs(math.log(profile.best / size)), profile.largest - profile.smallest
