"""The seam to the CUDA driver: memory, streams, events, kernels, graphs.

Everything asynchronous is ordered by streams and events alone: an operation begins after those before it in its
stream, and after the events that the stream was told to wait for. Buffers belong to whoever made them and live until
their `close`; the caller keeps a buffer alive, and leaves pinned memory alone, until an event recorded behind the
last operation on it is done.

Threads: a device may be used by many threads, each inside `attached()`; a stream, a buffer and a graph by one at a
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vedette_engines.errors import EnginesError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray


class CudaError(EnginesError):
    """A call of the driver failed.

    Args:
        name: CUDA's name of the error, like `CUDA_ERROR_ILLEGAL_ADDRESS`.
        doing: What was being done, in words.
        sticky: The context is lost, and with it everything on the device: the process must end.
    """

    def __init__(self, name: str, doing: str, *, sticky: bool) -> None:
        super().__init__(f"{name} while {doing}" + ("; the device's context is lost" if sticky else ""))
        self.name = name
        self.doing = doing
        self.sticky = sticky


# After these nothing on the context works any more (CUDA driver API, CUresult: "the context cannot be used").
STICKY_ERRORS = frozenset(
    {
        "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_CONTAINED",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_EXTERNAL_DEVICE",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_MPS_CLIENT_TERMINATED",
        "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        "CUDA_ERROR_UNKNOWN",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
    }
)


@dataclass(frozen=True, slots=True)
class Features:
    """What an implementation can do beyond copies, kernels and events.

    Attributes:
        graphs: Capture and launch graphs.
        priorities: Give streams a priority.
        registration: Register memory of others (shared memory) as pinned.
    """

    graphs: bool
    priorities: bool
    registration: bool = True


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device.

    Attributes:
        index: Its number.
        name: Its name.
        capability: Compute capability, major and minor.
        memory_bytes: All its memory.
        library: What implements the seam: `cuda-bindings`, `pycuda`, `simulated`.
        features: What that can do.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    library: str
    features: Features


class DeviceBuffer(Protocol):
    """Memory of the device."""

    @property
    def address(self) -> int:
        """Device pointer."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its length."""
        ...

    def close(self) -> None:
        """Give the memory back; may be called twice. Nothing that uses it may be under way."""


@dataclass(frozen=True, slots=True)
class ForeignMemory:
    """Device memory that another library owns, like a decoder's surface; see `DeviceBuffer`.

    Attributes:
        address: Device pointer.
        size_bytes: Its length.
    """

    address: int
    size_bytes: int

    def close(self) -> None:
        """Do nothing: it is not ours."""


class PinnedBuffer(Protocol):
    """Page-locked memory of the host, from and to which copies are asynchronous."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """`uint8 [size_bytes]`, C-contiguous; owned by the buffer."""
        ...

    def close(self) -> None:
        """Give the memory back, or let go of memory that was registered; may be called twice."""


class Event(Protocol):
    """A mark in a stream."""

    def done(self) -> bool:
        """Tell whether all before the mark is done. Never blocks; true before the first record."""
        ...

    def synchronize(self) -> None:
        """Wait until all before the mark is done.

        Raises:
            CudaError: Something before it failed.
        """

    def milliseconds_since(self, earlier: Event) -> float:
        """Tell the time between two marks that are done; both events were made with timing."""
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""


class Kernel(Protocol):
    """A function on the device."""

    @property
    def name(self) -> str:
        """Its name in the module."""
        ...


class Module(Protocol):
    """Code on the device."""

    def kernel(self, name: str) -> Kernel:
        """Find a function.

        Raises:
            CudaError: There is none of that name.
        """
        ...

    def close(self) -> None:
        """Unload it; may be called twice."""


class Graph(Protocol):
    """Operations that were captured and are launched as one, with the buffers they were captured with."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


class Stream(Protocol):
    """A queue of operations, each done after the one before; non-blocking to the default stream."""

    @property
    def handle(self) -> int:
        """The driver's handle, for libraries that enqueue work of their own."""
        ...

    def upload(
        self, target: DeviceBuffer, source: PinnedBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy from pinned memory; the source may not be written before an event behind this is done."""

    def download(
        self, target: PinnedBuffer, source: DeviceBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy to pinned memory; the target may not be read before an event behind this is done."""

    def copy(
        self, target: DeviceBuffer, source: DeviceBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy on the device."""

    def launch(self, kernel: Kernel, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        """Run a kernel; `arguments` are NumPy scalars and device buffers."""

    def record(self, event: Event) -> None:
        """Mark this place."""

    def wait(self, event: Event) -> None:
        """Let what follows begin after the mark as it stands now."""

    def synchronize(self) -> None:
        """Wait until everything in it is done.

        Raises:
            CudaError: Something failed.
        """

    def begin_capture(self) -> None:
        """Note what follows instead of doing it; calls of other threads stay what they are.

        Raises:
            CudaError: The library has no graphs.
        """

    def end_capture(self) -> Graph:
        """End the capture and make a graph of it."""
        ...

    def launch_graph(self, graph: Graph) -> None:
        """Do all that was captured."""

    def close(self) -> None:
        """Let go of it when all in it is done; may be called twice."""


class Device(Protocol):
    """One GPU with its primary context, which TensorRT, ONNX Runtime and NVDEC share."""

    @property
    def facts(self) -> DeviceFacts:
        """What it is."""
        ...

    def attached(self) -> AbstractContextManager[None]:
        """Make the device current in this thread; may be nested."""
        ...

    def free_bytes(self) -> int:
        """Tell how much memory is free now."""
        ...

    def stream(self, priority: int = 0) -> Stream:
        """Make a stream; a lower number goes first, where the library has priorities."""
        ...

    def event(self, *, timing: bool = False) -> Event:
        """Make an event."""
        ...

    def allocate(self, size_bytes: int) -> DeviceBuffer:
        """Take memory of the device.

        Raises:
            CudaError: There is not enough.
        """
        ...

    def pin(self, size_bytes: int) -> PinnedBuffer:
        """Take page-locked memory of the host."""
        ...

    def register(self, array: NDArray[np.uint8]) -> PinnedBuffer:
        """Lock the pages of memory that somebody else owns (shared memory); `close` unlocks them.

        Raises:
            CudaError: The memory cannot be locked.
        """
        ...

    def load(self, code: bytes) -> Module:
        """Load PTX or a cubin."""
        ...

    def close(self) -> None:
        """Let go of the context; may be called twice."""
