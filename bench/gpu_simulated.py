"""The unchanged executor on a simulated device, on a virtual clock: how near it comes to the slowest stage's limit.

The device has one engine for uploads, one for compute and one for downloads; each operation takes the time it is given.
Time passes only in them and where the executor waits, so the figures are the same on every machine; what Python itself
costs is measured elsewhere (`bench.path`). "Best" is the flow line's exact answer: batch n begins its upload when the
upload engine is done with n-1 and batch n-lanes has left, each further stage when it is done with the one before and
the engine is done with n-1.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vedette_engines.cuda.simulated import SimulatedDevice, VirtualClock
from vedette_engines.gpu.base import Batch, SlotFrame
from vedette_engines.gpu.executor import Executor, LaneSettings
from vedette_engines.gpu.simulated_engine import SimulatedEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import Outcome

SHAPE, COLUMNS, FRAMES = (2, 4, 3), 3, 4
STAGES = ("upload", "compute", "download")
# What the issue asks for: of the slowest stage's limit with three lanes, and of the exact answer.
EQUAL_GOAL, BEST_GOAL = 0.95, 0.97


@dataclass(frozen=True)
class Case:
    """Durations of one run.

    Attributes:
        name: What it is called.
        stage_s: Mean seconds of a batch's upload, compute and download.
        jitter: Each operation takes from (1 - jitter) to (1 + jitter) times its mean.
    """

    name: str
    stage_s: tuple[float, float, float]
    jitter: float = 0.0


@dataclass(frozen=True)
class Row:
    """What came of one run.

    Attributes:
        case: Name of the case.
        lanes: Batches at the same time.
        batches: How many were run.
        seconds: How long they took, on the virtual clock.
        limit_s: What the slowest stage alone took.
        best_s: The exact answer.
        to_limit: `limit_s / seconds`.
        to_best: `best_s / seconds`.
        best_to_limit: `limit_s / best_s`: what this many lanes can reach.
        overlap: Share of the busy time in which two stages or more ran, by the executor's own events.
    """

    case: str
    lanes: int
    batches: int
    seconds: float
    limit_s: float
    best_s: float
    to_limit: float
    to_best: float
    best_to_limit: float
    overlap: float


@dataclass
class _Durations:
    """Draws how long each operation takes, and keeps what it drew."""

    case: Case
    seed: int
    drawn: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def copy_s(self, engine: str, size: int) -> float:
        # Each frame is a copy of its own, as slots are; rows come back in one.
        share = size / (FRAMES * int(np.prod(SHAPE))) if engine == "upload" else 1.0
        return self._draw(engine, share)

    def engine_s(self, _: int) -> float:
        return self._draw("compute", 1.0)

    def _draw(self, stage: str, share: float) -> float:
        mean = self.case.stage_s[STAGES.index(stage)] * share
        self.drawn[stage].append(mean * self._random.uniform(1 - self.case.jitter, 1 + self.case.jitter))
        return self.drawn[stage][-1]

    def of_batches(self, batches: int) -> NDArray[np.float64]:
        """Seconds of each batch's stages, `[3, batches]`."""
        return np.array([np.array(self.drawn[stage]).reshape(batches, -1).sum(axis=1) for stage in STAGES])


class _Source:
    """Always has a batch; its frames lie apart, so that each is a copy."""

    def __init__(self, device: SimulatedDevice, batches: int) -> None:
        size = int(np.prod(SHAPE))
        self.pinned = cast("Any", device.pin(2 * FRAMES * size))
        self.pinned.array[:] = np.arange(2 * FRAMES * size) % 251
        self._frames = [SlotFrame(self.pinned, 2 * index * size) for index in range(FRAMES)]
        self._left = batches
        self.outcomes: list[Outcome] = []

    def take(self, now: float) -> Batch | None:  # noqa: ARG002
        if not self._left:
            return None
        self._left -= 1
        return Batch(self._frames, self.outcomes.append)

    def due_at(self) -> float | None:
        return 0.0 if self._left else None


def best_s(stages: NDArray[np.float64], lanes: int) -> float:
    """Seconds that a flow line of three stations takes at best with so many batches in it; `stages` is `[3, n]`."""
    ready = [0.0, 0.0, 0.0]
    left: list[float] = []
    for index, times in enumerate(stages.T):
        moment = left[index - lanes] if index >= lanes else 0.0
        for station, seconds in enumerate(times):
            moment = ready[station] = max(ready[station], moment) + float(seconds)
        left.append(moment)
    return left[-1]


