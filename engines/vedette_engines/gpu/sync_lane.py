"""A lane for one caller who waits for it: for tuning, comparing and measuring an engine on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import EnginesError, LoadError, RunError
from vedette_engines.gpu.base import SlotFrame
from vedette_engines.gpu.keeping import Kept
from vedette_engines.gpu.lane import Lane, LaneSettings, frame_bytes, size_of_batch
from vedette_engines.gpu.opening_lanes import plan_lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.gpu.base import DeviceEngine

_DEFAULTS = LaneSettings()


class SyncLane:
    """One lane behind `runners.base.Lane`: frames are ordinary arrays, copied into its pinned memory.

    One thread at a time, any.

    Args:
        engine: What it runs; closed by whoever opened it, after this.
        settings: How; one lane, whatever they say.

    Raises:
        LoadError: The device has no room, or the engine refuses.
    """

    def __init__(self, engine: DeviceEngine, settings: LaneSettings = _DEFAULTS) -> None:
        self._device = engine.device
        self._lanes = plan_lanes(engine.device, engine, replace(settings, lanes=1))
        self._shape = engine.input_shape
        self._kept = Kept()
        self._lane: Lane | None = None
        self._closed = False
        with self._device.attached():
            try:
                pinned = self._kept.keep(self._device.pin(self._lanes.max_batch * frame_bytes(engine)))
                self._lanes.open()
            except CudaError as error:
                self._kept.close()
                raise LoadError(f"a lane cannot be opened: {error}") from error
            except LoadError:
                self._kept.close()
                raise
        self._lane = self._lanes.lanes[0]
        self._slots: NDArray[np.uint8] = pinned.array.reshape(-1, *self._shape)
        self._frames = [SlotFrame(pinned, index * frame_bytes(engine)) for index in range(self._lanes.max_batch)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that are run; a batch of another size is padded to the next."""
        return self._lanes.sizes

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run a batch; see `runners.base.Lane.run`."""
        size = size_of_batch(frames, self._lanes.sizes, self._lanes.max_batch)
        for frame in frames:
            if frame.shape != self._shape or frame.dtype != np.uint8:
                raise RunError(f"a frame is {frame.dtype} {list(frame.shape)}; wanted: uint8 {list(self._shape)}")
        with self._device.attached():
            lane = self._usable()
            for slot, frame in zip(self._slots, frames, strict=False):
                slot[...] = frame
            try:
                lane.enqueue(self._frames[: len(frames)], size)
            except (RunError, CudaError) as error:
                self._recover(lane)
                raise RunError(f"a batch of {len(frames)} failed: {error}") from error
            try:
                lane.wait()
            except CudaError as error:
                self._recover(lane)
                raise RunError(f"a batch of {len(frames)} failed: {error}") from error
            return lane.rows(len(frames))

    def close(self) -> None:
        """Let go of the lane; may be called twice."""
        self._lane = None
        self._closed = True
        with self._device.attached():
            self._lanes.close()
            self._kept.close()

    def _usable(self) -> Lane:
        if self._closed:
            raise RunError("the lane is closed")
        if self._lane is None:
            try:
                for broken in tuple(self._lanes.lanes):
                    self._lanes.discard(broken)
                self._lane = self._lanes.reopen(0)
            except EnginesError as error:
                raise RunError(f"the lane failed and cannot be opened again: {error}") from error
        return self._lane

    def _recover(self, lane: Lane) -> None:
        """Wait for what was enqueued of a batch that failed; a lane that cannot even do that is not used again."""
        try:
            lane.synchronize()
        except CudaError:
            self._lane = None
