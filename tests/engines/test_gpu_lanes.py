"""Which lanes an engine gets: batch sizes, memory, graphs, and one lane for a caller who waits."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_gpu import COLUMNS, FRAME_BYTES, SHAPE, Rig, Store, sums
from support_gpu_mutants import MutantDevice, Mutations
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.simulated import SimulatedDevice, WallClock
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.buckets import choose_sizes, size_for
from vedette_engines.gpu.devices import Devices
from vedette_engines.gpu.executor import LaneSettings
from vedette_engines.gpu.lane import MOST_PROGRAMS
from vedette_engines.gpu.simulated_engine import SimulatedEngine
from vedette_engines.gpu.sync_lane import SyncLane
from vedette_engines.runners.base import BatchMode

LANE_BYTES = 8 * (FRAME_BYTES + COLUMNS * 4)


@pytest.mark.parametrize(
    ("sizes", "max_batch", "buckets"),
    [
        (range(1, 9), 8, (1, 2, 4, 8)),
        (range(1, 9), 6, (1, 2, 4, 6)),
        (range(1, 9), 1, (1,)),
        ((4, 8, 16), 16, (4, 8, 16)),
        ((4, 8, 16), 5, (4, 8)),
        ((1, 3, 7), 7, (1, 3, 7)),
        ((5,), 3, (5,)),
    ],
)
def test_buckets_are_powers_of_two_and_the_largest_as_far_as_the_engine_has_them(
    sizes: Any, max_batch: int, buckets: tuple[int, ...]
) -> None:
    assert choose_sizes(tuple(sizes), max_batch, BatchMode.BUCKET) == buckets


@given(sizes=st.sets(st.integers(1, 64), min_size=1), mode=st.sampled_from(BatchMode), data=st.data())
def test_every_batch_finds_the_smallest_size_that_takes_it(sizes: set[int], mode: BatchMode, data: Any) -> None:
    rising = tuple(sorted(sizes))
    max_batch = data.draw(st.integers(1, rising[-1]))
    chosen = choose_sizes(rising, max_batch, mode)
    count = data.draw(st.integers(1, max_batch))
    size = size_for(count, chosen)
    assert size in sizes
    assert count <= size
    if mode is BatchMode.EXACT:
        assert size == min(entry for entry in sizes if entry >= count)
    else:
        assert size <= size_for(min(1 << (count - 1).bit_length(), max_batch), rising)


@pytest.mark.parametrize("max_batch", [0, -1, 9])
def test_a_batch_larger_than_the_engine_allows_is_refused(max_batch: int) -> None:
    with pytest.raises(LoadError, match=f"max_batch is {max_batch}; the engine allows 1..8"):
        choose_sizes(tuple(range(1, 9)), max_batch, BatchMode.BUCKET)


@pytest.mark.parametrize(("room", "lanes"), [(1.2, 1), (2.5, 2), (3.5, 3), (100.0, 4)])
def test_lanes_are_as_many_as_there_is_memory_for(room: float, lanes: int) -> None:
    rig = Rig(SimulatedDevice(memory_bytes=int(LANE_BYTES * room)))
    assert rig.add(Store(rig.device)).lanes == lanes
    rig.close()


def test_too_little_memory_for_one_lane_is_told_with_figures() -> None:
    rig = Rig(SimulatedDevice(memory_bytes=10 << 20))
    with pytest.raises(
        LoadError,
        match=r"no room for a lane: a lane of 8 frames takes about 20.0 MiB, of which the engine takes 20.0 MiB; "
        r"10.0 MiB are free",
    ):
        rig.add(Store(rig.device), rig.engine(lane_bytes=20 << 20))
    rig.close()


def test_as_many_lanes_as_were_asked_for_or_none() -> None:
    rig = Rig(SimulatedDevice(memory_bytes=int(LANE_BYTES * 2.5)))
    with pytest.raises(LoadError, match=r"lane 3 of 3 cannot be opened: CUDA_ERROR_OUT_OF_MEMORY"):
        rig.add(Store(rig.device), lanes=3)
    assert rig.add(Store(rig.device), lanes=2).lanes == 2
    with pytest.raises(LoadError, match="lanes is 0"):
        rig.add(Store(rig.device), lanes=0)
    with pytest.raises(LoadError, match=r"pad is 256; allowed is 0..255"):
        rig.add(Store(rig.device), pad=256)
    rig.close()


def test_memory_that_was_estimated_too_low_costs_lanes_not_the_engine() -> None:
    class Greedy(SimulatedEngine):
        """An engine whose lanes take more than it says."""

        def open_programs(self, *arguments: Any) -> Any:
            if self.simulated.free_bytes() < 3 * LANE_BYTES:
                raise LoadError("no room for a context")
            return super().open_programs(*arguments)

    rig = Rig(SimulatedDevice(memory_bytes=5 * LANE_BYTES))
    member = rig.add(Store(rig.device), Greedy(rig.device, SHAPE, (COLUMNS,), sums))
    assert member.lanes == 2
    rig.close()


def test_a_device_without_graphs_runs_each_batch_by_itself() -> None:
    rig = Rig(SimulatedDevice(graphs=False))
    store = Store(rig.device)
    assert rig.add(store).graphs == 0
    store.put(3)
    rig.settle(store.told)
    store.told[0].check()
    rig.close()


def test_of_very_many_sizes_most_are_made_when_they_are_needed() -> None:
    made: list[int] = []

    class Noting(SimulatedEngine):
        """An engine that notes the sizes it made programs for."""

        def open_programs(self, *arguments: Any) -> Any:
            made.extend(arguments[3])
            return super().open_programs(*arguments)

    rig = Rig(SimulatedDevice(copy_s=lambda _, size: 1e-3))
    store = Store(rig.device)
    most = MOST_PROGRAMS + 8
    rig.add(store, Noting(rig.device, SHAPE, (COLUMNS,), sums, max_batch=most), lanes=1, mode=BatchMode.EXACT)
    assert made == [1, most]
    for count in (1, 17, most, 17):
        store.put(count)
    rig.settle(store.told)
    for told in store.told:
        told.check()
        assert told.outcome.size == len(told.frames)
    assert made == [1, most, 17]
    rig.close()


class Fussy(SimulatedEngine):
    """An engine that fails during a capture, in batches of 4."""

    def open_programs(self, *arguments: Any) -> Any:
        programs = super().open_programs(*arguments)
        for program in programs:
            if program.size == 4:
                program.enqueue = self._fussy(program.enqueue)  # type: ignore[method-assign]
        return programs

    @staticmethod
    def _fussy(enqueue: Any) -> Any:
        def run(stream: Any) -> None:
            if stream._capture is not None:
                raise CudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "taking memory", sticky=False)
            enqueue(stream)

        return run


def test_a_program_that_cannot_be_captured_is_run_without(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    store = Store(rig.device)
    member = rig.add(store, Fussy(rig.device, SHAPE, (COLUMNS,), sums), lanes=2)
    assert member.graphs == 3
    assert "batch size 4 is run without a graph: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in caplog.text
    for count in (3, 4, 5):
        store.put(count)
    rig.settle(store.told)
    for told in store.told:
        told.check()
    rig.close()


# -- one lane for a caller ----------------------------------------------------------------------


def random_frames(count: int) -> list[Any]:
    return list(np.random.default_rng(count).integers(0, 256, (count, *SHAPE), np.uint8))


def test_a_lane_for_one_caller_runs_what_it_is_given_from_any_thread() -> None:
    device = SimulatedDevice(WallClock())
    lane = SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums, max_batch=6))
    assert lane.sizes == (1, 2, 4, 6)
    answers: dict[int, Any] = {}
    for count in range(1, 7):
        thread = threading.Thread(
            target=lambda count=count: answers.setdefault(count, lane.run(random_frames(count)).copy())
        )
        thread.start()
        thread.join()
        assert np.array_equal(answers[count], sums(np.stack(random_frames(count))))
    lane.close()
    lane.close()
    with pytest.raises(RunError, match="the lane is closed"):
        lane.run(random_frames(1))
    device.close()


def test_frames_that_do_not_fit_are_refused_and_the_lane_goes_on() -> None:
    device = SimulatedDevice(WallClock())
    lane = SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums, max_batch=2), LaneSettings(lanes=7))
    for frames, message in (
        ([], "a batch of 0 frames; allowed: 1..2"),
        (random_frames(3), "a batch of 3 frames; allowed: 1..2"),
        ([np.zeros((1, 2, 3), np.uint8)], r"a frame is uint8 \[1, 2, 3\]; wanted: uint8 \[2, 4, 3\]"),
        ([np.zeros(SHAPE, np.float32)], "a frame is float32"),
    ):
        with pytest.raises(RunError, match=message):
            lane.run(frames)
    assert np.array_equal(lane.run(random_frames(2)), sums(np.stack(random_frames(2))))
    lane.close()
    device.close()


def test_a_lane_on_a_device_without_room_is_refused() -> None:
    device = SimulatedDevice(memory_bytes=100)
    with pytest.raises(LoadError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums))
    device.close()


def test_a_lane_on_a_lost_device_fails_each_run_and_closes() -> None:
    device = SimulatedDevice(WallClock())
    lane = SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums))
    device.lose()
    for _ in range(2):
        with pytest.raises(RunError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            lane.run(random_frames(1))
    lane.close()
    device.close()


def test_a_lane_whose_wait_fails_is_used_again_or_opened_anew() -> None:
    mutations = Mutations()
    inner = SimulatedDevice(WallClock())
    engine: Any = SimulatedEngine(inner, SHAPE, (COLUMNS,), sums)
    device = MutantDevice(inner, mutations)
    engine.__class__ = type("OnMutant", (SimulatedEngine,), {"device": property(lambda _: device)})
    lane = SyncLane(engine)
    for faults in (["Lane.wait"], ["Lane.wait", "Lane.synchronize"]):
        for within in faults:
            mutations.fail("synchronize", within)
        with pytest.raises(RunError, match="a batch of 3 failed: CUDA_ERROR_INVALID_VALUE"):
            lane.run(random_frames(3))
        assert np.array_equal(lane.run(random_frames(2)), sums(np.stack(random_frames(2))))
    lane.close()
    inner.close()


def test_a_lane_on_a_device_that_is_lost_already_is_refused() -> None:
    device = SimulatedDevice()
    device.lose()
    with pytest.raises(LoadError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums))
    device.close()


# -- the GPUs of a process ----------------------------------------------------------------------


class Opener:
    """Opens simulated devices, and keeps them."""

    def __init__(self) -> None:
        self.opened: list[Any] = []

    def __call__(self, index: int, library: str) -> Any:
        assert library == "pycuda"
        self.opened.append(SimulatedDevice(WallClock(), index=index))
        return self.opened[-1]


def test_each_gpu_is_opened_once_and_has_one_executor() -> None:
    opener = Opener()
    devices = Devices("pycuda", opener, max_in_flight=2)
    assert devices.device(1) is devices.device(1)
    assert devices.executors == {}
    assert devices.executor(1) is devices.executor(1)
    assert devices.executor(0).device is devices.device(0)
    assert [device.facts.index for device in opener.opened] == [1, 0]
    assert sorted(devices.executors) == [0, 1]
    store = Store(devices.device(0))
    devices.executor(0).add(SimulatedEngine(opener.opened[1], SHAPE, (COLUMNS,), sums), store)
    told = store.put(2)
    devices.executor(0).nudge()
    while not told.outcomes:
        threading.Event().wait(1e-3)
    told.check()
    assert devices.close()
    assert devices.close()
    with pytest.raises(LoadError, match="GPU 0 is asked for after the devices were closed"):
        devices.executor(0)


def test_a_gpu_that_cannot_be_opened_can_be_tried_again() -> None:
    def broken(index: int, library: str) -> Any:
        raise LoadError(f"GPU {index} cannot be opened")

    devices = Devices(opener=broken)
    for _ in range(2):
        with pytest.raises(LoadError, match="GPU 3 cannot be opened"):
            devices.executor(3)
    assert devices.executors == {}
    assert devices.close()


def test_a_gpu_on_which_something_hangs_is_left_open_and_said_so() -> None:
    opener = Opener()
    devices = Devices("pycuda", opener)
    durations = iter([0.0])
    executor, device = devices.executor(0), devices.device(0)
    engine = SimulatedEngine(opener.opened[0], SHAPE, (COLUMNS,), sums, lambda _: next(durations, math.inf), 1)
    store = Store(device)
    executor.add(engine, store, LaneSettings(lanes=1, graphs=False))
    told = store.put(1)
    executor.nudge()
    while not executor.figures(1.0).in_flight:
        threading.Event().wait(1e-3)
    assert not devices.close(0.05)
    assert "did not end" in told.outcome.error
