"""When the batches of one engine left and came back, whatever version ran them: to tell whether a swap was felt.

Lanes write, others read; a deque takes both without a lock.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

# At 100 batches a second more than a minute.
REMEMBERED = 8192


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How regularly batches came during some time.

    Attributes:
        batches: How many came back.
        batch_s: Median time of one.
        longest_gap_s: Longest time from one's results to the next one's.
    """

    batches: int = 0
    batch_s: float = 0.0
    longest_gap_s: float = 0.0


class Pulse:
    """The latest batches of one engine."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)

    def beat(self, started_s: float, finished_s: float) -> None:
        """Take note of a batch; from any lane."""
        self._batches.append((started_s, finished_s))

    def rhythm(self, since_s: float, until_s: float) -> Rhythm:
        """Tell how batches came between two moments, monotonic seconds."""
        runs = [run for run in tuple(self._batches) if since_s <= run[1] <= until_s]
        if len(runs) < 2:
            return Rhythm(len(runs))
        ends = sorted(finished for _, finished in runs)
        gaps = [after - before for before, after in pairwise(ends)]
        return Rhythm(len(runs), statistics.median(end - start for start, end in runs), max(gaps))
