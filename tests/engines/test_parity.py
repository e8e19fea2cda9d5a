"""The parity gate: what it lets pass and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from vedette_engines.errors import ImportRefusedError
from vedette_engines.graft.head import Reading
from vedette_engines.parity import Comparison, ParityReport, Tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 0.05


def reading(seed: int = 1, anchors: int = 40, classes: int = 3, extras: int = 0) -> Reading:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 300, (1, anchors, 4)).astype(np.float32)
    scores = rng.random((1, anchors, classes)).astype(np.float32) ** 3
    return Reading(scores, corners, rng.random((1, anchors, extras)).astype(np.float32))


def rows_of(expected: Reading, count: int = 25) -> NDArray[np.float32]:
    best = expected.scores[0].max(axis=1)
    order = np.argsort(-best)[:count]
    scores = np.where(best[order] < FLOOR, 0, best[order])[:, None]
    classes = expected.scores[0, order].argmax(axis=1)[:, None]
    parts = [expected.boxes[0, order], scores, classes]
    if expected.extras.size:
        parts.append(expected.extras[0, order])
    return np.concatenate(parts, axis=1).astype(np.float32)


def compare(rows: NDArray[np.float32], expected: Reading) -> ParityReport:
    report = ParityReport()
    Comparison(Tolerance(), report, "noise 2, batch 3").candidates(rows, expected, FLOOR)
    return report


def test_equal_rows_pass_and_are_counted() -> None:
    expected = reading()
    report = compare(rows_of(expected), expected)
    assert (report.rows, report.worst_score, report.worst_box_px) == (25, 0, 0)
    assert 0 < report.rows_above_floor <= 25


def test_rounding_passes_and_its_size_is_reported() -> None:
    expected = reading()
    rows = rows_of(expected)
    rows[:, :4] += 0.02
    report = compare(rows, expected)
    assert report.worst_box_px == pytest.approx(0.02, abs=1e-3)


def test_two_rows_of_equal_score_may_change_places() -> None:
    expected = reading()
    best = expected.scores[0].max(axis=1)
    first, second = np.argsort(-best)[:2]
    expected.scores[0, second] = expected.scores[0, first]
    rows = rows_of(expected)
    rows[[0, 1]] = rows[[1, 0]]
    compare(rows, expected)


def test_a_row_just_below_the_floor_may_be_on_either_side_of_it() -> None:
    expected = reading(anchors=1, classes=1)
    expected.scores[0, 0] = FLOOR - 1e-6
    row = np.concatenate([expected.boxes[0], [[0.0, 0.0]]], axis=1).astype(np.float32)
    compare(row, expected)
    row[0, 4] = FLOOR
    compare(row, expected)


@pytest.mark.parametrize(("column", "name"), [(0, "x1"), (1, "y1"), (2, "x2"), (3, "y2")])
def test_a_box_that_is_off_is_refused_with_the_frame_the_row_and_the_column(column: int, name: str) -> None:
    expected = reading()
    rows = rows_of(expected)
    rows[3, column] += 0.5
    with pytest.raises(ImportRefusedError, match=rf"on noise 2, batch 3: row 3: {name} is \d.*the original gives \d"):
        compare(rows, expected)


def test_a_box_below_the_floor_is_compared_too() -> None:
    expected = reading()
    expected.scores[...] *= FLOOR / 2
    rows = rows_of(expected)
    assert not rows[:, 4].any()
    compare(rows, expected)
    rows[7, 0] += 1
    with pytest.raises(ImportRefusedError, match="row 7"):
        compare(rows, expected)


def test_a_wrong_class_is_refused() -> None:
    expected = reading()
    rows = rows_of(expected)
    rows[0, 5] = (rows[0, 5] + 1) % 3
    with pytest.raises(ImportRefusedError, match=r"row 0: class is \d, the original gives \d"):
        compare(rows, expected)


def test_a_score_that_is_off_is_refused() -> None:
    expected = reading()
    rows = rows_of(expected)
    rows[2, 4] *= 0.99
    with pytest.raises(ImportRefusedError, match=r"the score of row 2 is 0\.\d+, the original gives 0\.\d+"):
        compare(rows, expected)


def test_one_anchor_given_twice_is_refused() -> None:
    expected = reading()
    rows = rows_of(expected)
    rows[5] = rows[4]
    rows[5, 4] = rows_of(expected)[5, 4]
    with pytest.raises(ImportRefusedError, match="row 5"):
        compare(rows, expected)


def test_rows_that_miss_the_best_anchor_are_refused() -> None:
    expected = reading()
    with pytest.raises(ImportRefusedError, match="the score of row"):
        compare(rows_of(expected, 26)[1:], expected)


def test_extras_that_are_off_are_refused() -> None:
    expected = reading(extras=2)
    rows = rows_of(expected)
    compare(rows, expected)
    rows[4, 7] += 1
    with pytest.raises(ImportRefusedError, match="row 4: its extras differ"):
        compare(rows, expected)


def test_a_keypoints_score_is_compared_as_a_score_and_its_place_in_pixels() -> None:
    expected = reading(extras=3)
    rows = rows_of(expected)
    names = ("kpt:nose:x", "kpt:nose:y", "kpt:nose:score")
    comparison = Comparison(Tolerance(), ParityReport(), "noise 2, batch 3", names)
    rows[4, 6] += 0.04
    comparison.candidates(rows, expected, FLOOR)
    rows[4, 8] += 0.04
    with pytest.raises(ImportRefusedError, match="row 4: its extras differ"):
        comparison.candidates(rows, expected, FLOOR)


def test_an_embeddings_values_may_be_off_by_a_part_of_the_largest() -> None:
    vector = np.asarray([0.001, -50, 3], np.float32)
    report = ParityReport()
    comparison = Comparison(Tolerance(), report, "drawing 0, batch 1")
    comparison.vector(vector + np.asarray([0.05, 0, 0], np.float32), vector)
    assert (report.rows, report.worst_score) == (1, pytest.approx(0.05, rel=1e-3))
    with pytest.raises(ImportRefusedError, match=r"drawing 0, batch 1: embedding\[2\] is 3\.2.*gives 3\.0"):
        comparison.vector(vector + np.asarray([0, 0, 0.2], np.float32), vector)
    with pytest.raises(ImportRefusedError, match=r"embedding\[1\]"):
        comparison.vector(vector * np.asarray([1, -1, 1], np.float32), vector)


def test_class_scores_are_compared_one_by_one() -> None:
    scores = np.asarray([0.7, 0.2, 0.1], np.float32)
    comparison = Comparison(Tolerance(), ParityReport(), "drawing 0, batch 1")
    comparison.scores(scores, scores)
    with pytest.raises(ImportRefusedError, match=r"drawing 0, batch 1: scores\[2\] is 0\.11"):
        comparison.scores(scores + np.asarray([0, 0, 0.01], np.float32), scores)
