"""Draw what was seen into a picture: boxes, zones, lines with their direction, and labels that leave each other room.

Threads: pure functions, callable from any; the picture is the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from vedette_server.data.rules import Line, Points, Zone
    from vedette_server.monitor.base import Box

Colour = tuple[int, int, int]
Pixel = tuple[int, int]

_ZONE, _LINE, _BOX, _UNSEEN = (0, 200, 255), (255, 160, 0), (60, 60, 255), (130, 130, 130)
_LIGHT, _DARK = (255, 255, 255), (0, 0, 0)
_FACE = cv2.FONT_HERSHEY_SIMPLEX
# Of the text; the capital letters of a picture 1080 high are 21 high, and never less than 8, which can just be read.
_SMALLEST, _HEIGHT_OF_ONE = 0.38, 1080
# In a smaller picture, pixels, labels would hide what they tell of: it has none.
_ROOM = 96
# A zone's or a line's name stands at one of so many corners.
_CORNERS = 8


@dataclass(frozen=True, slots=True)
class Labelled:
    """A box, normalised, what stands at it, and whether its object is seen in this picture."""

    box: Box
    label: str = ""
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn into an annotated snapshot, normalised to the upright picture."""

    boxes: Sequence[Labelled] = field(default_factory=tuple)
    zones: Sequence[Zone] = field(default_factory=tuple)
    lines: Sequence[Line] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Label:
    """A text that looks for its place.

    Attributes:
        text: ASCII.
        colour: Of the strip on which it stands, BGR.
        around: ``int64 [n, 4]``: left, top, right, bottom of what it may stand at, pixels; the first is the best.
        size: Width and height of the strip, pixels.
    """

    text: str
    colour: Colour
    around: NDArray[np.int64]
    size: Pixel


def draw(picture: NDArray[np.uint8], drawing: Drawing) -> None:
    """Draw into a picture, in place: labels last, so that nothing strikes them through.

    Where there is no room for all of them those of what is seen come first, then of what is not, zones and lines.

    Args:
        picture: ``uint8 [height, width, 3]``, BGR, C-contiguous.
        drawing: What is drawn.
    """
    height, width = picture.shape[:2]
    thick = max(width // 480, 1)
    scale = max(min(height, width) / _HEIGHT_OF_ONE, _SMALLEST)
    names, arrows = [], []
    for zone in drawing.zones:
        points = _points(zone.vertices, width, height)
        cv2.polylines(picture, [points], isClosed=True, color=_ZONE, thickness=thick, lineType=cv2.LINE_AA)
        names.append(_label(zone.name, _ZONE, np.tile(points[:, 0], 2), scale))
    for line in drawing.lines:
        points = _points(line.points, width, height)
        cv2.polylines(picture, [points], isClosed=False, color=_LINE, thickness=thick, lineType=cv2.LINE_AA)
        names.append(_label(line.name, _LINE, np.tile(points[:, 0], 2), scale))
        if (arrow := arrow_of(points[:, 0].tolist(), (width, height))) is not None:
            arrows.append(_draw_arrow(picture, arrow, thick, scale))
    tags = []
    for one in sorted(drawing.boxes, key=lambda box: not box.seen):
        around = _points((one.box[:2], one.box[2:]), width, height).reshape(1, 4)
        (x1, y1, x2, y2), colour = around[0].tolist(), _BOX if one.seen else _UNSEEN
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thick)
        tags.append(_label(one.label, colour, around, scale))
    labels = [one for one in (*tags, *names) if one.text and min(height, width) >= _ROOM]
    places = place(labels, (width, height), arrows)
    for label, corner in reversed([*zip(labels, places, strict=True)]):
        _write(picture, label, corner, scale)


def arrow_of(points: Sequence[Sequence[int]], size: Pixel) -> tuple[Pixel, Pixel] | None:
    """Give the arrow across a line from its left to its right, as `geometry.crossings` tells them apart.

    It goes through the middle of the line's longest piece, away from corners, where left and right of one piece may lie
    on the same side of the next. Where it would end beyond the picture it ends on the line.

    Args:
        points: The line's, pixels, y down.
        size: Width and height of the picture.

    Returns:
        Where it begins and its tip; None: the line has no length.
    """
    first, second = max(pairwise(points), key=lambda piece: math.dist(*piece))
    along = math.dist(first, second)
    if along == 0:
        return None
    long = max(min(size) / 10, 20)
    # Since y runs down, the right hand of who goes along (dx, dy) points along (-dy, dx).
    x, y = (first[1] - second[1]) / along * long, (second[0] - first[0]) / along * long
    middle = ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)
    # A little more of it lies beyond the line, so that its head stands clear.
    ahead = 0.6 if 0 <= middle[0] + x < size[0] and 0 <= middle[1] + y < size[1] else 0.0
    tip = round(middle[0] + x * ahead), round(middle[1] + y * ahead)
    return (round(middle[0] + x * (ahead - 1)), round(middle[1] + y * (ahead - 1))), tip


