"""A device for tests: streams as ordered queues on a virtual clock, real bytes moved, misuse caught.

It has one copy engine each way and one compute engine; `simulated_schedule.py` tells when each does what. On a
`VirtualClock` time passes only where the host waits: in `synchronize`, and in `VirtualClock.sleep`. So the same calls
give the same timeline, from which overlap is computed. On a `WallClock` it works in real time, for servers and benches.

Caught, as `MisuseError`:

- pinned memory that the host writes while a copy from it is under way (its bytes are compared), or while a copy into
  it is under way; whoever reads that too early finds a pattern, not the result;
- a read of device memory that nothing has written;
- two operations on the same memory, one of them writing, that neither stream nor event nor host puts in order;
- an operation on something that was closed, and closing what is in use;
- whatever is left open when the device closes.

Threads: any, on a `WallClock`; what one of them was told is done counts as known to all.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError, DeviceFacts, Features
from vedette_engines.cuda.ordering import Knowledge, MisuseError
from vedette_engines.cuda.simulated_clock import VirtualClock, WallClock
from vedette_engines.cuda.simulated_event import SimulatedEvent
from vedette_engines.cuda.simulated_memory import SimulatedBuffer, SimulatedPinned
from vedette_engines.cuda.simulated_schedule import Schedule
from vedette_engines.cuda.simulated_stream import SimulatedStream
from vedette_engines.cuda.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.simulated_clock import Clock
    from vedette_engines.cuda.simulated_stream import SimulatedKernel

__all__ = ["SimulatedDevice", "SimulatedModule", "VirtualClock", "WallClock"]

_FIRST_ADDRESS = 0x7000_0000_0000
_ALIGNMENT = 512


class SimulatedModule:
    """Code on the device.

    Args:
        device: Whose.
        kernels: What is in it, by name.
    """

    def __init__(self, device: SimulatedDevice, kernels: Mapping[str, SimulatedKernel]) -> None:
        self._device = device
        self._kernels = kernels

    def kernel(self, name: str) -> SimulatedKernel:
        """Find a function."""
        if not self._device.is_open(self):
            raise MisuseError(f"the kernel {name} is looked for in a module that was closed")
        if name not in self._kernels:
            raise CudaError("CUDA_ERROR_NOT_FOUND", f"looking for the kernel {name}", sticky=False)
        return self._kernels[name]

    def close(self) -> None:
        """Unload it; may be called twice."""
        self._device.closed(self)


class SimulatedDevice:
    """A GPU that is not there.

    Args:
        clock: The time; None: a virtual one of its own.
        copy_bytes_per_s: Speed of each copy engine; None: copies take no time.
        copy_latency_s: What each copy takes besides.
        copy_s: Tells how long a copy of so many bytes takes, by engine (`upload`, `download`); in place of the above.
        memory_bytes: Memory of the device.
        kernels: What `load` gives, by name.
        graphs: It can capture and launch graphs.
        index: Its number.
        checks: Misuse of memory is caught, and the timeline is kept. Without, it costs the host little, as a real
            driver does: what takes no time is done where it is enqueued.
        uploads_move: Uploads move bytes; without, the host does not do what a real device's copy engine would, and
            the device's memory holds what it held.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        copy_bytes_per_s: float | None = None,
        copy_latency_s: float = 0.0,
        copy_s: Callable[[str, int], float] | None = None,
        memory_bytes: int = 1 << 30,
        kernels: Mapping[str, SimulatedKernel] | None = None,
        graphs: bool = True,
        index: int = 0,
        checks: bool = True,
        uploads_move: bool = True,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.timeline = Timeline()
        self.host = Knowledge()
        self.checks = checks
        self.uploads_move = uploads_move
        self.schedule = Schedule(self.clock, self.timeline if checks else None)
        self._copy_bytes_per_s = copy_bytes_per_s
        self._copy_latency_s = copy_latency_s
        self._copy_s = copy_s
        self._kernels = dict(kernels or {})
        self._facts = DeviceFacts(
            index, "simulated", (9, 0), memory_bytes, "simulated", Features(graphs=graphs, priorities=True)
        )
        self._next_address = _FIRST_ADDRESS
        self._free_bytes = memory_bytes
        self._buffers: list[SimulatedBuffer] = []
        self._open: dict[int, str] = {}
        self._streams: dict[int, SimulatedStream] = {}
        self._handles = itertools.count(1)
        self._lost = ""
        self._closed = False

    @property
    def facts(self) -> DeviceFacts:
        """What it claims to be."""
        return self._facts

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Be current in this thread."""
        yield

    def free_bytes(self) -> int:
        """Tell how much memory is free now."""
        return self._free_bytes

    def copy_s(self, engine: str, size: int) -> float:
        """Tell how long a copy takes."""
        if self._copy_s is not None:
            return self._copy_s(engine, size)
        return self._copy_latency_s + (size / self._copy_bytes_per_s if self._copy_bytes_per_s else 0.0)

    def lose(self, name: str = "CUDA_ERROR_ILLEGAL_ADDRESS") -> None:
        """Let every call from now on fail with a sticky error, as when a kernel left its memory; nothing goes on."""
        self._lost = name
        self.schedule.stop()

    @property
    def is_alive(self) -> bool:
        """Whether it is not lost."""
        return not self._lost

    def check_alive(self, doing: str) -> None:
        """Refuse what is done to a device that is lost.

        Raises:
            CudaError: It is lost.
        """
        if self._lost:
            raise CudaError(self._lost, doing, sticky=True)

    def stream(self, priority: int = 0) -> SimulatedStream:
        """Make a stream."""
        self.check_alive("creating a stream")
        stream = SimulatedStream(self, next(self._handles), priority)
        with self.schedule.lock:
            self._streams[stream.handle] = stream
            self.opened(stream, f"stream {stream.handle}")
        return stream

    def stream_of(self, handle: int) -> SimulatedStream:
        """Find the stream of a handle, as a library does that is given one."""
        return self._streams[handle]

    def event(self, *, timing: bool = False) -> SimulatedEvent:
        """Make an event."""
        self.check_alive("creating an event")
        event = SimulatedEvent(self, timing=timing)
        self.opened(event, "an event")
        return event

    def allocate(self, size_bytes: int) -> SimulatedBuffer:
        """Take memory of the device; it holds a pattern until something is written."""
        doing = f"allocating {size_bytes} bytes"
        self.check_alive(doing)
        with self.schedule.lock:
            if size_bytes > self._free_bytes:
                raise CudaError("CUDA_ERROR_OUT_OF_MEMORY", doing, sticky=False)
            buffer = SimulatedBuffer(self, self._next_address, size_bytes)
            self._next_address += -(-max(size_bytes, 1) // _ALIGNMENT) * _ALIGNMENT
            self._free_bytes -= size_bytes
            self._buffers.append(buffer)
            self.opened(buffer, f"{size_bytes} bytes of device memory")
        return buffer

    def buffer_at(self, address: int, size: int) -> tuple[SimulatedBuffer, int]:
        """Find the memory behind a device pointer, and where in it.

        Raises:
            MisuseError: There is none, or it ends before `size` bytes.
        """
        place = bisect.bisect_right([buffer.address for buffer in self._buffers], address) - 1
        if place >= 0:
            buffer = self._buffers[place]
            if address + size <= buffer.address + buffer.size_bytes:
                return buffer, address - buffer.address
        raise MisuseError(f"{size} bytes at {address:#x} are no memory of the device")

    def pin(self, size_bytes: int) -> SimulatedPinned:
        """Take page-locked memory."""
        self.check_alive(f"allocating {size_bytes} bytes of pinned memory")
        pinned = SimulatedPinned(self, size_bytes)
        self.opened(pinned, f"{size_bytes} bytes of pinned memory")
        return pinned

    def register(self, array: NDArray[np.uint8]) -> SimulatedPinned:
        """Lock memory that somebody else owns."""
        pinned = SimulatedPinned(self, array.nbytes, array)
        self.opened(pinned, f"{array.nbytes} bytes of registered memory")
        return pinned

    def load(self, code: bytes) -> SimulatedModule:
        """Give the kernels that this device was made with, whatever the code."""
        self.check_alive("loading a module")
        if not code:
            raise CudaError("CUDA_ERROR_INVALID_IMAGE", "loading a module", sticky=False)
        module = SimulatedModule(self, self._kernels)
        self.opened(module, "a module")
        return module

    def close(self) -> None:
        """Check that nothing is left open or under way; may be called twice.

        Raises:
            MisuseError: Something is.
        """
        if self._closed:
            return
        self._closed = True
        self.schedule.catch_up()
        busy = [handle for handle, stream in self._streams.items() if stream.busy]
        if busy and not self._lost:
            raise MisuseError(f"the device is closed while stream {busy[0]} has work")
        if self._open:
            raise MisuseError(f"left open when the device closed: {', '.join(sorted(self._open.values()))}")

    def opened(self, thing: object, what: str) -> None:
        """Note something that has to be closed."""
        self._open[id(thing)] = what

    def closed(self, thing: object) -> bool:
        """Note that something was closed; tell whether it was open.

        Raises:
            CudaError: The device is lost.
        """
        was_open = self._open.pop(id(thing), None) is not None
        if was_open:
            self.check_alive("letting go of something")
        return was_open

    def is_open(self, thing: object) -> bool:
        """Tell whether something was not closed."""
        return id(thing) in self._open

    def forget(self, stream: SimulatedStream) -> None:
        """Let a stream's handle mean nothing any more."""
        self._streams.pop(stream.handle, None)

    def gave_back(self, buffer: SimulatedBuffer) -> None:
        """Take memory back."""
        with self.schedule.lock:
            self._free_bytes += buffer.size_bytes
            self._buffers.remove(buffer)
