"""Streams, kernels and graphs of a simulated device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.ordering import Knowledge, MisuseError, Operation
from vedette_engines.cuda.simulated_memory import PATTERN, SimulatedBuffer, SimulatedPinned
from vedette_engines.cuda.simulated_schedule import Mark, Queue, Task
from vedette_engines.cuda.timeline import COMPUTE, DOWNLOAD, UPLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.simulated import SimulatedDevice
    from vedette_engines.cuda.simulated_event import SimulatedEvent


@dataclass(frozen=True, slots=True)
class Use:
    """One piece of memory that an operation reads or writes.

    Attributes:
        memory: Which.
        start: First byte.
        size: How many bytes.
        writes: It writes them.
    """

    memory: SimulatedBuffer | SimulatedPinned
    start: int
    size: int
    writes: bool

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """The bytes themselves."""
        return self.memory.array[self.start : self.start + self.size]


@dataclass(frozen=True, slots=True)
class SimulatedKernel:
    """A function of a simulated device.

    Attributes:
        name: Its name.
        duration_s: How long a launch takes, by its arguments.
        function: Does the work on NumPy arrays: a device buffer among the arguments comes as `uint8 [size]`.
        reads: Which arguments it reads.
        writes: Which it writes.
        parts: Tells, from the arguments, first byte and size of what is used of them; what it does not tell of is
            used as a whole.
    """

    name: str
    duration_s: Callable[[Sequence[Any]], float]
    function: Callable[..., None]
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    parts: Callable[[Sequence[Any]], Mapping[int, tuple[int, int]]] = lambda _: {}


@dataclass(slots=True, eq=False)
class SimulatedGraph:
    """Calls that were captured, to be made again."""

    device: SimulatedDevice
    calls: list[Callable[[SimulatedStream], None]] = field(default_factory=list)

    def close(self) -> None:
        """Let go of it."""
        self.device.closed(self)


class SimulatedStream:
    """A queue of operations.

    Args:
        device: Whose.
        handle: Its number.
        priority: Noted, and nothing else.
    """

    def __init__(self, device: SimulatedDevice, handle: int, priority: int) -> None:
        self._device = device
        self._handle = handle
        self.priority = priority
        self._queue = Queue(handle)
        self._knowledge = Knowledge()
        self._count = 0
        self._capture: SimulatedGraph | None = None

    @property
    def handle(self) -> int:
        """Its number."""
        return self._handle

    @property
    def busy(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self._queue.tasks)

    def upload(
        self, target: SimulatedBuffer, source: SimulatedPinned, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy from pinned memory; its bytes are looked at when the copy is enqueued and when it is done."""
        into, out_of = Use(target, target_at, size, writes=True), Use(source, source_at, size, writes=False)
        device = self._device

        def enqueue(stream: SimulatedStream) -> None:
            before = out_of.bytes.copy() if device.checks else out_of.bytes

            def finish(_: float) -> None:
                if device.checks and not np.array_equal(before, out_of.bytes):
                    raise MisuseError(f"{source.ledger.what} was written while an upload from it was under way")
                if device.uploads_move:
                    into.bytes[:] = before

            stream.enqueue("upload", UPLOAD, device.copy_s(UPLOAD, size), (out_of, into), finish)

        self._do(enqueue)

    def download(
        self, target: SimulatedPinned, source: SimulatedBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy to pinned memory; until it is done there is a pattern in it."""
        into, out_of = Use(target, target_at, size, writes=True), self._use(source, (source_at, size))
        device = self._device

        def enqueue(stream: SimulatedStream) -> None:
            def start() -> None:
                if device.checks:
                    into.bytes[:] = PATTERN

            def finish(_: float) -> None:
                if device.checks and (into.bytes != PATTERN).any():
                    raise MisuseError(f"{target.ledger.what} was written while a download into it was under way")
                into.bytes[:] = out_of.bytes

            stream.enqueue("download", DOWNLOAD, device.copy_s(DOWNLOAD, size), (out_of, into), finish, start)

        self._do(enqueue)

    def copy(
        self, target: SimulatedBuffer, source: SimulatedBuffer, size: int, *, target_at: int = 0, source_at: int = 0
    ) -> None:
        """Copy on the device."""
        into, out_of = Use(target, target_at, size, writes=True), self._use(source, (source_at, size))

        def finish(_: float) -> None:
            into.bytes[:] = out_of.bytes

        self._do(lambda stream: stream.enqueue("copy", COMPUTE, 0.0, (out_of, into), finish))

    def launch(
        self, kernel: SimulatedKernel, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]
    ) -> None:
        """Run a kernel on the bytes of its buffers."""
        if not all(size > 0 for size in (*grid, *block)):
            raise CudaError("CUDA_ERROR_INVALID_VALUE", f"launching {kernel.name} on grid {grid}", sticky=False)
        parts = kernel.parts(arguments)
        uses = [
            self._use(arguments[place], parts.get(place), writes=place in kernel.writes)
            for place in (*kernel.reads, *kernel.writes)
        ]

        def finish(_: float) -> None:
            kernel.function(*(self._use(entry).bytes if hasattr(entry, "address") else entry for entry in arguments))

        self._do(lambda stream: stream.enqueue(kernel.name, COMPUTE, kernel.duration_s(arguments), uses, finish))

    def work(
        self, label: str, duration_s: Callable[[], float], uses: Sequence[Use], function: Callable[[], None]
    ) -> None:
        """Do what a library would enqueue: an engine's run. A graph asks for the duration at each launch."""
        self._do(lambda stream: stream.enqueue(label, COMPUTE, duration_s(), uses, lambda _: function()))

    def record(self, event: SimulatedEvent) -> None:
        """Mark this place."""
        device = self._device
        with device.schedule.lock:
            event.check_open("recording an event")
            self._check_open()
            self._refuse_capture("recording an event")
            mark = event.mark = Mark(self._knowledge.copy())
            mark.knowledge.learn(device.host)

            def finish(moment_s: float) -> None:
                mark.done, mark.at_s = True, moment_s

            if not device.checks and not self._queue.tasks:
                finish(device.clock())
            else:
                device.schedule.append(Task(self._queue, "record", finish=finish))

    def wait(self, event: SimulatedEvent) -> None:
        """Let what follows begin after the mark as it stands now."""
        with self._device.schedule.lock:
            event.check_open("ordering two streams")
            self._check_open()
            self._refuse_capture("waiting for an event")
            if event.mark is None:
                return
            self._knowledge.learn(event.mark.knowledge)
            if not event.mark.done:
                self._device.schedule.append(Task(self._queue, "wait", awaits=event.mark))

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        device = self._device
        with device.schedule.lock:
            self._check_open()
            self._refuse_capture("synchronizing")
        device.schedule.run_until(lambda: not self._queue.tasks, f"stream {self._handle}'s synchronize")
        with device.schedule.lock:
            device.check_alive("waiting for a stream")
            device.host.learn(self._knowledge)

    def begin_capture(self) -> None:
        """Note what follows instead of doing it."""
        if not self._device.facts.features.graphs:
            raise CudaError("CUDA_ERROR_NOT_SUPPORTED", "capturing a graph", sticky=False)
        self._check_open()
        self._refuse_capture("beginning a capture")
        self._capture = SimulatedGraph(self._device)

    def end_capture(self) -> SimulatedGraph:
        """End the capture."""
        if self._capture is None:
            raise CudaError("CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "ending a capture", sticky=False)
        graph, self._capture = self._capture, None
        self._device.opened(graph, "a graph")
        return graph

    def launch_graph(self, graph: SimulatedGraph) -> None:
        """Make all the calls again."""
        self._check_open()
        if not self._device.is_open(graph):
            raise MisuseError("a graph is launched after it was closed")
        for call in graph.calls:
            call(self)

    def close(self) -> None:
        """Let go of it.

        Raises:
            MisuseError: Something in it is not done.
        """
        self._device.schedule.catch_up()
        if self._queue.tasks and self._device.is_alive:
            raise MisuseError(f"stream {self._handle} is closed while it has work")
        self._device.forget(self)
        self._device.closed(self)

    def enqueue(
        self,
        label: str,
        engine: str,
        duration_s: float,
        uses: Sequence[Use],
        finish: Callable[[float], None],
        start: Callable[[], None] = lambda: None,
    ) -> None:
        """Put an operation in the queue, after checking its order to all others."""
        device = self._device
        with device.schedule.lock:
            self._check_open()
            if device.checks:
                self._check_order(label, uses)
            elif duration_s == 0 and not self._queue.tasks and device.schedule.is_free(engine):
                finish(device.clock())
                return
            device.schedule.append(Task(self._queue, label, engine, duration_s, start, finish))

    def _check_order(self, label: str, uses: Sequence[Use]) -> None:
        """Check the order of an operation to all others, and note it."""
        self._count += 1
        operation = Operation(self._handle, self._count)
        self._knowledge.learn(self._device.host)
        # Only an earlier operation has to be known; of its own stream all earlier ones are.
        self._knowledge.note(Operation(self._handle, self._count - 1))
        what = f"{label} in stream {self._handle}"
        for use in uses:
            if not self._device.is_open(use.memory):
                raise MisuseError(f"{what} uses {use.memory.ledger.what} after it was closed")
            ledger = use.memory.ledger
            ledger.forget(self._device.host)
            ledger.access(what, use.start, use.size, operation, self._knowledge, writes=use.writes)
        self._knowledge.note(operation)

    def _do(self, call: Callable[[SimulatedStream], None]) -> None:
        self._check_open()
        if self._capture is not None:
            self._capture.calls.append(call)
        else:
            call(self)

    def _use(self, argument: Any, part: tuple[int, int] | None = None, *, writes: bool = False) -> Use:
        """See a part of an argument, which may also be memory that somebody else has of the device."""
        if not hasattr(argument, "address"):
            raise MisuseError(f"a kernel reads or writes {argument!r}, which is no device memory")
        start, size = part or (0, argument.size_bytes)
        if isinstance(argument, SimulatedBuffer):
            return Use(argument, start, size, writes=writes)
        memory, first = self._device.buffer_at(argument.address, argument.size_bytes)
        return Use(memory, first + start, size, writes=writes)

    def _check_open(self) -> None:
        self._device.check_alive("using a stream")
        if not self._device.is_open(self):
            raise MisuseError(f"stream {self._handle} is used after it was closed")

    def _refuse_capture(self, doing: str) -> None:
        if self._capture is not None:
            raise CudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", doing, sticky=False)
