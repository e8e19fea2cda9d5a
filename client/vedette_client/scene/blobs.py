"""Squares of pure red, green and blue that wander over a dim grey ground.

For the engine `blobs`, which looks at pictures letterboxed to 160 x 96 pixels. What it asks for holds
at that scale: sides are at least 5.5 of its pixels (and 1/16 to 1/6 of the picture's height), and no
square comes nearer than four of its pixels to another or to the border. The ground is 40 to 110 in all
three channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_client.scene.truth import FrameTruth, TruthObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_client.scene.spec import SceneSpec

_COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_ENGINE_WIDTH_PX = 160
_ENGINE_HEIGHT_PX = 96
_LEAST_SIDE_PX = 5.5
_GAP_PX = 4.5


@dataclass(frozen=True, slots=True)
class _Blob:
    """A square on its course: an ellipse with whole numbers of turns per period."""

    label: str
    side: int
    center: tuple[float, float]
    reach: tuple[float, float]
    turns: tuple[int, int]
    phase: tuple[float, float]


class Blobs:
    """The scene of one seed.

    Args:
        spec: Its size, period and number of squares.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self._spec = spec
        rng = np.random.default_rng(spec.seed)
        self._ground = _ground(spec, rng)
        self._blobs = _place(spec, rng)

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Draw one frame: `uint8 [height, width, 3]`, RGB, the caller's own."""
        picture = self._ground.copy()
        for blob in self._blobs:
            x, y = self._corner(blob, index)
            picture[y : y + blob.side, x : x + blob.side] = _COLORS[blob.label]
        return picture

    def truth(self, index: int) -> FrameTruth:
        """Tell where the squares are in that frame."""
        width, height = self._spec.width, self._spec.height
        objects = []
        for number, blob in enumerate(self._blobs):
            x, y = self._corner(blob, index)
            box = (x / width, y / height, (x + blob.side) / width, (y + blob.side) / height)
            objects.append(TruthObject(blob.label, *box, id=number))
        return FrameTruth(tuple(objects))

    def _corner(self, blob: _Blob, index: int) -> tuple[int, int]:
        """Upper left corner, on even pixels so that halved chroma keeps the edges sharp."""
        time = index % self._spec.period_frames / self._spec.period_frames
        x, y = (
            center + reach * math.sin(2 * math.pi * (turns * time + phase)) - blob.side / 2
            for center, reach, turns, phase in zip(blob.center, blob.reach, blob.turns, blob.phase, strict=True)
        )
        return 2 * round(x / 2), 2 * round(y / 2)


def _ground(spec: SceneSpec, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Grey, lighter to one corner, with slow ripples."""
    y, x = np.mgrid[0 : spec.height, 0 : spec.width].astype(np.float32)
    y /= spec.height
    x /= spec.width
    slope, ripple_x, ripple_y = rng.uniform(-1, 1), rng.uniform(1, 4), rng.uniform(1, 4)
    shade = 75 + 20 * (slope * (x - 0.5) + (1 - abs(slope)) * (y - 0.5))
    shade += 8 * np.sin(2 * np.pi * ripple_x * x) * np.cos(2 * np.pi * ripple_y * y)
    grey = np.clip(shade, 45, 105).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _place(spec: SceneSpec, rng: np.random.Generator) -> list[_Blob]:
    """Give each square a cell of a grid to wander in, so that no two ever meet."""
    scale = min(_ENGINE_WIDTH_PX / spec.width, _ENGINE_HEIGHT_PX / spec.height)
    gap = _GAP_PX / scale + 2  # squares lie on even pixels
    columns = max(1, math.ceil(math.sqrt(spec.count * spec.width / spec.height)))
    rows = max(1, math.ceil(spec.count / columns))
    cell_width, cell_height = (spec.width - gap) / columns, (spec.height - gap) / rows
    room = min(cell_width, cell_height) - gap
    least = math.ceil(max(spec.height / 16, _LEAST_SIDE_PX / scale))
    most = max(least, math.floor(spec.height / 6))
    blobs = []
    for number, cell in enumerate(rng.permutation(columns * rows)[: spec.count]):
        side = int(rng.integers(least, max(least, min(most, int(0.7 * room))) + 1))
        side += side % 2 if side < most else -(side % 2)
        row, column = divmod(int(cell), columns)
        blobs.append(
            _Blob(
                label=list(_COLORS)[(spec.seed + number) % len(_COLORS)],
                side=side,
                center=(gap / 2 + (column + 0.5) * cell_width, gap / 2 + (row + 0.5) * cell_height),
                reach=(max(0.0, (cell_width - gap - side) / 2), max(0.0, (cell_height - gap - side) / 2)),
                turns=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
                phase=(float(rng.random()), float(rng.random())),
            )
        )
    return blobs
