"""An engine on a simulated device: what it gives is computed by a function on the host, in the time it is told to take.

For tests and benches of what stands around an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from vedette_engines.cuda.ordering import MisuseError
from vedette_engines.cuda.simulated_stream import Use
from vedette_engines.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device, DeviceBuffer, Stream
    from vedette_engines.cuda.simulated import SimulatedDevice


class SimulatedProgram:
    """One batch size of one lane.

    Args:
        engine: Whose.
        size: Rows that it computes.
        batch: Input.
        rows: Output.
    """

    def __init__(self, engine: SimulatedEngine, size: int, batch: DeviceBuffer, rows: DeviceBuffer) -> None:
        self._engine = engine
        self._size = size
        device = engine.simulated
        frame_bytes, row_bytes = engine.frame_bytes, engine.row_bytes
        taken, taken_at = device.buffer_at(batch.address, size * frame_bytes)
        given, given_at = device.buffer_at(rows.address, size * row_bytes)
        self._uses = (
            Use(taken, taken_at, size * frame_bytes, writes=False),
            Use(given, given_at, size * row_bytes, writes=True),
        )

    @property
    def size(self) -> int:
        """Rows that it computes."""
        return self._size

    @property
    def capturable(self) -> bool:
        """Whether it may be captured."""
        return self._engine.capturable

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the engine's work."""
        own = self._engine.simulated.stream_of(stream.handle)
        own.work(f"engine, batch of {self._size}", lambda: self._engine.duration_s(self._size), self._uses, self._run)

    def close(self) -> None:
        """Let go of it."""

    def _run(self) -> None:
        taken, given = self._uses
        frames = taken.bytes.reshape(self._size, *self._engine.input_shape)
        rows = np.ascontiguousarray(self._engine.function(frames), np.float32)
        if rows.shape != (self._size, *self._engine.output_shape):
            raise ValueError(
                f"the function gives {list(rows.shape)}; wanted {[self._size, *self._engine.output_shape]}"
            )
        given.bytes[:] = rows.view(np.uint8).reshape(-1)


class SimulatedEngine:
    """An engine that is a function; see `base.DeviceEngine`.

    Args:
        device: Where it is.
        input_shape: Height, width, 3.
        output_shape: Shape of one row.
        function: Gives `float32 [n, ...]` for `uint8 [n, H, W, 3]`, a view of the device's memory.
        duration_s: How long a batch of a size takes; asked for each.
        max_batch: Most rows of a run.
        sizes: Sizes that can be run; None: 1 to `max_batch`.
        lane_bytes: Memory that it says a lane takes besides input and output; it takes none.
        capturable: Its programs may be captured into graphs.
    """

    def __init__(
        self,
        device: SimulatedDevice,
        input_shape: tuple[int, int, int],
        output_shape: tuple[int, ...],
        function: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        duration_s: Callable[[int], float] = lambda _: 0.0,
        max_batch: int = 8,
        sizes: Sequence[int] | None = None,
        *,
        lane_bytes: int = 0,
        capturable: bool = True,
    ) -> None:
        self._device = device
        self._input_shape = input_shape
        self._output_shape = output_shape
        self._max_batch = max_batch
        self._sizes = tuple(sizes or range(1, max_batch + 1))
        self._lane_bytes = lane_bytes
        self._closed = False
        self.function = function
        self.duration_s = duration_s
        self.capturable = capturable

    @property
    def device(self) -> Device:
        """Where it is."""
        # What it makes takes only what it made itself; a protocol cannot say so.
        return cast("Device", self._device)

    @property
    def simulated(self) -> SimulatedDevice:
        """Where it is, as what it is."""
        return self._device

    @property
    def backend(self) -> str:
        """What runs it."""
        return "simulated"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one frame."""
        return self._input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one row of the output."""
        return self._output_shape

    @property
    def max_batch(self) -> int:
        """Most rows of a run."""
        return self._max_batch

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that can be run."""
        return self._sizes

    @property
    def lane_bytes(self) -> int:
        """What a lane takes besides its input and output."""
        return self._lane_bytes

    @property
    def frame_bytes(self) -> int:
        """Length of one frame of the input."""
        return int(np.prod(self._input_shape))

    @property
    def row_bytes(self) -> int:
        """Length of one row of the output."""
        return int(np.prod(self._output_shape, dtype=np.int64)) * 4

    def open_programs(
        self, stream: Stream, batch: DeviceBuffer, rows: DeviceBuffer, sizes: Sequence[int]
    ) -> Sequence[SimulatedProgram]:
        """Make the programs of one lane."""
        if self._closed:
            raise LoadError("the simulated engine is closed")
        if not set(sizes) <= set(self._sizes):
            raise LoadError(f"batch sizes are {list(sizes)}; the simulated engine has {list(self._sizes)}")
        if self._device.stream_of(stream.handle).busy:
            raise MisuseError("programs are made while something is under way in their lane")
        return [SimulatedProgram(self, size, batch, rows) for size in sizes]

    def close(self) -> None:
        """Let go of the engine."""
        self._closed = True
