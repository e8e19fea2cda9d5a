"""One way to run an engine: a runner and a file, as plain data, so that another process can open the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from vedette_engines.bundle import Bundle
from vedette_engines.errors import MissingRuntimeError
from vedette_engines.manifest import EngineFile, Precision
from vedette_engines.runners.base import RunnerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.manifest import Manifest
    from vedette_engines.runners.base import LoadedEngine
    from vedette_engines.sources.spec import SourceSpec


class Runtime(StrEnum):
    """What runs a model."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    EAGER = "torch"
    TORCHSCRIPT = "torchscript"


@dataclass(frozen=True, slots=True)
class Way:
    """One candidate of a bench.

    Attributes:
        runner: What it is called: `ONNX Runtime CPU`.
        runtime: What runs it.
        precision: Of the file.
        file: The ONNX file; of a source its file or its weights, None where there is neither.
        batch: The file takes exactly so many frames; None: any number.
        max_batch: The most it takes; None: no limit.
        providers: Of ONNX Runtime, best first.
        options: Of providers or of OpenVINO, by name.
        source: The model in its framework, for PyTorch.
        preprocessing: What goes before the source, for PyTorch.
        note: What a reader should know.
    """

    runner: str
    runtime: Runtime
    precision: Precision
    file: Path | None
    batch: int | None = None
    max_batch: int | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: SourceSpec | None = None
    preprocessing: Preprocessing | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Runner and precision."""
        return self.runner, str(self.precision)

    @property
    def size_bytes(self) -> int:
        """Length of the file; 0 where there is none."""
        return self.file.stat().st_size if self.file is not None and self.file.is_file() else 0

    def takes(self, batch: int) -> bool:
        """Tell whether the file takes so many frames at once."""
        return batch <= (self.batch or self.max_batch or batch)


class OpenWay(Protocol):
    """A candidate that is loaded. One thread at a time."""

    @property
    def backend(self) -> str:
        """What really runs it."""
        ...

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32] | None:
        """Run a batch of frames, `uint8 [H, W, 3]`, BGR; the engine's output, None where there is no engine.

        Raises:
            EnginesError: It fails on this batch.
        """
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...


def open_way(way: Way, manifest: Manifest, threads: int) -> OpenWay:
    """Load a candidate as a server would, so that what is measured is what is served.

    Args:
        way: The candidate.
        manifest: Of the engine.
        threads: Threads of one run.

    Raises:
        LoadError: It cannot be loaded here.
        MissingRuntimeError: Its runtime is not installed.
        ImportInputError: A source cannot be opened as it was given.
    """
    if way.runtime in {Runtime.EAGER, Runtime.TORCHSCRIPT}:
        from vedette_engines.benching.torch_way import OpenTorch  # noqa: PLC0415  (an extra)

        return OpenTorch(way, threads)
    return _OpenEngine(_load(way, manifest, threads))


def _load(way: Way, manifest: Manifest, threads: int) -> LoadedEngine:
    if way.file is None:
        raise ValueError(f"{way.runner}: an engine is a file")
    file = EngineFile(way.file.name, precision=way.precision, batch=way.batch, max_batch=way.max_batch)
    bundle = Bundle(way.file.parent, replace(manifest, files=(file,), bench=None))
    settings = RunnerSettings(providers=way.providers, intra_op_threads=threads, provider_options=way.options)
    try:
        if way.runtime is Runtime.OPENVINO:
            from vedette_engines.runners.openvino import OpenVinoEngine  # noqa: PLC0415  (an extra)

            return OpenVinoEngine(bundle, settings)
        from vedette_engines.runners.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415  (an extra)

        return OnnxRuntimeEngine(bundle, settings)
    except ImportError as error:
        extra = "openvino" if way.runtime is Runtime.OPENVINO else "cpu"
        raise MissingRuntimeError(f"{way.runner} is not installed ({error}): pip install 'vedette[{extra}]'") from error


class _OpenEngine:
    """A loaded engine and one lane of it."""

    def __init__(self, engine: LoadedEngine) -> None:
        self._engine = engine
        self._lane = engine.open_lane()
        self.backend = engine.backend

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run a batch."""
        return self._lane.run(frames)

    def close(self) -> None:
        """Let go of lane and engine."""
        self._lane.close()
        self._engine.close()
