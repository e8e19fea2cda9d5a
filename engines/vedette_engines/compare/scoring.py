"""Score detections against those that should have been found: average precision as COCO defines it.

Matching and interpolation are pycocotools' (Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and the
code published with it); precision and recall at one score come from the same matches.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.compare.detections import ious
from vedette_engines.errors import MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.compare.detections import Boxes


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class was found.

    Attributes:
        class_id: Which.
        wanted: Boxes that should have been found, crowds not counted.
        map50: Average precision at IoU 0.5; None: there was nothing to find.
        map50_95: Its mean over IoU 0.5, 0.55 .. 0.95; None likewise.
        hits: Detections from the least score up that found one, at IoU 0.5.
        false: Those that found none.
    """

    class_id: int
    wanted: int
    map50: float | None
    map50_95: float | None
    hits: int
    false: int


@dataclass(frozen=True, slots=True)
class Score:
    """How well a set of frames was seen.

    Attributes:
        map50: Average precision at IoU 0.5, the mean over the classes that there are to find.
        map50_95: Its mean over IoU 0.5, 0.55 .. 0.95.
        precision: Share of the detections from the least score up that found something, at IoU 0.5; 1 without any.
        recall: Share of what there is to find that they found.
        iou: Mean overlap of the pairs found.
        score_difference: Mean difference of the two scores of a pair, signs left off.
        wanted: Boxes that should have been found.
        found: Detections from the least score up, less those in crowds.
        classes: By class.
        missed: Boxes not found, by frame.
        false: Detections that found nothing, by frame.
    """

    map50: float
    map50_95: float
    precision: float
    recall: float
    iou: float
    score_difference: float
    wanted: int
    found: int
    classes: tuple[ClassScore, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The matches of one class in one frame at IoU 0.5, detections from the least score up."""

    class_id: int
    frame: int
    hits: int
    false: int
    missed: int
    ious: list[float]
    score_differences: list[float]


def score_detections(wanted: Sequence[Boxes], found: Sequence[Boxes], least_score: float) -> Score:
    """Score what was found in each frame against what should have been.

    A class of which there is nothing to find does not count in the average precision, as COCO has it; detections of
    it lower the precision.

    Args:
        wanted: By frame; crowds among them.
        found: By frame, down to a score well below the least one: the curve needs them.
        least_score: From which up a detection counts for precision and recall.

    Raises:
        MissingRuntimeError: pycocotools is not installed.
        ValueError: There is nothing to find at all.
    """
    if not any((~boxes.crowd).any() for boxes in wanted):
        raise ValueError("nothing to find: average precision has no meaning")
    evaluation = _evaluate(wanted, found)
    pairs = list(_pairs(evaluation, wanted, found, least_score))
    hits, false = sum(pair.hits for pair in pairs), sum(pair.false for pair in pairs)
    missed = sum(pair.missed for pair in pairs)
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    classes = tuple(
        _of_class(int(class_id), precision[:, :, place], pairs)
        for place, class_id in enumerate(evaluation.params.catIds)
    )
    there = [one for one in classes if one.map50 is not None and one.map50_95 is not None]
    return Score(
        map50=_mean([one.map50 or 0.0 for one in there]),
        map50_95=_mean([one.map50_95 or 0.0 for one in there]),
        precision=hits / (hits + false) if hits + false else 1.0,
        recall=hits / (hits + missed),
        iou=_mean([value for pair in pairs for value in pair.ious]),
        score_difference=_mean([value for pair in pairs for value in pair.score_differences]),
        wanted=hits + missed,
        found=hits + false,
        classes=classes,
        missed=_by_frame(len(wanted), ((pair.frame, pair.missed) for pair in pairs)),
        false=_by_frame(len(wanted), ((pair.frame, pair.false) for pair in pairs)),
    )


def _evaluate(wanted: Sequence[Boxes], found: Sequence[Boxes]) -> Any:
    """Let pycocotools match, at all ten overlaps, objects of all sizes, as many detections as there are."""
    try:
        from pycocotools.coco import COCO  # noqa: PLC0415  (an extra)
        from pycocotools.cocoeval import COCOeval  # noqa: PLC0415
    except ImportError as error:
        raise MissingRuntimeError("a detector's accuracy needs pycocotools: pip install 'vedette[build]'") from error
    class_ids = sorted({int(one) for boxes in (*wanted, *found) for one in boxes.class_ids})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how it gets on
        sides = []
        for side in (wanted, found):
            data: Any = COCO()
            data.dataset = {
                "images": [{"id": number} for number in range(len(wanted))],
                "categories": [{"id": class_id} for class_id in class_ids],
                "annotations": list(_annotations(side)),
            }
            data.createIndex()
            sides.append(data)
        evaluation = COCOeval(*sides, iouType="bbox")
        evaluation.params.areaRng = [[0.0, float("inf")]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [max(1, *(len(boxes) for boxes in found))]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _annotations(side: Sequence[Boxes]) -> Iterator[dict[str, Any]]:
    """Write boxes as COCO does; numbers start at 1, 0 stands for no match."""
    number = 0
    for frame, boxes in enumerate(side):
        sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
        for corner, size, score, class_id, crowd in zip(
            boxes.corners, sizes, boxes.scores, boxes.class_ids, boxes.crowd, strict=True
        ):
            number += 1
            yield {
                "id": number,
                "image_id": frame,
                "category_id": int(class_id),
                "bbox": [*map(float, corner[:2]), *map(float, size)],
                "area": float(size.prod()),
                "score": float(score),
                "iscrowd": int(crowd),
            }


def _pairs(evaluation: Any, wanted: Sequence[Boxes], found: Sequence[Boxes], least_score: float) -> Iterator[_Pairs]:
    """Read the matches at IoU 0.5; what is below the least score was matched last and changes nothing above it."""
    wanted_scores = np.concatenate([boxes.scores for boxes in wanted])
    found_scores = np.concatenate([boxes.scores for boxes in found])
    corners = [np.concatenate([boxes.corners for boxes in side]) for side in (wanted, found)]
    for image in evaluation.evalImgs:
        if image is None:
            continue
        matches = np.asarray(image["dtMatches"][0], np.int64)
        counted = (np.asarray(image["dtScores"]) >= least_score) & ~np.asarray(image["dtIgnore"][0], np.bool_)
        hit = counted & (matches > 0)
        ours = np.asarray(image["dtIds"], np.int64)[hit] - 1
        theirs = matches[hit] - 1
        there = int((np.asarray(image["gtIgnore"]) == 0).sum())
        yield _Pairs(
            int(image["category_id"]),
            int(image["image_id"]),
            hits=len(ours),
            false=int((counted & (matches == 0)).sum()),
            missed=there - len(ours),
            ious=[_iou(a, b) for a, b in zip(corners[0][theirs], corners[1][ours], strict=True)],
            score_differences=[float(d) for d in np.abs(wanted_scores[theirs] - found_scores[ours])],
        )


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(ious(one[None], other[None])[0, 0])


def _of_class(class_id: int, precision: NDArray[np.float64], pairs: Sequence[_Pairs]) -> ClassScore:
    """Sum up one class; `precision` is `[10, 101]`, -1 where there was nothing to find."""
    own = [pair for pair in pairs if pair.class_id == class_id]
    wanted = sum(pair.hits + pair.missed for pair in own)
    return ClassScore(
        class_id,
        wanted,
        # pycocotools adds 2e-16 to what it divides by, so that a perfect curve falls short of 1 by as much.
        round(float(precision[0].mean()), 12) if wanted else None,
        round(float(precision.mean()), 12) if wanted else None,
        sum(pair.hits for pair in own),
        sum(pair.false for pair in own),
    )


def _by_frame(frames: int, counted: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    counts = [0] * frames
    for frame, count in counted:
        counts[frame] += count
    return tuple(counts)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
