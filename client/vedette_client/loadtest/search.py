"""Find the most channels that hold an objective: doubling, then bisection. Pure code.

It takes for granted that who holds N channels holds fewer, too. Each step is one load test, so a wrong
one moves the result by its own distance only: every step is kept and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_client.loadtest.statistics import Summary


@dataclass(frozen=True, slots=True)
class Objective:
    """What a server must hold.

    Attributes:
        p95_ms: Latency that 95 % of the analysed frames do not exceed.
        max_skip_percent: Share of the scheduled frames that may stay without an analysis.
    """

    p95_ms: float
    max_skip_percent: float

    def misses(self, summary: Summary) -> list[str]:
        """Tell what a load test missed; nothing: it held the objective."""
        found = []
        latency, counts, accounts = summary.latency, summary.counts, summary.accounts
        if latency is None:
            found.append("no frame was analysed")
        elif latency.p95 > self.p95_ms:
            found.append(f"p95 {latency.p95:.0f} ms > {self.p95_ms:g} ms")
        if counts.skip_percent > self.max_skip_percent:
            found.append(f"{counts.skip_percent:.1f} % not analysed > {self.max_skip_percent:g} %")
        if accounts.closed < accounts.cameras:
            found.append(f"{accounts.cameras - accounts.closed} accounts do not close")
        return found


@dataclass(frozen=True, slots=True)
class Step:
    """One load test of a search.

    Attributes:
        channels: With how many cameras.
        misses: What it missed; empty: it held the objective.
        summary: Its figures.
    """

    channels: int
    misses: list[str]
    summary: Summary

    @property
    def held(self) -> bool:
        """Whether it held the objective."""
        return not self.misses


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        channels: The most channels that held the objective; 0: not even one did.
        limited: The search ended at its limit: there may be more.
        steps: How often it was tried.
    """

    channels: int
    limited: bool
    steps: int


def search(holds: Callable[[int], bool], *, first: int = 1, most: int = 1024) -> Found:
    """Find the most channels that hold.

    Args:
        holds: Tries so many channels; called for each number at most once.
        first: Begin with so many.
        most: Try no more than these.
    """
    low, high, steps = 0, most + 1, 0
    channels = min(first, most)
    while low + 1 < high:
        steps += 1
        if holds(channels):
            low = channels
        else:
            high = channels
        channels = min(2 * low, most) if high > most else (low + high) // 2
    return Found(low, low == most, steps)
