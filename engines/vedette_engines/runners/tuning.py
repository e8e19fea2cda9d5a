"""Find out by measuring how many lanes and how large a batch give the most.

Belief is no guide: on one machine a batch of 8 costs more per frame than eight runs of 1, on another a tenth. So the
candidates run for real, lanes at once in threads, in short turns one after the other and round again, so that
whatever else the machine does meanwhile hits all of them alike. The median of its turns is a candidate's figure.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vedette_engines.manifest import Bench
    from vedette_engines.runners.base import Lane, LoadedEngine

# Within this share of the best throughput the cheaper candidate wins: smaller batch, then fewer lanes.
TIE = 0.05
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is best for an engine on this machine.

    Attributes:
        lanes: Executors side by side.
        max_batch: Frames per run.
        seconds_per_frame: Wall time per frame with all lanes busy; 0 when it was not measured.
        measured: Measured here, not taken from the bundle.
    """

    lanes: int
    max_batch: int
    seconds_per_frame: float
    measured: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run: so many lanes, so many frames per run."""

    lanes: int
    batch: int


def measure_best(
    engine: LoadedEngine, lanes_to_try: Sequence[int], batches_to_try: Sequence[int], budget_s: float
) -> Tuning:
    """Choose lanes and batch for the highest throughput, by the bundle's bench where it holds, else by measuring.

    The bench holds on the backend that it names, and within what is to be tried: a bundle does not overrule whoever
    runs it.

    A candidate that fails (a batch too large for the device) is out. Every candidate gets at least one turn of one run
    while the budget lasts; those that it did not last for are out, too, and the small ones come first.

    Args:
        engine: The engine; lanes are opened and closed here.
        lanes_to_try: Numbers of lanes.
        batches_to_try: Numbers of frames per run; those over the engine's limit are left out.
        budget_s: About how long the whole may take, once the first candidate was run.

    Raises:
        RunError: No candidate could be run.
    """
    limit = engine.max_batch
    batches = sorted({batch for batch in batches_to_try if limit is None or batch <= limit}) or [limit or 1]
    bench = engine.bundle.manifest.bench
    if bench is not None and bench.backend == engine.backend and _is_within(bench, lanes_to_try, batches):
        return Tuning(bench.lanes, bench.best_batch, bench.seconds_per_frame, measured=False)
    candidates = [Candidate(lanes, batch) for batch in batches for lanes in sorted(set(lanes_to_try))]
    measurement = _Measurement(engine, max(lanes_to_try), max(batches))
    try:
        rates = measurement.run(candidates, budget_s)
    finally:
        measurement.close()
    best = choose(rates)
    return Tuning(best.lanes, best.batch, 1.0 / rates[best])


def _is_within(bench: Bench, lanes: Sequence[int], batches: Sequence[int]) -> bool:
    return min(lanes) <= bench.lanes <= max(lanes) and batches[0] <= bench.best_batch <= batches[-1]


def choose(rates: dict[Candidate, float]) -> Candidate:
    """Choose the highest rate; among those within 5 % of it the smallest batch, then the fewest lanes."""
    enough = max(rates.values()) * (1.0 - TIE)
    return min((c for c, rate in rates.items() if rate >= enough), key=lambda c: (c.batch, c.lanes))


class _Measurement:
    """Lanes, threads and frames to measure with."""

    def __init__(self, engine: LoadedEngine, lanes: int, batch: int) -> None:
        shape = engine.bundle.manifest.slot_shape
        self._frames = list(np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8))
        self._lanes = [engine.open_lane() for _ in range(lanes)]
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="tuning")

    def run(self, candidates: Sequence[Candidate], budget_s: float) -> dict[Candidate, float]:
        """Measure all candidates in turns; frames per second of each."""
        failed: dict[Candidate, RunError] = {}
        turns: dict[Candidate, list[float]] = {}
        self._turn(candidates[0], 0.0, failed)  # the first run of all plans memory; nobody's figure
        deadline = time.monotonic() + budget_s
        slice_s = budget_s / (len(candidates) * (ROUNDS + 1))
        for round_index, candidate in itertools.product(range(ROUNDS + 1), candidates):
            if candidate in failed or (turns and time.monotonic() >= deadline):
                continue
            rate = self._turn(candidate, slice_s if round_index else 0.0, failed)
            # Round 0 warms each shape up; its figure counts only where there is no time for another.
            if round_index <= 1:
                turns[candidate] = [rate]
            else:
                turns[candidate].append(rate)
        rates = {candidate: statistics.median(rates) for candidate, rates in turns.items() if candidate not in failed}
        if not rates:
            raise RunError(f"no batch could be run: {next(iter(failed.values()))}")
        return rates

    def _turn(self, candidate: Candidate, slice_s: float, failed: dict[Candidate, RunError]) -> float:
        """Keep the candidate's lanes busy for a slice of time, one run at least; their summed frames per second."""
        frames = self._frames[: candidate.batch]
        start = threading.Barrier(candidate.lanes)
        futures = [
            self._threads.submit(_keep_busy, lane, frames, slice_s, start.wait)
            for lane in self._lanes[: candidate.lanes]
        ]
        rates = []
        for future in futures:
            try:
                rates.append(future.result())
            except RunError as error:
                failed[candidate] = error
        return sum(rates)

    def close(self) -> None:
        self._threads.shutdown()
        for lane in self._lanes:
            lane.close()


def _keep_busy(lane: Lane, frames: Sequence[NDArray[np.uint8]], slice_s: float, start: Callable[[], object]) -> float:
    """Run again and again for a slice of time; frames per second."""
    start()
    began = time.perf_counter()
    runs = 0
    while True:
        lane.run(frames)
        runs += 1
        took = time.perf_counter() - began
        if took >= slice_s:
            return runs * len(frames) / took
