"""Run engines with ONNX Runtime; the only place where it is called and its errors are translated.

One session serves all lanes. A session's `run` may be called from many threads at once; with one intra-op thread, as
is the default, each run stays in the thread that calls it, so N lanes use N cores and never wait for each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import onnxruntime as ort

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import LoadError, RunError
from vedette_engines.manifest import Backend
from vedette_engines.runners.gather import GatherBuffer
from vedette_engines.runners.limits import choose_max_batch
from vedette_engines.runners.providers import CPU, CUDA, check_used, choose_providers, provider_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile
    from vedette_engines.runners.base import RunnerSettings
    from vedette_engines.runners.choosing import Choice

# Fatal only: ONNX Runtime writes to stderr what it raises as well.
_LOG_SEVERITY = 4


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
        self._session: Any = _open_session(bundle, self._file, settings)
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
            mode=self._settings.batch_mode,
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


def _open_session(bundle: Bundle, file: EngineFile, settings: RunnerSettings) -> Any:
    what = f"engine {bundle.name} {bundle.version}"
    wanted, may_fall_back = choose_providers(settings, ort.get_available_providers())
    if CUDA in wanted:
        ort.preload_dlls()  # CUDA's libraries come as wheels, where the loader does not look by itself
    try:
        session = ort.InferenceSession(
            str(bundle.path_of(file)),
            sess_options=_session_options(settings),
            providers=[(name, provider_options(name, settings)) for name in wanted],
            # Off: on a failure it would rebuild the session on another provider, print, and go on in silence.
            enable_fallback=0,
        )
    except Exception as error:  # what ONNX Runtime raises has no common root but this
        if may_fall_back and wanted != (CPU,):
            return _open_session(bundle, file, replace(settings, providers=(CPU,), provider_options={}))
        raise LoadError(f"{what}: ONNX Runtime refuses {file.path} on {', '.join(wanted)}: {error}") from error
    if not may_fall_back:
        try:
            check_used(wanted, session.get_providers())
        except LoadError as error:
            raise LoadError(f"{what}: {error}") from None
    return session


def _session_options(settings: RunnerSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _LOG_SEVERITY
    # Idle threads that spin would take the cores from the decoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
