"""Fit a picture into a model's input, and lead boxes back out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from vedette_engines.manifest import InputSpec


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture stands in the input.

    Attributes:
        source_width: Width of the picture as it came.
        source_height: Its height.
        left: First column that it covers in the input.
        top: First row.
        width: Columns that it covers.
        height: Rows.
    """

    source_width: int
    source_height: int
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(cls, source_width: int, source_height: int, spec: InputSpec) -> Letterbox:
        """Fit a picture of this size into an input, as large as it goes with its proportions kept."""
        ratio = min(spec.width / source_width, spec.height / source_height)
        width, height = max(1, round(source_width * ratio)), max(1, round(source_height * ratio))
        centred = spec.letterbox == "centre"
        left = (spec.width - width) // 2 if centred else 0
        top = (spec.height - height) // 2 if centred else 0
        return cls(source_width, source_height, left, top, width, height)

    def to_source(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Lead boxes, `float [M, 4]` as x1, y1, x2, y2 in input pixels, to pixels of the picture as it came."""
        across, down = self.source_width / self.width, self.source_height / self.height
        moved = np.asarray(boxes, np.float64) - (self.left, self.top, self.left, self.top)
        return (moved * (across, down, across, down)).astype(np.float32)

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Lead boxes of the picture as it came, `float [M, 4]`, to input pixels."""
        across, down = self.width / self.source_width, self.height / self.source_height
        scaled = np.asarray(boxes, np.float64) * (across, down, across, down)
        corner = np.asarray([self.left, self.top, self.left, self.top])
        moved: NDArray[np.float32] = (scaled + corner).astype(np.float32)
        return moved


def letterbox(frame: av.VideoFrame, spec: InputSpec) -> NDArray[np.uint8]:
    """Resize a picture into an input, `uint8 [height, width, 3]`, BGR, C-contiguous."""
    place = Letterbox.of(frame.width, frame.height, spec)
    picture = frame.reformat(place.width, place.height, "bgr24", interpolation="BILINEAR").to_ndarray()
    canvas: NDArray[np.uint8] = np.full((spec.height, spec.width, 3), spec.pad, np.uint8)
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = picture
    return canvas
