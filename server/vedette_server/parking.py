"""Where idle workers wait: the last to come is the first to go.

A condition variable wakes whoever has waited longest, so that a light load wanders over all threads and
finds every one of them cold. Here the same few threads do the work while the others sleep. Workers that
wait for a moment of time are left alone while others can be woken.

Threads: every method is called with the pool's lock held; `wait` lets go of it while it waits.
"""

from __future__ import annotations

import math
import threading


class _Spot:
    """One waiting worker.

    Attributes:
        gate: Held while it waits; released by whoever wakes it.
        until: When it wakes by itself, monotonic seconds; infinite: never.
    """

    __slots__ = ("gate", "until")

    def __init__(self, until: float) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.until = until


class Parking:
    """The idle workers of a pool.

    Args:
        lock: The pool's lock.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._sleepers: list[_Spot] = []
        self._watchers: list[_Spot] = []
        self._waking = 0

    @property
    def idle(self) -> int:
        """How many workers wait."""
        return len(self._sleepers) + len(self._watchers)

    @property
    def watched_until(self) -> float:
        """The first moment at which a worker wakes by itself; infinite when none does."""
        return min((spot.until for spot in self._watchers), default=math.inf)

    def wait(self, until: float, now: float) -> None:
        """Wait to be woken, or until a moment of time."""
        spot = _Spot(until)
        spots = self._sleepers if until == math.inf else self._watchers
        spots.append(spot)
        self._lock.release()
        try:
            # A timeout of -1 waits for ever.
            spot.gate.acquire(timeout=-1 if until == math.inf else max(until - now, 0.0))
        finally:
            self._lock.acquire()
        if spot in spots:
            spots.remove(spot)
        else:
            self._waking -= 1

    def wake_one(self) -> None:
        """Wake the worker that came last, one that watches the clock only when there is no other.

        Nobody is woken while somebody already is on the way to look for work; who finds some, and sees
        that there is more, must call this again.
        """
        spots = self._sleepers or self._watchers
        if spots and not self._waking:
            self._wake(spots)

    def wake_all(self) -> None:
        """Wake everybody."""
        while self.idle:
            self._wake(self._sleepers or self._watchers)

    def _wake(self, spots: list[_Spot]) -> None:
        self._waking += 1
        spots.pop().gate.release()
