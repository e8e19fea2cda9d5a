"""Gather slots into the input of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.errors import RunError
from vedette_engines.runners.base import BatchMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class GatherBuffer:
    """A lane's own input buffer, grown to the largest batch it has seen. One thread at a time.

    Args:
        slot_shape: Shape of a frame: height, width, 3.
        max_batch: Most frames per run; None: no limit.
        fixed_batch: Every run takes exactly so many; None: any number.
        mode: Whether batches are padded to powers of two.
    """

    def __init__(
        self,
        slot_shape: tuple[int, int, int],
        *,
        max_batch: int | None = None,
        fixed_batch: int | None = None,
        mode: BatchMode = BatchMode.EXACT,
    ) -> None:
        self._slot_shape = slot_shape
        self._max_batch = max_batch
        self._fixed_batch = fixed_batch
        self._mode = mode
        self._buffer = np.zeros((0, *slot_shape), np.uint8)

    def gather(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Lay the frames one behind the other.

        Returns:
            `uint8 [m, H, W, 3]` with m >= n; what is past n is padding. A view: of the frame itself when one frame
            needs no padding, else of this buffer, overwritten by the next call.

        Raises:
            RunError: No frame, too many, or one of another shape or type.
        """
        self._check(frames)
        rows = self._rows(len(frames))
        if rows == 1 and frames[0].flags.c_contiguous:
            return frames[0][None]
        if rows > len(self._buffer):
            self._buffer = np.zeros((rows, *self._slot_shape), np.uint8)
        for place, frame in zip(self._buffer, frames, strict=False):
            place[...] = frame
        return self._buffer[:rows]

    def release(self) -> None:
        """Let go of the memory."""
        self._buffer = np.zeros((0, *self._slot_shape), np.uint8)

    def _check(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        if not frames or (self._max_batch is not None and len(frames) > self._max_batch):
            raise RunError(f"a batch of {len(frames)} frames; allowed: 1..{self._max_batch or 'any number'}")
        for frame in frames:
            if frame.shape != self._slot_shape or frame.dtype != np.uint8:
                raise RunError(f"a frame is {frame.dtype} {list(frame.shape)}; wanted: uint8 {list(self._slot_shape)}")

    def _rows(self, count: int) -> int:
        if self._fixed_batch is not None:
            return self._fixed_batch
        if self._mode is BatchMode.BUCKET:
            bucket = 1 << (count - 1).bit_length()
            # The last bucket is the largest batch itself, power of two or not.
            return bucket if self._max_batch is None else min(bucket, self._max_batch)
        return count
