"""Let contestants run in turns, so that whatever else the machine does hits all of them alike.

Time is cut into rounds; in each, every contestant has one short slice, in an order that is shuffled anew. What is
compared are the figures of one round with each other: a machine that is slow for a second is slow for all. The
medians over the rounds are the result, their spread tells how far to believe it. (A randomised block design: a round
is a block.)
"""

from __future__ import annotations

import math
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from vedette_engines.errors import EnginesError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

K = TypeVar("K")

# As many rounds as the budget is cut into; a contestant whose run takes longer than its slice makes them fewer.
ROUNDS = 9
# Beside a run of this share of a slice, a first run that warms the caches up after the others costs too much.
_LONG = 0.1


@dataclass(frozen=True, slots=True)
class Contestant:
    """What runs, and how many frames a run is.

    Attributes:
        run: Runs once, to the end.
        frames: Frames per run.
        group: Contestants that are compared with each other run close together in time.
        settles: Its first run in a slice is dearer than the others whatever it takes, and does not count: its runtime
            plans anew when another contestant on the same engine ran other shapes.
    """

    run: Callable[[], object]
    frames: int
    group: int = 0
    settles: bool = False


@dataclass(slots=True)
class Laps:
    """What one contestant did.

    Attributes:
        rates: Frames per second of each round; rounds stand in the same order for all.
        runs_s: How long each single run took.
        failed: Why it was taken out; empty: it was not.
    """

    rates: list[float] = field(default_factory=list)
    runs_s: list[float] = field(default_factory=list)
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one contestant is as another, over the rounds.

    Attributes:
        median: Of the rounds' ratios.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float


class Race(Generic[K]):
    """A race of some contestants.

    Args:
        contestants: By any key.
        budget_s: For all together, warming up included; one whole round is run whatever it takes.
        seed: Of the order.
        clock: Tells seconds.
    """

    def __init__(
        self,
        contestants: Mapping[K, Contestant],
        budget_s: float,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._contestants = dict(contestants)
        self._budget_s = budget_s
        self._order = random.Random(seed)  # noqa: S311  (an order, no secret)
        self._clock = clock
        self._laps: dict[K, Laps] = {key: Laps() for key in contestants}

    def run(self) -> dict[K, Laps]:
        """Race until the budget is spent; a contestant that fails is taken out and the others go on."""
        began = self._clock()
        for key in self._shuffled():
            self._guarded(
                key, lambda contestant: contestant.run()
            )  # memory is planned, kernels chosen: nobody's figure
        slice_s = self._budget_s / max(1, len(self._contestants)) / ROUNDS
        longest_s, done = 0.0, 0
        while done == 0 or self._clock() - began + longest_s <= self._budget_s:
            round_began = self._clock()
            for key in self._shuffled():
                self._guarded(key, lambda contestant, key=key: self._slice(key, contestant, slice_s))  # type: ignore[misc]
            longest_s = max(longest_s, self._clock() - round_began)
            done += 1
            if all(laps.failed for laps in self._laps.values()):
                break
        return self._laps

    def _shuffled(self) -> Sequence[K]:
        """Draw an order: groups one after the other, within a group any."""
        groups = sorted({contestant.group for contestant in self._contestants.values()})
        self._order.shuffle(groups)
        order: list[K] = []
        for group in groups:
            members = [key for key, contestant in self._contestants.items() if contestant.group == group]
            self._order.shuffle(members)
            order += [key for key in members if not self._laps[key].failed]
        return order

    def _guarded(self, key: K, act: Callable[[Contestant], object]) -> None:
        try:
            act(self._contestants[key])
        except EnginesError as error:
            self._laps[key] = Laps(failed=str(error))

    def _slice(self, key: K, contestant: Contestant, slice_s: float) -> None:
        """Run for a slice of time, once at least."""
        laps = self._laps[key]
        usual_s = statistics.median(laps.runs_s) if laps.runs_s else 0.0
        if contestant.settles or usual_s < slice_s * _LONG:
            contestant.run()
        began = now = self._clock()
        runs = 0
        while runs == 0 or now - began < slice_s:
            contestant.run()
            before, now = now, self._clock()
            laps.runs_s.append(now - before)
            runs += 1
        laps.rates.append(runs * contestant.frames / (now - began))


def ratio(laps: Laps, base: Laps) -> Ratio | None:
    """Compare two contestants round by round; None: one of them has no round."""
    ratios = [one / other for one, other in zip(laps.rates, base.rates, strict=False)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def percentile(values: Sequence[float], share: float) -> float:
    """Tell the value that this share of them does not exceed, the nearest that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
