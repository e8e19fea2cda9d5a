"""When something that failed is tried again: exponential, with jitter, up to a ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.sinks.settings import Patience

# Who asks us to stay away for longer is not believed.
LONGEST_ASKED_S = 3600.0


class Clock(Protocol):
    """Tells the time."""

    def monotonic(self) -> float:
        """Seconds that only rise, for pauses."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, for what is kept over a restart."""
        ...


class Pause:
    """How long something waits that failed several times in a row.

    Args:
        patience: First and longest pause.
        chance: Gives a number of 0..1.
    """

    __slots__ = ("_chance", "_patience", "tries", "until_s")

    def __init__(self, patience: Patience, chance: Callable[[], float]) -> None:
        self._patience = patience
        self._chance = chance
        self.tries = 0
        self.until_s = float("-inf")

    def failed(self, now_s: float, asked_s: float | None = None) -> float:
        """Take note of a failure; give when it may be tried again.

        Half of the pause is left to chance, so that many who failed together do not come back together.
        """
        # The exponent is bounded, or an outage of weeks would overflow it.
        pause_s = min(self._patience.longest_pause_s, self._patience.first_pause_s * 2 ** min(self.tries, 32))
        pause_s *= 0.5 + 0.5 * self._chance()
        if asked_s is not None:
            pause_s = max(pause_s, min(asked_s, LONGEST_ASKED_S))
        self.tries += 1
        self.until_s = now_s + pause_s
        return self.until_s

    def over(self) -> None:
        """Begin anew: it was taken."""
        self.tries = 0
        self.until_s = float("-inf")
