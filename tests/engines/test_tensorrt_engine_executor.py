"""Engines on the device in the executor, and in lanes that wait: all of it, with the runtimes' fakes at the bottom."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from support_bundles import toy_answer, toy_bundle, toy_frames
from support_fakeonnxruntime import CPU, CUDA
from support_fakeonnxruntime import FakeRuntime as FakeSessions
from support_faketensorrt_runtime import FakeRuntime
from support_gpu import VirtualWaiting
from support_plans import H100, machine
from support_tensorrt_engine import CONTENT, TOY, VERSION, OneDevice, opened, plan_bundle, rtx_file
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.base import Batch, Outcome, SlotFrame
from vedette_engines.gpu.executor import Executor, LaneSettings
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vedette_engines.gpu.base import DeviceEngine

FRAME = 72
# A batch of 2 or 3 is padded to 4.
GAPS = replace(TOY, profiles=((1, 1, 1), (4, 4, 8)), memory=(256, 8192), duration_s=lambda batch: batch * 1e-4)
COUNTS = (8, 1, 3, 2, 5, 8, 7, 1, 4, 6, 3, 8)


@dataclass
class Stream:
    """A source of batches of given sizes, each frame another."""

    device: SimulatedDevice
    counts: list[int] = field(default_factory=lambda: list(COUNTS))
    given: list[list[Any]] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    pinned: list[Any] = field(default_factory=list)

    def take(self, now: float) -> Batch | None:
        if not self.counts:
            return None
        number, count = len(self.given), self.counts.pop(0)
        frames = toy_frames(count, start=number * 8)
        memory = self.device.pin(count * FRAME)
        memory.array[:] = np.concatenate([frame.reshape(-1) for frame in frames])
        self.given.append(frames)
        self.pinned.append(memory)
        slots = [SlotFrame(memory, index * FRAME) for index in range(count)]
        return Batch(slots, lambda outcome: self.outcomes.__setitem__(number, outcome))

    def due_at(self) -> float | None:
        return 0.0 if self.counts else None


def run_all(device: SimulatedDevice, engine: DeviceEngine, **settings: Any) -> list[Outcome]:
    """Run all batches in the executor on the virtual clock; every row is checked, and nothing is left open."""
    executor = Executor(device, clock=device.clock, waiting=VirtualWaiting(device.clock))
    source = Stream(device)
    member = executor.add(engine, source, LaneSettings(**{"lanes": 3, **settings}))
    for _ in range(10_000):
        if len(source.outcomes) == len(COUNTS):
            break
        device.clock.sleep(executor.step() or 0.0)
    executor.remove(member)
    executor.close()
    for memory in source.pinned:
        memory.close()
    for number, frames in enumerate(source.given):
        outcome = source.outcomes[number]
        assert outcome.error == ""
        np.testing.assert_array_equal(outcome.rows, [toy_answer(frame) for frame in frames])
    return [source.outcomes[number] for number in range(len(COUNTS))]


@pytest.mark.parametrize("mode", list(BatchMode))
def test_a_plan_with_gaps_runs_every_batch_padded_where_it_must(tmp_path: Path, mode: BatchMode) -> None:
    device = SimulatedDevice(copy_bytes_per_s=1e6)
    engine, _ = opened(tmp_path, GAPS, device=device)
    assert engine.on_device is not None
    outcomes = run_all(device, engine.on_device, mode=mode)
    sizes = {len(outcome.rows): outcome.size for outcome in outcomes if outcome.rows is not None}
    assert {count: sizes[count] for count in (1, 2, 3, 4)} == {1: 1, 2: 4, 3: 4, 4: 4}
    assert (sizes[5], sizes[8]) == ((5, 8) if mode is BatchMode.EXACT else (8, 8))
    engine.close()
    device.close()


def test_lanes_of_a_plan_overlap_copies_and_computing(tmp_path: Path) -> None:
    device = SimulatedDevice(copy_bytes_per_s=2e5)
    engine, _ = opened(tmp_path, replace(GAPS, duration_s=lambda batch: batch * 4e-4), device=device)
    assert engine.on_device is not None
    outcomes = run_all(device, engine.on_device)
    times = [outcome.times for outcome in outcomes if outcome.times is not None]
    assert len(times) == len(COUNTS)
    assert any(later.upload[0] < earlier.compute[1] for earlier, later in itertools.pairwise(times))
    engine.close()
    device.close()


def test_rtx_and_a_plan_that_nobody_may_capture_run_without_graphs_of_ours(tmp_path: Path) -> None:
    for name, plan in (("rtx", GAPS), ("not capturable", replace(GAPS, capturable=False))):
        device = SimulatedDevice()
        engine, _ = opened(tmp_path / name, plan, file=rtx_file(plan), device=device)
        assert engine.on_device is not None
        run_all(device, engine.on_device)
        engine.close()
        device.close()


def test_auxiliary_streams_and_several_lanes_leave_nothing_open(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, _ = opened(tmp_path, replace(GAPS, aux_streams=2), device=device)
    assert engine.on_device is not None
    run_all(device, engine.on_device, lanes=4)
    engine.close()
    device.close()


def test_what_is_due_when_the_runtime_fails_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, fake = opened(tmp_path, GAPS, device=device, file=rtx_file(GAPS))
    assert engine.on_device is not None
    executor = Executor(device, clock=device.clock, waiting=VirtualWaiting(device.clock))
    source = Stream(device, counts=[4])
    member = executor.add(engine.on_device, source, LaneSettings(lanes=1, graphs=False))
    fake.fails["execute_async_v3"] = "out of luck"
    while not source.outcomes:
        device.clock.sleep(executor.step() or 0.0)
    assert "out of luck" in source.outcomes[0].error
    fake.fails.clear()
    source.counts.append(3)
    executor.nudge()
    while len(source.outcomes) < 2:
        device.clock.sleep(executor.step() or 0.0)
    np.testing.assert_array_equal(source.outcomes[1].rows, [toy_answer(frame) for frame in source.given[1]])
    executor.remove(member)
    executor.close()
    for memory in source.pinned:
        memory.close()
    engine.close()
    device.close()


@pytest.mark.parametrize("per_lane", [False, True])
def test_onnx_runtime_in_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_lane: bool) -> None:
    device = SimulatedDevice(copy_bytes_per_s=1e6)
    fake = FakeSessions(device, duration_s=lambda batch: batch * 1e-4)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", fake.open)
    settings = RunnerSettings(max_batch=8, session_per_lane=per_lane)
    engine = open_engine(toy_bundle(tmp_path), settings, devices=OneDevice(device))
    assert engine.on_device is not None
    run_all(device, engine.on_device)
    assert len(fake.sessions) == (4 if per_lane else 1)
    engine.close()
    fake.sessions.clear()
    device.close()


def plan_engine(root: Path, device: SimulatedDevice, **settings: Any) -> Any:
    return opened(root, GAPS, device=device, **settings)[0]


def rtx_engine(root: Path, device: SimulatedDevice, **settings: Any) -> Any:
    return opened(root, GAPS, file=rtx_file(GAPS), device=device, **settings)[0]


@pytest.mark.parametrize("make", [plan_engine, rtx_engine])
@pytest.mark.parametrize("settings", [{}, {"batch_mode": BatchMode.EXACT}, {"max_batch": 3}])
def test_a_lane_that_waits_runs_every_batch_as_a_cpu_lane_does(
    tmp_path: Path, make: Callable[..., Any], settings: dict[str, Any]
) -> None:
    device = SimulatedDevice()
    engine = make(tmp_path, device, **settings)
    lane = engine.open_lane()
    for count in range(1, (settings.get("max_batch") or 8) + 1):
        frames = toy_frames(count, start=count)
        np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
    lane.close()
    engine.close()
    device.close()


def test_open_engine_gives_the_plan_on_the_devices_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SimulatedDevice()
    fake = FakeRuntime(VERSION, device, {CONTENT: TOY})
    monkeypatch.setitem(sys.modules, "tensorrt", fake.module)
    here = machine(H100, tensorrt=VERSION)
    with open_engine(plan_bundle(tmp_path), RunnerSettings(), here, OneDevice(device)) as engine:
        assert (engine.backend, engine.file.path, engine.fallback) == (f"tensorrt:{VERSION}", "toy.plan", "")
        assert engine.on_device is not None
        assert engine.on_device.device is device
        lane, frames = engine.open_lane(), toy_frames(3)
        np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
        lane.close()
    device.close()
