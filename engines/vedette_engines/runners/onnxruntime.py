"""Run engines with ONNX Runtime; the only place where it is called and its errors are translated.

One session serves all lanes. A session's `run` may be called from many threads at once; with one intra-op thread, as
is the default, each run stays in the thread that calls it, so N lanes use N cores and never wait for each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import onnxruntime as ort

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import LoadError, MissingRuntimeError, RunError
from vedette_engines.gpu.onnxruntime_engine import USUAL_MAX_BATCH, OnnxRuntimeDeviceEngine
from vedette_engines.gpu.onnxruntime_session import open_session
from vedette_engines.manifest import Backend
from vedette_engines.runners.base import BatchMode
from vedette_engines.runners.gather import GatherBuffer
from vedette_engines.runners.limits import choose_max_batch
from vedette_engines.runners.on_device import OnDeviceEngine
from vedette_engines.runners.providers import (
    CPU,
    ON_DEVICE,
    choose_providers,
    full_name,
    profile_options,
    provider_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import Device
    from vedette_engines.manifest import EngineFile
    from vedette_engines.runners.base import RunnerSettings
    from vedette_engines.runners.choosing import Choice
    from vedette_engines.runners.on_device import DeviceSource

# How a provider's option says yes.
_YES = ("1", "true", "True")


def open_onnxruntime(
    bundle: Bundle, settings: RunnerSettings, choice: Choice, devices: DeviceSource | None
) -> OnnxRuntimeEngine | OnnxRuntimeOnDevice:
    """Load an engine with the providers that the settings want: on a GPU where the first works on one, else here.

    Where no CUDA library is installed for us, a session that copies by itself does for the GPU.

    Raises:
        LoadError: The runtime refuses the file, or a provider that was asked for is not really used.
        CudaError: The device is lost.
    """
    wanted, may_fall_back = choose_providers(settings, ort.get_available_providers())
    first, passed_over = wanted, [*choice.passed_over, *_missing(settings, wanted)]
    while wanted and wanted[0] in ON_DEVICE:
        try:
            return OnnxRuntimeOnDevice(
                bundle, settings, replace(choice, passed_over=tuple(passed_over)), devices, wanted
            )
        except MissingRuntimeError:
            break
        except LoadError as error:
            if not may_fall_back:
                raise
            # Nothing said means what works: then the next is no fall-back.
            passed_over += [str(error)] if settings.providers else []
            wanted = wanted[1:]
    here = settings if wanted == first else _only(settings, wanted or (CPU,))
    return OnnxRuntimeEngine(bundle, here, replace(choice, passed_over=tuple(passed_over)))


def _missing(settings: RunnerSettings, wanted: Sequence[str]) -> list[str]:
    """Tell why providers that were asked for are not even tried."""
    names = dict.fromkeys(map(full_name, settings.providers))
    return [f"provider {name} is not in this build of ONNX Runtime" for name in names if name not in wanted]


def _only(settings: RunnerSettings, wanted: Sequence[str]) -> RunnerSettings:
    """Leave out what is said to providers that are passed over."""
    options = {name: of for name, of in settings.provider_options.items() if full_name(name) in wanted}
    return replace(settings, providers=tuple(wanted), provider_options=options)


class OnnxRuntimeOnDevice(OnDeviceEngine):
    """An ONNX file on its GPU.

    Args:
        bundle: The engine.
        settings: How to run it.
        choice: The file that was chosen.
        devices: Has the GPUs open; None: one is opened here.
        wanted: Providers by their full names, in order; the first works on a GPU.

    Raises:
        LoadError: The runtime refuses the file, or does not run it with these providers.
        MissingRuntimeError: No CUDA library is installed.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: RunnerSettings,
        choice: Choice,
        devices: DeviceSource | None,
        wanted: Sequence[str],
    ) -> None:
        file, first, manifest = choice.file, wanted[0], bundle.manifest
        most = choose_max_batch(bundle, file, settings.max_batch)
        shapes = profile_options(first, INPUT_NAME, manifest.slot_shape, most or USUAL_MAX_BATCH)

        def load(device: Device) -> OnnxRuntimeDeviceEngine:
            return OnnxRuntimeDeviceEngine(
                device,
                lambda stream: open_session(
                    bundle.path_of(file), settings, wanted, stream=stream, more=shapes if file.batch is None else {}
                ),
                f"engine {bundle.name} {bundle.version}: {file.path}",
                manifest,
                file,
                most,
                session_per_lane=settings.session_per_lane,
                graphs=provider_options(first, settings).get("enable_cuda_graph") in _YES,
            )

        super().__init__(bundle, settings, choice, devices, load)


