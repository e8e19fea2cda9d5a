"""Average precision against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_compare import boxes
from vedette_engines.compare.detections import Boxes, boxes_of, ious, read_rows, suppress
from vedette_engines.compare.scoring import score_detections

A = (0, 0, 10, 10, 0.9, 0)
B = (20, 20, 30, 30, 0.8, 0)


def test_what_is_found_just_so_scores_one(capsys: pytest.CaptureFixture[str]) -> None:
    score = score_detections([boxes(A, B)], [boxes(A, B)], 0.25)
    assert (score.map50, score.map50_95, score.precision, score.recall) == (1.0, 1.0, 1.0, 1.0)
    assert (score.iou, score.score_difference) == (1.0, 0.0)
    assert capsys.readouterr().out == ""


def test_one_of_two_missed_is_half() -> None:
    score = score_detections([boxes(A, B)], [boxes(A)], 0.25)
    # COCO reads precision at recall 0, 0.01 .. 1: 51 of the 101 are reached.
    assert score.map50 == pytest.approx(51 / 101)
    assert (score.precision, score.recall) == (1.0, 0.5)
    assert (score.missed, score.false) == ((1,), (0,))


def test_a_shifted_box_counts_at_half_overlap_and_not_at_nine_tenths() -> None:
    # 2 px of 10: overlap 8 of 12, so 4 of the ten thresholds 0.5 .. 0.95 are reached.
    score = score_detections([boxes(A)], [boxes((2, 0, 12, 10, 0.9, 0))], 0.25)
    assert score.map50 == 1.0
    assert score.map50_95 == pytest.approx(0.4)
    assert score.iou == pytest.approx(8 / 12)


def test_the_wrong_class_is_not_found() -> None:
    score = score_detections([boxes(A)], [boxes((0, 0, 10, 10, 0.9, 1))], 0.25)
    assert (score.map50, score.map50_95, score.precision, score.recall) == (0.0, 0.0, 0.0, 0.0)
    assert [(one.class_id, one.wanted, one.map50, one.hits, one.false) for one in score.classes] == [
        (0, 1, 0.0, 0, 0),
        (1, 0, None, 0, 1),
    ]


def test_a_false_detection_before_the_right_one_halves_the_precision() -> None:
    score = score_detections([boxes(A)], [boxes((50, 50, 60, 60, 0.95, 0), A)], 0.25)
    assert score.map50 == pytest.approx(0.5)
    assert (score.precision, score.recall) == (0.5, 1.0)


def test_a_frame_in_which_nothing_is_counts_by_what_is_falsely_found_there() -> None:
    quiet = score_detections([boxes(A), boxes()], [boxes(A), boxes()], 0.25)
    assert (quiet.map50, quiet.precision) == (1.0, 1.0)
    loud = score_detections([boxes(A), boxes()], [boxes(A), boxes((0, 0, 9, 9, 0.99, 0))], 0.25)
    assert (loud.map50, loud.precision) == (pytest.approx(0.5), 0.5)
    assert loud.false == (0, 1)


def test_rows_below_the_least_score_make_the_curve_but_not_precision_and_recall() -> None:
    weak = (20, 20, 30, 30, 0.1, 0)
    score = score_detections([boxes(A, B)], [boxes(A, weak)], 0.25)
    assert score.map50 == 1.0
    assert (score.precision, score.recall, score.found) == (1.0, 0.5, 1)


def test_the_classes_mean_counts_each_class_alike() -> None:
    other = (40, 40, 50, 50, 0.7, 2)
    score = score_detections([boxes(A, B, other)], [boxes(A, B)], 0.25)
    assert score.map50 == pytest.approx(0.5)


def test_a_detection_in_a_crowd_is_neither_right_nor_wrong() -> None:
    wanted = boxes(A, (50, 50, 90, 90, 1.0, 0))
    crowd = Boxes(wanted.corners, wanted.scores, wanted.class_ids, np.asarray(wanted.corners[:, 0] == 50))
    inside = [(50 + 5 * i, 50, 54 + 5 * i, 60, 0.95, 0) for i in range(3)]
    score = score_detections([crowd], [boxes(A, *inside)], 0.25)
    assert (score.map50, score.precision, score.recall, score.wanted, score.found) == (1.0, 1.0, 1.0, 1, 1)


def test_more_than_a_hundred_detections_count() -> None:
    many = [(12.0 * i, 0, 12.0 * i + 10, 10, 0.9 - i / 1000, 0) for i in range(150)]
    assert score_detections([boxes(*many)], [boxes(*many)], 0.25).map50 == 1.0


def test_a_huge_box_counts() -> None:
    huge = (0, 0, 200_000, 200_000, 0.9, 0)
    assert score_detections([boxes(huge)], [boxes(huge)], 0.25).map50 == 1.0


def test_without_anything_to_find_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="nothing to find"):
        score_detections([boxes()], [boxes(A)], 0.25)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0.3, 1.0), st.integers(0, 2)), min_size=1, max_size=8
    ),
    st.integers(1, 3),
)
def test_everything_agrees_with_itself(cells: list[tuple[int, int, float, int]], frames: int) -> None:
    found = boxes(*((20 * x, 20 * y, 20 * x + 9, 20 * y + 9, score, kind) for x, y, score, kind in cells))
    kept = found.chosen(suppress(found, 0.5))
    score = score_detections([kept] * frames, [kept] * frames, 0.25)
    assert (score.map50, score.map50_95, score.precision, score.recall) == (1.0, 1.0, 1.0, 1.0)


def test_rows_are_read_as_the_server_reads_them() -> None:
    table = np.array(
        [
            [0, 0, 10, 10, 0.9, 0],
            [1, 0, 11, 10, 0.8, 0],  # overlaps the first by 9 of 11
            [1, 0, 11, 10, 0.7, 1],  # so does this, of another class
            [5, 5, 5, 9, 0.6, 0],  # has no width
            [20, 0, 30, 10, 0.2, 0],  # below the least score
        ],
        np.float32,
    )
    found = read_rows(table, 2, 0.25, 0.5)
    assert found.class_ids.tolist() == [0, 1]
    assert found.broken == 0
    assert len(read_rows(table, 2, 0.25, 0.9)) == 3


@pytest.mark.parametrize("column", range(6))
def test_a_row_that_no_sound_engine_returns_is_counted(column: int) -> None:
    table = np.array([[0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.8, 1]], np.float32)
    table[1, column] = np.nan
    found = read_rows(table, 2, 0.25, 0.5)
    assert (len(found), found.broken) == (1, 1)
    table[1] = (20, 20, 30, 30, 0.8, 2)
    assert read_rows(table, 2, 0.25, 0.5).broken == 1


def test_overlap_is_shared_area_over_joint_area() -> None:
    one = boxes_of(np.array([[0, 0, 2, 2], [5, 5, 6, 6]]), np.ones(2), np.zeros(2, np.int64))
    assert ious(one.corners, np.array([[1.0, 0, 3, 2]])).tolist() == [[pytest.approx(1 / 3)], [0.0]]
