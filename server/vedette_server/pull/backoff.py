"""How long a camera that failed is left alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SPREAD = 0.25


class Backoff:
    """Waits that double up to a limit, and begin anew after a good stretch.

    Args:
        first_s: The first wait.
        longest_s: The longest, before it is spread.
        good_s: Packets for so long are a good stretch.
        draw: Gives a number in 0..1; spreads the waits by a quarter up and down, so that a hundred cameras behind one
            switch do not come back in the same instant.
    """

    def __init__(
        self, first_s: float, longest_s: float, good_s: float, draw: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._good_s = good_s
        self._draw = draw
        self._next_s = first_s

    def wait_s(self, stretch_s: float) -> float:
        """Return how long to wait now.

        Args:
            stretch_s: For how long packets came before the failure; 0: none did.
        """
        if stretch_s >= self._good_s:
            self._next_s = self._first_s
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s * (1 - _SPREAD + 2 * _SPREAD * self._draw())
