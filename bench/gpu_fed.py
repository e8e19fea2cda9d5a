"""An engine on a GPU: alone in a bare loop, which is the ceiling, and under the executor, fed in several ways."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.colour import yuv_colour
from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
from vedette_engines.gpu.base import Batch, DevicePicture, HostPicture, SlotFrame
from vedette_engines.gpu.executor import Executor, LaneSettings
from vedette_engines.gpu.staging import Staging
from vedette_server.picture.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_engines.cuda.base import Device, Stream
    from vedette_engines.gpu.base import DeviceEngine, Feed, Outcome, Program

# What is fed: letterboxed frames or whole pictures of the host, which are uploaded; pictures that are on the device.
UPLOADS, PICTURES, RESIDENT = "letterboxed, uploaded", "1080p, uploaded", "1080p, on the device"
FEEDS = (UPLOADS, PICTURES, RESIDENT)
_PICTURE = (1920, 1080)
_WARM_S = 0.5
# Launches of one stream that are not waited for.
_AHEAD = 4


@dataclass(frozen=True)
class Setup:
    """How the executor is run.

    Attributes:
        batch: Frames of every batch.
        lanes: Batches at the same time.
        graphs: Batches are captured graphs.
        feed: One of `FEEDS`.
        seconds: How long it is measured.
    """

    batch: int
    lanes: int
    graphs: bool = True
    feed: str = UPLOADS
    seconds: float = 5.0


def ceiling(engine: DeviceEngine, batch: int, streams: int, seconds: float, *, graphs: bool = True) -> float:
    """Frames per second of the engine alone: a bare loop of launches on data that is on the device."""
    device = engine.device
    with device.attached(), contextlib.ExitStack() as stack:
        launches = [_resident(device, engine, batch, stack, graphs=graphs) for _ in range(streams)]
        _launch_for(device, launches, _WARM_S, stack)
        rounds, took_s = _launch_for(device, launches, seconds, stack)
    return rounds * batch / took_s


def _resident(
    device: Device, engine: DeviceEngine, batch: int, stack: contextlib.ExitStack, *, graphs: bool
) -> tuple[Stream, Callable[[], None]]:
    """Prepare one stream; gives what launches a batch in it."""

    def kept(thing: Any) -> Any:
        stack.callback(thing.close)
        return thing

    size = batch * int(np.prod(engine.input_shape))
    given, frames = kept(device.pin(size)), kept(device.allocate(size))
    rows = kept(device.allocate(batch * int(np.prod(engine.output_shape)) * 4))
    stream = kept(device.stream())
    given.array[:] = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    stream.upload(frames, given, size)
    stream.synchronize()
    (program,) = engine.open_programs(stream, frames, rows, [batch])
    kept(program)
    program.enqueue(stream)
    stream.synchronize()
    if not (graphs and program.capturable and device.facts.features.graphs):
        return stream, lambda: program.enqueue(stream)
    graph = kept(_captured(stream, program))
    return stream, lambda: stream.launch_graph(graph)


def _captured(stream: Stream, program: Program) -> Any:
    stream.begin_capture()
    program.enqueue(stream)
    return stream.end_capture()


def _launch_for(
    device: Device, launches: list[tuple[Stream, Callable[[], None]]], seconds: float, stack: contextlib.ExitStack
) -> tuple[int, float]:
    """Launch in all streams by turns for some time; gives how many launches were done in how many seconds."""
    waiting: dict[int, deque[Any]] = {index: deque() for index in range(len(launches))}
    free: list[Any] = []
    began, rounds = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        for index, (stream, launch) in enumerate(launches):
            if len(waiting[index]) == _AHEAD:
                event = waiting[index].popleft()
                event.synchronize()
                free.append(event)
            launch()
            if not free:
                free.append(device.event())
                stack.callback(free[-1].close)
            event = free.pop()
            stream.record(event)
            waiting[index].append(event)
            rounds += 1
    for stream, _ in launches:
        stream.synchronize()
    return rounds, time.monotonic() - began


class Endless:
    """A source that always has a batch, of the same frames, until it is told to end."""

    def __init__(self, frames: list[Feed]) -> None:
        self._frames = frames
        self._ended = threading.Event()
        self.frames = 0
        self.failures: list[str] = []

    def take(self, now: float) -> Batch | None:  # noqa: ARG002
        """Give the batch once more."""
        return None if self._ended.is_set() else Batch(self._frames, self._done)

    def due_at(self) -> float | None:
        """Tell that there is one."""
        return None if self._ended.is_set() else 0.0

    def end(self) -> None:
        """Give no more."""
        self._ended.set()

    def _done(self, outcome: Outcome) -> None:
        self.frames += len(self._frames)
        if outcome.error and len(self.failures) < 3:
            self.failures.append(outcome.error)


def fed(engine: DeviceEngine, setup: Setup, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """Run an executor on the engine's device for some time; gives its frames per second and its own figures."""
    device = engine.device
    executor = Executor(device, clock=clock)
    settings = LaneSettings(
        lanes=setup.lanes, max_batch=setup.batch, graphs=setup.graphs, letterbox=setup.feed != UPLOADS
    )
    with feeding(device, engine, setup) as frames:
        source = Endless(frames)
        executor.add(engine, source, settings)
        executor.start()
        try:
            time.sleep(_WARM_S)
            executor.figures()
            before, began = source.frames, time.monotonic()
            time.sleep(setup.seconds)
            done, took_s, figures = source.frames - before, time.monotonic() - began, executor.figures()
        finally:
            source.end()
            executor.close()
    if source.failures:
        raise SystemExit(f"batches failed while they were measured: {'; '.join(source.failures)}")
    return {
        "batch": setup.batch,
        "lanes": setup.lanes,
        "graphs": setup.graphs,
        "feed": setup.feed,
        "frames_per_s": done / took_s,
        "overlap": figures.overlap,
        "uploading": figures.upload_s / figures.elapsed_s,
        "computing": figures.compute_s / figures.elapsed_s,
        "downloading": figures.download_s / figures.elapsed_s,
    }


@contextlib.contextmanager
def feeding(device: Device, engine: DeviceEngine, setup: Setup) -> Iterator[list[Feed]]:
    """Make the frames of a batch, each in memory of its own."""
    height, width, _ = engine.input_shape
    with contextlib.ExitStack() as stack:

        def pinned(size: int) -> Any:
            with device.attached():
                memory = device.pin(size)
            stack.callback(_close, device, memory)
            memory.array[:] = np.random.default_rng(size).integers(0, 256, size, np.uint8)
            return memory

        if setup.feed == UPLOADS:
            yield [SlotFrame(pinned(height * width * 3)) for _ in range(setup.batch)]
            return
        layout = Staging().layout_of(SurfaceKind.I420, *_PICTURE)
        place, colour = Letterbox(width, height).place(*_PICTURE), yuv_colour(1, full_range=False)
        pictures = [pinned(layout.size_bytes) for _ in range(setup.batch)]
        if setup.feed == PICTURES:
            yield [HostPicture(memory, layout, place, colour) for memory in pictures]
            return
        with device.attached():
            memories = [_uploaded(device, memory, layout.size_bytes, stack) for memory in pictures]
        yield [DevicePicture(Surface.from_layout(memory, layout), place, colour) for memory in memories]


def _uploaded(device: Device, source: Any, size: int, stack: contextlib.ExitStack) -> Any:
    memory, stream = device.allocate(size), device.stream()
    stack.callback(_close, device, memory)
    stream.upload(memory, source, size)
    stream.synchronize()
    stream.close()
    return memory


def _close(device: Device, thing: Any) -> None:
    with device.attached():
        thing.close()
