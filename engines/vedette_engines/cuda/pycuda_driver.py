"""The seam on pycuda, which needs a driver to be imported at all.

The only place where it is called and its errors are translated: they carry CUDA's text, from which the name is found.
pycuda has no graphs, no capture, no priorities, and its `register_host_memory` crashes the process with NumPy 2 (its
array loses its base; tried with pycuda 2026.1). Where cuda-bindings is there too, it lends graphs and registration,
given the handle of pycuda's stream; priorities it cannot lend, since pycuda takes no stream that it did not make.

pycuda frees memory, streams, events and modules in the context that is current: close them inside `attached()`.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import STICKY_ERRORS, CudaError, DeviceFacts, Features
from vedette_engines.cuda.error_texts import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.base import DeviceBuffer, PinnedBuffer
    from vedette_engines.cuda.bindings import BindingsGraph
    from vedette_engines.cuda.lender import Lender

LIBRARY = "pycuda"
LENT = "pycuda+cuda-bindings"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING; pycuda has no name for it


def import_pycuda() -> Any:
    """Import `pycuda.driver`.

    Raises:
        ModuleNotFoundError: It is not installed.
        ImportError: There is no driver library, or one that it was not built for.
    """
    with warnings.catch_warnings():
        # It warns of what it then raises.
        warnings.simplefilter("ignore")
        return importlib.import_module("pycuda.driver")


def translated(driver: Any, error: Exception, doing: str) -> CudaError:
    """Make an error of the seam of one of pycuda's."""
    name = name_of(str(error))
    if name is not None:
        return CudaError(name, doing, sticky=name in STICKY_ERRORS)
    classes = {driver.MemoryError: "CUDA_ERROR_OUT_OF_MEMORY", driver.LaunchError: "CUDA_ERROR_LAUNCH_FAILED"}
    name = classes.get(type(error), "CUDA_ERROR_UNKNOWN")
    return CudaError(name, f"{doing} ({error})", sticky=name in STICKY_ERRORS)


class Calls:
    """pycuda's calls, with its errors translated.

    Args:
        driver: The module `pycuda.driver`.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def __call__(self, doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do one call.

        Raises:
            CudaError: It failed.
        """
        try:
            return function(*arguments, **options)
        except self.driver.Error as error:
            raise translated(self.driver, error, doing) from error