def run(case: Case, lanes: int, batches: int, seed: int = 1) -> Row:
    """Run one case."""
    durations = _Durations(case, seed)
    clock = VirtualClock()
    device = SimulatedDevice(clock, copy_s=durations.copy_s)
    executor = Executor(cast("Device", device), clock=clock)
    engine = SimulatedEngine(device, SHAPE, (COLUMNS,), _sums, durations.engine_s, max_batch=FRAMES)
    source = _Source(device, batches)
    executor.add(engine, source, LaneSettings(lanes=lanes))
    # What was drawn so far was the warm-up.
    for drawn in durations.drawn.values():
        drawn.clear()
    executor.figures()
    began = clock()
    while len(source.outcomes) < batches:
        wait_s = executor.step()
        if len(source.outcomes) < batches:
            clock.sleep(0.0 if wait_s is None else wait_s)
    overlap = executor.figures().overlap
    seconds = max(outcome.times.download[1] for outcome in source.outcomes if outcome.times) - began
    _check(source)
    source.pinned.close()
    executor.close()
    engine.close()
    device.close()
    stages = durations.of_batches(batches)
    limit, best = float(stages.sum(axis=1).max()), best_s(stages, lanes)
    return Row(case.name, lanes, batches, seconds, limit, best, limit / seconds, best / seconds, limit / best, overlap)


def _sums(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = frames.reshape(len(frames), -1)
    return np.stack([flat.sum(axis=1), flat[:, 0], flat[:, -1]], axis=1).astype(np.float32)


def _check(source: _Source) -> None:
    """Refuse figures of wrong rows."""
    size = int(np.prod(SHAPE))
    wanted = _sums(source.pinned.array.reshape(-1, size)[::2])
    for outcome in source.outcomes:
        if outcome.error or outcome.rows is None or not np.array_equal(outcome.rows, wanted):
            raise SystemExit(f"a batch went wrong on the simulated device: {outcome.error or 'its rows differ'}")


def cases(stage_ms: Sequence[float] | None, jitter: float) -> list[Case]:
    """Those of the issue, or the one that was asked for."""
    if stage_ms is not None:
        given = (stage_ms[0] / 1e3, stage_ms[1] / 1e3, stage_ms[2] / 1e3)
        return [Case(f"{'/'.join(f'{value:g}' for value in stage_ms)} ms", given, jitter)]
    equal, compute, upload = (4e-3, 4e-3, 4e-3), (2e-3, 6e-3, 1e-3), (6e-3, 4e-3, 1e-3)
    return [
        Case("equal stages", equal),
        Case("equal, jittered", equal, 0.3),
        Case("compute is slowest", compute),
        Case("compute is slowest, jittered", compute, 0.3),
        Case("upload is slowest, jittered", upload, 0.3),
    ]


def measure(found: Sequence[Case], lanes: Sequence[int], batches: int) -> dict[str, Any]:
    """Run all cases with all numbers of lanes, print and return the figures."""
    print(f"  {'durations':30} {'lanes':>5} {'of the limit':>13} {'of the best':>12} {'overlap':>8}")
    rows = []
    for case in found:
        for count in lanes:
            row = run(case, count, batches)
            rows.append(row)
            print(f"  {row.case:30} {row.lanes:5} {row.to_limit:13.4f} {row.to_best:12.4f} {row.overlap:8.3f}")
    return {
        "cases": [asdict(case) for case in found],
        "rows": [asdict(row) for row in rows],
        "goals": goals(rows),
    }


def goals(rows: Sequence[Row]) -> dict[str, Any]:
    """Say of each goal of the issue what was reached, as far as its case was run."""
    found: dict[str, Any] = {}
    equal = {row.lanes: row.to_limit for row in rows if row.case == "equal stages"}
    if 3 in equal:
        found[f"equal stages, 3 lanes, of the limit (goal >= {EQUAL_GOAL})"] = equal[3]
    if 1 in equal:
        found["equal stages, 1 lane, of the limit (1/3: no overlap)"] = equal[1]
    others = [row.to_best for row in rows if row.case != "equal stages"]
    if others:
        found[f"jittered and unequal, least of the exact answer (goal >= {BEST_GOAL})"] = min(others)
    return found
