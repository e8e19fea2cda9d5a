"""Compare a detector's detections with those that it should have made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.compare.result import WORST_FRAMES, Agreement
from vedette_engines.compare.scoring import score_detections
from vedette_engines.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.compare.detections import Boxes
    from vedette_engines.compare.scoring import Score

# So few detections show a broken engine, but hardly a slightly worse one.
FEW = 20


def compare_boxes(
    wanted: Sequence[Boxes],
    found: Sequence[Boxes],
    names: Sequence[str],
    labels: Sequence[str],
    least_score: float,
    against: str,
) -> Agreement:
    """Measure how far detections agree with those wanted.

    Args:
        wanted: By frame: what there is to find.
        found: By frame: what the engine says, down to its floor.
        names: The frames' names.
        labels: Class names by class id.
        least_score: From which up a detection counts for precision and recall.
        against: How messages call the source of what is wanted.

    Raises:
        MissingRuntimeError: pycocotools is not installed.
    """
    figures: dict[str, float] = {"broken": float(sum(boxes.broken for boxes in found))}
    sick = sum(boxes.broken for boxes in wanted)
    if sick:
        why = f"{against} itself gives {sick} rows with NaN, an infinity or a class without a label"
        return Agreement(Task.DETECTOR, against, len(names), figures, inconclusive=why)
    if not any((~boxes.crowd).any() for boxes in wanted):
        why = f"{against} sees nothing at all on these frames: give footage in which it sees something"
        return Agreement(Task.DETECTOR, against, len(names), figures, inconclusive=why)
    score = score_detections(wanted, found, least_score)
    figures = {
        "map50": score.map50,
        "map50_95": score.map50_95,
        "precision": score.precision,
        "recall": score.recall,
        "iou": score.iou,
        "score_difference": score.score_difference,
        "wanted": float(score.wanted),
        "found": float(score.found),
        **figures,
    }
    notes = (
        (f"there are only {score.wanted} detections to find: more footage would tell more",)
        if score.wanted < FEW
        else ()
    )
    return Agreement(
        Task.DETECTOR,
        against,
        len(names),
        figures,
        classes=score.classes,
        labels=tuple(labels[one.class_id] for one in score.classes),
        worst_frames=_worst(score, names),
        notes=notes,
    )


def _worst(score: Score, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    errors = [missed + false for missed, false in zip(score.missed, score.false, strict=True)]
    order = sorted(range(len(names)), key=lambda number: -errors[number])[:WORST_FRAMES]
    return tuple(
        (names[number], f"{score.missed[number]} missed, {score.false[number]} false")
        for number in order
        if errors[number]
    )
