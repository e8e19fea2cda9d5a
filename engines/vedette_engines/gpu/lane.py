"""One lane: a stream with buffers, events and programs of its own, through which one batch at a time goes.

Upload, engine and download of a batch follow each other in the lane's stream; those of several lanes overlap. Nothing
here waits, but for opening, warming up and closing.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import EnginesError, RunError
from vedette_engines.gpu.base import LaneTimes
from vedette_engines.gpu.buckets import size_for
from vedette_engines.gpu.feeding import Feeder
from vedette_engines.gpu.keeping import Kept
from vedette_engines.runners.base import BatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device, Event, Graph, Stream
    from vedette_engines.cuda.letterboxing import DeviceLetterbox
    from vedette_engines.gpu.base import DeviceEngine, Feed, Program
    from vedette_engines.gpu.timings import Anchor

_log = logging.getLogger(__name__)

# A lane that could run more sizes makes those in between when they are needed.
MOST_PROGRAMS = 32
_NOTHING = contextlib.nullcontext()


def no_annotation(_: str) -> AbstractContextManager[object]:
    """Mark nothing."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How an engine is run on a device.

    Attributes:
        lanes: Batches at the same time; None: as many as there is memory for, 4 at most.
        max_batch: Most frames per batch; None: what the engine allows.
        mode: BUCKET: programs for powers of two and the largest batch, a captured graph each; EXACT: each size that
            the engine has, without graphs; where those are very many, most are made when they are first needed.
        graphs: Programs are captured into graphs where device and program allow it.
        priority: Of the lanes' streams; a lower number goes first.
        timing: Events tell when the parts of each batch ran.
        letterbox: Lanes take pictures, too, and letterbox them.
        pad: Grey value of what a picture does not cover, 0..255.
    """

    lanes: int | None = None
    max_batch: int | None = None
    mode: BatchMode = BatchMode.BUCKET
    graphs: bool = True
    priority: int = 0
    timing: bool = True
    letterbox: bool = False
    pad: int = 114


class Lane:
    """One lane of an engine. One thread at a time, attached to the device.

    Args:
        device: Where it is.
        engine: What it runs.
        number: Its number, from 0.
        sizes: Batch sizes, rising.
        settings: How.
        letterbox: Letterboxes pictures; None: pictures are refused. Belongs to the caller.
        annotate: Marks what the host does for a batch.

    Raises:
        LoadError: The engine refuses.
        CudaError: There is not enough memory, or the device failed.
    """

    def __init__(
        self,
        device: Device,
        engine: DeviceEngine,
        number: int,
        sizes: Sequence[int],
        settings: LaneSettings,
        letterbox: DeviceLetterbox | None = None,
        annotate: Callable[[str], AbstractContextManager[object]] = no_annotation,
    ) -> None:
        self.number = number
        self.sizes = tuple(sizes)
        self._engine = engine
        self._settings = settings
        self._annotate = annotate
        self._frame_bytes, self._row_bytes = frame_bytes(engine), row_bytes(engine)
        self._kept = kept = Kept()
        try:
            self._stream = kept.keep(device.stream(settings.priority))
            self._input = kept.keep(device.allocate(sizes[-1] * self._frame_bytes))
            self._output = kept.keep(device.allocate(sizes[-1] * self._row_bytes))
            self._taken = kept.keep(device.pin(sizes[-1] * self._row_bytes))
            self._feeder = kept.keep(Feeder(device, self._stream, self._input, self._frame_bytes, letterbox))
            self._last = kept.keep(device.event(timing=settings.timing))
            # Begin of the uploads, their end, end of the engine.
            self._stages: list[Event] = [kept.keep(device.event(timing=True)) for _ in range(3 * settings.timing)]
            self._programs: dict[int, Program] = {}
            self._graphs: dict[int, Graph] = {}
            self._with_graphs = settings.graphs and settings.mode is BatchMode.BUCKET and device.facts.features.graphs
            self._warm_up(device)
        except BaseException:
            self.close()
            raise

    @property
    def graphs(self) -> int:
        """How many of its sizes run as a captured graph."""
        return len(self._graphs)

    def enqueue(self, frames: Sequence[Feed], size: int) -> None:
        """Enqueue one batch; the lane is idle.

        Args:
            frames: At most `size`; left alone until `done`.
            size: One of `sizes`.

        Raises:
            RunError: The runtime or a frame is refused; `drain` before `done` is asked.
            CudaError: The device failed; `drain` before `done` is asked.
        """
        stream, annotate = self._stream, self._annotate
        # Before anything is under way: a program may only now be made.
        run = self._runner(size)
        self._mark(0)
        with annotate("upload"):
            self._feeder.feed(frames)
        self._mark(1)
        with annotate("compute"):
            run(stream)
        self._mark(2)
        with annotate("download"):
            stream.download(self._taken, self._output, len(frames) * self._row_bytes)
        stream.record(self._last)

    def drain(self) -> None:
        """Let `done` tell when what was enqueued of a batch that failed is done."""
        self._stream.record(self._last)

    def done(self) -> bool:
        """Tell whether the batch is done; never blocks.

        Raises:
            CudaError: It failed.
        """
        return self._last.done()

    def wait(self) -> None:
        """Wait until the batch is done.

        Raises:
            CudaError: It failed.
        """
        self._last.synchronize()

    def synchronize(self) -> None:
        """Wait until nothing is under way.

        Raises:
            CudaError: Something failed.
        """
        self._stream.synchronize()

    def rows(self, count: int) -> NDArray[np.float32]:
        """Copy the rows of a batch that is done: `float32 [count, ...]`, C-contiguous, the caller's."""
        rows = self._taken.array[: count * self._row_bytes].view(np.float32)
        return rows.reshape(count, *self._engine.output_shape).copy()

    def times(self, anchor: Anchor) -> LaneTimes:
        """Tell when the parts of a batch ran that is done; the lanes have timing.

        Raises:
            CudaError: The device failed.
        """
        begin, uploaded, computed, downloaded = (
            anchor.at_s + event.milliseconds_since(anchor.event) * 1e-3 for event in (*self._stages, self._last)
        )
        return LaneTimes((begin, uploaded), (uploaded, computed), (computed, downloaded))

    def close(self) -> None:
        """Let go of everything; may be called twice. Nothing is under way."""
        self._kept.close()

    def _mark(self, stage: int) -> None:
        if self._stages:
            self._stream.record(self._stages[stage])

    def _runner(self, size: int) -> Callable[[Stream], None]:
        """Give what enqueues the engine's work for a batch size."""
        graph = self._graphs.get(size)
        if graph is not None:
            return lambda stream: stream.launch_graph(graph)
        if size not in self._programs:
            self._open_programs((size,))
        return self._programs[size].enqueue

    def _open_programs(self, sizes: Sequence[int]) -> None:
        for program in self._engine.open_programs(self._stream, self._input, self._output, sizes):
            self._programs[program.size] = self._kept.keep(program)

    def _warm_up(self, device: Device) -> None:
        """Write the whole input once, run each program that is made now, and capture it.

        Slots that pad a batch hold what they held: here they get something to hold.
        """
        # Made together they share working memory; but each is a context, and takes its time.
        few = len(self.sizes) <= MOST_PROGRAMS
        self._open_programs(self.sizes if few else (self.sizes[0], self.sizes[-1]))
        blank = device.pin(self._frame_bytes)
        try:
            blank.array[:] = self._settings.pad
            for slot_index in range(self.sizes[-1]):
                self._stream.upload(self._input, blank, self._frame_bytes, target_at=slot_index * self._frame_bytes)
            for program in self._programs.values():
                program.enqueue(self._stream)
            self._stream.synchronize()
            self._capture_all()
        except BaseException:
            # What was enqueued before still uses the memory that is closed now.
            with contextlib.suppress(CudaError):
                self._stream.synchronize()
            raise
        finally:
            blank.close()

    def _capture_all(self) -> None:
        """Capture what was made, and launch each graph once: the first launch takes longer."""
        if not self._with_graphs:
            return
        for program in self._programs.values():
            self._capture(program)
        for graph in self._graphs.values():
            self._stream.launch_graph(graph)
        self._stream.synchronize()

    def _capture(self, program: Program) -> None:
        """Capture a program that has run once, if it may be; one that cannot be is enqueued each time."""
        if not program.capturable:
            return
        try:
            graph = self._captured(program)
        except EnginesError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            _log.warning("batch size %d is run without a graph: %s", program.size, error)
        else:
            self._graphs[program.size] = self._kept.keep(graph)

    def _captured(self, program: Program) -> Graph:
        self._stream.begin_capture()
        try:
            program.enqueue(self._stream)
        except EnginesError:
            with contextlib.suppress(CudaError):
                self._stream.end_capture().close()
            raise
        return self._stream.end_capture()


def frame_bytes(engine: DeviceEngine) -> int:
    """Tell the length of one frame of an engine's input."""
    height, width, channels = engine.input_shape
    return height * width * channels


def row_bytes(engine: DeviceEngine) -> int:
    """Tell the length of one row of an engine's output."""
    return int(np.prod(engine.output_shape, dtype=np.int64)) * 4


def size_of_batch(frames: Sequence[object], sizes: Sequence[int], max_batch: int) -> int:
    """Choose the size at which a batch runs.

    Raises:
        RunError: It has no frame, or too many.
    """
    if not 1 <= len(frames) <= max_batch:
        raise RunError(f"a batch of {len(frames)} frames; allowed: 1..{max_batch}")
    return size_for(len(frames), sizes)
