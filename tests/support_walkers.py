"""Objects that walk through a picture, what a detector would tell of them, and who they are.

A scene is a function of time: it can be sampled at any times, evenly or not, and the same seed walks the same ways. A
detector's faults are drawn per sample: misses, jitter of boxes, low scores of what is half hidden, false alarms, labels
that flicker. What stands behind a pillar, or behind somebody nearer, is not detected, and not part of the truth there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.post.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LABELS = ("person", "car", "truck")
ASPECT = 16 / 9
START_S = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Walker:
    """One object: it goes from a place to a place, sways, and may stand still in between.

    Attributes:
        start_s: When it is at `start`, seconds after the scene's begin.
        start, velocity: Its feet: picture widths and heights, and those per second.
        height: Of its box at `start`, picture heights.
        slim: Width over height of its box, in pixels.
        label: Index of `LABELS`.
        ends_s: When it is gone.
        halt_s: When it halts, and for how long.
        sway: How far it leaves its straight way, picture widths, and how often per second.
    """

    start_s: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    height: float = 0.25
    slim: float = 0.4
    label: int = 0
    ends_s: float = math.inf
    halt_s: tuple[float, float] = (math.inf, 0.0)
    sway: tuple[float, float] = (0.0, 0.3)

    def box(self, time_s: float) -> tuple[float, float, float, float] | None:
        """Return its box, cut at the picture's edge, or None where it is not in the picture."""
        if not self.start_s <= time_s < self.ends_s:
            return None
        halt, stay = self.halt_s
        walked = time_s - self.start_s - min(max(time_s - halt, 0.0), stay)
        x = self.start[0] + self.velocity[0] * walked + self.sway[0] * math.sin(walked * self.sway[1] * math.tau)
        y = self.start[1] + self.velocity[1] * walked
        # The nearer, the larger: heights grow with the feet's distance from the horizon, above the picture.
        height = self.height * (y + 0.3) / (self.start[1] + 0.3)
        half = height * self.slim / ASPECT / 2
        box = max(x - half, 0.0), max(y - height, 0.0), min(x + half, 1.0), min(y, 1.0)
        return box if box[2] - box[0] > half * 0.3 and box[3] - box[1] > height * 0.15 else None


@dataclass(frozen=True, slots=True)
class Faults:
    """What a detector does wrong.

    Attributes:
        missed: Share of visible objects that are not detected, frame by frame.
        jitter: Standard deviation of a box's edges, as a share of its size.
        false_alarms: So many per frame, anywhere.
        flicker: Share of cars and trucks that are called the other.
    """

    missed: float = 0.15
    jitter: float = 0.03
    false_alarms: float = 0.3
    flicker: float = 0.1


NO_FAULTS = Faults(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame.

    Attributes:
        time_s: When.
        ids: `int64 [n]`, who is to be seen; indices of the scene's walkers.
        boxes: `float64 [n, 4]`, where.
        detections: What the detector tells, best first.
        sources: `int64 [m]`, the walker behind each detection; -1 of false alarms.
    """

    time_s: float
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    detections: Detections
    sources: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """Walkers, pillars in front of them (x from, x to), and the detector's faults."""

    walkers: Sequence[Walker]
    pillars: Sequence[tuple[float, float]] = ()
    faults: Faults = field(default_factory=Faults)
    seed: int = 0

    def sample(self, times: Sequence[float]) -> Iterator[Sample]:
        """Look at the given times, seconds after the scene's begin."""
        rng = np.random.default_rng((self.seed, len(times)))
        for time_s in times:
            yield self._look(time_s, rng)

    def _look(self, time_s: float, rng: np.random.Generator) -> Sample:
        placed = [(index, box) for index, walker in enumerate(self.walkers) if (box := walker.box(time_s)) is not None]
        shown = {index: self._visible(index, box, placed) for index, box in placed}
        seen = [(index, box) for index, box in placed if shown[index] > 0.4]
        rows = [
            (index, *self._detect(index, box, shown[index], rng)) for index, box in seen if rng.random() >= self._miss()
        ]
        rows += [(-1, *self._dream(rng)) for _ in range(rng.poisson(self.faults.false_alarms))]
        rows.sort(key=lambda row: -row[2])
        return Sample(
            START_S + time_s,
            np.array([index for index, _ in seen], np.int64),
            np.array([box for _, box in seen], np.float64).reshape(-1, 4),
            found([row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows]),
            np.array([row[0] for row in rows], np.int64),
        )

    def _miss(self) -> float:
        return self.faults.missed

    def _visible(self, index: int, box: Sequence[float], placed: Sequence[tuple[int, Sequence[float]]]) -> float:
        """Return the share of a box that nothing nearer covers: the lower the feet, the nearer."""
        width = box[2] - box[0]
        hidden = max([0.0, *(min(box[2], to) - max(box[0], start) for start, to in self.pillars)]) / width
        for other, cover in placed:
            if other != index and cover[3] > box[3]:
                across = min(box[2], cover[2]) - max(box[0], cover[0])
                down = min(box[3], cover[3]) - max(box[1], cover[1])
                if across > 0 and down > 0:
                    hidden = max(hidden, across * down / (width * (box[3] - box[1])))
        return 1.0 - hidden

    def _detect(
        self, index: int, box: Sequence[float], visible: float, rng: np.random.Generator
    ) -> tuple[tuple[float, ...], float, int]:
        size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        noisy = np.clip(np.array(box) + rng.normal(0.0, 1.0, 4) * size * self.faults.jitter, 0.0, 1.0)
        clear = 0.9 - rng.beta(1.5, 5.0) * 0.5 if self.faults.jitter else 0.9
        score = float(np.clip(clear - 0.6 * (1.0 - visible), 0.2, 0.99))
        label = self.walkers[index].label
        flickers = label > 0 and rng.random() < self.faults.flicker
        return tuple(noisy.tolist()), score, 3 - label if flickers else label

    @staticmethod
    def _dream(rng: np.random.Generator) -> tuple[tuple[float, ...], float, int]:
        height = rng.uniform(0.1, 0.4)
        x, y, width = rng.uniform(0.0, 0.9), rng.uniform(0.0, 0.9), height * 0.4 / ASPECT
        return (x, y, min(x + width, 1.0), min(y + height, 1.0)), float(rng.uniform(0.25, 0.6)), int(rng.integers(2))


def found(boxes: Sequence[Sequence[float]], scores: Sequence[float], class_ids: Sequence[int]) -> Detections:
    """Make detections."""
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
        np.empty((len(scores), 0), np.float32),
    )


