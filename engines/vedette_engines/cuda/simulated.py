"""A device for tests: streams as ordered queues on a virtual clock, real bytes moved, misuse caught.

It has one copy engine each way and one compute engine. An operation begins when those before it in its stream are
done, the events that its stream waits for are done, and its engine is free; of two that could begin, the one that
was enqueued first does. Time passes only where the host waits: in `synchronize`, and in `VirtualClock.sleep`. So the
same calls give the same timeline, from which overlap is computed.

Caught, as `MisuseError`:

- pinned memory that the host writes while a copy from it is under way (its bytes are compared), or while a copy into
  it is under way; whoever reads that too early finds a pattern, not the result;
- a read of device memory that nothing has written;
- two operations on the same memory, one of them writing, that neither stream nor event nor host puts in order;
- an operation on something that was closed, and closing what is in use;
- whatever is left open when the device closes.

One thread at a time.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError, DeviceFacts, Features
from vedette_engines.cuda.ordering import Knowledge, MisuseError
from vedette_engines.cuda.simulated_memory import SimulatedBuffer, SimulatedPinned
from vedette_engines.cuda.simulated_stream import SimulatedEvent, SimulatedStream, Task
from vedette_engines.cuda.timeline import Span, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.simulated_stream import SimulatedKernel

_FIRST_ADDRESS = 0x7000_0000_0000
_ALIGNMENT = 512


class VirtualClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._advance: Callable[[float], None] = lambda _: None

    def __call__(self) -> float:
        """Tell the time in seconds, as `time.monotonic` does."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass, and devices work meanwhile."""
        until = self._now_s + seconds
        self._advance(until)
        self.reach(until)

    def reach(self, moment_s: float) -> None:
        """Let it be that late, at least."""
        self._now_s = max(self._now_s, moment_s)

    def drive(self, advance: Callable[[float], None]) -> None:
        """Let a device work up to the moment that `advance` is given, whenever time passes."""
        before = self._advance

        def both(until: float) -> None:
            before(until)
            advance(until)

        self._advance = both


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
        clock: The time.
        copy_bytes_per_s: Speed of each copy engine; None: copies take no time.
        copy_latency_s: What each copy takes besides.
        memory_bytes: Memory of the device.
        kernels: What `load` gives, by name.
        graphs: It can capture and launch graphs.
    """

    def __init__(
        self,
        clock: VirtualClock | None = None,
        *,
        copy_bytes_per_s: float | None = None,
        copy_latency_s: float = 0.0,
        memory_bytes: int = 1 << 30,
        kernels: Mapping[str, SimulatedKernel] | None = None,
        graphs: bool = True,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.timeline = Timeline()
        self.host = Knowledge()
        self._copy_bytes_per_s = copy_bytes_per_s
        self._copy_latency_s = copy_latency_s
        self._kernels = dict(kernels or {})
        self._facts = DeviceFacts(
            0, "simulated", (9, 0), memory_bytes, "simulated", Features(graphs=graphs, priorities=True)
        )
        self._next_address = _FIRST_ADDRESS
        self._free_bytes = memory_bytes
        self._buffers: list[SimulatedBuffer] = []
        self._open: dict[int, str] = {}
        self._streams: list[SimulatedStream] = []
        self._running: dict[str, tuple[float, Task]] = {}
        self._tickets = itertools.count(1)
        self._closed = False
        self.clock.drive(self._advance_to)

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

    def copy_s(self, size: int) -> float:
        """Tell how long a copy takes."""
        return self._copy_latency_s + (size / self._copy_bytes_per_s if self._copy_bytes_per_s else 0.0)

    def stream(self, priority: int = 0) -> SimulatedStream:
        """Make a stream."""
        stream = SimulatedStream(self, len(self._streams) + 1, priority)
        self._streams.append(stream)
        self.opened(stream, f"stream {stream.handle}")
        return stream

    def stream_of(self, handle: int) -> SimulatedStream:
        """Find the stream of a handle, as a library does that is given one."""
        return self._streams[handle - 1]

    def event(self, *, timing: bool = False) -> SimulatedEvent:
        """Make an event."""
        event = SimulatedEvent(self, timing=timing)
        self.opened(event, "an event")
        return event

    def allocate(self, size_bytes: int) -> SimulatedBuffer:
        """Take memory of the device; it holds a pattern until something is written."""
        if size_bytes > self._free_bytes:
            raise CudaError("CUDA_ERROR_OUT_OF_MEMORY", f"allocating {size_bytes} bytes", sticky=False)
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
        busy = [stream.handle for stream in self._streams if stream.busy]
        if busy:
            raise MisuseError(f"the device is closed while stream {busy[0]} has work")
        if self._open:
            raise MisuseError(f"left open when the device closed: {', '.join(sorted(self._open.values()))}")

    def opened(self, thing: object, what: str) -> None:
        """Note something that has to be closed."""
        self._open[id(thing)] = what

    def closed(self, thing: object) -> bool:
        """Note that something was closed; tell whether it was open."""
        return self._open.pop(id(thing), None) is not None

    def is_open(self, thing: object) -> bool:
        """Tell whether something was not closed."""
        return id(thing) in self._open

    def gave_back(self, buffer: SimulatedBuffer) -> None:
        """Take memory back."""
        self._free_bytes += buffer.size_bytes
        self._buffers.remove(buffer)

    def ticket(self) -> int:
        """Give a task its number: of two that could begin, the one that was enqueued first does."""
        return next(self._tickets)

    def advance_until(self, done: Callable[[], bool], doing: str) -> None:
        """Let time pass until something is done.

        Raises:
            MisuseError: It never will be: streams wait for each other.
        """
        while not done():
            if not self._begin_what_can() and not self._finish_next(None):
                raise MisuseError(f"{doing} waits for ever: what it waits for can never begin")

    def _advance_to(self, until_s: float) -> None:
        while True:
            self._begin_what_can()
            if not self._finish_next(until_s):
                return

    def _begin_what_can(self) -> bool:
        """Begin every task whose turn it is; tell whether there was one."""
        begun = False
        while True:
            heads = [stream.head for stream in self._streams if stream.head is not None]
            able = [task for task in heads if task.ready and (task.engine is None or task.engine not in self._running)]
            if not able:
                return begun
            begun = True
            task = min(able, key=lambda candidate: candidate.ticket)
            task.began = True
            task.start()
            if task.engine is None:
                self._finish(task, self.clock())
            else:
                self._running[task.engine] = (self.clock() + task.duration_s, task)

    def _finish_next(self, until_s: float | None) -> bool:
        """Finish the task that is done first, if that is in time; tell whether there was one."""
        if not self._running:
            return False
        engine = min(self._running, key=lambda name: (self._running[name][0], self._running[name][1].ticket))
        end_s, task = self._running[engine]
        if until_s is not None and end_s > until_s:
            return False
        del self._running[engine]
        self.timeline.add(Span(engine, task.stream.handle, task.label, end_s - task.duration_s, end_s))
        self.clock.reach(end_s)
        self._finish(task, end_s)
        return True

    def _finish(self, task: Task, moment_s: float) -> None:
        task.finish(moment_s)
        task.stream.finished(task)