class PycudaBuffer:
    """Memory of the device; see `base.DeviceBuffer`."""

    def __init__(self, call: Calls, size_bytes: int) -> None:
        self._call = call
        self._size_bytes = size_bytes
        self._memory: Any = call(f"allocating {size_bytes} bytes", call.driver.mem_alloc, max(size_bytes, 1))

    @property
    def address(self) -> int:
        """Device pointer."""
        if self._memory is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using device memory that was given back", sticky=False)
        return int(self._memory)

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._size_bytes

    def close(self) -> None:
        """Give the memory back."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self._call("freeing device memory", memory.free)


class PycudaPinned:
    """Pinned memory of the host; see `base.PinnedBuffer`."""

    def __init__(self, call: Calls, size_bytes: int) -> None:
        self._call = call
        doing = f"allocating {size_bytes} bytes of pinned memory"
        whole = call(doing, call.driver.pagelocked_empty, max(size_bytes, 1), np.uint8)
        self._allocation: Any = whole.base
        self._array: NDArray[np.uint8] | None = whole[:size_bytes]

    @property
    def array(self) -> NDArray[np.uint8]:
        """`uint8 [size_bytes]`; nobody may use it after `close`."""
        if self._array is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using pinned memory that was given back", sticky=False)
        return self._array

    def close(self) -> None:
        """Give the memory back."""
        allocation, self._allocation, self._array = self._allocation, None, None
        if allocation is not None:
            self._call("giving back pinned memory", allocation.free)


class PycudaEvent:
    """A mark in a stream; see `base.Event`."""

    def __init__(self, call: Calls, *, timing: bool) -> None:
        self._call = call
        flags = call.driver.event_flags
        self.handle: Any = call(
            "creating an event", call.driver.Event, flags.DEFAULT if timing else flags.DISABLE_TIMING
        )

    def done(self) -> bool:
        """Tell whether all before the mark is done."""
        return bool(self._call("asking whether a batch is done", self.handle.query))

    def synchronize(self) -> None:
        """Wait until all before the mark is done."""
        self._call("waiting for an event", self.handle.synchronize)

    def milliseconds_since(self, earlier: PycudaEvent) -> float:
        """Tell the time between two marks."""
        return float(self._call("timing two events", self.handle.time_since, earlier.handle))

    def close(self) -> None:
        """Let go of it; pycuda destroys it then."""
        self.handle = None


class PycudaKernel:
    """A function on the device; see `base.Kernel`. It keeps its module loaded."""

    def __init__(self, name: str, handle: Any) -> None:
        self._name = name
        self.handle = handle

    @property
    def name(self) -> str:
        """Its name in the module."""
        return self._name


class PycudaModule:
    """Code on the device; see `base.Module`."""

    def __init__(self, call: Calls, code: bytes) -> None:
        self._call = call
        # The driver reads PTX up to a zero byte.
        self._module: Any = call("loading a module", call.driver.module_from_buffer, code + b"\0")

    def kernel(self, name: str) -> PycudaKernel:
        """Find a function."""
        return PycudaKernel(name, self._call(f"looking for the kernel {name}", self._module.get_function, name))

    def close(self) -> None:
        """Let go of it; pycuda unloads it when no kernel of it is left."""
        self._module = None


class PycudaStream:
    """A queue of operations; see `base.Stream`.

    Args:
        call: pycuda.
        lender: Lends graphs; None: there are none.
    """

    def __init__(self, call: Calls, lender: Lender | None) -> None:
        self._call = call
        self._lender = lender
        self._stream: Any = call("creating a stream", call.driver.Stream, _NON_BLOCKING)

    @property
    def handle(self) -> int:
        """The driver's handle."""
        return int(self._stream.handle)

    def upload(
        self, target: DeviceBuffer, source: PinnedBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy from pinned memory."""
        part = source.array[source_at : source_at + size]
        copy = self._call.driver.memcpy_htod_async
        self._call(f"uploading {size} bytes", copy, target.address + target_at, part, self._stream)

    def download(
        self, target: PinnedBuffer, source: DeviceBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy to pinned memory."""
        part = target.array[target_at : target_at + size]
        copy = self._call.driver.memcpy_dtoh_async
        self._call(f"downloading {size} bytes", copy, part, source.address + source_at, self._stream)

    def copy(
        self, target: DeviceBuffer, source: DeviceBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy on the device."""
        places = (target.address + target_at, source.address + source_at)
        self._call(
            f"copying {size} bytes on the device", self._call.driver.memcpy_dtod_async, *places, size, self._stream
        )

    def launch(self, kernel: PycudaKernel, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        """Run a kernel; pycuda packs its arguments before this returns."""
        values = [entry if isinstance(entry, np.generic) else np.uint64(entry.address) for entry in arguments]
        sizes = {"grid": _three(grid), "block": _three(block)}
        self._call(f"launching the kernel {kernel.name}", kernel.handle, *values, **sizes, stream=self._stream)

    def record(self, event: PycudaEvent) -> None:
        """Mark this place."""
        self._call("recording an event", event.handle.record, self._stream)

    def wait(self, event: PycudaEvent) -> None:
        """Let what follows begin after the mark as it stands now."""
        self._call("ordering two streams", self._stream.wait_for_event, event.handle)

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        self._call("waiting for a stream", self._stream.synchronize)

    def begin_capture(self) -> None:
        """Note what follows instead of doing it, where cuda-bindings lends that."""
        self._lent("beginning a capture").begin_capture(self.handle)

    def end_capture(self) -> BindingsGraph:
        """End the capture and make a graph of it."""
        return self._lent("ending a capture").end_capture(self.handle)

    def launch_graph(self, graph: BindingsGraph) -> None:
        """Do all that was captured."""
        self._lent("launching a graph").launch_graph(graph, self.handle)

    def close(self) -> None:
        """Let go of it; pycuda destroys it then."""
        self._stream = None

    def _lent(self, doing: str) -> Lender:
        if self._lender is None:
            raise CudaError("CUDA_ERROR_NOT_SUPPORTED", f"{doing}: pycuda has no graphs", sticky=False)
        return self._lender


class PycudaDevice:
    """One GPU; see `base.Device`.

    Args:
        index: Its number.
        driver: The module `pycuda.driver`; None: it is imported.
        lender: cuda-bindings, to lend what pycuda lacks; None: done without.

    Raises:
        ImportError: pycuda cannot be imported.
        CudaError: There is no such device, or its context cannot be had.
    """

    def __init__(self, index: int = 0, driver: Any = None, lender: Lender | None = None) -> None:
        call = self._call = Calls(driver if driver is not None else import_pycuda())
        call("starting the driver", call.driver.init)
        self._device: Any = call(f"opening device {index}", call.driver.Device, index)
        self._context: Any = call("opening the context", self._device.retain_primary_context)
        self._lender = lender
        self._facts = self._ask(index)

    @property
    def facts(self) -> DeviceFacts:
        """What it is."""
        return self._facts

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Make the device current in this thread."""
        context = self._context
        self._call("entering the context", context.push)
        try:
            yield
        finally:
            # That a context was entered, pycuda forgets when it is let go of; then this leaves it, and fails.
            with contextlib.suppress(*(() if self._context is not None else (CudaError,))):
                self._call("leaving the context", self._call.driver.Context.pop)

    def free_bytes(self) -> int:
        """Tell how much memory is free now."""
        with self.attached():
            return int(self._call("asking for free memory", self._call.driver.mem_get_info)[0])

    def stream(self, priority: int = 0) -> PycudaStream:  # noqa: ARG002 - pycuda has no priorities
        """Make a stream."""
        return PycudaStream(self._call, self._lender)

    def event(self, *, timing: bool = False) -> PycudaEvent:
        """Make an event."""
        return PycudaEvent(self._call, timing=timing)

    def allocate(self, size_bytes: int) -> PycudaBuffer:
        """Take memory of the device."""
        return PycudaBuffer(self._call, size_bytes)

    def pin(self, size_bytes: int) -> PycudaPinned:
        """Take page-locked memory of the host."""
        return PycudaPinned(self._call, size_bytes)

    def register(self, array: NDArray[np.uint8]) -> PinnedBuffer:
        """Lock the pages of memory that somebody else owns, where cuda-bindings lends that."""
        if self._lender is None:
            doing = "registering memory: pycuda's own call crashes with NumPy 2, and cuda-bindings is not there"
            raise CudaError("CUDA_ERROR_NOT_SUPPORTED", doing, sticky=False)
        return self._lender.register(array)

    def load(self, code: bytes) -> PycudaModule:
        """Load PTX or a cubin."""
        return PycudaModule(self._call, code)

    def close(self) -> None:
        """Let go of the context."""
        context, self._context = self._context, None
        if context is None:
            return

        def detach() -> None:
            context.push()
            context.detach()

        # pycuda lets go of a context only where it is current, and leaves it current there: so on a thread that ends.
        thread = threading.Thread(target=lambda: self._call("letting go of the context", detach), name="cuda-detach")
        thread.start()
        thread.join()

    def _ask(self, index: int) -> DeviceFacts:
        name = self._call("asking for the device's name", self._device.name)
        major, minor = self._call("asking for the compute capability", self._device.compute_capability)
        memory = int(self._call("asking for the device's memory", self._device.total_memory))
        lent = self._lender is not None
        features = Features(graphs=lent, priorities=False, registration=lent)
        return DeviceFacts(index, name, (major, minor), memory, LENT if lent else LIBRARY, features)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (int(size) for size in (*sizes, 1, 1)[:3])
    return x, y, z
