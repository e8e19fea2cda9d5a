"""What the doctor tries: the engine `blobs` on a backend, copies and the letterbox kernel on a CUDA library.

Called in a process of its own, by `questions.py`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vedette_engines.doctor import scene
from vedette_engines.manifest import Backend
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.base import RunnerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import Device

ENGINE = "blobs"
_BYTES = 1 << 20
_PICTURE, _INPUT = (1280, 720), (320, 192)


def boxed() -> Bundle:
    """Find the engine."""
    return EngineRepository([boxed_root()]).resolve(ENGINE)


def run_blobs(backend: str, device: int = 0, *, gpu: bool = False) -> dict[str, Any]:
    """Run the engine on one backend: all frames at once, then the first alone.

    Args:
        backend: `onnxruntime-cpu`, `onnxruntime-cuda`, `openvino`, `tensorrt`, `tensorrt-rtx`.
        device: Number of the GPU.
        gpu: There is one; without it a plan is built and not run.

    Returns:
        `rows`, `[n + 1, K, 6]` as lists, and `backend`, what really ran; of a plan that was not run `rows` is None.
        `note`: what was done besides.
    """
    if backend.startswith("tensorrt"):
        return _run_plan(backend.replace("-", "_"), device, gpu=gpu)
    if backend == "openvino":
        return _run(boxed(), RunnerSettings(backends=(Backend.OPENVINO,)))
    provider = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}[backend]
    settings = RunnerSettings(providers=(provider,), backends=(Backend.ONNXRUNTIME,), device_id=device)
    return _run(boxed(), settings)


def _run(bundle: Bundle, settings: RunnerSettings) -> dict[str, Any]:
    # It brings a runtime in.
    from vedette_engines.runners.opening import open_engine  # noqa: PLC0415

    pictures = scene.frames()
    with open_engine(bundle, settings) as engine:
        lane = engine.open_lane()
        try:
            together = np.array(lane.run(pictures))
            rows = np.concatenate([together, np.array(lane.run(pictures[:1]))])
        finally:
            lane.close()
        return {"rows": rows.tolist(), "backend": engine.backend, "note": ""}


def _run_plan(module: str, device: int, *, gpu: bool) -> dict[str, Any]:
    """Build a plan, publish the engine with it in a folder that does not stay, and run that."""
    from vedette_engines.plans.adding import Added, publish_with, source_file  # noqa: PLC0415  (needs onnx)
    from vedette_engines.plans.building import build_plan  # noqa: PLC0415
    from vedette_engines.plans.module import find_tensorrt  # noqa: PLC0415
    from vedette_engines.plans.request import PlanRequest, Profile  # noqa: PLC0415

    bundle = boxed()
    source = source_file(bundle, None)
    request = PlanRequest(bundle.path_of(source), (Profile(1, scene.FRAMES, scene.FRAMES),))
    plan = build_plan(request, find_tensorrt(module), lambda _: None)
    note = f"plan of {len(plan.content)} bytes for {'+'.join(plan.info.targets)} built in {plan.seconds:.1f} s"
    if not gpu:
        return {"rows": None, "backend": "", "note": note}
    with tempfile.TemporaryDirectory(prefix="vedette-doctor-") as name:
        published = publish_with(bundle, [Added(source, plan, reused=False)], Path(name), "2")
        settings = RunnerSettings(backends=(Backend.TENSORRT,), device_id=device)
        return _run(published, settings) | {"note": note}


def start_provider(name: str, device: int, *, preload: bool) -> dict[str, Any]:
    """Start one of ONNX Runtime's providers; what it was built with proves nothing.

    Returns:
        `used`: the provider that runs the engine; `said`: what was printed meanwhile, which is where the reason is.
    """
    import onnxruntime as ort  # noqa: PLC0415  (an extra)

    bundle = boxed()
    if preload:
        ort.preload_dlls()
    path, said = str(bundle.path_of(bundle.manifest.files[0])), list[str]()
    options = [{"device_id": str(device)}] if name != "OpenVINOExecutionProvider" else [{}]
    with _printed(said):
        try:
            session = ort.InferenceSession(path, providers=[name], provider_options=options, enable_fallback=0)
            used = session.get_providers()[0]
        except Exception as error:  # noqa: BLE001  (what ONNX Runtime raises has no common root but this)
            return {"used": "", "said": " ".join(str(error).split())}
    return {"used": used, "said": " ".join(" ".join(said).split())}


@contextlib.contextmanager
def _printed(said: list[str]) -> Iterator[None]:
    """Take what is written to standard error meanwhile, also by C++."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def copy_and_letterbox(library: str, device: int) -> dict[str, Any]:
    """Copy bytes to a GPU and back, and letterbox a picture there; the bytes must be those of the host.

    Returns:
        `wrong`: bytes that differ, of the copy and of the picture; `bytes`: how many were compared; `features`.
    """
    from vedette_engines.cuda.opening import open_device  # noqa: PLC0415  (an extra)

    opened = open_device(device, library)  # type: ignore[arg-type]
    with opened.attached():
        wrong = {"copy": _copied(opened), "letterbox": _letterbox_apart(opened)}
        features = opened.facts.features
        facts = {"graphs": features.graphs, "priorities": features.priorities, "registration": features.registration}
        answer = {"wrong": wrong, "bytes": _BYTES + 3 * _INPUT[0] * _INPUT[1], "features": facts}
    opened.close()
    return answer | {"backend": opened.facts.library}


