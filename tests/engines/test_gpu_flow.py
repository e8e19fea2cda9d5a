"""The executor keeps the device as busy as its lanes allow: against the analytic answer, on a virtual clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support_gpu import FRAME_BYTES, Rig
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.base import Batch, Outcome, SlotFrame

if TYPE_CHECKING:
    from vedette_engines.gpu.executor import ExecutorFigures

BATCHES = 160
FRAMES = 3


@dataclass
class Durations:
    """Draws how long each operation takes, and keeps what it drew, in the order of the batches.

    Attributes:
        upload_s: Mean of the uploads of one frame.
        compute_s: Mean of a batch's compute time.
        download_s: Mean of a batch's download.
        jitter: Each is drawn from (1 - jitter) to (1 + jitter) times its mean.
        latency_s: What each copy takes besides.
    """

    upload_s: float
    compute_s: float
    download_s: float
    jitter: float = 0.0
    latency_s: float = 0.0
    seed: int = 0
    drawn: dict[str, list[float]] = field(default_factory=lambda: {"upload": [], "compute": [], "download": []})

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def copy_s(self, engine: str, size: int) -> float:
        mean = self.upload_s * size / FRAME_BYTES if engine == "upload" else self.download_s
        return self._draw(engine, mean) + self._late(engine)

    def engine_s(self, _: int) -> float:
        return self._draw("compute", self.compute_s)

    def _draw(self, engine: str, mean: float) -> float:
        self.drawn[engine].append(mean * self._random.uniform(1 - self.jitter, 1 + self.jitter))
        return self.drawn[engine][-1]

    def _late(self, engine: str) -> float:
        self.drawn[engine][-1] += self.latency_s
        return self.latency_s

    def forget(self) -> None:
        """What was drawn so far belongs to the warm-up."""
        for drawn in self.drawn.values():
            drawn.clear()


def analytic_s(uploads: list[float], computes: list[float], downloads: list[float], lanes: int) -> float:
    """How long a flow line of three stations takes for all batches, with `lanes` of them in it at most.

    Each station does one batch after another, in their order. Batch n begins its upload when the upload station is
    done with batch n-1 and batch n-lanes has left the line, and each further station when it is done with the one
    before and the station is done with batch n-1 (a permutation flow shop with a bounded number of jobs in it):

        U[n] = max(U[n-1], D[n-lanes]) + u[n];  C[n] = max(C[n-1], U[n]) + c[n];  D[n] = max(D[n-1], C[n]) + d[n]
    """
    uploaded = computed = 0.0
    left: list[float] = []
    for index, (upload, compute, download) in enumerate(zip(uploads, computes, downloads, strict=True)):
        free = left[index - lanes] if index >= lanes else 0.0
        uploaded = max(uploaded, free) + upload
        computed = max(computed, uploaded) + compute
        left.append(max(computed, left[-1] if left else 0.0) + download)
    return left[-1]


class Scattered:
    """A source that always has a batch, of frames that lie apart: each is a copy of its own."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.pinned = device.pin(2 * FRAMES * FRAME_BYTES)
        self._frames = [SlotFrame(self.pinned, 2 * index * FRAME_BYTES) for index in range(FRAMES)]
        self._left = BATCHES
        self.outcomes: list[Outcome] = []

    def take(self, now: float) -> Batch | None:
        self._left -= 1
        return Batch(self._frames, self.outcomes.append)

    def due_at(self) -> float | None:
        return 0.0 if self._left else None


@dataclass(frozen=True)
class Ran:
    """What a run took, what it would take at best, and in how many turns of the executor.

    Attributes:
        took_s: From the first batch's begin to the last one's end.
        best_s: The analytic answer.
        turns: Turns of the executor.
        figures: What the executor says.
    """

    took_s: float
    best_s: float
    turns: int
    figures: ExecutorFigures