def street(seed: int, *, people: int = 8, cars: int = 2, length_s: float = 20.0, faults: Faults | None = None) -> Walk:
    """Make a busy street: people both ways who cross, halt and sway, cars, two pillars that hide for 0.5 to 2 s."""
    rng = np.random.default_rng(seed)
    walkers = []
    for number in range(people + cars):
        car = number >= people
        speed = rng.uniform(0.15, 0.3) if car else rng.uniform(0.05, 0.14)
        # Again and again, as long as the scene is: who has left comes back as somebody else.
        start_s = -rng.uniform(0.0, 0.8 / speed)
        while start_s < length_s:
            leftward = bool(rng.random() < 0.5)
            feet = rng.uniform(0.45, 0.6) if car else rng.uniform(0.5, 0.95)
            halt = (start_s + rng.uniform(2.0, 6.0), rng.uniform(1.0, 4.0)) if rng.random() < 0.3 else (math.inf, 0.0)
            walkers.append(
                Walker(
                    start_s,
                    (1.05 if leftward else -0.05, feet),
                    (-speed if leftward else speed, rng.uniform(-0.01, 0.01)),
                    height=(0.2 if car else 0.35) * (feet + 0.3),
                    slim=2.4 if car else 0.4,
                    label=int(rng.integers(1, 3)) if car else 0,
                    ends_s=start_s + 1.1 / speed + halt[1],
                    halt_s=halt,
                    sway=(rng.uniform(0.0, 0.01), rng.uniform(0.1, 0.3)),
                )
            )
            start_s += 1.1 / speed + halt[1] + rng.uniform(0.5, 3.0)
    pillars = [(x, x + rng.uniform(0.06, 0.1)) for x in (rng.uniform(0.2, 0.3), rng.uniform(0.6, 0.75))]
    return Walk(walkers, pillars, faults or Faults(missed=rng.uniform(0.1, 0.2)), seed)


def evenly(fps: float, length_s: float = 20.0) -> list[float]:
    """Return the times of a steady camera."""
    return [index / fps for index in range(int(length_s * fps))]


def skipped(fps: float, share: float, seed: int, length_s: float = 20.0) -> list[float]:
    """Return the times of a steady camera of whose frames a share is not analysed."""
    rng = np.random.default_rng(seed)
    return [time_s for time_s in evenly(fps, length_s) if rng.random() >= share]


def irregularly(seed: int, length_s: float = 20.0) -> list[float]:
    """Return times of about ten a second, 20 ms to 0.5 s apart, with gaps of 0.5 to 1.5 s now and then."""
    rng = np.random.default_rng(seed)
    times, time_s = [], 0.0
    while time_s < length_s:
        times.append(time_s)
        time_s += rng.uniform(0.5, 1.5) if rng.random() < 0.02 else float(np.clip(rng.exponential(0.1), 0.02, 0.5))
    return times


def samplings(seed: int, length_s: float = 20.0) -> dict[str, list[float]]:
    """Return the times that a tracker is judged at."""
    return {
        "15 fps": evenly(15, length_s),
        "15 fps, 20 % skipped": skipped(15, 0.2, seed, length_s),
        "5 fps": evenly(5, length_s),
        "irregular, gaps": irregularly(seed, length_s),
    }
