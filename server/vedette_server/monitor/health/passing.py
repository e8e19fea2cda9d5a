"""The time that passes for the health of a camera, and what the wall clock says of it.

Judged is by the monotonic clock: a wall clock that is set is no silence, and no hurry. Whoever is told wants the date:
the wall clock is asked where it stands apart from the monotonic one, and that is gone by until it stands elsewhere.

One thread at a time.
"""

from __future__ import annotations

import math

# By so much the wall clock may stand elsewhere before it counts as set; what it drifts by meanwhile is less.
_APART_S = 1.0


class PassingTime:
    """Time that does not run back, and its dates.

    Attributes:
        latest_s: Now, by the monotonic clock; below all times before the first.
        apart_s: How far ahead of the monotonic clock the wall clock is.
    """

    def __init__(self) -> None:
        self.latest_s = -math.inf
        self.apart_s = 0.0

    def at(self, steady_s: float, wall_s: float) -> float:
        """Let time pass; what is told late is of now.

        Args:
            steady_s: By the monotonic clock.
            wall_s: The same moment, seconds since the epoch.

        Returns:
            Now, by the monotonic clock.
        """
        if steady_s >= self.latest_s:
            apart_s = wall_s - steady_s
            if self.latest_s == -math.inf or abs(apart_s - self.apart_s) > _APART_S:
                self.apart_s = apart_s
            self.latest_s = steady_s
        return self.latest_s
