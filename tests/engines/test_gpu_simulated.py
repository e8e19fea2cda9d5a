"""The simulated device in real time, with several threads, lost, and without its checks."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support_gpu import COLUMNS, FRAME_BYTES, SHAPE, sums
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.ordering import MisuseError
from vedette_engines.cuda.simulated import SimulatedDevice, VirtualClock, WallClock
from vedette_engines.gpu.simulated_engine import SimulatedEngine
from vedette_engines.gpu.sync_lane import SyncLane

SIZE = 64


class Hands(WallClock):
    """A clock on the wall whose hands a test moves; who sleeps moves them, too."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(lambda: self.now_s, self.move)

    def move(self, seconds: float) -> None:
        self.now_s += seconds


class Copier:
    """A stream with memory of its own."""

    def __init__(self, device: Any) -> None:
        self.stream, self.pinned, self.memory = device.stream(), device.pin(SIZE), device.allocate(SIZE)
        self.event = device.event(timing=True)

    def up(self) -> None:
        self.stream.upload(self.memory, self.pinned, SIZE)
        self.stream.record(self.event)

    def close(self) -> None:
        for thing in (self.event, self.pinned, self.memory, self.stream):
            thing.close()


def test_on_the_wall_clock_things_begin_and_end_when_they_are_due_whenever_one_looks() -> None:
    clock = Hands()
    device = SimulatedDevice(clock, copy_s=lambda _, size: 1.0)
    one, other = Copier(device), Copier(device)
    one.up()
    other.up()
    clock.move(1.5)
    assert one.event.done()
    assert not other.event.done()
    clock.move(10.0)
    assert other.event.done()
    assert other.event.milliseconds_since(one.event) == pytest.approx(1000.0)
    assert [(span.start_s, span.end_s) for span in device.timeline.spans] == [(0.0, 1.0), (1.0, 2.0)]
    one.close()
    other.close()
    device.close()


def test_waiting_sleeps_until_it_is_done_and_no_longer() -> None:
    clock = Hands()
    device = SimulatedDevice(clock, copy_s=lambda _, size: 1.0)
    one, other = Copier(device), Copier(device)
    one.up()
    other.up()
    one.event.synchronize()
    assert clock() == pytest.approx(1.0)
    other.stream.synchronize()
    assert clock() == pytest.approx(2.0)
    one.close()
    other.close()
    device.close()


def test_what_hangs_is_never_done_and_waiting_for_it_is_refused() -> None:
    clock = VirtualClock()
    device = SimulatedDevice(clock)
    copier = Copier(device)
    copier.stream.work("hang", lambda: math.inf, (), lambda: None)
    copier.up()
    clock.sleep(1e6)
    assert not copier.event.done()
    with pytest.raises(MisuseError, match="waits for ever"):
        copier.stream.synchronize()


def test_many_threads_share_a_device_each_with_lanes_of_its_own() -> None:
    device = SimulatedDevice(WallClock(), copy_s=lambda _, size: 1e-4)
    engine = SimulatedEngine(device, SHAPE, (COLUMNS,), sums, lambda _: 1e-4)

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        lane = SyncLane(engine)
        for _ in range(20):
            frames = list(random.integers(0, 256, (random.integers(1, 9), *SHAPE), np.uint8))
            assert np.array_equal(lane.run(frames), sums(np.stack(frames)))
        lane.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    device.close()


def test_a_lost_device_refuses_everything_and_forgets_what_it_had_to_do() -> None:
    device = SimulatedDevice()
    copier = Copier(device)
    copier.up()
    device.lose("CUDA_ERROR_ECC_UNCORRECTABLE")
    copier.pinned.array[:] = 1
    for call in (
        copier.up,
        copier.event.done,
        copier.event.synchronize,
        copier.stream.synchronize,
        copier.stream.begin_capture,
        device.stream,
        device.event,
        lambda: device.allocate(1),
        lambda: device.pin(1),
        lambda: device.load(b"code"),
    ):
        with pytest.raises(CudaError, match="CUDA_ERROR_ECC_UNCORRECTABLE") as caught:
            call()
        assert caught.value.sticky
    for thing in (copier.event, copier.pinned, copier.memory, copier.stream):
        with pytest.raises(CudaError, match="context is lost"):
            thing.close()
        thing.close()
    device.close()


@pytest.mark.parametrize("duration_s", [0.0, 0.5])
def test_without_checks_the_same_is_computed(duration_s: float) -> None:
    clock = Hands()
    device = SimulatedDevice(clock, checks=False, copy_s=lambda _, size: duration_s)
    lane = SyncLane(SimulatedEngine(device, SHAPE, (COLUMNS,), sums, lambda _: duration_s))
    began_s = clock()
    frames = list(np.random.default_rng(1).integers(0, 256, (5, *SHAPE), np.uint8))
    assert np.array_equal(lane.run(frames), sums(np.stack(frames)))
    assert clock() - began_s == pytest.approx(3 * duration_s)
    assert device.timeline.spans == []
    lane.close()
    device.close()


def test_without_checks_what_takes_no_time_keeps_its_order_behind_what_does() -> None:
    clock = Hands()
    device = SimulatedDevice(clock, checks=False)
    copier = Copier(device)
    copier.pinned.array[:] = 7
    copier.stream.work("long", lambda: 1.0, (), lambda: None)
    copier.up()
    assert not copier.event.done()
    assert set(copier.memory.array.tolist()) == {0xA5}
    clock.move(1.0)
    assert copier.event.done()
    assert set(copier.memory.array.tolist()) == {7}
    copier.close()
    device.close()


def test_uploads_that_move_nothing_leave_what_was_there() -> None:
    device = SimulatedDevice(uploads_move=False)
    copier = Copier(device)
    copier.pinned.array[:] = 7
    copier.up()
    copier.event.synchronize()
    assert set(copier.memory.array.tolist()) == {0xA5}
    copier.close()
    device.close()


def test_an_engine_refuses_sizes_it_does_not_have_and_rows_of_another_shape() -> None:
    device = SimulatedDevice()
    engine = SimulatedEngine(device, SHAPE, (COLUMNS,), lambda frames: np.zeros((len(frames), 1), np.float32))
    copier = Copier(device)
    batch, rows = device.allocate(FRAME_BYTES), device.allocate(12)
    stream: Any = copier.stream
    program = engine.open_programs(stream, batch, rows, (1,))[0]
    pinned = device.pin(FRAME_BYTES)
    stream.upload(batch, pinned, FRAME_BYTES)
    program.enqueue(stream)
    with pytest.raises(ValueError, match=r"the function gives \[1, 1\]; wanted \[1, 3\]"):
        stream.synchronize()
    engine.close()
