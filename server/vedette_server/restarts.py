"""Decide whether a worker that ended is started again, and when.

Pure: no clock, no process. Imports next to nothing, since it lives in the supervisor.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# A wait is up to this share shorter or longer: servers that fell together should not rise together.
JITTER = 0.1


def dice() -> float:
    """Return a number from 0 to 1; the module `random` would cost the supervisor a megabyte."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


class Limits(NamedTuple):
    """How patient a supervisor is.

    Attributes:
        backoff_s: Wait before the first restart; each further one doubles it.
        backoff_max_s: Longest wait.
        settled_s: A worker that served so long ran well: the next wait is the first one again.
        most: Restarts within the window; one more end gives up.
        window_s: The window.
    """

    backoff_s: float = 1.0
    backoff_max_s: float = 30.0
    settled_s: float = 60.0
    most: int = 5
    window_s: float = 600.0


class Restarts:
    """The ends of the workers so far.

    Args:
        limits: How patient to be.
        dice: Gives numbers from 0 to 1.

    Attributes:
        counts: Restarts so far, by reason.
        recent: Ends within the window, the last one included.
    """

    def __init__(self, limits: Limits, dice: Callable[[], float] = dice) -> None:
        self.counts: dict[str, int] = {}
        self._limits = limits
        self._dice = dice
        self._ends_s: deque[float] = deque()
        self._streak = 0

    @property
    def recent(self) -> int:
        """Return how many workers ended within the window."""
        return len(self._ends_s)

    def ended(self, reason: str, now_s: float, served_s: float) -> float | None:
        """Take note of a worker's end.

        Args:
            reason: Why it ended, one of a few words.
            now_s: Monotonic seconds.
            served_s: How long it had served.

        Returns:
            Seconds to wait before the next one; None: give up.
        """
        limits = self._limits
        while self._ends_s and self._ends_s[0] <= now_s - limits.window_s:
            self._ends_s.popleft()
        self._ends_s.append(now_s)
        if len(self._ends_s) > limits.most:
            return None
        self._streak = 0 if served_s >= limits.settled_s else self._streak
        # The exponent is bounded: a float ends at 2**1024.
        wait_s = min(limits.backoff_s * 2.0 ** min(self._streak, 64), limits.backoff_max_s)
        self._streak += 1
        self.counts[reason] = self.counts.get(reason, 0) + 1
        return wait_s * (1.0 + JITTER * (2.0 * self._dice() - 1.0))
