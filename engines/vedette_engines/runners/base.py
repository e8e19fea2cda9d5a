"""The seam to a runtime: a loaded engine, and the lanes that run it.

A lane is one independent executor. Lanes of one engine may run at the same time, each from one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.gpu.base import DeviceEngine
    from vedette_engines.manifest import Backend, EngineFile, Precision


class BatchMode(StrEnum):
    """What shapes a runtime sees.

    EXACT runs as many frames as there are. BUCKET pads to the next power of two, for runtimes to which each new
    shape is dear (they plan, tune or capture per shape).
    """

    EXACT = "exact"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How an engine is to be run.

    Attributes:
        providers: ONNX Runtime providers in order of preference, by full name or as `cpu`, `cuda`, `tensorrt`,
            `openvino`; all must really be used unless falling back is allowed. Empty: CUDA where the installed runtime
            starts it, else the CPU.
        allow_fallback: A provider that cannot be used is passed over instead of refused.
        precision: Which of the bundle's files; None: the most exact one.
        backends: The runtimes in order of preference; a runtime that the bundle has no file for is left out. Empty:
            TensorRT where it, a GPU and a plan are there, else ONNX Runtime.
        fallback: A file that cannot be run here, such as a plan for another GPU, is passed over for the bundle's next;
            without it, it is refused. The reasons are kept in `LoadedEngine.fallback`.
        intra_op_threads: Threads within one run on the CPU; 1 runs in the lane's own thread.
        max_batch: Most frames per run; None: what the bundle allows.
        batch_mode: Whether batches are padded to powers of two; None: on a GPU, where each size has programs and a
            graph of its own, and nowhere else.
        device_id: Number of the device, for providers that have several.
        memory_limit_bytes: CUDA's `gpu_mem_limit`; None: no limit.
        arena_extend_strategy: CUDA: kNextPowerOfTwo or kSameAsRequested; empty: the runtime's default.
        cudnn_conv_algo_search: CUDA: EXHAUSTIVE, HEURISTIC or DEFAULT; empty: the runtime's default.
        provider_options: Further options of each provider, by the provider's name; those of OpenVINO, the runtime, by
            `openvino`.
        runtime_cache: Folder where TensorRT for RTX keeps the kernels that it compiled for this GPU; None:
            `~/.cache/vedette/kernels`.
        session_per_lane: ONNX Runtime on CUDA: each lane has a session of its own, so that batches of several lanes
            compute at once, at the price of the weights and of a memory arena for each; otherwise they take turns in
            one session, and only copies overlap computing.
    """

    providers: tuple[str, ...] = ()
    allow_fallback: bool = False
    precision: Precision | None = None
    backends: tuple[Backend, ...] = ()
    fallback: bool = False
    intra_op_threads: int = 1
    max_batch: int | None = None
    batch_mode: BatchMode | None = None
    device_id: int = 0
    memory_limit_bytes: int | None = None
    arena_extend_strategy: str = ""
    cudnn_conv_algo_search: str = ""
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    runtime_cache: Path | None = None
    session_per_lane: bool = False


class Lane(Protocol):
    """One executor of an engine. One thread at a time calls it."""

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run a batch and return the engine's output for it.

        The frames are read before this returns, never after, and never written.

        Args:
            frames: 1 to `max_batch` slots, each `uint8 [H, W, 3]`, BGR. They are gathered by one copy each; a single
                C-contiguous frame is not copied at all.

        Returns:
            `float32 [n, ...]`, row i for frame i. The caller may use it until the lane's next `run` or `close`.

        Raises:
            RunError: The runtime failed on this batch, or the frames do not fit. The lane can be used again.
        """
        ...

    def close(self) -> None:
        """Let go of the lane's buffers; may be called twice."""


class LoadedEngine(Protocol):
    """An engine in memory."""

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        ...

    @property
    def file(self) -> EngineFile:
        """Which of the bundle's files."""
        ...

    @property
    def fallback(self) -> str:
        """Why it is not a file that was to come before it; empty: nothing was passed over."""
        ...

    @property
    def backend(self) -> str:
        """What really runs it, for instance `onnxruntime:CPUExecutionProvider`."""
        ...

    @property
    def max_batch(self) -> int | None:
        """Most frames per run; None: no limit."""

    @property
    def on_device(self) -> DeviceEngine | None:
        """The engine on its GPU, for an executor that pipelines; None: it has only lanes. Closed by `close`."""

    def open_lane(self) -> Lane:
        """Make one more executor. Any thread may call it.

        Raises:
            LoadError: The engine is closed, or the device has no room for another lane.
        """
        ...

    def close(self) -> None:
        """Let go of the engine after its lanes were closed; may be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
