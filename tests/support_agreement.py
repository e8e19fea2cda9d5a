"""How far two lists of detections agree, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# x1, y1, x2, y2 in pixels, score, label.
Found = tuple[float, float, float, float, float, str]


def overlap(one: Found, other: Found) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def share_found(
    wanted: Sequence[Sequence[Found]],
    among: Sequence[Sequence[Found]],
    least_score: float,
    low_score: float,
    least_iou: float = 0.8,
) -> float:
    """Share of the detections from ``least_score`` up that the other side has from ``low_score`` up."""
    hits = misses = 0
    for frame, others in zip(wanted, among, strict=True):
        for found in frame:
            if found[4] < least_score:
                continue
            same = (other for other in others if other[4] >= low_score and other[5] == found[5])
            if any(overlap(found, other) >= least_iou for other in same):
                hits += 1
            else:
                misses += 1
    return hits / max(hits + misses, 1)


def agreement(ours: Sequence[Sequence[Found]], theirs: Sequence[Sequence[Found]]) -> tuple[float, float]:
    """Return how much of ours is in theirs, and of theirs in ours: from 0.5 up among 0.3 up."""
    return share_found(ours, theirs, 0.5, 0.3), share_found(theirs, ours, 0.5, 0.3)
