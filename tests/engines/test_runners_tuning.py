from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest

from support_bundles import toy_bundle, toy_manifest
from vedette_engines.bundle import Bundle
from vedette_engines.errors import RunError
from vedette_engines.manifest import Bench, EngineFile
from vedette_engines.runners.opening import open_engine
from vedette_engines.runners.tuning import Candidate, Tuning, choose, measure_best

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray


class FakeEngine:
    """An engine whose runs cost what the test says.

    Args:
        cost: Called with the batch and whether another lane is running; sleeps or raises.
        max_batch: Its limit.
        bench: What its bundle says.
    """

    backend = "fake:device"
    file = EngineFile("model.onnx")
    fallback = ""

    def __init__(
        self, cost: Callable[[int], None], *, max_batch: int | None = None, bench: Bench | None = None
    ) -> None:
        self.cost = cost
        self.max_batch = max_batch
        self.bundle = Bundle(SimpleNamespace(), toy_manifest(bench=bench))  # type: ignore[arg-type]
        self.open_lanes = 0
        self.seen: set[int] = set()

    def open_lane(self) -> FakeLane:
        self.open_lanes += 1
        return FakeLane(self)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FakeLane:
    """A lane of it."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        assert all(frame.shape == self._engine.bundle.manifest.slot_shape for frame in frames)
        self._engine.seen.add(len(frames))
        self._engine.cost(len(frames))
        return np.zeros((len(frames), 3, 6), np.float32)

    def close(self) -> None:
        self._engine.open_lanes -= 1


def sleep_2ms(batch: int) -> None:
    """Cost the same for any batch, and let lanes overlap."""
    time.sleep(0.002)


def test_an_engine_whose_runs_cost_the_same_for_any_batch_gets_large_batches_and_many_lanes() -> None:
    engine = FakeEngine(sleep_2ms)

    best = measure_best(engine, (1, 3), (1, 8), budget_s=0.3)

    assert (best.lanes, best.max_batch, best.measured) == (3, 8, True)
    assert 0 < best.seconds_per_frame < 0.001
    assert engine.open_lanes == 0


def test_an_engine_whose_lanes_wait_for_each_other_gets_one_lane() -> None:
    one_at_a_time = threading.Lock()

    def cost(batch: int) -> None:
        with one_at_a_time:
            time.sleep(0.002 * batch * batch)

    best = measure_best(FakeEngine(cost), (1, 4), (1, 4), budget_s=0.4)

    assert best.max_batch == 1


def test_a_candidate_that_fails_is_out() -> None:
    def cost(batch: int) -> None:
        if batch > 4:
            raise RunError("the device is full")
        time.sleep(0.002)

    engine = FakeEngine(cost)

    assert measure_best(engine, (1,), (1, 4, 8), budget_s=0.2).max_batch == 4
    assert engine.open_lanes == 0


def test_an_engine_that_fails_on_every_batch_is_told() -> None:
    def cost(batch: int) -> None:
        raise RunError("the device is gone")

    engine = FakeEngine(cost)

    with pytest.raises(RunError, match="no batch could be run: the device is gone"):
        measure_best(engine, (1, 2), (1, 2), budget_s=0.1)
    assert engine.open_lanes == 0


def test_batches_over_the_engines_limit_are_not_tried() -> None:
    engine = FakeEngine(sleep_2ms, max_batch=4)

    measure_best(engine, (1,), (1, 4, 8), budget_s=0.1)

    assert engine.seen == {1, 4}


def test_when_all_batches_are_over_the_limit_the_limit_is_tried() -> None:
    engine = FakeEngine(sleep_2ms, max_batch=2)

    assert measure_best(engine, (1,), (4, 8), budget_s=0.05).max_batch == 2


def test_the_first_candidate_is_run_however_short_the_budget() -> None:
    assert measure_best(FakeEngine(sleep_2ms), (1, 2), (1, 2), budget_s=0.0) == Tuning(
        1, 1, pytest.approx(0.002, rel=50)
    )


def test_the_bench_of_the_bundle_wins_over_measuring() -> None:
    engine = FakeEngine(sleep_2ms, bench=Bench("fake:device", lanes=7, best_batch=16, seconds_per_frame=0.001))

    assert measure_best(engine, (1, 8), (1, 16), budget_s=1.0) == Tuning(7, 16, 0.001, measured=False)
    assert engine.seen == set()


@pytest.mark.parametrize(
    ("lanes", "batches", "limit"),
    [((1, 2), (1, 32), None), ((8,), (1, 32), None), ((7,), (4,), None), ((7,), (1, 16), 8)],
)
def test_a_bench_does_not_overrule_what_is_to_be_tried(
    lanes: tuple[int, ...], batches: tuple[int, ...], limit: int | None
) -> None:
    bench = Bench("fake:device", lanes=7, best_batch=16)
    engine = FakeEngine(lambda _: None, bench=bench, max_batch=limit)

    found = measure_best(engine, lanes, batches, budget_s=0.0)

    assert found.measured
    assert found.lanes in lanes
    assert found.max_batch in batches


def test_the_bench_of_another_backend_does_not_hold() -> None:
    engine = FakeEngine(sleep_2ms, bench=Bench("other:device", lanes=7, best_batch=16))

    assert measure_best(engine, (1,), (1,), budget_s=0.05).measured


def test_within_a_twentieth_the_smaller_batch_and_then_fewer_lanes_win() -> None:
    rates = {Candidate(1, 1): 96.0, Candidate(2, 1): 97.0, Candidate(1, 8): 100.0, Candidate(2, 8): 90.0}

    assert choose(rates) == Candidate(1, 1)
    assert choose(rates | {Candidate(2, 8): 110.0}) == Candidate(2, 8)


def test_a_real_engine_is_measured(tmp_path: Path) -> None:
    with open_engine(toy_bundle(tmp_path)) as engine:
        best = measure_best(engine, (1, 2), (1, 2), budget_s=0.1)

    assert best.lanes in {1, 2}
    assert best.max_batch in {1, 2}
    assert best.seconds_per_frame > 0
