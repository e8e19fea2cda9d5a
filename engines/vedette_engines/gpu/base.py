"""The seams of the executor: the engines that it runs, what goes in, what comes out, and who has work for it.

One executor drives one GPU from one thread. An engine on the device offers *programs*: what is enqueued between upload
and download for one batch size, with fixed addresses. A lane owns a stream, buffers and programs; several lanes are in
flight at once. A source has the batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device, DeviceBuffer, PinnedBuffer, Stream
    from vedette_engines.cuda.colour import YuvColour
    from vedette_engines.cuda.letterboxing import Place, Surface, SurfaceKind

# -- what goes in -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotFrame:
    """A frame that is letterboxed already, in pinned memory; it is uploaded by one copy.

    Attributes:
        memory: Holds `uint8 [H, W, 3]`, BGR, C-contiguous; not to be written until the batch is done.
        at: First byte of the frame.
    """

    memory: PinnedBuffer
    at: int = 0


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """How a picture lies in memory, all planes in one piece.

    Attributes:
        kind: Layout of its pixels.
        width: Width in pixels, as coded: before any turn.
        height: Height in pixels.
        plane_at: First byte of each plane.
        pitches: Bytes from one row to the next, of each plane.
        size_bytes: Length of it all.
    """

    kind: SurfaceKind
    width: int
    height: int
    plane_at: tuple[int, ...]
    pitches: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HostPicture:
    """A picture as it was decoded, in pinned memory; it is uploaded and letterboxed on the device.

    Attributes:
        memory: Holds the planes, from byte 0; not to be written until the batch is done.
        layout: How they lie.
        place: Where the upright picture stands in the engine's input.
        colour: How to read YUV; None for BGR and RGB.
    """

    memory: PinnedBuffer
    layout: PictureLayout
    place: Place
    colour: YuvColour | None


@dataclass(frozen=True, slots=True)
class DevicePicture:
    """A picture that is on the device already, such as a hardware decoder's surface; it is letterboxed there.

    Attributes:
        surface: The picture; whoever owns it leaves it alone until the batch is done.
        place: Where the upright picture stands in the engine's input.
        colour: How to read YUV; None for BGR and RGB.
        order: Makes a stream wait until the picture is decoded; None: it is.
    """

    surface: Surface
    place: Place
    colour: YuvColour | None
    order: Callable[[Stream], None] | None = None


Feed = SlotFrame | HostPicture | DevicePicture

# -- what comes out -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LaneTimes:
    """When the parts of one batch ran on the device, in seconds of the executor's clock, by events.

    Attributes:
        upload: Begin and end of the uploads, and of letterboxing where the device does that.
        compute: Begin and end of the engine.
        download: Begin and end of the copy back.
    """

    upload: tuple[float, float]
    compute: tuple[float, float]
    download: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    Attributes:
        rows: `float32 [n, ...]`, C-contiguous, row i for frame i; whoever is told owns it. None: the batch failed.
        error: Why it failed; empty: it did not.
        started_s: When it was enqueued, by the executor's clock.
        finished_s: When the host saw that it was done.
        lane: Number of the lane, from 0.
        size: Rows that the engine computed, padding included.
        times: When its parts ran; None: they were not measured.
    """

    rows: NDArray[np.float32] | None
    error: str
    started_s: float
    finished_s: float
    lane: int
    size: int
    times: LaneTimes | None = None


@dataclass(slots=True, eq=False)
class Batch:
    """Frames that run together.

    Attributes:
        frames: 1 to the engine's largest batch.
        done: Called once, from the executor's thread, with what became of them; must not block, and must not raise.
    """

    frames: Sequence[Feed]
    done: Callable[[Outcome], None]


class Source(Protocol):
    """Who has batches for one engine. Called from the executor's thread; must not block."""

    def take(self, now: float) -> Batch | None:
        """Give a batch that is due."""

    def due_at(self) -> float | None:
        """Tell when `take` will have something, by the executor's clock; None: not before the executor is nudged."""


# -- the engines --------------------------------------------------------------------------------


class Program(Protocol):
    """One batch size of one lane."""

    @property
    def size(self) -> int:
        """Rows that it computes."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured into a graph, once it has run once."""
        ...

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the engine's work: reads the lane's input, writes its output, both at the addresses it was made for.

        Raises:
            RunError: The runtime refuses.
            CudaError: The device failed.
        """

    def close(self) -> None:
        """Let go of it; may be called twice. Nothing of it is under way."""


class DeviceEngine(Protocol):
    """A loaded engine on a device: makes programs for lanes. Closed by whoever opened it, after its lanes."""

    @property
    def device(self) -> Device:
        """Where it is."""
        ...

    @property
    def backend(self) -> str:
        """What really runs it, such as `tensorrt:11.1.0` or `onnxruntime:CUDAExecutionProvider`."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one frame: height, width, 3; `uint8`."""
        ...

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one row of the output, without the batch; `float32`."""
        ...

    @property
    def max_batch(self) -> int:
        """Most rows of a run."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that can be run, rising; a plan whose profiles have gaps lacks some.

        A batch of another size is padded to the next of these.
        """
        ...

    @property
    def lane_bytes(self) -> int:
        """Device memory that a lane takes besides its input and output, estimated."""
        ...

    def open_programs(
        self, stream: Stream, batch: DeviceBuffer, rows: DeviceBuffer, sizes: Sequence[int]
    ) -> Sequence[Program]:
        """Make the programs of one lane, in the order of `sizes`.

        Programs of one lane never run at the same time and may share working memory. The caller is attached to the
        device; any thread may call, but lanes of one engine are made one after the other.

        Args:
            stream: The lane's stream; nothing is under way in it.
            batch: Input, `uint8 [m, H, W, 3]`, m at least the largest of `sizes`.
            rows: Output, `float32 [m, ...]`.
            sizes: Batch sizes, all among `DeviceEngine.sizes`.

        Raises:
            LoadError: The device has no room, or the runtime refuses.
        """
        ...

    def close(self) -> None:
        """Let go of the engine after its lanes, attached; may be called twice."""
