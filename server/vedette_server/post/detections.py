"""From an engine's candidates to a channel's detections.

Plain arithmetic; a filter is built when a configuration takes effect and may be used by any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.post.nms import FEW, suppress, suppress_few
from vedette_server.post.regions import Regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.config import ChannelConfig
    from vedette_server.picture.letterbox import Geometry

# Columns of a candidate row: x1, y1, x2, y2, score, class, then the extras.
_SCORE, _CLASS, _EXTRAS = 4, 5, 6
_INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Attached:
    """What further engines said about one object when they last looked at it.

    Attributes:
        attributes: Name (that of the engine), value and score, 0..1, of each; of one name the best first.
        embedding: ``float32 [D]``, of length 1: describes its looks; None: no engine does.
    """

    attributes: tuple[tuple[str, str, float], ...] = ()
    embedding: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Detections:
    """What a detector found in one frame, best score first; arrays of its own.

    Attributes:
        boxes: ``float32 [n, 4]``, x1, y1, x2, y2, normalised to the upright source picture.
        scores: ``float32 [n]``, 0..1.
        class_ids: ``int32 [n]``, indices of the engine's labels.
        extras: ``float32 [n, E]``, the engine's further columns; x and y of keypoints are normalised like boxes.
        saturated: The engine had more candidates than it may return, so that some may be missing.
        track_ids: Of which track each is, empty where of none; no entries at all: nothing is followed.
        attached: What further engines said of each, None where nothing; no entries at all: of none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    extras: NDArray[np.float32]
    saturated: bool = False
    track_ids: tuple[str, ...] = ()
    attached: tuple[Attached | None, ...] = ()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.scores)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep some of them, in place.

        Args:
            kept: ``bool [n]``.
        """
        self.boxes, self.scores = self.boxes[kept], self.scores[kept]
        self.class_ids, self.extras = self.class_ids[kept], self.extras[kept]
        self.track_ids = tuple(compress(self.track_ids, kept))
        self.attached = tuple(compress(self.attached, kept))


class DetectionFilter:
    """What one channel wants to see of one detector.

    Args:
        labels: The engine's labels, by class id.
        extras: Names of the engine's further columns: `kpt:NAME:x`, `kpt:NAME:y`, `kpt:NAME:score`, or any other name.
        min_score: Lowest score that is reported.
        iou: Boxes of one class that overlap by more than this are one.
        max_detections: At most so many, the best ones.
        classes: Labels to report; empty: all.
        regions: Polygons, normalised to the upright picture; a detection is reported when the centre of its box
            lies in one; empty: the whole picture.
        score_floor: Rows below it carry nothing, whatever ``min_score`` says; above 0.
    """

    def __init__(
        self,
        labels: Sequence[str],
        extras: Sequence[str] = (),
        *,
        min_score: float = 0.25,
        iou: float = 0.45,
        max_detections: int = 300,
        classes: Sequence[str] = (),
        regions: Sequence[tuple[tuple[float, float], ...]] = (),
        score_floor: float = 1e-6,
    ) -> None:
        self._min_score = np.float32(max(min_score, score_floor))
        self._iou = iou
        self._max_detections = max_detections
        self._class_count = len(labels)
        self._wanted = np.array([label in classes for label in labels], np.bool_) if classes else None
        self._regions = Regions(regions)
        self._extras = len(extras)
        self._points = [
            column for column, name in enumerate(extras) if name.startswith("kpt:") and name.endswith((":x", ":y"))
        ]

    @classmethod
    def for_channel(
        cls,
        config: ChannelConfig,
        labels: Sequence[str],
        extras: Sequence[str] = (),
        *,
        min_score: float,
        iou: float,
        score_floor: float = 1e-6,
    ) -> DetectionFilter:
        """Build the filter of a channel's configuration; ``min_score`` and ``iou`` are the engine's defaults."""
        return cls(
            labels,
            extras,
            min_score=min_score if config.min_score is None else config.min_score,
            iou=iou if config.iou is None else config.iou,
            max_detections=config.max_detections,
            classes=config.classes,
            regions=config.regions,
            score_floor=score_floor,
        )

    def judge(self, rows: NDArray[np.float32], geometry: Geometry) -> Detections:
        """Turn an engine's rows for one frame into detections.

        Args:
            rows: ``float32 [K, 6 + E]``, best score first, boxes in pixels of the input; read only, not kept.
            geometry: Where the picture stood in the input.

        Raises:
            ValueError: The rows are not as wide as the extras say.
        """
        if rows.shape[1] != _EXTRAS + self._extras:
            raise ValueError(
                f"rows have {rows.shape[1]} columns; with {self._extras} extras it must be {6 + self._extras}"
            )
        scores = rows[:, _SCORE]
        if not len(rows) or scores[0] < self._min_score:
            return self._nothing()
        count = int(np.count_nonzero(scores >= self._min_score))
        saturated = count == len(rows)
        rows = rows[:count]
        if count <= FEW and self._wanted is None:
            few = self._choose_few(rows.tolist())
            if few != list(range(count)):
                rows = rows[few]
            return self._report(rows, rows[:, _CLASS].astype(np.int32), geometry, saturated=saturated)
        rows = self._valid(rows)
        class_ids = rows[:, _CLASS].astype(np.int32)
        if self._wanted is not None:
            wanted = self._wanted[class_ids]
            rows, class_ids = rows[wanted], class_ids[wanted]
        kept = suppress(rows[:, :4], rows[:, _SCORE], class_ids, self._iou)
        if len(kept) < len(rows):
            rows, class_ids = rows[kept], class_ids[kept]
        return self._report(rows, class_ids, geometry, saturated=saturated)

    def _choose_few(self, rows: list[list[float]]) -> list[int]:
        """Choose among a handful of rows as `_valid` and `suppress` do: as numbers, since each array costs more."""
        valid = [
            index
            for index, (x1, y1, x2, y2, _, class_id, *_) in enumerate(rows)
            # A box between finite corners has a finite width: infinity less infinity is no number.
            if x2 > x1 and y2 > y1 and 0 <= class_id < self._class_count and x2 - x1 < _INFINITE and y2 - y1 < _INFINITE
        ]
        if len(valid) <= 1:
            return valid
        boxes, scores = [rows[index][:4] for index in valid], [rows[index][_SCORE] for index in valid]
        class_ids = [int(rows[index][_CLASS]) for index in valid]
        return [valid[index] for index in suppress_few(boxes, scores, class_ids, self._iou)]

    def _nothing(self) -> Detections:
        return Detections(
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            np.empty((0, self._extras), np.float32),
        )

    def _valid(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Leave out what no sound model returns: boxes without area, NaN or infinity, classes without a label."""
        valid = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
        valid &= (rows[:, _CLASS] >= 0) & (rows[:, _CLASS] < self._class_count)
        finite = np.isfinite(rows[:, :4])
        if not finite.all():
            valid &= finite.all(axis=1)
        return rows if valid.all() else rows[valid]

    def _report(
        self, rows: NDArray[np.float32], class_ids: NDArray[np.int32], geometry: Geometry, *, saturated: bool
    ) -> Detections:
        """Take the rows kept back to the source and choose those in the picture and its regions."""
        boxes = geometry.to_normalised(rows[:, :4])
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if self._regions:
            inside &= self._regions.contain((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))
        if len(rows) > self._max_detections or not inside.all():
            chosen = np.flatnonzero(inside)[: self._max_detections]
            rows, boxes, class_ids = rows[chosen], boxes[chosen], class_ids[chosen]
        extras = rows[:, _EXTRAS:].copy()
        if self._points:
            points = extras[:, self._points].reshape(len(rows), -1, 2)
            extras[:, self._points] = geometry.points_to_normalised(points).reshape(len(rows), -1)
        return Detections(boxes, rows[:, _SCORE].copy(), class_ids, extras, saturated)
