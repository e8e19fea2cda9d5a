"""Draw one walking person, seen from the side, at any moment of the stride.

Proportions are those of an adult about seven and a half heads tall; the stride swings the thighs by up
to `_SWING` and bends the knee of the leg that comes forward, as in textbook key poses of a walk cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OVERSAMPLING = 4
_SWING = math.radians(19)
# Height and width of the sheet a figure is drawn on, in body heights.
_SHEET = (1.08, 0.9)
_HEAD_Y, _SHOULDER_Y, _HIP_Y = 0.075, 0.19, 0.51
_THIGH, _SHIN, _UPPER_ARM, _FOREARM = 0.225, 0.225, 0.165, 0.145

Color = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Clothes:
    """What a person wears, as RGB colours."""

    skin: Color
    hair: Color
    top: Color
    trousers: Color
    shoes: Color


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn figure.

    Attributes:
        color: `float32 [height, width, 3]`, RGB.
        alpha: `float32 [height, width, 1]`, 0..1.
        foot: Column and row of the ground under the body's middle.
        box: Left, top, right, bottom of what is covered.
    """

    color: NDArray[np.float32]
    alpha: NDArray[np.float32]
    foot: tuple[int, int]
    box: tuple[int, int, int, int]


def draw_figure(height_px: int, clothes: Clothes, phase: float, *, leftward: bool) -> Sprite:
    """Draw a person at a moment of the stride.

    Args:
        height_px: Height from sole to crown.
        clothes: What it wears.
        phase: Moment of the stride, 0..1, two steps long.
        leftward: Walks to the left instead of to the right.
    """
    scale = height_px * _OVERSAMPLING
    sheet = Image.new("RGBA", (round(_SHEET[1] * scale), round(_SHEET[0] * scale)))
    _Pen(sheet, scale).person(clothes, 2 * math.pi * phase)
    # Pillow weights colours by alpha when it scales RGBA pictures, so edges do not darken.
    small = sheet.resize((round(_SHEET[1] * height_px), round(_SHEET[0] * height_px)), Image.Resampling.BOX)
    if leftward:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(small, np.float32)
    alpha, color = pixels[..., 3:] / np.float32(255), pixels[..., :3]
    rows, columns = np.nonzero(alpha[..., 0] > 0.5)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Sprite(_lit(color), alpha, (small.width // 2, round(height_px * (_SHEET[0] + 1) / 2)), box)


class _Pen:
    """Draws in body heights: x from the body's middle, y from the crown."""

    def __init__(self, sheet: Image.Image, scale: float) -> None:
        self._draw = ImageDraw.Draw(sheet)
        self._scale = scale
        self._middle = sheet.width / 2
        self._top = (_SHEET[0] - 1) / 2 * scale

    def person(self, clothes: Clothes, phase: float) -> None:
        """Draw from back to front: far arm, far leg, near leg, body, head, near arm."""
        rise = 0.012 * math.cos(2 * phase)
        far = _darker(clothes.trousers, 0.78), _darker(clothes.top, 0.78)
        self._arm(far[1], _darker(clothes.skin, 0.85), math.sin(phase), rise)
        self._leg(far[0], _darker(clothes.shoes, 0.8), phase + math.pi, rise)
        self._leg(clothes.trousers, clothes.shoes, phase, rise)
        self._body(clothes, rise)
        self._arm(_darker(clothes.top, 0.9), clothes.skin, -math.sin(phase), rise)

    def _body(self, clothes: Clothes, rise: float) -> None:
        lift = -rise
        outline = [(-0.045, 0.145), (0.045, 0.145), (0.1, 0.175), (0.108, 0.22), (0.09, 0.36), (0.088, 0.55)]
        mirrored = [(-x, y) for x, y in reversed(outline[1:])]
        self._polygon([(x, y + lift) for x, y in outline[1:] + mirrored], clothes.top)
        self._capsule((0, 0.12 + lift), (0, 0.17 + lift), 0.032, 0.038, clothes.skin)
        self._ellipse((0.004, _HEAD_Y - 0.006 + lift), 0.056, 0.072, clothes.hair)
        self._ellipse((0.014, _HEAD_Y + 0.012 + lift), 0.045, 0.058, clothes.skin)

    def _leg(self, color: Color, shoe: Color, phase: float, rise: float) -> None:
        thigh = _SWING * math.sin(phase)
        bend = math.radians(8) + math.radians(42) * max(0.0, math.cos(phase + 0.35)) ** 2
        hip = (0.0, _HIP_Y - rise)
        knee = _along(hip, thigh, _THIGH)
        ankle = _along(knee, thigh - bend, _SHIN)
        self._capsule(hip, knee, 0.068, 0.05, color)
        self._capsule(knee, ankle, 0.048, 0.032, color)
        toe = (ankle[0] + 0.075 * math.cos(bend / 2), ankle[1] + 0.02 + 0.03 * math.sin(bend / 2))
        self._capsule((ankle[0] - 0.012, ankle[1] + 0.018), toe, 0.026, 0.017, shoe)

    def _arm(self, sleeve: Color, skin: Color, swing: float, rise: float) -> None:
        shoulder = (0.0, _SHOULDER_Y + 0.012 - rise)
        upper = math.radians(24) * swing
        elbow = _along(shoulder, upper, _UPPER_ARM)
        hand = _along(elbow, upper + math.radians(18), _FOREARM)
        self._capsule(shoulder, elbow, 0.042, 0.033, sleeve)
        self._capsule(elbow, hand, 0.031, 0.023, sleeve)
        self._ellipse(_along(hand, upper, 0.012), 0.022, 0.026, skin)

    def _at(self, point: Point) -> Point:
        return self._middle + point[0] * self._scale, self._top + point[1] * self._scale

    def _polygon(self, points: list[Point], color: Color) -> None:
        self._draw.polygon([self._at(point) for point in points], fill=color)

    def _ellipse(self, center: Point, half_width: float, half_height: float, color: Color) -> None:
        x, y = self._at(center)
        w, h = half_width * self._scale, half_height * self._scale
        self._draw.ellipse((x - w, y - h, x + w, y + h), fill=color)

    def _capsule(self, a: Point, b: Point, radius_a: float, radius_b: float, color: Color) -> None:
        """Draw a tapered limb with round ends."""
        angle = math.atan2(b[1] - a[1], b[0] - a[0]) + math.pi / 2
        side = (math.cos(angle), math.sin(angle))
        corners = [(a, radius_a), (b, radius_b), (b, -radius_b), (a, -radius_a)]
        self._polygon([(p[0] + side[0] * r, p[1] + side[1] * r) for p, r in corners], color)
        self._ellipse(a, radius_a, radius_a, color)
        self._ellipse(b, radius_b, radius_b, color)


def _along(start: Point, angle: float, length: float) -> Point:
    """Go down from a joint, forward by an angle."""
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _darker(color: Color, factor: float) -> Color:
    red, green, blue = (round(channel * factor) for channel in color)
    return red, green, blue


def _lit(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the figure a lit and a shaded side, and less light near the ground."""
    height, width = color.shape[:2]
    across = np.linspace(1.12, 0.86, width, dtype=np.float32)[None, :, None]
    down = np.linspace(1.05, 0.9, height, dtype=np.float32)[:, None, None]
    lit: NDArray[np.float32] = np.clip(color * across * down, 0, 255)
    return lit