def _copied(device: Device) -> int:
    given, taken, memory = device.pin(_BYTES), device.pin(_BYTES), device.allocate(_BYTES)
    stream, event = device.stream(), device.event(timing=True)
    given.array[:] = np.random.default_rng(1).integers(0, 256, _BYTES, np.uint8)
    taken.array[:] = 0
    stream.upload(memory, given, _BYTES)
    stream.download(taken, memory, _BYTES)
    stream.record(event)
    event.synchronize()
    wrong = int((given.array != taken.array).sum())
    for thing in (event, stream, memory, given, taken):
        thing.close()
    return wrong


class _Place:
    """The picture, upright, over the whole width of the input."""

    rotation_degrees = 0
    fit_width, fit_height = _INPUT[0], _INPUT[0] * _PICTURE[1] // _PICTURE[0]
    left, top = 0, 0


def _letterboxed(device: Device, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Letterbox a picture on a device; gives `uint8 [height, width, 3]`, flat."""
    from vedette_engines.cuda.letterboxing import DeviceLetterbox, Surface, SurfaceKind  # noqa: PLC0415

    width, height = _PICTURE
    box = DeviceLetterbox(device, *_INPUT)
    given, taken = device.pin(picture.size), device.pin(box.slot_bytes)
    source, target = device.allocate(picture.size), device.allocate(box.slot_bytes)
    stream = device.stream()
    given.array[:] = picture
    stream.upload(source, given, picture.size)
    box.launch(stream, Surface.packed(SurfaceKind.BGR, source, width, height), target, 0, _Place())
    stream.download(taken, target, box.slot_bytes)
    stream.synchronize()
    result = taken.array.copy()
    for thing in (stream, source, target, given, taken, box):
        thing.close()
    return result


def _letterbox_apart(device: Device) -> int:
    """Letterbox a picture there and by the kernel's twin in NumPy, and count the bytes that differ."""
    from vedette_engines.cuda.letterbox_twin import simulated_letterbox  # noqa: PLC0415
    from vedette_engines.cuda.simulated import SimulatedDevice  # noqa: PLC0415

    picture = np.random.default_rng(2).integers(0, 256, _PICTURE[0] * _PICTURE[1] * 3, np.uint8)
    twin = cast("Device", SimulatedDevice(kernels={"letterbox": simulated_letterbox()}))
    return int((_letterboxed(device, picture) != _letterboxed(twin, picture)).sum())
