"""Engines of each runtime on a real GPU against the CPU: alone, in lanes that wait, and in the executor."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_boxed import boxed
from support_bundles import toy_answer, toy_bundle, toy_frames
from vedette_engines.bundle import write_bundle
from vedette_engines.doctor import scene
from vedette_engines.errors import LoadError, MissingRuntimeError
from vedette_engines.gpu.base import Batch, SlotFrame
from vedette_engines.gpu.devices import Devices
from vedette_engines.gpu.executor import LaneSettings
from vedette_engines.manifest import Backend, EngineFile
from vedette_engines.plans.building import PlanRefusedError, build_plan
from vedette_engines.plans.environment import find_environment
from vedette_engines.plans.module import FULL, RTX, find_tensorrt
from vedette_engines.plans.request import PlanRequest, Profile
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette_engines.bundle import Bundle
    from vedette_engines.gpu.base import DeviceEngine, Outcome
    from vedette_engines.runners.base import LoadedEngine

pytestmark = pytest.mark.gpu

# A batch of 2 or 3 is in a gap.
PROFILES = (Profile(1, 1, 1), Profile(4, 4, 8))
MOST = 8
BACKENDS = (FULL, RTX, "cuda", "cuda, a session for each lane", "cuda, graphs", "tensorrt-rtx plugin")
TENSORRT = (FULL, RTX)


@pytest.fixture(scope="module")
def devices() -> Iterator[Devices]:
    if not find_environment(modules=False).gpus:
        pytest.skip("there is no GPU")
    devices = Devices()
    try:
        devices.device(0)
    except LoadError as error:
        pytest.skip(str(error))
    yield devices
    assert devices.close(), "something hangs on the device"


def plan_bundle(root: Path, engine: Bundle, module: str, **wishes: Any) -> Bundle:
    """Publish an engine with a plan that is built here, or skip with the reason."""
    try:
        tensorrt = find_tensorrt(module)
    except MissingRuntimeError as error:
        pytest.skip(str(error))
    onnx = engine.path_of(engine.manifest.files[0])
    wishes = {"profiles": PROFILES, **wishes}
    try:
        built = build_plan(PlanRequest(onnx, **wishes), tensorrt, lambda line: None)
    except (LoadError, PlanRefusedError) as error:
        pytest.skip(str(error))
    except Exception as error:
        if module == RTX and "does not build for" in str(error):
            pytest.skip(str(error))
        raise
    most = max(profile.largest for profile in wishes["profiles"])
    file = EngineFile("model.plan", Backend.TENSORRT, max_batch=most, plan=built.info)
    return write_bundle(root / "plans", replace(engine.manifest, files=(file,)), {"model.plan": built.content})


def opened(root: Path, engine: Bundle, backend: str, devices: Devices, **more: Any) -> LoadedEngine:
    """Open an engine with a backend, or skip with the reason."""
    settings = RunnerSettings(max_batch=MOST, runtime_cache=root / "kernels", **more)
    if backend in TENSORRT:
        return open_engine(plan_bundle(root, engine, backend), settings, devices=devices)
    if backend == "tensorrt-rtx plugin":
        if importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx") is None:
            pytest.skip("onnxruntime-ep-nv-tensorrt-rtx is not installed")
        return open_engine(engine, replace(settings, providers=("tensorrt-rtx",)), devices=devices)
    import onnxruntime  # noqa: PLC0415

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    options = {"cuda": {"enable_cuda_graph": "1"}} if backend == "cuda, graphs" else {}
    # TF32 rounds factors to ten bits; the bound below allows it, equality does not.
    cuda = {"cuda": {"use_tf32": "0", **options.get("cuda", {})}}
    settings = replace(settings, providers=("cuda",), provider_options=cuda)
    return open_engine(engine, replace(settings, session_per_lane="session" in backend), devices=devices)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_backend_says_what_really_runs(tmp_path: Path, devices: Devices, backend: str) -> None:
    with opened(tmp_path, toy_bundle(tmp_path), backend, devices) as engine:
        wanted = {FULL: "tensorrt:", RTX: "tensorrt_rtx:", "tensorrt-rtx plugin": "onnxruntime:"}
        assert engine.backend.startswith(wanted.get(backend, "onnxruntime:CUDAExecutionProvider"))
        assert engine.on_device is not None
        assert engine.on_device.device is devices.device(0)


@pytest.mark.parametrize("mode", list(BatchMode))
def test_every_batch_has_the_cpus_answer(tmp_path: Path, devices: Devices, backend: str, mode: BatchMode) -> None:
    # Sums of whole numbers below 2^24 are exact in float32, in whatever order.
    with opened(tmp_path, toy_bundle(tmp_path), backend, devices, batch_mode=mode) as engine:
        lane = engine.open_lane()
        for count in (*range(1, MOST + 1), 3, 1, MOST):
            frames = toy_frames(count, start=7 * count)
            np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
        lane.close()


def test_a_detector_finds_what_it_finds_on_the_cpu(tmp_path: Path, devices: Devices, backend: str) -> None:
    frames = scene.frames()
    with open_engine(boxed("blobs"), RunnerSettings(providers=("cpu",))) as engine:
        lane = engine.open_lane()
        wanted = scene.read(lane.run(frames))
        lane.close()
    with opened(tmp_path, boxed("blobs"), backend, devices) as engine:
        lane = engine.open_lane()
        for count in (1, 3, 4):
            rows = lane.run(frames[:count])
            worst, amiss = scene.differences(wanted[:count], scene.read(rows))
            assert not amiss
            assert not scene.beyond(worst, scene.ALIKE)
        lane.close()


class Source:
    """Has batches of given sizes, from pinned memory; whoever waits is told when all are done."""

    def __init__(self, engine: DeviceEngine, counts: list[int]) -> None:
        self._frame_bytes = int(np.prod(engine.input_shape))
        self._counts = list(counts)
        self._left = len(counts)
        self.frames: list[list[Any]] = []
        self.outcomes: dict[int, Outcome] = {}
        self.done = threading.Event()
        self.pinned = [engine.device.pin(count * self._frame_bytes) for count in counts]

    def take(self, now: float) -> Batch | None:
        number = len(self.frames)
        if number == len(self._counts):
            return None
        count, memory = self._counts[number], self.pinned[number]
        frames = toy_frames(count, start=number % 150)
        memory.array[:] = np.concatenate([frame.reshape(-1) for frame in frames])
        self.frames.append(frames)
        slots = [SlotFrame(memory, index * self._frame_bytes) for index in range(count)]
        return Batch(slots, lambda outcome: self._told(number, outcome))

    def _told(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        if len(self.outcomes) == self._left:
            self.done.set()

    def due_at(self) -> float | None:
        return 0.0 if len(self.frames) < len(self._counts) else None


@pytest.mark.parametrize("graphs", [True, False])
def test_three_lanes_at_once_give_each_frame_its_own_answer(
    tmp_path: Path, devices: Devices, backend: str, graphs: bool
) -> None:
    with opened(tmp_path, toy_bundle(tmp_path), backend, devices) as engine:
        assert engine.on_device is not None
        executor = devices.executor(0)
        with engine.on_device.device.attached():
            source = Source(engine.on_device, [1 + (7 * number) % MOST for number in range(200)])
        member = executor.add(engine.on_device, source, LaneSettings(lanes=3, graphs=graphs))
        assert source.done.wait(60.0), f"{len(source.outcomes)} batches of 200 were done in a minute"
        executor.remove(member)
        for number, frames in enumerate(source.frames):
            outcome = source.outcomes[number]
            assert outcome.error == ""
            np.testing.assert_array_equal(outcome.rows, [toy_answer(frame) for frame in frames])
        with engine.on_device.device.attached():
            for memory in source.pinned:
                memory.close()


@pytest.mark.parametrize("module", TENSORRT)
def test_a_lane_takes_the_memory_that_it_says_and_gives_it_back(tmp_path: Path, devices: Devices, module: str) -> None:
    with opened(tmp_path, boxed("blobs"), module, devices) as engine:
        assert engine.on_device is not None
        device = devices.device(0)
        engine.open_lane().close()  # what is loaded with the first context, and stays
        with device.attached():
            before = device.free_bytes()
        lanes = [engine.open_lane() for _ in range(2)]
        with device.attached():
            taken = before - device.free_bytes()
        for lane in lanes:
            lane.close()
        with device.attached():
            left = before - device.free_bytes()
        # The driver gives memory in pieces of 2 MiB, and each context keeps some; a quarter GiB for both is no leak.
        assert taken <= 2 * engine.on_device.lane_bytes + (256 << 20)
        assert left <= 32 << 20


@pytest.mark.parametrize("module", TENSORRT)
def test_one_profile_serves_several_contexts_at_once(tmp_path: Path, devices: Devices, module: str) -> None:
    """Versions from 10 on allow it, says their documentation; this is where it is seen."""
    bundle = plan_bundle(tmp_path, toy_bundle(tmp_path), module, profiles=(Profile(1, 8, 8),))
    with open_engine(bundle, RunnerSettings(runtime_cache=tmp_path / "kernels"), devices=devices) as engine:
        lanes = [engine.open_lane() for _ in range(3)]
        frames = toy_frames(5)
        for lane in (*lanes, *lanes):
            np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
        for lane in lanes:
            lane.close()


def test_kernels_that_rtx_compiled_are_kept_and_found_again(tmp_path: Path, devices: Devices) -> None:
    bundle = plan_bundle(tmp_path, boxed("blobs"), RTX)
    settings = RunnerSettings(runtime_cache=tmp_path / "kernels")
    contents = []
    for _ in range(2):
        with open_engine(bundle, settings, devices=devices) as engine:
            lane = engine.open_lane()
            lane.run(scene.frames()[:1])
            lane.close()
        (kept,) = (tmp_path / "kernels").iterdir()
        contents.append(kept.stat().st_mtime_ns)
    assert contents[0] == contents[1], "the second time something was compiled again"


def test_a_version_compatible_plan_runs(tmp_path: Path, devices: Devices) -> None:
    bundle = plan_bundle(tmp_path, toy_bundle(tmp_path), FULL, version_compatible=True)
    with open_engine(bundle, RunnerSettings(), devices=devices) as engine:
        lane, frames = engine.open_lane(), toy_frames(2)
        np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
        lane.close()


@pytest.mark.parametrize("module", TENSORRT)
def test_a_plan_without_its_weights_is_refused(tmp_path: Path, devices: Devices, module: str) -> None:
    bundle = plan_bundle(tmp_path, boxed("blobs"), module, strip=True)
    with pytest.raises(LoadError, match="its weights were left out"):
        open_engine(bundle, RunnerSettings(), devices=devices)


@pytest.mark.parametrize("module", TENSORRT)
def test_bytes_that_are_no_plan_are_refused_in_tensorrts_words(tmp_path: Path, devices: Devices, module: str) -> None:
    good = plan_bundle(tmp_path, toy_bundle(tmp_path), module)
    file = good.manifest.files[0]
    bad = write_bundle(tmp_path / "bad", good.manifest, {file.path: b"no plan at all" * 100})
    with pytest.raises(LoadError, match=r"loading it with tensorrt.*: \S"):
        open_engine(bad, RunnerSettings(), devices=devices)
