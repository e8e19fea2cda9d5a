"""Open an engine with the runtime that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError, MissingRuntimeError
from vedette_engines.manifest import Backend
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.choosing import choices

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_engines.plans.environment import Environment
    from vedette_engines.runners.base import LoadedEngine
    from vedette_engines.runners.choosing import Choice
    from vedette_engines.runners.on_device import DeviceSource

_EXTRAS = {
    Backend.ONNXRUNTIME: "'vedette[cpu]', or 'vedette[gpu]' for CUDA",
    Backend.OPENVINO: "'vedette[openvino]'",
    Backend.TENSORRT: "'vedette[tensorrt]'",
}
_NAMES = {Backend.ONNXRUNTIME: "ONNX Runtime", Backend.OPENVINO: "OpenVINO", Backend.TENSORRT: "TensorRT"}


def open_engine(
    bundle: Bundle,
    settings: RunnerSettings | None = None,
    environment: Environment | None = None,
    devices: DeviceSource | None = None,
) -> LoadedEngine:
    """Load an engine, ready to make lanes.

    Args:
        bundle: The engine.
        settings: How to run it; None: the defaults.
        environment: The GPUs and the TensorRT that are here; None: they are looked for where the bundle has plans.
        devices: Has the GPUs of this process open (`vedette_engines.gpu.devices.Devices`), and outlives the engine;
            None: the engine opens its own, and closes it.

    Raises:
        BundleError: The bundle has no file that fits.
        LoadError: The runtime refuses it, or would not run it where it was asked to; or a plan is for another machine.
        MissingRuntimeError: No runtime is installed; the message names the extra.
        CudaError: The GPU is lost.
    """
    settings = settings or RunnerSettings()
    failed: list[LoadError] = []
    for choice in choices(bundle, settings, environment):
        passed_over = (*choice.passed_over, *(str(error) for error in failed))
        try:
            return _open(bundle, settings, replace(choice, passed_over=passed_over), devices)
        except LoadError as error:
            if not settings.fallback:
                raise
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    raise LoadError(f"none of the engine's files can be run: {'; '.join(map(str, failed))}")


def _open(bundle: Bundle, settings: RunnerSettings, choice: Choice, devices: DeviceSource | None) -> LoadedEngine:
    what = f"engine {bundle.name} {bundle.version}"
    try:
        if choice.backend is Backend.TENSORRT:
            from vedette_engines.runners.tensorrt import TensorRtEngine  # noqa: PLC0415  (an extra)

            return TensorRtEngine(bundle, settings, choice, devices=devices)
        if choice.backend is Backend.OPENVINO:
            from vedette_engines.runners.openvino import OpenVinoEngine  # noqa: PLC0415  (an extra)

            return OpenVinoEngine(bundle, settings, choice)
        from vedette_engines.runners.onnxruntime import open_onnxruntime  # noqa: PLC0415  (an extra)

        return open_onnxruntime(bundle, _without_openvino(settings), choice, devices)
    except ImportError as error:
        raise MissingRuntimeError(
            f"{what} needs {_NAMES[choice.backend]} ({error}): pip install {_EXTRAS[choice.backend]}"
        ) from error


def _without_openvino(settings: RunnerSettings) -> RunnerSettings:
    """Leave out what was said to the runtime OpenVINO, where ONNX Runtime takes its place."""
    if Backend.OPENVINO not in settings.backends:
        return settings
    kept = {name: options for name, options in settings.provider_options.items() if name != Backend.OPENVINO}
    return replace(settings, provider_options=kept)
