"""Plans of the toy engine for the fake TensorRT runtime, and a lane made by hand on a simulated device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from support_bundles import HEIGHT, ROWS, WIDTH, toy_answer, toy_frames, toy_manifest, toy_model
from support_faketensorrt_runtime import Element, FakePlan, FakeRuntime, Mode, Tensor
from support_plans import H100, machine, plan_of
from vedette_engines.bundle import write_bundle
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.manifest import Backend, EngineFile
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.tensorrt import TensorRtEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import DeviceEngine

CONTENT = b"a plan of the toy"
VERSION = "11.1.0.106"
PLAN_PATH = "toy.plan"


def answers(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give what the toy says to a batch."""
    return np.stack([toy_answer(frame) for frame in frames])


TOY = FakePlan(
    tensors=(
        Tensor("frames", Mode.INPUT, Element.UINT8, (-1, HEIGHT, WIDTH, 3)),
        Tensor("candidates", Mode.OUTPUT, Element.FLOAT, (-1, ROWS, 6)),
    ),
    function=answers,
)


class OneDevice:
    """Has one device open, as `Devices` has."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def device(self, index: int) -> Device:
        """Give it."""
        assert index == 0
        return self._device


def toy_plan(plan: FakePlan = TOY, **info: Any) -> EngineFile:
    """Describe a plan as a bundle's file."""
    values = {"version": VERSION, "profiles": plan.profiles} | info
    most = max(profile[2] for profile in plan.profiles)
    return EngineFile(PLAN_PATH, Backend.TENSORRT, max_batch=most, plan=plan_of(**values))


def plan_bundle(root: Path, file: EngineFile | None = None) -> Bundle:
    """Publish the toy with a plan, and with the ONNX file behind it."""
    file = file or toy_plan()
    onnx = toy_model().SerializeToString()
    return write_bundle(
        root, toy_manifest(files=(file, EngineFile("model.onnx"))), {PLAN_PATH: CONTENT, "model.onnx": onnx}
    )


def rtx_file(plan: FakePlan = TOY) -> EngineFile:
    """Describe a plan of TensorRT for RTX."""
    return toy_plan(plan, module="tensorrt_rtx", version="1.7.1.116", targets=("sm_90",), gpu="")


def opened(
    root: Path,
    plan: FakePlan = TOY,
    *,
    file: EngineFile | None = None,
    device: SimulatedDevice | None = None,
    fails: dict[str, str] | None = None,
    change: bytes = b"",
    known: bool = True,
    **settings: Any,
) -> tuple[TensorRtEngine, FakeRuntime]:
    """Open the toy's plan with the fake runtime.

    Args:
        root: Where to publish it.
        plan: What the plan is.
        file: What the bundle says of it.
        device: Where it runs.
        fails: Calls that fail, and what they say.
        change: Written into the plan's file after it was checked.
        known: The runtime can read it.
        settings: Of `RunnerSettings`.
    """
    file = file or toy_plan(plan)
    device = device or SimulatedDevice()
    assert file.plan is not None
    rtx = file.plan.module == "tensorrt_rtx"
    fake = FakeRuntime(file.plan.version, device, {CONTENT: plan} if known else {}, rtx=rtx, fails=fails or {})
    bundle = plan_bundle(root, file)
    if change:
        (bundle.path / PLAN_PATH).write_bytes(change)
    here = machine(H100, **{file.plan.module: file.plan.version})
    wish = replace(RunnerSettings(runtime_cache=root / "kernels"), **settings)
    engine = TensorRtEngine(bundle, wish, environment=here, devices=OneDevice(device), tensorrt=fake.found)
    return engine, fake


class HandLane:
    """A lane made by hand: stream, buffers, and a program for each size."""

    def __init__(self, engine: DeviceEngine, sizes: Sequence[int]) -> None:
        device = self.device = engine.device
        most = max(sizes)
        self.frame_bytes = int(np.prod(engine.input_shape))
        self.row_bytes = int(np.prod(engine.output_shape)) * 4
        self.output_shape = engine.output_shape
        self.stream = device.stream()
        self.given, self.taken = device.pin(most * self.frame_bytes), device.pin(most * self.row_bytes)
        self.batch, self.rows = device.allocate(most * self.frame_bytes), device.allocate(most * self.row_bytes)
        self.programs = dict(zip(sizes, engine.open_programs(self.stream, self.batch, self.rows, sizes), strict=True))

    def enqueue(self, size: int, start: int = 0) -> list[NDArray[np.uint8]]:
        """Enqueue a batch, and give its frames."""
        frames = toy_frames(size, start)
        self.given.array[: size * self.frame_bytes] = np.concatenate([frame.reshape(-1) for frame in frames])
        self.stream.upload(self.batch, self.given, size * self.frame_bytes)
        self.programs[size].enqueue(self.stream)
        self.stream.download(self.taken, self.rows, size * self.row_bytes)
        return frames

    def result(self, size: int) -> NDArray[np.float32]:
        """Wait for the batch, and give its rows."""
        self.stream.synchronize()
        return self.taken.array[: size * self.row_bytes].view(np.float32).reshape(size, *self.output_shape)

    def close(self) -> None:
        """Close everything; the device finds what is left open."""
        self.stream.synchronize()
        for thing in (*self.programs.values(), self.batch, self.rows, self.given, self.taken, self.stream):
            thing.close()
