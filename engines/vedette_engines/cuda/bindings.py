"""The seam on NVIDIA's cuda-bindings, the driver API.

The only place where it is called and its errors are translated. Each call returns an error and its values; an error
becomes `CudaError` with CUDA's name for it and what was being done.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import STICKY_ERRORS, CudaError, DeviceFacts, Features
from vedette_engines.cuda.host_memory import array_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_driver: Any = importlib.import_module("cuda.bindings.driver")

LIBRARY = "cuda-bindings"
FEATURES = Features(graphs=True, priorities=True)
_NAME_BYTES = 256


def check(result: tuple[Any, ...], doing: str, driver: Any = _driver) -> Any:
    """Take the values of a call: none, one, or a tuple of several.

    Raises:
        CudaError: It failed.
    """
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        name = getattr(error, "name", str(error))
        raise CudaError(name, doing, sticky=name in STICKY_ERRORS)
    return values[0] if len(values) == 1 else tuple(values) or None


class BindingsBuffer:
    """Memory of the device; see `base.DeviceBuffer`."""

    def __init__(self, driver: Any, size_bytes: int) -> None:
        self._driver = driver
        self._size_bytes = size_bytes
        self._address: int | None = int(
            check(driver.cuMemAlloc(max(size_bytes, 1)), f"allocating {size_bytes} bytes", driver)
        )

    @property
    def address(self) -> int:
        """Device pointer."""
        if self._address is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using device memory that was given back", sticky=False)
        return self._address

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._size_bytes

    def close(self) -> None:
        """Give the memory back."""
        address, self._address = self._address, None
        if address is not None:
            check(self._driver.cuMemFree(address), "freeing device memory", self._driver)


class BindingsPinned:
    """Pinned memory of the host, our own or registered; see `base.PinnedBuffer`."""

    def __init__(self, driver: Any, size_bytes: int, registered: NDArray[np.uint8] | None = None) -> None:
        self._driver = driver
        self._owned = registered is None
        if registered is None:
            doing = f"allocating {size_bytes} bytes of pinned memory"
            self._address = int(check(driver.cuMemHostAlloc(max(size_bytes, 1), 0), doing, driver))
            self._array: NDArray[np.uint8] | None = array_at(self._address, size_bytes)
        else:
            self._array = registered.reshape(-1).view(np.uint8)
            self._address = self._array.ctypes.data
            doing = f"registering {size_bytes} bytes of memory as pinned"
            check(driver.cuMemHostRegister(self._address, size_bytes, 0), doing, driver)

    @property
    def array(self) -> NDArray[np.uint8]:
        """`uint8 [size_bytes]`; nobody may use it after `close`."""
        if self._array is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using pinned memory that was given back", sticky=False)
        return self._array

    @property
    def address(self) -> int:
        """Where it is in the host's memory."""
        return self._address

    def close(self) -> None:
        """Give the memory back, or unlock it."""
        array, self._array = self._array, None
        if array is None:
            return
        free = self._driver.cuMemFreeHost if self._owned else self._driver.cuMemHostUnregister
        check(free(self._address), "giving back pinned memory", self._driver)


class BindingsEvent:
    """A mark in a stream; see `base.Event`."""

    def __init__(self, driver: Any, *, timing: bool) -> None:
        self._driver = driver
        flags = driver.CUevent_flags.CU_EVENT_DEFAULT if timing else driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self.handle: Any = check(driver.cuEventCreate(int(flags)), "creating an event", driver)

    def done(self) -> bool:
        """Tell whether all before the mark is done."""
        result = self._driver.cuEventQuery(self.handle)
        if result[0] == self._driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        check(result, "asking whether a batch is done", self._driver)
        return True

    def synchronize(self) -> None:
        """Wait until all before the mark is done."""
        check(self._driver.cuEventSynchronize(self.handle), "waiting for an event", self._driver)

    def milliseconds_since(self, earlier: BindingsEvent) -> float:
        """Tell the time between two marks."""
        return float(
            check(self._driver.cuEventElapsedTime(earlier.handle, self.handle), "timing two events", self._driver)
        )

    def close(self) -> None:
        """Let go of it."""
        handle, self.handle = self.handle, None
        if handle is not None:
            check(self._driver.cuEventDestroy(handle), "destroying an event", self._driver)


