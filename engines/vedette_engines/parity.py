"""Compare an engine with its original: what the graph computes, and what a plain reading of the original says.

The original model runs as it came, its input prepared and its raw output read in NumPy. The engine runs from the
bytes that would be published. Scores must agree row by row; each row must be some anchor of the original that has
the row's rank, so that two anchors of nearly equal score may change places and nothing else may.

Also a row below the floor must be the right anchor: otherwise a model that sees nothing on the sample frames would
pass whatever the graph does to its boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.errors import ImportRefusedError
from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.head import extras_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.frames import Sample
    from vedette_engines.graft.head import Head, HeadContext, Reading
    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.graft.session import Session

COLUMNS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two readings may be: `absolute + relative * |expected|`.

    Attributes:
        score: Absolute, for scores.
        score_relative: Relative, for scores.
        box_px: Absolute, for corners and extras, in input pixels.
        box_relative: Relative, for corners and extras.
    """

    score: float = 1e-5
    score_relative: float = 2e-3
    box_px: float = 0.05
    box_relative: float = 1e-4

    def of_score(self, expected: NDArray[np.floating]) -> NDArray[np.floating]:
        """Tell how far each score may be off."""
        allowed: NDArray[np.floating] = self.score + self.score_relative * np.abs(expected)
        return allowed

    def of_box(self, expected: NDArray[np.floating]) -> NDArray[np.floating]:
        """Tell how far each coordinate may be off."""
        allowed: NDArray[np.floating] = self.box_px + self.box_relative * np.abs(expected)
        return allowed

    def __str__(self) -> str:
        return (
            f"scores {self.score:g} + {self.score_relative:g} of the value, "
            f"boxes {self.box_px:g} px + {self.box_relative:g} of the value"
        )


FLOAT32_TOLERANCE = Tolerance()
# Half precision rounds inside the model, and differently as the runtime fuses its nodes.
FLOAT16_TOLERANCE = Tolerance(score=1e-3, score_relative=2e-2, box_px=0.5, box_relative=2e-3)


@dataclass(slots=True)
class ParityReport:
    """What was compared, and how far apart it was.

    Attributes:
        frames: Frames that were run, each counted once.
        real_frames: Those among them that were the user's own.
        rows: Rows compared.
        rows_above_floor: Those that carry a score (all, for a classifier or an embedder).
        worst_score: Largest difference of two scores, or of two values of an embedding.
        worst_box_px: Largest difference of two coordinates, in input pixels.
        batches: Batch sizes that were run.
    """

    frames: int = 0
    real_frames: int = 0
    rows: int = 0
    rows_above_floor: int = 0
    worst_score: float = 0.0
    worst_box_px: float = 0.0
    batches: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Original:
    """A model as it came, with the plain reading of what it says.

    Attributes:
        session: Runs the original file.
        preprocessing: What it wants of a pixel.
        head: Reads its raw output.
        context: Sizes and settled options.
    """

    session: Session
    preprocessing: Preprocessing
    head: Head
    context: HeadContext

    def read(self, pixels: NDArray[np.uint8]) -> Reading:
        """Run one frame, `uint8 [height, width, 3]`, and read the result in NumPy."""
        signature = self.context.signature
        tensor = self.preprocessing.apply(pixels[None], signature)
        return self.head.read(self.session.run({signature.input_name: tensor}), self.context)


def check_parity(
    engine: Session, original: Original, samples: Sequence[Sample], batches: Sequence[int], tolerance: Tolerance
) -> ParityReport:
    """Run all samples through both, in batches of each size, and compare.

    Raises:
        ImportRefusedError: They differ; the message says where and by how much.
    """
    report = ParityReport(len(samples), sum(sample.real for sample in samples), batches=list(batches))
    readings = [original.read(sample.pixels) for sample in samples]
    for size in batches:
        for first in range(0, len(samples), size):
            numbers = [min(first + i, len(samples) - 1) for i in range(size)]
            frames = np.stack([samples[number].pixels for number in numbers])
            result = engine.run({FRAMES: frames})[0]
            for row, number in zip(result, numbers, strict=True):
                where = f"{samples[number].label}, batch {size}"
                comparison = Comparison(tolerance, report, where, extras_of(original.head, original.context))
                _compare(comparison, row, readings[number], original)
    return report


