"""The results of batches between the executor that has them and the workers that hand them over.

The executor's thread puts a batch's rows here; each `take` gives a worker a few of its surfaces to tell, so that
several share a large batch. How many surfaces are under way to being told is known, so that no more are taken in than
can be told.

Threads: any; one short lock, not held while anybody is told.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vedette_server.execute.reckoning import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.execute.client import Surface

# Surfaces that one job tells of. NMS of a frame takes about as long as waking one more worker for the next few.
TOLD_AT_ONCE = 8


@dataclass(slots=True, eq=False)
class Ended:
    """A batch that is done.

    Attributes:
        surfaces: Those to be told.
        rows: The engine's output, row i for surface i; None: the batch failed.
        started_s: When it left.
        finished_s: When its results were there.
        error: Why it failed; empty: it did not.
        lane: Name of the lane that ran it.
        told: Surfaces that a worker tells or has told.
    """

    surfaces: Sequence[Surface]
    rows: NDArray[np.float32] | None
    started_s: float
    finished_s: float
    error: str
    lane: str = "lane 0"
    told: int = 0


class Results:
    """Surfaces that were taken from their batcher and are not told yet.

    Args:
        on_room: Called, by the worker that told them, when fewer than `limit` are left that were not.

    Attributes:
        limit: So many may be untold; beyond it the engine should take no more in.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self.limit = 0
        self._on_room = on_room
        self._lock = threading.Lock()
        self._ended: deque[Ended] = deque()
        self._untold = 0
        # What began in an older one is forgotten.
        self._epoch = 0

    @property
    def untold(self) -> int:
        """Surfaces that are under way, or whose results nobody was told of yet."""
        return self._untold

    @property
    def full(self) -> bool:
        """Whether workers are too slow in telling."""
        return self._untold > self.limit

    def begin(self, count: int) -> int:
        """Take note of surfaces that are under way; return what `end` is to be called with."""
        with self._lock:
            self._untold += count
            return self._epoch

    def end(self, epoch: int, ended: Ended) -> None:
        """Have the surfaces of a batch told, unless they were forgotten meanwhile."""
        with self._lock:
            if epoch == self._epoch:
                self._ended.append(ended)

    def take(self) -> Callable[[], None] | None:
        """Return a job that tells some surfaces, if there are any to be told."""
        with self._lock:
            if not self._ended:
                return None
            ended = self._ended[0]
            first, ended.told = ended.told, min(ended.told + TOLD_AT_ONCE, len(ended.surfaces))
            if ended.told == len(ended.surfaces):
                self._ended.popleft()
            return partial(self._tell, ended, first, ended.told, self._epoch)

    def forget(self) -> None:
        """Tell nobody of what is under way or waits here."""
        with self._lock:
            self._epoch += 1
            self._ended.clear()
            self._untold = 0

    def __bool__(self) -> bool:
        """Whether there is something to tell now."""
        return bool(self._ended)

    def _tell(self, ended: Ended, first: int, end: int, epoch: int) -> None:
        tell(
            ended.surfaces[first:end],
            ended.rows,
            ended.started_s,
            ended.finished_s,
            ended.error,
            first=first,
            batch_size=len(ended.surfaces),
            lane=ended.lane,
        )
        with self._lock:
            if epoch != self._epoch:
                return
            was_full = self.full
            self._untold -= end - first
            room = was_full and not self.full
        if room:
            self._on_room()
