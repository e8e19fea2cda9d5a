"""People who walk along a street, drawn so that a detector of real people finds them.

Each walker crosses the picture once per period, on a line of its own, in step with the ground under
its feet. How tall it is follows from where it walks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vedette_client.scene.figure import Clothes, Sprite, draw_figure
from vedette_client.scene.street import HORIZON_Y, draw_street
from vedette_client.scene.truth import FrameTruth, TruthObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_client.scene.spec import SceneSpec

LABEL = "person"
# Heights of the nearest and the farthest walker, as shares of the picture's height.
_FAR, _NEAR = 0.38, 0.48
# The camera looks from this many body heights above the ground.
_EYE = 1.33
# Two steps cover this many body heights.
_STRIDE = 0.75
_POSES = 20
_TOPS = ((38, 44, 62), (92, 28, 30), (30, 62, 48), (52, 50, 54), (70, 52, 34), (30, 52, 92), (58, 34, 66))
_TROUSERS = ((30, 34, 48), (44, 42, 42), (38, 48, 70), (58, 50, 42))
_SKINS = ((214, 170, 140), (176, 126, 94), (122, 84, 62), (232, 192, 164))
_HAIRS = ((36, 28, 24), (70, 48, 30), (28, 26, 28), (110, 84, 52))


@dataclass(frozen=True, slots=True)
class _Walker:
    """One person on its way."""

    id: int
    height_px: int
    foot_y: int
    leftward: bool
    start: float
    strides: int
    clothes: Clothes


@dataclass(frozen=True, slots=True)
class _Placed:
    """A figure and where its sheet's corner lies in the picture."""

    walker: _Walker
    sprite: Sprite
    x: int
    y: int


class Walkers:
    """The scene of one seed.

    Args:
        spec: Its size, period and number of people.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self._spec = spec
        rng = np.random.default_rng(spec.seed)
        self._street = draw_street(spec.width, spec.height, rng)
        self._walkers = _people(spec, rng)
        self._pose = lru_cache(maxsize=max(1, len(self._walkers)) * _POSES)(_pose)

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Draw one frame: `uint8 [height, width, 3]`, RGB, the caller's own."""
        picture = self._street.copy()
        for placed in self._place(index):
            _shade(picture, placed)
        for placed in self._place(index):
            _paste(picture, placed)
        return picture.astype(np.uint8)

    def truth(self, index: int) -> FrameTruth:
        """Tell who is to be seen where in that frame, and how much of each."""
        height, width = self._street.shape[:2]
        nearer = np.zeros((height, width), bool)
        objects = []
        for placed in reversed(self._place(index)):
            solid = placed.sprite.alpha[..., 0] > 0.5
            inside, part = _windows(placed, width, height)
            seen = int((solid[part] & ~nearer[inside]).sum())
            nearer[inside] |= solid[part]
            left, top, right, bottom = placed.sprite.box
            x1, x2 = max(0, placed.x + left), min(width, placed.x + right)
            y1, y2 = max(0, placed.y + top), min(height, placed.y + bottom)
            if seen and x2 > x1 and y2 > y1:
                box = (x1 / width, y1 / height, x2 / width, y2 / height)
                objects.append(TruthObject(LABEL, *box, id=placed.walker.id, visible=seen / int(solid.sum())))
        return FrameTruth(tuple(sorted(objects, key=lambda one: one.id)))

    def _place(self, index: int) -> list[_Placed]:
        """Put everybody where they are in that frame, the farthest first."""
        time = index % self._spec.period_frames / self._spec.period_frames
        placed = []
        for walker in self._walkers:
            way = (time + walker.start) % 1
            margin = 0.5 * walker.height_px
            x = -margin + (1 - way if walker.leftward else way) * (self._spec.width + 2 * margin)
            pose = math.floor(way * walker.strides * _POSES) % _POSES
            sprite = self._pose(walker, pose)
            placed.append(_Placed(walker, sprite, round(x) - sprite.foot[0], walker.foot_y - sprite.foot[1]))
        return placed


def _people(spec: SceneSpec, rng: np.random.Generator) -> list[_Walker]:
    """Choose who walks where: spread over the way and over near and far, the farthest first."""
    depths = np.linspace(_FAR, _NEAR, max(spec.count, 2))[: spec.count]
    starts = rng.permutation(spec.count) / max(spec.count, 1) + rng.uniform(0, 1)
    people = []
    for number, (share, start) in enumerate(zip(depths, starts, strict=True)):
        height_px = round(share * spec.height)
        way_px = spec.width + height_px
        people.append(
            _Walker(
                id=number,
                height_px=height_px,
                foot_y=round(HORIZON_Y * spec.height + _EYE * height_px),
                leftward=bool((number + spec.seed) % 2),
                start=float(start),
                strides=max(1, round(way_px / (_STRIDE * height_px))),
                clothes=Clothes(
                    skin=_one_of(_SKINS, rng),
                    hair=_one_of(_HAIRS, rng),
                    top=_one_of(_TOPS, rng),
                    trousers=_one_of(_TROUSERS, rng),
                    shoes=(34, 30, 30),
                ),
            )
        )
    return people


def _one_of(colors: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> tuple[int, int, int]:
    return colors[int(rng.integers(len(colors)))]


def _pose(walker: _Walker, pose: int) -> Sprite:
    return draw_figure(walker.height_px, walker.clothes, pose / _POSES, leftward=walker.leftward)


def _windows(placed: _Placed, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Say which part of the picture a figure covers, and which part of the figure that is."""
    rows, columns = placed.sprite.alpha.shape[:2]
    x1, x2 = max(0, placed.x), max(0, min(width, placed.x + columns))
    y1, y2 = max(0, placed.y), max(0, min(height, placed.y + rows))
    x2, y2 = max(x1, x2), max(y1, y2)
    picture = slice(y1, y2), slice(x1, x2)
    return picture, (slice(y1 - placed.y, y2 - placed.y), slice(x1 - placed.x, x2 - placed.x))


def _paste(picture: NDArray[np.float32], placed: _Placed) -> None:
    inside, part = _windows(placed, picture.shape[1], picture.shape[0])
    alpha = placed.sprite.alpha[part]
    picture[inside] += alpha * (placed.sprite.color[part] - picture[inside])


def _shade(picture: NDArray[np.float32], placed: _Placed) -> None:
    """Darken the ground under the feet."""
    height = placed.walker.height_px
    center_x, center_y = placed.x + placed.sprite.foot[0], placed.walker.foot_y
    reach_x, reach_y = round(0.34 * height), round(0.07 * height)
    x1, x2 = np.clip([center_x - reach_x, center_x + reach_x], 0, picture.shape[1])
    y1, y2 = np.clip([center_y - reach_y, center_y + reach_y], 0, picture.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    y, x = np.mgrid[y1:y2, x1:x2]
    near = 1 - ((x - center_x) / reach_x) ** 2 - ((y - center_y) / reach_y) ** 2
    picture[y1:y2, x1:x2] *= 1 - 0.4 * np.clip(near, 0, 1).astype(np.float32)[:, :, None]
