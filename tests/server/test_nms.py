from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.post.nms import suppress


def plain(boxes: np.ndarray, class_ids: np.ndarray, iou: float) -> list[int]:
    """The definition, slowly."""
    kept: list[int] = []
    for i, box in enumerate(boxes.astype(np.float64)):
        if all(class_ids[i] != class_ids[j] or overlap(box, boxes[j].astype(np.float64)) <= iou for j in kept):
            kept.append(i)
    return kept


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (areas - shared)


def arrays(boxes: list[list[float]], scores: list[float], class_ids: list[int]):
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(class_ids, np.int32)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 40), st.integers(1, 4), st.sampled_from([0.1, 0.45, 0.7]), st.integers(0, 10_000))
def test_the_native_loop_keeps_what_the_definition_keeps(count, classes, iou, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-150, 300, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 200, (count, 2))], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.1, 1, count))[::-1].astype(np.float32)
    class_ids = rng.integers(0, classes, count).astype(np.int32)

    assert suppress(boxes, scores, class_ids, iou).tolist() == plain(boxes, class_ids, iou)


def test_the_worse_of_two_boxes_of_one_class_goes_and_of_two_classes_stays():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10]]

    assert suppress(*arrays(boxes, [0.9, 0.8], [3, 3]), 0.5).tolist() == [0]
    assert suppress(*arrays(boxes, [0.9, 0.8], [3, 4]), 0.5).tolist() == [0, 1]


def test_boxes_left_of_the_picture_do_not_meet_those_of_another_class():
    # 400 is the largest coordinate: moved by 401, the second box would lie on the first.
    found = suppress(*arrays([[300, 300, 400, 400], [-101, -101, -1, -1]], [0.9, 0.8], [0, 1]), 0.4)

    assert found.tolist() == [0, 1]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_a_single_box_pass(count):
    boxes, scores, class_ids = arrays([[0, 0, 1, 1]] * count, [0.5] * count, [0] * count)

    assert suppress(boxes, scores, class_ids, 0.5).tolist() == list(range(count))


def test_an_overlap_of_exactly_the_threshold_is_not_too_much():
    assert suppress(*arrays([[0, 0, 10, 10], [0, 0, 5, 10]], [0.9, 0.8], [0, 0]), 0.5).tolist() == [0, 1]
