"""Where a picture stands in an engine's input, and the way back from there.

Plain data and arithmetic, shared by all threads. A picture keeps its aspect (that of its samples
included), fills the input in one direction and is padded in the other, as YOLOX and ultralytics do
it. The resized size is computed in whole numbers and rounded to the nearest: YOLOX's
``int(h * r)`` in floats makes 233 rows of 432 * 416 / 768, which is 234. Points go back by the ratio
of the sizes themselves, so that rounding moves nothing.

Edges are continuous coordinates: pixel 0 reaches from 0.0 to 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SQUARE = Fraction(1)
TURNS = (0, 90, 180, 270)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The input of an engine, as its manifest gives it.

    Attributes:
        width: Width of the input in pixels.
        height: Height of the input in pixels.
        placement: `top-left` or `centre`: where the picture stands.
        pad: Grey value of what the picture does not cover, 0..255.
    """

    width: int
    height: int
    placement: str = "top-left"
    pad: int = 114

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: One of them is not allowed.
        """
        if self.width < 1 or self.height < 1:
            raise ValueError(f"letterbox is {self.width}x{self.height}; allowed is 1x1 and up")
        if self.placement not in {"top-left", "centre"}:
            raise ValueError(f"placement is {self.placement!r}; allowed are 'top-left' and 'centre'")
        if not 0 <= self.pad <= 255:
            raise ValueError(f"pad is {self.pad}; allowed is 0..255")

    def place(self, width: int, height: int, rotation_degrees: int = 0, sample_aspect: Fraction = SQUARE) -> Geometry:
        """Compute where a picture comes to stand.

        Args:
            width: Coded width in pixels, before the turn.
            height: Coded height in pixels, before the turn.
            rotation_degrees: Clockwise turn that makes it upright: 0, 90, 180, 270.
            sample_aspect: Width of a coded sample over its height.

        Raises:
            ValueError: A size below 1, another turn, an aspect that is not above 0.
        """
        if width < 1 or height < 1:
            raise ValueError(f"picture is {width}x{height}; allowed is 1x1 and up")
        if rotation_degrees not in TURNS:
            raise ValueError(f"rotation is {rotation_degrees}; allowed are 0, 90, 180 and 270 degrees")
        # A fraction's sign is its numerator's; to compare the fraction itself takes ten times as long.
        if sample_aspect.numerator <= 0:
            raise ValueError(f"sample aspect is {sample_aspect}; allowed is above 0")
        return _place(self, width, height, rotation_degrees, sample_aspect.numerator, sample_aspect.denominator)

    def place_upright(
        self, width: int, height: int, rotation_degrees: int = 0, sample_aspect: Fraction = SQUARE
    ) -> Geometry:
        """Do as ``place``, given the width and height after the turn; the aspect is still a coded sample's."""
        if rotation_degrees in {90, 270}:
            width, height = height, width
        return self.place(width, height, rotation_degrees, sample_aspect)

    def fitting(self, shown_width: int, shown_height: int) -> tuple[int, int]:
        """Scale a shape to the input; neither side becomes zero or larger than the input."""
        if self.width * shown_height <= self.height * shown_width:
            return self.width, max(_divide_to_nearest(shown_height * self.width, shown_width), 1)
        return max(_divide_to_nearest(shown_width * self.height, shown_height), 1), self.height


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where one upright picture stands in one input.

    Attributes:
        width: Upright width of the source in pixels.
        height: Upright height of the source in pixels.
        rotation_degrees: The clockwise turn that made it upright.
        fit_width: Width of the picture in the input, 1..input width.
        fit_height: Height of the picture in the input, 1..input height.
        left: First column of the picture in the input.
        top: First row of the picture in the input.
    """

    width: int
    height: int
    rotation_degrees: int
    fit_width: int
    fit_height: int
    left: int
    top: int

    @property
    def coded_fit(self) -> tuple[int, int]:
        """Width and height in the input before the turn."""
        if self.rotation_degrees in {90, 270}:
            return self.fit_height, self.fit_width
        return self.fit_width, self.fit_height

    def to_normalised(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take boxes back to the upright source, clipped to it.

        Args:
            boxes: ``float32 [n, 4]``, x1, y1, x2, y2 in pixels of the input; left alone.

        Returns:
            ``float32 [n, 4]``, 0..1; a box outside the picture has no width or height.
        """
        back = (boxes - np.array((self.left, self.top, self.left, self.top), np.float32)) * np.array(
            (1.0 / self.fit_width, 1.0 / self.fit_height) * 2, np.float32
        )
        # Minimum first: a NaN of a sick model would pass both, and is dropped where boxes are judged.
        return np.maximum(np.minimum(back, np.float32(1.0)), np.float32(0.0))

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take boxes back to pixels of the upright source, clipped to it; see ``to_normalised``."""
        return self.to_normalised(boxes) * np.array((self.width, self.height) * 2, np.float32)

    def points_to_normalised(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take points back to the upright source, not clipped: a joint may lie outside the picture.

        Args:
            points: ``float32 [..., 2]``, x, y in pixels of the input; left alone.

        Returns:
            ``float32 [..., 2]``, 0..1 within the picture.
        """
        scale = np.array((1.0 / self.fit_width, 1.0 / self.fit_height), np.float32)
        return (points - np.array((self.left, self.top), np.float32)) * scale

    def to_input(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take boxes of the upright source to the input.

        Args:
            boxes: ``float32 [n, 4]``, x1, y1, x2, y2 in pixels of the upright source.

        Returns:
            ``float32 [n, 4]`` in pixels of the input.
        """
        scale = np.array((self.fit_width / self.width, self.fit_height / self.height) * 2, np.float32)
        return boxes * scale + np.array((self.left, self.top) * 2, np.float32)


@lru_cache(maxsize=1024)
def _place(
    fit: Letterbox, width: int, height: int, rotation_degrees: int, aspect_width: int, aspect_height: int
) -> Geometry:
    """Compute where a picture comes to stand; remembered, since a camera's pictures are all alike."""
    shown_width, shown_height = width * aspect_width, height * aspect_height
    if rotation_degrees in {90, 270}:
        width, height = height, width
        shown_width, shown_height = shown_height, shown_width
    fit_width, fit_height = fit.fitting(shown_width, shown_height)
    centred = fit.placement == "centre"
    return Geometry(
        width=width,
        height=height,
        rotation_degrees=rotation_degrees,
        fit_width=fit_width,
        fit_height=fit_height,
        left=(fit.width - fit_width) // 2 if centred else 0,
        top=(fit.height - fit_height) // 2 if centred else 0,
    )


def _divide_to_nearest(numerator: int, denominator: int) -> int:
    """Divide whole numbers above zero, rounding halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
