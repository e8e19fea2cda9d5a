"""One stage of one channel, and the looks that it has under way.

Threads: the cascade's lock is held around every call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vedette_server.cascade.cutting import shows_enough
from vedette_server.cascade.subjects import Subject, Subjects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_server.cascade.cutting import Corners
    from vedette_server.cascade.seat import StageSeat
    from vedette_server.data.channel import StageConfig
    from vedette_server.data.verdict import EngineLabel
    from vedette_server.post.detections import Detections

# So many objects are remembered, beyond what a tracker follows at once; then those met first are forgotten.
MOST_SUBJECTS = 1024
# A box that touches the picture's edge most likely shows a part of its object only.
_AT_EDGE = 0.5


@dataclass(slots=True, eq=False)
class Look:
    """One crop on its way through an engine.

    Attributes:
        stage: Of which stage.
        subject: Of which object.
        engine: The version that looks.
        time_s: When the frame was taken.
        begun_s: When it was handed over, monotonic seconds.
        counted: It counts among those that are under way.
    """

    stage: Stage
    subject: Subject
    engine: EngineLabel
    time_s: float
    begun_s: float
    counted: bool = True


class Turn(NamedTuple):
    """An object that is to be looked at."""

    stage: Stage
    subject: Subject
    corners: Corners


@dataclass(slots=True, eq=False)
class Stage:
    """One stage.

    Attributes:
        config: What is wanted.
        seat: What runs it.
        subjects: What it looks at.
        under_way: Looks whose answer is awaited.
        complained: That it fails was told.
        due_s: From when on it will have something to do, if it sees what it saw in the latest frame.
    """

    config: StageConfig
    seat: StageSeat
    subjects: Subjects = field(default_factory=Subjects)
    under_way: dict[Look, None] = field(default_factory=dict)
    complained: bool = False
    due_s: float = math.inf

    def turns(
        self, detections: Detections, labels: Sequence[str], time_s: float, size: tuple[int, int] | None
    ) -> list[Turn]:
        """Choose whom to look at in a frame, the most urgent first.

        Args:
            detections: What was found and is followed.
            labels: Names of the detector's classes, by class id.
            time_s: When the frame was taken.
            size: Upright width and height of the picture, pixels; None: not known.
        """
        runs, refresh_s = self.seat.runs, self.config.refresh_s
        self.due_s = math.inf
        if runs is None or not detections.track_ids:
            return []
        found: list[tuple[tuple[bool, float], Turn]] = []
        for index in self._wanted(detections, labels):
            corners: Corners = tuple(detections.boxes[index].tolist())
            if size is not None and not shows_enough(corners, *size):
                continue
            track_id = detections.track_ids[index]
            if not track_id:
                # Next time it may be one.
                self.due_s = time_s
                continue
            subject = self.subjects.meet(track_id, time_s)
            self.due_s = min(self.due_s, subject.due_s(refresh_s, runs))
            if subject.is_due(time_s, refresh_s, runs):
                clearness = _clearness(corners, float(detections.scores[index]))
                found.append((subject.urgency(clearness, time_s, refresh_s), Turn(self, subject, corners)))
        found.sort(key=lambda one: one[0], reverse=True)
        return [turn for _, turn in found]

    def _wanted(self, detections: Detections, labels: Sequence[str]) -> Iterator[int]:
        chosen = self.config.labels
        if not chosen:
            yield from range(len(detections.track_ids))
            return
        for index, class_id in enumerate(detections.class_ids.tolist()):
            if 0 <= class_id < len(labels) and labels[class_id] in chosen:
                yield index


def _clearness(corners: Corners, score: float) -> float:
    x1, y1, x2, y2 = corners
    at_edge = x1 <= 0.0 or y1 <= 0.0 or x2 >= 1.0 or y2 >= 1.0
    # By its side and not its area: small ones must not wait for ever.
    return math.sqrt(score * (x2 - x1) * (y2 - y1)) * (_AT_EDGE if at_edge else 1.0)
