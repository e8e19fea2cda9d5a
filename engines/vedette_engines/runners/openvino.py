"""Run engines with OpenVINO; the only place where it is called to serve and its errors are translated.

It reads the bundle's ONNX file: a second runtime for the same bytes. One compiled model serves all lanes, a lane is one
infer request. OpenVINO runs as many requests at once as the model has streams; with one thread a stream, as is the
default, N lanes use N cores like ONNX Runtime's do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

import openvino as ov

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import LoadError, RunError
from vedette_engines.manifest import Backend
from vedette_engines.runners.base import BatchMode
from vedette_engines.runners.gather import GatherBuffer
from vedette_engines.runners.limits import choose_max_batch
from vedette_engines.runners.signal_stack import own_signal_stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile
    from vedette_engines.runners.base import RunnerSettings
    from vedette_engines.runners.choosing import Choice

# Under this name RunnerSettings.provider_options has OpenVINO's properties; DEVICE, which is none of them, tells where.
OPTIONS = "openvino"
_DEVICE, _HINT = "DEVICE", "PERFORMANCE_HINT"


class OpenVinoEngine:
    """A compiled model, and the lanes that share it.

    Args:
        bundle: The engine.
        settings: How to run it. `intra_op_threads` are the threads of one run; `provider_options["openvino"]` has
            properties of OpenVINO by name, such as `PERFORMANCE_HINT`, and `DEVICE` (default `CPU`). The hint `LATENCY`
            makes one stream with these threads, `THROUGHPUT` leaves threads and streams to OpenVINO.
        choice: The file that was chosen; None: the settings' precision, else the most exact.

    Raises:
        BundleError: The bundle has no ONNX file, or not of the wanted precision.
        LoadError: OpenVINO refuses the file, an option or the device.
    """

    def __init__(self, bundle: Bundle, settings: RunnerSettings, choice: Choice | None = None) -> None:
        self._bundle = bundle
        self._settings = settings
        self._file = choice.file if choice else bundle.file_for(Backend.ONNXRUNTIME, settings.precision)
        self._fallback = "; ".join(choice.passed_over) if choice else ""
        self._max_batch = choose_max_batch(bundle, self._file, settings.max_batch)
        options = dict(settings.provider_options.get(OPTIONS, {}))
        device = options.pop(_DEVICE, "CPU")
        properties = _properties(settings.intra_op_threads, device, options.get(_HINT, "")) | options
        with own_signal_stack():
            self._compiled: Any = self._compile(device, properties)
        self._backend = f"openvino:{self._compiled.get_property('EXECUTION_DEVICES')[0]}"

    def _compile(self, device: str, properties: dict[str, str]) -> Any:
        core = ov.Core()
        if device.partition(".")[0] not in {name.partition(".")[0] for name in core.available_devices}:
            raise LoadError(f"OpenVINO has no device {device!r} here; it has {', '.join(core.available_devices)}")
        bundle, file = self._bundle, self._file
        try:
            model = core.read_model(str(bundle.path_of(file)))
            if self._max_batch == 1:
                _make_lone(model)
            return core.compile_model(model, device, properties)
        except Exception as error:  # what OpenVINO raises has no common root but this
            raise LoadError(
                f"engine {bundle.name} {bundle.version}: OpenVINO refuses {file.path} on {device}: {_said(error)}"
            ) from error

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        return self._bundle

    @property
    def file(self) -> EngineFile:
        """Which of the bundle's files."""
        return self._file

    @property
    def fallback(self) -> str:
        """Why those that were to come before it are not run."""
        return self._fallback

    @property
    def backend(self) -> str:
        """The device that really runs it: `openvino:CPU`."""
        return self._backend

    @property
    def max_batch(self) -> int | None:
        """Most frames per run; None: no limit."""
        return self._max_batch

    @property
    def on_device(self) -> None:
        """It has only lanes."""
        return None

    def open_lane(self) -> OpenVinoLane:
        """Make one more executor on the same compiled model."""
        if self._compiled is None:
            raise LoadError(f"engine {self._bundle.name} {self._bundle.version} is closed")
        gather = GatherBuffer(
            self._bundle.manifest.slot_shape,
            max_batch=self._max_batch,
            fixed_batch=self._file.batch,
            mode=self._settings.batch_mode or BatchMode.EXACT,
        )
        return OpenVinoLane(self._compiled.create_infer_request(), gather)

    def close(self) -> None:
        """Let go of the model; it is freed when the last lane is closed. May be called twice."""
        self._compiled = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OpenVinoLane:
    """One infer request. One thread at a time."""

    def __init__(self, request: Any, gather: GatherBuffer) -> None:
        self._request = request
        self._gather = gather

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run a batch; see `Lane.run`."""
        if self._request is None:
            raise RunError("the lane is closed")
        batch = self._gather.gather(frames)
        try:
            # Shared: the input is read in place, and the output is the request's own memory until its next run.
            result: NDArray[np.float32] = self._request.infer(
                {INPUT_NAME: batch}, share_inputs=True, share_outputs=True
            )[0]
        except Exception as error:  # what OpenVINO raises has no common root but this
            raise RunError(f"OpenVINO failed on a batch of {len(frames)}: {_said(error)}") from error
        return result[: len(frames)]

    def close(self) -> None:
        """Let go of the request and the buffer; may be called twice."""
        self._request = None
        self._gather.release()


def _make_lone(model: Any) -> None:
    """Fix the batch at one frame: without open dimensions OpenVINO plans ahead, and runs faster."""
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)


def _properties(threads: int, device: str, hint: str) -> dict[str, str]:
    """Choose streams so that lanes run side by side, each on so many threads; exact arithmetic where there is a choice.

    Without the precision hint a CPU with bfloat16 units would run a float32 file in bfloat16. Where a performance hint
    is given, OpenVINO chooses the streams.
    """
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    if device != "CPU":
        return properties
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = threads or cores
    # Pinned threads would sit on the cores where decoders run.
    properties["ENABLE_CPU_PINNING"] = "NO"
    if not hint:
        streams = max(1, cores // threads)
        properties |= {"NUM_STREAMS": str(streams), "INFERENCE_NUM_THREADS": str(streams * threads)}
    elif hint == "LATENCY":
        properties["INFERENCE_NUM_THREADS"] = str(threads)
    return properties


def _said(error: Exception) -> str:
    """Take what OpenVINO means out of what it says: the last line that is not about its own sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from src", "Check '"))]
    return (telling or lines or [type(error).__name__])[-1][:400]
