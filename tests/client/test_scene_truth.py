from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_client.scene.truth import FrameTruth, TruthObject, match, overlap


@dataclass
class Detection:
    label: str
    score: float
    box: tuple[float, float, float, float]


def truth(*boxes, label="red", visible=1.0):
    return FrameTruth(tuple(TruthObject(label, *box, id=i, visible=visible) for i, box in enumerate(boxes)))


def red(score, *box):
    return Detection("red", score, box)


def test_each_object_is_found_at_most_once():
    result = match(truth((0, 0, 0.5, 0.5)), [red(0.9, 0, 0, 0.5, 0.5), red(0.8, 0, 0, 0.5, 0.5)])
    assert (result.hits, result.misses, result.false_positives) == (1, 0, 1)


def test_the_better_score_chooses_first():
    result = match(truth((0, 0, 0.4, 0.4)), [red(0.2, 0, 0, 0.4, 0.4), red(0.9, 0, 0, 0.4, 0.3)])
    assert result.hits == 1
    assert result.mean_iou == pytest.approx(0.75)


def test_another_label_or_too_little_overlap_is_a_false_positive_and_a_miss():
    there = truth((0, 0, 0.4, 0.4))
    assert match(there, [Detection("blue", 0.9, (0, 0, 0.4, 0.4))]).false_positives == 1
    shifted = match(there, [red(0.9, 0.2, 0, 0.6, 0.4)])
    assert (shifted.hits, shifted.misses, shifted.false_positives) == (0, 1, 1)
    assert match(there, [red(0.9, 0.2, 0, 0.6, 0.4)], iou=0.3).hits == 1


def test_hardly_visible_objects_count_neither_way():
    hidden = truth((0, 0, 0.4, 0.4), visible=0.3)
    assert match(hidden, []) == match(hidden, [red(0.9, 0, 0, 0.4, 0.4)])
    assert match(hidden, []).misses == 0
    assert match(hidden, [], min_visible=0.2).misses == 1


def test_boxes_that_only_touch_do_not_overlap():
    assert overlap((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5)) == 0


boxes = st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.05, 0.2), st.floats(0.05, 0.2)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, max_size=6), st.lists(st.tuples(st.floats(0, 1), boxes), max_size=6))
def test_the_counts_add_up(there, found):
    result = match(truth(*there), [red(score, *box) for score, box in found])
    assert result.hits + result.misses == len(there)
    assert result.hits + result.false_positives == len(found)
