"""What a detector found in a frame, read from its rows as the server reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SCORE, _CLASS = 4, 5


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes in one frame, best score first.

    Attributes:
        corners: `float64 [n, 4]`, x1, y1, x2, y2 in pixels; each has a width and a height above 0.
        scores: `float64 [n]`, 0..1.
        class_ids: `int64 [n]`.
        crowd: `bool [n]`: the box holds many, a detection in it is neither right nor wrong; empty: none does.
        broken: Rows that carried a score but NaN, an infinity, or a class without a label.
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    broken: int = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.scores)

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Boxes:
        """Return some of them."""
        return Boxes(self.corners[which], self.scores[which], self.class_ids[which], self.crowd[which], self.broken)

    def moved_by(self, move: Callable[[NDArray[np.float64]], NDArray[np.floating]]) -> Boxes:
        """Return the same with other corners, less those that have lost their width or height."""
        corners = np.asarray(move(self.corners), np.float64)
        there = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        moved = Boxes(corners, self.scores, self.class_ids, self.crowd, self.broken)
        return moved if there.all() else moved.chosen(there)


def boxes_of(
    corners: NDArray[np.floating],
    scores: NDArray[np.floating],
    class_ids: NDArray[np.integer],
    crowd: NDArray[np.bool_] | None = None,
    broken: int = 0,
) -> Boxes:
    """Bring boxes into order: best score first, those without width or height left out."""
    corners = np.asarray(corners, np.float64).reshape(-1, 4)
    boxes = Boxes(
        corners,
        np.asarray(scores, np.float64).reshape(-1),
        np.asarray(class_ids, np.int64).reshape(-1),
        np.zeros(len(corners), np.bool_) if crowd is None else crowd,
        broken,
    )
    there = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    order = np.argsort(-boxes.scores, kind="stable")
    return boxes.chosen(order[there[order]])


def read_rows(rows: NDArray[np.float32], classes: int, least_score: float, iou: float) -> Boxes:
    """Turn a detector's rows for one frame into detections.

    Args:
        rows: `float32 [K, 6 + E]`, corners in pixels of the input, score, class, extras.
        classes: How many labels there are.
        least_score: Rows below it are left out.
        iou: Boxes of one class that overlap by more are one.
    """
    # A score that is NaN carries something: nobody knows what.
    scored = rows[(rows[:, _SCORE] >= least_score) | np.isnan(rows[:, _SCORE])]
    finite = np.isfinite(scored[:, :6]).all(axis=1)
    with np.errstate(invalid="ignore"):
        labelled = (scored[:, _CLASS] >= 0) & (scored[:, _CLASS] < classes)
    sound = scored[finite & labelled]
    boxes = boxes_of(sound[:, :4], sound[:, _SCORE], sound[:, _CLASS].astype(np.int64), broken=len(scored) - len(sound))
    return boxes.chosen(suppress(boxes, iou))


def suppress(boxes: Boxes, iou: float) -> NDArray[np.intp]:
    """Choose boxes greedily, class by class: the best first, those that overlap it by more than `iou` left out.

    Args:
        boxes: Best score first.
        iou: Intersection over union above which two of one class are one.

    Returns:
        `intp [m]`, indices of the boxes kept, rising.
    """
    overlaps = (ious(boxes.corners, boxes.corners) > iou) & (boxes.class_ids[:, None] == boxes.class_ids[None])
    kept = np.ones(len(boxes), np.bool_)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~overlaps[index, index + 1 :]
    return np.flatnonzero(kept)


def ious(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of all pairs: `[n, 4]` and `[m, 4]` give `[n, m]`."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    result: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1][None] - shared)
    return result
