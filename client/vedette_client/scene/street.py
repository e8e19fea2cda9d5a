"""Draw the street that the walkers walk on: a house front, a pavement of slabs, a kerb and a road."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where the ground begins and where the road does, as shares of the picture's height.
GROUND_Y = 0.42
ROAD_Y = 0.93
HORIZON_Y = 0.24


def draw_street(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the empty street.

    Edges are soft and upright lines few: a detector of people answers to upright edges.

    Returns:
        `float32 [height, width, 3]`, RGB.
    """
    sheet = Image.new("RGB", (width, height), (150, 146, 140))
    draw = ImageDraw.Draw(sheet)
    _wall(draw, width, height, rng)
    _pavement(draw, width, height)
    soft = np.asarray(sheet.filter(ImageFilter.GaussianBlur(height / 240)), np.float32)
    lit: NDArray[np.float32] = np.clip(soft * _light(width, height) + _grain(width, height, rng), 0, 255)
    return lit


def _wall(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    base = np.array([[168, 152, 136], [158, 160, 164], [172, 164, 146], [150, 146, 150]])[rng.integers(4)]
    ground = GROUND_Y * height
    draw.rectangle((0, 0, width, ground), fill=_color(base))
    course = height / 30
    for row in range(int(ground / course) + 1):
        shade = base + rng.uniform(-4, 4)
        draw.rectangle((0, row * course, width, (row + 1) * course - 1), fill=_color(shade))
    window_width, window_height = 0.34 * height, 0.17 * height
    step = 0.55 * height
    start = rng.uniform(-0.4, 0) * height
    while start < width:
        box = (start, 0.06 * height, start + window_width, 0.06 * height + window_height)
        draw.rectangle(box, fill=_color(base - 34))
        frame = height / 90
        pane = (box[0] + frame, box[1] + frame, box[2] - frame, box[3] - frame)
        draw.rectangle(pane, fill=_color(base - np.array((28, 22, 14))))
        sill = (box[0] - 0.015 * height, box[3], box[2] + 0.015 * height, box[3] + 0.012 * height)
        draw.rectangle(sill, fill=_color(base + 14))
        start += step
    draw.rectangle((0, ground - 0.03 * height, width, ground), fill=_color(base - 26))


def _pavement(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    ground, road = GROUND_Y * height, ROAD_Y * height
    draw.rectangle((0, ground, width, road), fill=(176, 174, 168))
    rows = ground + (road - ground) * np.linspace(0, 1, 7) ** 1.6
    for y in rows:
        draw.line((0, y, width, y), fill=(158, 156, 150), width=max(1, height // 240))
    middle, spread = width / 2, height * 0.42
    for number in range(-12, 13):
        at_ground = middle + number * spread * 0.6
        at_road = middle + number * spread * 1.7
        draw.line((at_ground, ground, at_road, road), fill=(164, 162, 156), width=max(1, height // 300))
    draw.rectangle((0, road, width, road + 0.02 * height), fill=(198, 196, 190))
    draw.rectangle((0, road + 0.02 * height, width, height), fill=(104, 104, 108))


def _light(width: int, height: int) -> NDArray[np.float32]:
    """Brighter in the middle, as through a lens."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light: NDArray[np.float32] = (1.05 - 0.12 * (x**2 + y**2)).astype(np.float32)[:, :, None]
    return light


def _grain(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Coarse stains and fine grain, the same in all frames."""
    stains = rng.normal(0, 1, (height // 24 + 1, width // 24 + 1)).astype(np.float32)
    coarse = np.asarray(Image.fromarray(stains).resize((width, height), Image.Resampling.BICUBIC))
    fine = rng.normal(0, 1, (height, width)).astype(np.float32)
    grain: NDArray[np.float32] = (3.5 * coarse + 1.5 * fine)[:, :, None].astype(np.float32)
    return grain


def _color(values: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue
