"""Hold detections against the truth of a synthetic scene. Pure code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_client.loadtest.records import TruthCount
from vedette_client.scene.truth import FrameTruth, match, overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.scene.truth import Found

_SAME = 0.5


def judge(truth: FrameTruth, detections: Sequence[Found]) -> TruthCount:
    """Count hits and misses; a detection that covers an object of another label is a wrong label, no false positive."""
    found = match(truth, detections, iou=_SAME)
    wrong = sum(_is_mislabelled(one, truth) for one in detections) if found.false_positives else 0
    return TruthCount(1, found.hits, found.misses, found.false_positives - wrong, wrong)


def _is_mislabelled(found: Found, truth: FrameTruth) -> bool:
    covered = [one for one in truth.objects if overlap(one.box, found.box) >= _SAME]
    return bool(covered) and all(one.label != found.label for one in covered)
