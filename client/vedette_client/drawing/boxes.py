"""Draw boxes with their labels into a picture."""

from __future__ import annotations

import colorsys
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Color = tuple[int, int, int]


class Drawn(Protocol):
    """A detection, as far as drawing needs it: the client's `Detection` is one.

    Attributes:
        label: Its class.
        score: Confidence, 0..1.
        box: Left, top, right, bottom, normalised.
        track_id: Its track; empty when it is not tracked.
    """

    @property
    def label(self) -> str: ...  # noqa: D102 - told above
    @property
    def score(self) -> float: ...  # noqa: D102 - told above
    @property
    def box(self) -> tuple[float, float, float, float]: ...  # noqa: D102 - told above
    @property
    def track_id(self) -> str: ...  # noqa: D102 - told above


def draw_boxes(image: NDArray[np.uint8], detections: Iterable[Drawn], *, dimmed: bool = False) -> None:
    """Draw detections into a picture, in place.

    Args:
        image: `uint8 [height, width, 3]`, RGB, the caller's.
        detections: What to draw; boxes beyond the picture are cut off.
        dimmed: Thin and grey, without scores: where things were seen last, not now.
    """
    height, width = image.shape[:2]
    sheet = Image.fromarray(image)
    pen = ImageDraw.Draw(sheet)
    font = font_of(max(10, round(height / 32)))
    line = 1 if dimmed else max(2, round(height / 200))
    for one in sorted(detections, key=lambda found: found.score):
        color = (150, 150, 150) if dimmed else color_of(one.label)
        x1, y1, x2, y2 = _clamped(one.box, width, height)
        pen.rectangle((x1, y1, x2, y2), outline=color, width=line)
        if not dimmed:
            _tag(pen, font, (x1, y1), caption_of(one), color, width)
    image[...] = np.asarray(sheet)


def caption_of(one: Drawn) -> str:
    """Say in a few letters what was found: label, score, and the end of the track's name."""
    track = f" #{one.track_id.rpartition('/')[2][-6:]}" if one.track_id else ""
    return f"{one.label} {one.score:.2f}{track}"


def color_of(label: str) -> Color:
    """Give each label a bright colour, always the same one."""
    hue = zlib.crc32(label.encode()) % 360 / 360
    red, green, blue = colorsys.hls_to_rgb(hue, 0.6, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _tag(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[int, int],
    text: str,
    color: Color,
    width: int,
) -> None:
    """Write the caption on a filled strip above the box, or inside where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    wide, high = round(right - left) + 6, round(bottom - top) + 6
    x = max(0, min(corner[0], width - wide))
    y = corner[1] - high if corner[1] >= high else corner[1]
    pen.rectangle((x, y, x + wide, y + high), fill=color)
    pen.text((x + 3 - left, y + 3 - top), text, fill=(0, 0, 0), font=font)


def _clamped(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = box
    left, right = sorted((_pixel(x1, width), _pixel(x2, width)))
    top, bottom = sorted((_pixel(y1, height), _pixel(y2, height)))
    return left, top, right, bottom


def _pixel(share: float, size: int) -> int:
    return min(size - 1, max(0, round(share * size)))


@lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give the font of captions in a size, pixels."""
    return ImageFont.load_default(size=size)
