"""Compare what two versions of an engine say of one frame. Plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.data.engine import Seen
from vedette_server.post.detections import DetectionFilter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from vedette_server.execute.client import InferenceClient

    Box = tuple[float, float, float, float]

# Two boxes of one class that overlap so much are the same thing.
SAME_IOU = 0.5
# Embeddings that are less alike than this differ.
SAME_COSINE = 0.98


@dataclass(frozen=True, slots=True)
class Shape:
    """How a source picture is shaped.

    Attributes:
        width: Upright width in pixels.
        height: Upright height in pixels.
        rotation_degrees: The turn that made it upright.
        sample_aspect: Width of a sample over its height.
    """

    width: int
    height: int
    rotation_degrees: int
    sample_aspect: Fraction


@dataclass(frozen=True, slots=True)
class Difference:
    """How two versions differ on one frame.

    Attributes:
        stable: What the one saw.
        shadow: What the other saw.
        pairs: Places in both that are the same thing.
        score_difference: Sum of the absolute differences of the pairs' scores.
    """

    stable: tuple[Seen, ...]
    shadow: tuple[Seen, ...]
    pairs: tuple[tuple[int, int], ...]
    score_difference: float

    @property
    def only_stable(self) -> tuple[int, ...]:
        """Places in `stable` that the shadow has not."""
        matched = {pair[0] for pair in self.pairs}
        return tuple(place for place in range(len(self.stable)) if place not in matched)

    @property
    def only_shadow(self) -> tuple[int, ...]:
        """Places in `shadow` that the stable version has not."""
        matched = {pair[1] for pair in self.pairs}
        return tuple(place for place in range(len(self.shadow)) if place not in matched)

    @property
    def differs(self) -> bool:
        """Whether there is something that only one of them saw."""
        return bool(self.only_stable or self.only_shadow)


class Comparator:
    """Compares rows of two versions, each at its own default thresholds.

    Args:
        stable: The one.
        shadow: The other, of the same task.
    """

    def __init__(self, stable: InferenceClient, shadow: InferenceClient) -> None:
        self._stable, self._shadow = stable, shadow
        self._filters = tuple(
            DetectionFilter(one.label.labels, one.label.extras, min_score=one.defaults.min_score, iou=one.defaults.iou)
            for one in (stable, shadow)
        )

    def compare(self, stable: NDArray[np.float32], shadow: NDArray[np.float32], shape: Shape) -> Difference:
        """Compare the rows of both for a picture of this shape."""
        if self._stable.label.task == "embedder":
            return _embeddings(stable, shadow)
        if self._stable.label.task == "classifier":
            ones: tuple[tuple[Seen, ...], tuple[Seen, ...]] = (
                (_best(self._stable, stable),),
                (_best(self._shadow, shadow),),
            )
        else:
            ones = (
                self._detections(self._stable, self._filters[0], stable, shape),
                self._detections(self._shadow, self._filters[1], shadow, shape),
            )
        pairs = match(*ones)
        gap = sum(abs(ones[0][first].score - ones[1][second].score) for first, second in pairs)
        return Difference(*ones, pairs, gap)

    def _detections(
        self, client: InferenceClient, wanted: DetectionFilter, rows: NDArray[np.float32], shape: Shape
    ) -> tuple[Seen, ...]:
        """Read a detector's rows; boxes of either version come to lie in the stable version's input."""
        sizes = (shape.width, shape.height, shape.rotation_degrees, shape.sample_aspect)
        found = wanted.judge(rows, client.fit.place_upright(*sizes))
        fit = self._stable.fit
        place = fit.place_upright(*sizes)
        scale = np.array((place.fit_width / fit.width, place.fit_height / fit.height) * 2, np.float64)
        shift = np.array((place.left / fit.width, place.top / fit.height) * 2, np.float64)
        boxes: list[list[float]] = (found.boxes * scale + shift).tolist()
        return tuple(
            Seen(client.label.labels[class_id], float(score), (box[0], box[1], box[2], box[3]))
            for class_id, score, box in zip(found.class_ids.tolist(), found.scores.tolist(), boxes, strict=True)
        )


def match(stable: Sequence[Seen], shadow: Sequence[Seen]) -> tuple[tuple[int, int], ...]:
    """Pair what is of one class and overlaps by half or more, the largest overlap first; each at most once."""
    overlaps = [
        (overlap, first, second)
        for first, one in enumerate(stable)
        for second, other in enumerate(shadow)
        if one.label == other.label and (overlap := _iou(one.box, other.box)) >= SAME_IOU
    ]
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, first, second in sorted(overlaps, key=lambda entry: (-entry[0], entry[1], entry[2])):
        if first not in taken[0] and second not in taken[1]:
            pairs.append((first, second))
            taken[0].add(first)
            taken[1].add(second)
    return tuple(sorted(pairs))


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if one == other:
        return 1.0  # also those of a classifier, which have no area
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def _best(client: InferenceClient, scores: NDArray[np.float32]) -> Seen:
    best = int(np.argmax(scores))
    return Seen(client.label.labels[best], float(scores[best]))


def _embeddings(stable: NDArray[np.float32], shadow: NDArray[np.float32]) -> Difference:
    """Compare two vectors by their angle; what is seen is the cosine, as a score."""
    cosine = -1.0
    if stable.shape == shadow.shape:
        lengths = float(np.linalg.norm(stable)) * float(np.linalg.norm(shadow))
        cosine = float(stable @ shadow) / lengths if lengths else float(np.array_equal(stable, shadow))
    ones = (Seen("", 1.0),), (Seen("", max(cosine, 0.0)),)
    return Difference(*ones, ((0, 0),) if cosine >= SAME_COSINE else (), abs(1.0 - cosine))