class BindingsKernel:
    """A function on the device; see `base.Kernel`."""

    def __init__(self, name: str, handle: Any) -> None:
        self._name = name
        self.handle = handle

    @property
    def name(self) -> str:
        """Its name in the module."""
        return self._name


class BindingsModule:
    """Code on the device; see `base.Module`."""

    def __init__(self, driver: Any, code: bytes) -> None:
        self._driver = driver
        # The driver reads PTX up to a zero byte.
        self._handle: Any = check(driver.cuModuleLoadData(code + b"\0"), "loading a module", driver)

    def kernel(self, name: str) -> BindingsKernel:
        """Find a function."""
        doing = f"looking for the kernel {name}"
        return BindingsKernel(
            name, check(self._driver.cuModuleGetFunction(self._handle, name.encode()), doing, self._driver)
        )

    def close(self) -> None:
        """Unload it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            check(self._driver.cuModuleUnload(handle), "unloading a module", self._driver)


class BindingsGraph:
    """Operations that are launched as one; see `base.Graph`."""

    def __init__(self, driver: Any, captured: Any) -> None:
        self._driver = driver
        try:
            self.handle: Any = check(driver.cuGraphInstantiate(captured, 0), "instantiating a graph", driver)
        finally:
            driver.cuGraphDestroy(captured)

    def close(self) -> None:
        """Let go of it."""
        handle, self.handle = self.handle, None
        if handle is not None:
            check(self._driver.cuGraphExecDestroy(handle), "destroying a graph", self._driver)


class BindingsStream:
    """A queue of operations; see `base.Stream`.

    Args:
        driver: The module `cuda.bindings.driver`.
        priority: A lower number goes first.
    """

    def __init__(self, driver: Any, priority: int) -> None:
        self._driver = driver
        flags = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._stream: Any = check(driver.cuStreamCreateWithPriority(flags, priority), "creating a stream", driver)

    @property
    def handle(self) -> int:
        """The driver's handle."""
        return int(self._stream)

    def upload(
        self, target: BindingsBuffer, source: BindingsPinned, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy from pinned memory."""
        call = self._driver.cuMemcpyHtoDAsync(
            target.address + target_at, source.address + source_at, size, self._stream
        )
        check(call, f"uploading {size} bytes", self._driver)

    def download(
        self, target: BindingsPinned, source: BindingsBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy to pinned memory."""
        call = self._driver.cuMemcpyDtoHAsync(
            target.address + target_at, source.address + source_at, size, self._stream
        )
        check(call, f"downloading {size} bytes", self._driver)

    def copy(
        self, target: BindingsBuffer, source: BindingsBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy on the device."""
        call = self._driver.cuMemcpyDtoDAsync(
            target.address + target_at, source.address + source_at, size, self._stream
        )
        check(call, f"copying {size} bytes on the device", self._driver)

    def launch(
        self, kernel: BindingsKernel, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]
    ) -> None:
        """Run a kernel; the driver takes its arguments before this returns."""
        values = [
            np.asarray(entry) if isinstance(entry, np.generic) else np.asarray(entry.address, np.uint64)
            for entry in arguments
        ]
        places = np.asarray([value.ctypes.data for value in values], np.uint64)
        call = self._driver.cuLaunchKernel(
            kernel.handle, *_three(grid), *_three(block), 0, self._stream, places.ctypes.data, 0
        )
        check(call, f"launching the kernel {kernel.name}", self._driver)

    def record(self, event: BindingsEvent) -> None:
        """Mark this place."""
        check(self._driver.cuEventRecord(event.handle, self._stream), "recording an event", self._driver)

    def wait(self, event: BindingsEvent) -> None:
        """Let what follows begin after the mark as it stands now."""
        check(self._driver.cuStreamWaitEvent(self._stream, event.handle, 0), "ordering two streams", self._driver)

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        check(self._driver.cuStreamSynchronize(self._stream), "waiting for a stream", self._driver)

    def begin_capture(self) -> None:
        """Note what follows instead of doing it."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(self._driver.cuStreamBeginCapture(self._stream, mode), "beginning a capture", self._driver)

    def end_capture(self) -> BindingsGraph:
        """End the capture and make a graph of it."""
        captured = check(self._driver.cuStreamEndCapture(self._stream), "ending a capture", self._driver)
        return BindingsGraph(self._driver, captured)

    def launch_graph(self, graph: BindingsGraph) -> None:
        """Do all that was captured."""
        check(self._driver.cuGraphLaunch(graph.handle, self._stream), "launching a graph", self._driver)

    def close(self) -> None:
        """Let go of it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            check(self._driver.cuStreamDestroy(stream), "destroying a stream", self._driver)


class BindingsDevice:
    """One GPU; see `base.Device`.

    Args:
        index: Its number.
        driver: The module `cuda.bindings.driver`.

    Raises:
        CudaError: There is no such device, or its context cannot be had.
    """

    def __init__(self, index: int = 0, driver: Any = _driver) -> None:
        self._driver = driver
        try:
            check(driver.cuInit(0), "starting the driver", driver)
        except RuntimeError as error:  # cuda-bindings finds no driver library
            raise CudaError("CUDA_ERROR_NO_DEVICE", f"looking for the driver ({error})", sticky=False) from error
        self._device: Any = check(driver.cuDeviceGet(index), f"opening device {index}", driver)
        self._context: Any = check(driver.cuDevicePrimaryCtxRetain(self._device), "opening the context", driver)
        self._facts = self._ask(index)

    @property
    def facts(self) -> DeviceFacts:
        """What it is."""
        return self._facts

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Make the device current in this thread."""
        check(self._driver.cuCtxPushCurrent(self._context), "entering the context", self._driver)
        try:
            yield
        finally:
            check(self._driver.cuCtxPopCurrent(), "leaving the context", self._driver)

    def free_bytes(self) -> int:
        """Tell how much memory is free now."""
        with self.attached():
            return int(check(self._driver.cuMemGetInfo(), "asking for free memory", self._driver)[0])

    def stream(self, priority: int = 0) -> BindingsStream:
        """Make a stream."""
        return BindingsStream(self._driver, priority)

    def event(self, *, timing: bool = False) -> BindingsEvent:
        """Make an event."""
        return BindingsEvent(self._driver, timing=timing)

    def allocate(self, size_bytes: int) -> BindingsBuffer:
        """Take memory of the device."""
        return BindingsBuffer(self._driver, size_bytes)

    def pin(self, size_bytes: int) -> BindingsPinned:
        """Take page-locked memory of the host."""
        return BindingsPinned(self._driver, size_bytes)

    def register(self, array: NDArray[np.uint8]) -> BindingsPinned:
        """Lock the pages of memory that somebody else owns."""
        return BindingsPinned(self._driver, array.nbytes, array)

    def load(self, code: bytes) -> BindingsModule:
        """Load PTX or a cubin."""
        return BindingsModule(self._driver, code)

    def close(self) -> None:
        """Let go of the context."""
        context, self._context = self._context, None
        if context is not None:
            check(self._driver.cuDevicePrimaryCtxRelease(self._device), "letting go of the context", self._driver)

    def _ask(self, index: int) -> DeviceFacts:
        driver, device = self._driver, self._device
        attributes = driver.CUdevice_attribute
        name = check(driver.cuDeviceGetName(_NAME_BYTES, device), "asking for the device's name", driver)
        major, minor = (
            int(check(driver.cuDeviceGetAttribute(attribute, device), "asking for the compute capability", driver))
            for attribute in (
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        memory = int(check(driver.cuDeviceTotalMem(device), "asking for the device's memory", driver))
        text = name.split(b"\0")[0].decode(errors="replace")
        return DeviceFacts(index, text, (major, minor), memory, LIBRARY, FEATURES)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z