def place(labels: Iterable[Label], size: Pixel, taken: Iterable[Sequence[int]] = ()) -> list[Pixel]:
    """Find a place for each label, one after the other, that no other one has.

    Above what it stands at, else inside at the top, else below, else further down inside, flush left, flush right or
    centred, else beside it; moved in at the picture's edge. Where no such place is free, it is the one of which the
    least is taken.

    Args:
        labels: The most important first.
        size: Width and height of the picture.
        taken: Left, top, right, bottom of what labels keep clear of, pixels.

    Returns:
        The upper left corner of each.
    """
    kept, places = [tuple(one) for one in taken], []
    for label in labels:
        wide, high = label.size
        left, top, right, bottom = label.around.T
        foot, middle, centred = bottom - high, (top + bottom - high) // 2, (left + right - wide) // 2
        spots_at = [(x, y) for y in (top - high, top, bottom, foot, middle) for x in (left, right - wide, centred)]
        spots_at += [(x, y) for y in (top, middle, foot) for x in (right, left - wide)]
        spots = np.stack([np.stack(spot, 1) for spot in spots_at], 1).reshape(-1, 2)
        spots = spots.clip(0, np.maximum(np.subtract(size, label.size), 0))
        others = np.asarray(kept, np.int64).reshape(-1, 4)
        low = np.maximum(spots[:, None], others[:, :2])
        over = np.minimum(spots[:, None] + label.size, others[:, 2:]) - low
        x, y = spots[over.clip(0).prod(2).sum(1).argmin()].tolist()
        kept.append((x, y, x + wide, y + high))
        places.append((x, y))
    return places


def _points(points: Points, width: int, height: int) -> NDArray[np.int32]:
    scaled = np.nan_to_num(np.asarray(points, np.float64)).clip(-1, 2) * (width - 1, height - 1)
    return np.rint(scaled).astype(np.int32).reshape(-1, 1, 2)


def _draw_arrow(picture: NDArray[np.uint8], arrow: tuple[Pixel, Pixel], thick: int, scale: float) -> Sequence[int]:
    """Draw an arrow with an L behind it and an R before it; return left, top, right, bottom of all that."""
    height, width = picture.shape[:2]
    start, tip = np.asarray(arrow, np.float64)
    cv2.arrowedLine(picture, *arrow, _LINE, thick + 1, cv2.LINE_AA, 0, 0.4)
    long = math.dist(start, tip) or 1.0
    reach = 16 * scale + 4
    corners = [*arrow]
    for letter, end, way in (("L", start, start - tip), ("R", tip, tip - start)):
        (wide, high), _ = cv2.getTextSize(letter, _FACE, scale, 1)
        x, y = np.rint(end + way / long * reach - (wide / 2, high / 2)).astype(int).tolist()
        # A side that lies beyond the picture needs no name.
        if min(height, width) >= _ROOM and 0 <= x <= width - wide and 0 <= y <= height - high:
            for colour, bold in ((_LINE, _bold(scale) + 3), (_LIGHT, _bold(scale))):
                cv2.putText(picture, letter, (x, y + high), _FACE, scale, colour, bold, cv2.LINE_AA)
            corners += (x, y), (x + wide, y + high)
    return [*np.min(corners, 0).tolist(), *np.max(corners, 0).tolist()]


def _bold(scale: float) -> int:
    return max(round(1.6 * scale), 1)


def _label(text: str, colour: Colour, around: NDArray[np.int32], scale: float) -> Label:
    """Make a label; its face has Latin letters only."""
    text = text.encode("ascii", "replace").decode()[:48]
    (wide, high), below = cv2.getTextSize(text, _FACE, scale, _bold(scale))
    # One pixel more than the strip, so that two that touch do not read as one.
    return Label(text, colour, around[:_CORNERS].astype(np.int64), (wide + 5, high + below + 3))


def _write(picture: NDArray[np.uint8], label: Label, corner: Pixel, scale: float) -> None:
    (x, y), (wide, high) = corner, label.size
    (_, above), _ = cv2.getTextSize(label.text, _FACE, scale, _bold(scale))
    cv2.rectangle(picture, (x, y), (x + wide - 2, y + high - 2), label.colour, -1)
    ink = _DARK if label.colour in (_ZONE, _LINE) else _LIGHT
    cv2.putText(picture, label.text, (x + 2, y + above + 1), _FACE, scale, ink, _bold(scale), cv2.LINE_AA)