def run(durations: Durations, lanes: int) -> Ran:
    """Run all batches on so many lanes."""
    device = SimulatedDevice(copy_s=durations.copy_s)
    rig = Rig(device)
    source = Scattered(device)
    rig.add(source, rig.engine(durations.engine_s, max_batch=FRAMES), lanes=lanes)
    durations.forget()
    began_s, turns = rig.clock(), 0
    rig.executor.figures()
    while len(source.outcomes) < BATCHES:
        rig.clock.sleep(rig.executor.step() or 0.0)
        turns += 1
    assert all(not outcome.error for outcome in source.outcomes)
    ended_s = max(outcome.times.download[1] for outcome in source.outcomes if outcome.times)
    figures = rig.executor.figures()
    source.pinned.close()
    rig.close()
    uploads = [sum(durations.drawn["upload"][n * FRAMES : (n + 1) * FRAMES]) for n in range(BATCHES)]
    best_s = analytic_s(uploads, durations.drawn["compute"], durations.drawn["download"], lanes)
    return Ran(ended_s - began_s, best_s, turns, figures)


@pytest.mark.parametrize("stage_s", [1e-3, 10e-3])
def test_three_lanes_of_equal_stages_reach_the_limit_of_the_slowest_stage(stage_s: float) -> None:
    ran = run(Durations(stage_s / FRAMES, stage_s, stage_s), lanes=3)
    assert BATCHES * stage_s / ran.took_s >= 0.95
    assert ran.figures.overlap > 0.95


def test_one_lane_of_equal_stages_reaches_a_third_and_overlaps_nothing() -> None:
    ran = run(Durations(1e-3, 3e-3, 3e-3), lanes=1)
    assert BATCHES * 3e-3 / ran.took_s == pytest.approx(1 / 3, rel=0.01)
    assert ran.figures.overlap == pytest.approx(0.0, abs=1e-9)


SHAPES = {
    "upload-bound": (1.0 / FRAMES, 0.5, 0.25),
    "compute-bound": (0.5 / FRAMES, 1.0, 0.1),
    "download-bound": (0.3 / FRAMES, 0.5, 1.0),
    "balanced": (0.9 / FRAMES, 1.0, 0.8),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("jitter", "latency", "lanes", "seed"),
    [
        *((0.0, 0.0, lanes, 0) for lanes in (1, 2, 3)),
        *((0.3, 0.0, lanes, 1) for lanes in (1, 2, 3)),
        *((0.9, 0.0, lanes, seed) for lanes in (3, 4) for seed in (2, 3)),
        (0.3, 0.05, 3, 4),
        (0.9, 0.05, 3, 5),
    ],
)
def test_whatever_the_stages_take_it_is_done_as_soon_as_the_lanes_allow(
    shape: str, jitter: float, latency: float, lanes: int, seed: int
) -> None:
    upload_s, compute_s, download_s = (4e-3 * share for share in SHAPES[shape])
    ran = run(Durations(upload_s, compute_s, download_s, jitter, 4e-3 * latency, seed), lanes)
    assert ran.best_s <= ran.took_s * (1 + 1e-9)
    assert ran.best_s / ran.took_s >= 0.97


def test_the_analytic_answer_is_that_of_a_flow_line() -> None:
    # One lane: one after another; as many as there are batches: only the slowest station and the ends count.
    assert analytic_s([1, 2], [3, 4], [5, 6], lanes=1) == 21
    assert analytic_s([1] * 10, [3] * 10, [1] * 10, lanes=10) == 1 + 10 * 3 + 1
    assert analytic_s([1] * 10, [1] * 10, [1] * 10, lanes=2) == 5 * 3 + 1


def test_a_steady_device_is_not_looked_at_again_and_again() -> None:
    # Each batch: a turn in which its end is found, and those shortly before. Beside that, only the learning.
    ran = run(Durations(1e-3, 9e-3, 3e-3), lanes=3)
    assert ran.turns < 4 * BATCHES


def test_the_figures_add_up_to_what_the_stages_took() -> None:
    durations = Durations(1e-3, 4e-3, 2e-3, jitter=0.5)
    ran = run(durations, lanes=3)
    assert ran.figures.batches == BATCHES
    for said_s, engine in (
        (ran.figures.upload_s, "upload"),
        (ran.figures.compute_s, "compute"),
        (ran.figures.download_s, "download"),
    ):
        assert said_s == pytest.approx(sum(durations.drawn[engine]), rel=1e-6)