class OnnxRuntimeEngine:
    """A session, and the lanes that share it.

    Args:
        bundle: The engine.
        settings: How to run it.
        choice: The file that was chosen; None: the settings' precision, else the most exact.

    Raises:
        BundleError: The bundle has no file for ONNX Runtime, or not of the wanted precision.
        LoadError: The runtime refuses the file, or a provider that was asked for is not really used.
    """

    def __init__(self, bundle: Bundle, settings: RunnerSettings, choice: Choice | None = None) -> None:
        self._bundle = bundle
        self._settings = settings
        self._file = choice.file if choice else bundle.file_for(Backend.ONNXRUNTIME, settings.precision)
        self._fallback = "; ".join(choice.passed_over) if choice else ""
        self._max_batch = choose_max_batch(bundle, self._file, settings.max_batch)
        self._session: Any
        self._session, passed_over = _open_session(bundle, self._file, settings)
        self._fallback = "; ".join(reason for reason in (self._fallback, passed_over) if reason)
        self._backend = f"onnxruntime:{self._session.get_providers()[0]}"

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
        """The provider that really runs it."""
        return self._backend

    @property
    def max_batch(self) -> int | None:
        """Most frames per run; None: no limit."""
        return self._max_batch

    @property
    def on_device(self) -> None:
        """It has only lanes."""
        return None

    def open_lane(self) -> OnnxRuntimeLane:
        """Make one more executor on the same session."""
        if self._session is None:
            raise LoadError(f"engine {self._bundle.name} {self._bundle.version} is closed")
        manifest = self._bundle.manifest
        gather = GatherBuffer(
            manifest.slot_shape,
            max_batch=self._max_batch,
            fixed_batch=self._file.batch,
            mode=self._settings.batch_mode or BatchMode.EXACT,
        )
        return OnnxRuntimeLane(self._session, manifest.output_name, gather)

    def close(self) -> None:
        """Let go of the session; it is freed when the last lane is closed. May be called twice."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OnnxRuntimeLane:
    """One caller of a shared session. One thread at a time."""

    def __init__(self, session: Any, output: str, gather: GatherBuffer) -> None:
        self._session = session
        self._outputs = [output]
        self._gather = gather

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run a batch; see `Lane.run`."""
        if self._session is None:
            raise RunError("the lane is closed")
        batch = self._gather.gather(frames)
        try:
            result: NDArray[np.float32] = self._session.run(self._outputs, {INPUT_NAME: batch})[0]
        except Exception as error:  # what ONNX Runtime raises has no common root but this
            raise RunError(f"ONNX Runtime failed on a batch of {len(frames)}: {error}") from error
        return result[: len(frames)]

    def close(self) -> None:
        """Let go of the buffer and the session; may be called twice."""
        self._session = None
        self._gather.release()


def _open_session(bundle: Bundle, file: EngineFile, settings: RunnerSettings) -> tuple[Any, str]:
    """Open a session; tell why it is on the CPU where that is not what came first."""
    wanted, may_fall_back = choose_providers(settings, ort.get_available_providers())
    try:
        session = open_session(bundle.path_of(file), settings, wanted, strict=not may_fall_back)
        used = session.get_providers()[0]
        return session, "" if used == wanted[0] else f"ONNX Runtime does not use {wanted[0]} here"
    except LoadError as error:
        if may_fall_back and wanted != (CPU,):
            session, _ = _open_session(bundle, file, replace(settings, providers=(CPU,), provider_options={}))
            return session, str(error)
        raise LoadError(f"engine {bundle.name} {bundle.version}: {error}") from error
