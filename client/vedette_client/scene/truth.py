"""What a synthetic scene knows to be in its pictures, and how detections are held against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TruthObject:
    """One object in one picture.

    Attributes:
        label: Its class, as the engine that should find it names it.
        x1: Left edge, normalised to the picture, as are the others.
        y1: Top edge.
        x2: Right edge.
        y2: Bottom edge.
        id: The same in all pictures of a scene.
        visible: The share of it that lies in the picture and behind nothing, 0..1.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    id: int
    visible: float = 1.0

    @property
    def box(self) -> Corners:
        """Left, top, right, bottom."""
        return self.x1, self.y1, self.x2, self.y2


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """All objects of one picture."""

    objects: tuple[TruthObject, ...]


class Found(Protocol):
    """A detection, as far as matching needs it: the client's `Detection` is one.

    Attributes:
        label: Its class.
        score: Confidence, 0..1.
        box: Left, top, right, bottom, normalised like the truth's.
    """

    @property
    def label(self) -> str: ...  # noqa: D102 - told above
    @property
    def score(self) -> float: ...  # noqa: D102 - told above
    @property
    def box(self) -> Corners: ...  # noqa: D102 - told above


@dataclass(frozen=True, slots=True)
class Match:
    """How the detections of one picture compare with its truth.

    Attributes:
        hits: Objects that were found.
        misses: Objects, visible enough, that were not.
        false_positives: Detections of nothing that is there.
        mean_iou: Of the hits; 0 without any.
    """

    hits: int
    misses: int
    false_positives: int
    mean_iou: float = 0.0


def match(truth: FrameTruth, detections: Sequence[Found], *, iou: float = 0.5, min_visible: float = 0.9) -> Match:
    """Pair detections and objects of one label, best score first, each at most once.

    As PASCAL VOC does (Everingham et al. 2010, section 4.2), with its "difficult" objects being those
    that are less visible than `min_visible`: finding them is neither a hit nor a false positive,
    overlooking them no miss.

    Args:
        truth: What is there.
        detections: What was found.
        iou: Overlap (intersection over union) from which a detection is of the object.
        min_visible: Objects less visible than this need not be found.
    """
    free = set(range(len(truth.objects)))
    overlaps: list[float] = []
    false_positives = 0
    for found in sorted(detections, key=lambda one: -one.score):
        candidates = [
            (overlap(truth.objects[i].box, found.box), i) for i in free if truth.objects[i].label == found.label
        ]
        best, index = max(candidates, default=(0.0, -1))
        if best < iou:
            false_positives += 1
            continue
        free.discard(index)
        if truth.objects[index].visible >= min_visible:
            overlaps.append(best)
    misses = sum(truth.objects[i].visible >= min_visible for i in free)
    mean_iou = sum(overlaps) / len(overlaps) if overlaps else 0.0
    return Match(len(overlaps), misses, false_positives, mean_iou)


def overlap(a: Corners, b: Corners) -> float:
    """Intersection over union of two boxes; 0 when they do not touch."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
