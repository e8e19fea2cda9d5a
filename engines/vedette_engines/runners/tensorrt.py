"""Run TensorRT plans: read one, check that it is what its bundle says and belongs here, load it on its GPU.

TensorRT itself is called in `vedette_engines.gpu.tensorrt_plan`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError
from vedette_engines.gpu.tensorrt_engine import TensorRtDeviceEngine
from vedette_engines.gpu.tensorrt_plan import TensorRtPlan
from vedette_engines.manifest import Backend
from vedette_engines.plans.module import find_tensorrt
from vedette_engines.runners.choosing import choose_file
from vedette_engines.runners.limits import choose_max_batch
from vedette_engines.runners.on_device import OnDeviceEngine

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import Device
    from vedette_engines.manifest import EngineFile
    from vedette_engines.plans.environment import Environment
    from vedette_engines.plans.module import TensorRT
    from vedette_engines.runners.base import RunnerSettings
    from vedette_engines.runners.choosing import Choice
    from vedette_engines.runners.on_device import DeviceSource

_DEFAULT_CACHE = "~/.cache/vedette/kernels"


class TensorRtEngine(OnDeviceEngine):
    """A plan on its GPU.

    Args:
        bundle: The engine.
        settings: How to run it.
        choice: The plan that was chosen; it fits this machine. None: one that does is chosen.
        environment: What is here; None: it is looked at. Needed only without `choice`.
        devices: Has the GPUs open; None: one is opened here.
        tensorrt: What runs the plan; None: the installed module that built it.

    Raises:
        BundleError: The bundle has no plan.
        LoadError: None fits this machine, TensorRT refuses it, or it is not what its manifest says.
        MissingRuntimeError: TensorRT or a CUDA library is not installed.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: RunnerSettings,
        choice: Choice | None = None,
        *,
        environment: Environment | None = None,
        devices: DeviceSource | None = None,
        tensorrt: TensorRT | None = None,
    ) -> None:
        if choice is None:
            only_plans = replace(settings, backends=(Backend.TENSORRT,), fallback=False)
            choice = choose_file(bundle, only_plans, environment)
        file = choice.file

        def load(device: Device) -> TensorRtDeviceEngine:
            return _load(bundle, settings, file, device, tensorrt)

        super().__init__(bundle, settings, choice, devices, load)


def _load(
    bundle: Bundle, settings: RunnerSettings, file: EngineFile, device: Device, tensorrt: TensorRT | None
) -> TensorRtDeviceEngine:
    what = f"engine {bundle.name} {bundle.version}: plan {file.path}"
    if file.plan is None:
        raise LoadError(f"{what} has no [plan] in the manifest, which would tell where it runs")
    wanted = choose_max_batch(bundle, file, settings.max_batch)
    content = _read(bundle, file, what)
    tensorrt = tensorrt or find_tensorrt(file.plan.module)
    plan = TensorRtPlan(
        tensorrt,
        content,
        device,
        what,
        host_code=file.plan.version_compatible,
        cache=_cache_file(settings, file, device),
    )
    try:
        backend = f"{tensorrt.name}:{tensorrt.version}"
        return TensorRtDeviceEngine(device, plan, what, backend, bundle.manifest, file, wanted)
    except BaseException:
        plan.close()
        raise


def _read(bundle: Bundle, file: EngineFile, what: str) -> bytes:
    """Read a plan, which is code for the GPU: what is loaded is what was checked."""
    try:
        content = bundle.path_of(file).read_bytes()
    except OSError as error:
        raise LoadError(f"{what} cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise LoadError(f"{what} was changed since the bundle was checked: its sha256 is {digest}, not {file.sha256}")
    return content


def _cache_file(settings: RunnerSettings, file: EngineFile, device: Device) -> Path:
    folder = settings.runtime_cache or Path(_DEFAULT_CACHE).expanduser()
    major, minor = device.facts.capability
    return folder / f"{file.sha256[:32]}-sm_{major}{minor}.kernels"