def _compare(comparison: Comparison, result: NDArray[np.float32], reading: Reading, original: Original) -> None:
    if np.isnan(result).any() or np.isnan(reading.scores).any():
        raise ImportRefusedError(f"on {comparison.where} the model gives NaN")
    if original.head.task == "detector":
        comparison.candidates(result, reading, original.context.score_floor)
    elif original.head.task == "classifier":
        comparison.scores(result, reading.scores[0])
    else:
        comparison.vector(result, reading.scores[0])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares one frame's result with the reading of one frame.

    Attributes:
        tolerance: How far apart they may be.
        report: Takes the figures.
        where: Names the frame, for messages.
        extras: Names of the further columns; those of keypoints' scores are compared as scores.
    """

    tolerance: Tolerance
    report: ParityReport
    where: str
    extras: tuple[str, ...] = ()

    def scores(self, scores: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Compare the scores of a classifier, `float32 [C]` each, class by class.

        Raises:
            ImportRefusedError: They differ.
        """
        self.report.rows += len(scores)
        self.report.rows_above_floor += len(scores)
        self._judge("scores[{}]", scores, expected, np.abs(scores - expected))

    def vector(self, vector: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Compare two embeddings, `float32 [D]` each: each value may be off by a part of the largest.

        Raises:
            ImportRefusedError: They differ.
        """
        self.report.rows += 1
        self.report.rows_above_floor += 1
        # Rounding is a matter of the longest: a value near 0 is a difference of large ones.
        largest = np.full_like(expected, np.abs(expected).max(initial=0))
        self._judge("embedding[{}]", vector, expected, np.abs(vector - expected), largest)

    def candidates(self, rows: NDArray[np.float32], reading: Reading, floor: float) -> None:
        """Compare the candidates of a detector, `float32 [K, 6 + E]`, with what every anchor says.

        Raises:
            ImportRefusedError: They differ.
        """
        best = reading.scores[0].max(axis=1)
        order = np.argsort(-best, kind="stable")
        ranked = best[order]
        self._ranking(rows[:, 4], ranked[: len(rows)], floor)
        free = np.ones(len(best), bool)
        for number, row in enumerate(rows):
            slack = self.tolerance.of_score(ranked[number])
            first = np.searchsorted(-ranked, -(ranked[number] + slack))
            last = np.searchsorted(-ranked, -(ranked[number] - slack), side="right")
            pool = order[first:last][free[order[first:last]]]
            anchor = self._match(row, pool, reading)
            if anchor is None:
                raise ImportRefusedError(self._difference(row, number, int(order[number]), reading))
            free[anchor] = False
            self.report.worst_box_px = max(self.report.worst_box_px, _farthest(row[:4], reading.boxes[0, anchor]))
        self.report.rows += len(rows)
        self.report.rows_above_floor += int((rows[:, 4] > 0).sum())

    def _match(self, row: NDArray[np.float32], pool: NDArray[np.intp], reading: Reading) -> np.intp | None:
        """Find the anchor of the pool that is the row: the nearest whose box, class and extras agree."""
        if not len(pool):
            return None
        expected = reading.boxes[0, pool]
        class_scores = reading.scores[0, pool]
        best = class_scores.max(axis=1)
        number = int(row[5])
        if not 0 <= number < class_scores.shape[1]:
            return None
        agreed = _close(row[:4], expected, self.tolerance)
        agreed &= class_scores[:, number] >= best - self.tolerance.of_score(best)
        if len(row) > 6:
            agreed &= self._same_extras(row[6:], reading.extras[0, pool])
        if not agreed.any():
            return None
        with np.errstate(invalid="ignore"):
            distance = np.nan_to_num(np.abs(row[:4] - expected)).sum(axis=1)
        distance[~agreed] = np.inf
        return np.intp(pool[int(distance.argmin())])

    def _same_extras(self, extras: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which rows of `[P, E]` agree with `[E]` in every column."""
        names = self.extras or ("",) * len(extras)
        shares = np.asarray([name.startswith("kpt:") and name.endswith(":score") for name in names])
        near = np.abs(extras - expected)[:, shares] <= self.tolerance.of_score(expected[:, shares])
        agreed: NDArray[np.bool_] = np.asarray(near.all(axis=1), np.bool_)
        return agreed & _close(extras[~shares], expected[:, ~shares], self.tolerance)

    def _ranking(self, scores: NDArray[np.float32], ranked: NDArray[np.float32], floor: float) -> None:
        """Compare the falling scores; one next to the floor may be on either side of it."""
        floored = np.where(ranked < floor, np.float32(0), ranked)
        difference = np.abs(scores - floored)
        allowed = self.tolerance.of_score(ranked)
        beside = (np.abs(ranked - floor) <= allowed) & ((scores == 0) | (np.abs(scores - ranked) <= allowed))
        difference[beside] = 0
        self._judge("the score of row {}", scores, floored, difference)

    def _judge(
        self,
        what: str,
        scores: NDArray[np.float32],
        expected: NDArray[np.float32],
        difference: NDArray[np.floating],
        size: NDArray[np.float32] | None = None,
    ) -> None:
        """Refuse a difference beyond the tolerance for a score, by the expected value or by another size."""
        self.report.worst_score = max(self.report.worst_score, float(difference.max()))
        excess = difference - self.tolerance.of_score(expected if size is None else size)
        worst = int(excess.argmax())
        if excess[worst] > 0:
            raise ImportRefusedError(
                f"the engine disagrees with the original on {self.where}: {what.format(worst)} is {scores[worst]:.6f}, "
                f"the original gives {expected[worst]:.6f} (allowed: {self.tolerance})"
            )

    def _difference(self, row: NDArray[np.float32], number: int, anchor: int, reading: Reading) -> str:
        """Tell how a row differs from the anchor that has its rank."""
        expected, expected_class = reading.boxes[0, anchor], int(reading.scores[0, anchor].argmax())
        parts = [
            f"{name} is {value:.3f}, the original gives {wanted:.3f}"
            for name, value, wanted in zip(COLUMNS, row[:4], expected, strict=True)
            if not _close(np.asarray([value]), np.asarray([wanted]), self.tolerance)
        ]
        if int(row[5]) != expected_class:
            parts.append(f"class is {int(row[5])}, the original gives {expected_class}")
        what = "; ".join(parts) or "its extras differ, or an earlier row is the same anchor"
        return (
            f"the engine disagrees with the original on {self.where}: row {number}: {what} (allowed: {self.tolerance})"
        )


def _close(values: NDArray[np.float32], expected: NDArray[np.float32], tolerance: Tolerance) -> NDArray[np.bool_]:
    """Tell which rows of `[P, M]` agree with `[M]` in every column; two equal infinities agree."""
    with np.errstate(invalid="ignore"):
        near = np.abs(values - expected) <= tolerance.of_box(expected)
    agreed: NDArray[np.bool_] = (near | (values == expected)).all(axis=-1)
    return agreed


def _farthest(box: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    finite = np.isfinite(box) & np.isfinite(expected)
    return float(np.abs(box[finite] - expected[finite]).max(initial=0.0))
