from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_bundles import toy_bundle
from vedette_engines.manifest import EngineFile
from vedette_server.execute.client import Inference, Surface
from vedette_server.execute.local import LONGEST_RUN_S, LocalInference
from vedette_server.execute.reckoning import FAILURES_UNTIL_UNHEALTHY
from vedette_server.metrics_figures import EngineMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle


class FakeLane:
    """Answers with the first pixel of each frame; fails when it is told to."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.closed = False

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.engine.batches.append(len(frames))
        if self.engine.fails:
            raise RuntimeError("no kernel image")
        return np.array([[frame[0, 0, 0]] for frame in frames], np.float32)

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    backend = "fake"
    file = EngineFile("model.onnx")
    fallback = ""
    max_batch = None

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.fails = False
        self.closed = False
        self.batches: list[int] = []
        self.lanes: list[FakeLane] = []

    def open_lane(self) -> FakeLane:
        self.lanes.append(FakeLane(self))
        return self.lanes[-1]

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bench:
    """An engine in front of a test, with a clock."""

    def __init__(self, root: Path, lanes: int = 1, max_batch: int = 2, max_wait_s: float = 0.5) -> None:
        self.now = 10.0
        self.freed = 0
        self.health: list[bool] = []
        self.told: list[Inference] = []
        self.values: list[float] = []
        self.engine = FakeEngine(toy_bundle(root))
        self.metrics = EngineMetrics("toy", "1")
        engine: Any = self.engine
        self.inference = LocalInference(
            engine,
            lanes=lanes,
            max_batch=max_batch,
            max_wait_s=max_wait_s,
            on_slot_free=self._free,
            on_health=lambda: self.health.append(self.inference.healthy),
            metrics=self.metrics,
            clock=lambda: self.now,
        )

    def _free(self) -> None:
        self.freed += 1

    def submit(self, value: int = 7) -> None:
        slot = self.inference.acquire()
        assert slot is not None
        slot.pixels[:] = value
        self.inference.submit(Surface(slot, self.done))

    def done(self, result: Inference) -> None:
        self.told.append(result)
        if result.row is not None:
            self.values.append(float(result.row[0]))

    def run(self) -> bool:
        job = self.inference.take(self.now)
        if job is not None:
            job()
        return job is not None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_full_batch_leaves_at_once_and_a_lone_frame_when_its_wait_is_over(bench: Bench):
    bench.submit()
    assert not bench.run()
    assert bench.inference.due_at() == 10.5
    bench.submit()
    assert bench.run()
    bench.submit()
    bench.now = 10.5
    assert bench.run()
    assert bench.engine.batches == [2, 1]
    assert bench.inference.due_at() is None


def test_every_frame_gets_its_own_row_and_every_slot_comes_back(bench: Bench):
    for value in (3, 9):
        bench.submit(value)
    bench.run()
    assert bench.values == [3.0, 9.0]
    assert [result.batch_size for result in bench.told] == [2, 2]
    assert bench.inference.depths.slots_in_use == 0
    assert bench.freed == 1


def test_there_is_a_slot_for_every_lane_and_one_batch_more(tmp_path: Path):
    bench = Bench(tmp_path, lanes=2, max_batch=3)
    slots = [bench.inference.acquire() for _ in range(10)]
    assert slots[-1] is None
    assert None not in slots[:-1]


def test_a_batch_that_fails_costs_its_frames_and_the_lane_goes_on(bench: Bench):
    bench.engine.fails = True
    for _ in range(2):
        bench.submit()
    bench.run()
    bench.engine.fails = False
    for _ in range(2):
        bench.submit()
    bench.run()
    assert [bool(result.error) for result in bench.told] == [True, True, False, False]
    assert "no kernel image" in bench.told[0].error
    assert bench.inference.depths.slots_in_use == 0
    assert (bench.metrics.failures, sum(bench.metrics.batches.counts)) == (1, 2)


def test_repeated_failure_is_reported_once_and_so_is_the_recovery(bench: Bench):
    bench.engine.fails = True
    for failures in range(FAILURES_UNTIL_UNHEALTHY + 2):
        assert bench.inference.healthy == (failures < FAILURES_UNTIL_UNHEALTHY)
        bench.submit()
        bench.now += 1
        bench.run()
    bench.engine.fails = False
    bench.submit()
    bench.now += 1
    bench.run()
    assert bench.health == [False, True]


def test_a_success_in_between_forgives(bench: Bench):
    for fails in (True, True, False, True, True):
        bench.engine.fails = fails
        bench.submit()
        bench.now += 1
        bench.run()
    assert bench.health == []


def test_a_callback_that_raises_costs_neither_the_batch_nor_the_lane(bench: Bench):
    def fail(_: Inference) -> None:
        raise RuntimeError("a bug in one channel's books")

    slot = bench.inference.acquire()
    assert slot is not None
    bench.inference.submit(Surface(slot, fail))
    bench.submit(5)
    bench.run()
    assert bench.values == [5.0]
    bench.submit(6)
    bench.submit(7)
    assert bench.run()


def test_a_lane_runs_one_batch_at_a_time(tmp_path: Path):
    bench = Bench(tmp_path, lanes=2, max_batch=1)
    for value in range(3):
        bench.submit(value)
    jobs = [bench.inference.take(bench.now) for _ in range(3)]
    assert jobs[2] is None
    assert bench.inference.due_at() is None
    assert jobs[0] is not None
    jobs[0]()
    assert bench.inference.take(bench.now) is not None


def test_a_run_that_hangs_is_not_healthy_until_it_ends(bench: Bench):
    bench.submit()
    bench.submit()
    job = bench.inference.take(bench.now)
    assert job is not None
    bench.now += LONGEST_RUN_S
    assert bench.inference.healthy
    bench.now += 1
    assert not bench.inference.healthy
    job()
    assert bench.inference.healthy


def test_lanes_run_side_by_side(tmp_path: Path):
    bench = Bench(tmp_path, lanes=2, max_batch=1)
    meeting = threading.Barrier(2, timeout=20)
    met = []

    def done(_: Inference) -> None:
        meeting.wait()
        met.append(1)

    for _ in range(2):
        slot = bench.inference.acquire()
        assert slot is not None
        bench.inference.submit(Surface(slot, done))
    jobs = [bench.inference.take(bench.now) for _ in range(2)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert met == [1, 1]


def test_closing_closes_lanes_and_engine(bench: Bench):
    bench.inference.close()
    bench.inference.close()
    assert bench.engine.closed
    assert all(lane.closed for lane in bench.engine.lanes)
