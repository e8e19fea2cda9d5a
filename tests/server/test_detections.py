from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.picture.letterbox import Letterbox
from vedette_server.post.detections import DetectionFilter
from vedette_server.post.regions import Regions

LABELS = ("person", "car", "dog")
PLACE = Letterbox(400, 400).place(800, 400)


def rows(*found: tuple[float, ...], count: int = 20, extras: int = 0) -> np.ndarray:
    """Candidates as an engine gives them: these, then empty rows."""
    table = np.zeros((count, 6 + extras), np.float32)
    for index, row in enumerate(found):
        table[index, : len(row)] = row
    return table


def judge(table: np.ndarray, **options: object):
    return DetectionFilter(LABELS, **options).judge(table, PLACE)


def test_boxes_come_back_normalised_to_the_source_best_first():
    found = judge(rows((100, 50, 200, 150, 0.9, 1), (0, 0, 40, 20, 0.5, 0)))

    assert np.allclose(found.boxes, [[0.25, 0.25, 0.5, 0.75], [0, 0, 0.1, 0.1]])
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.class_ids.tolist() == [1, 0]
    assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int32)
    assert len(found) == 2
    assert not found.saturated


def test_nothing_found_is_an_empty_answer():
    found = judge(rows(extras=0))

    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.extras.shape == (0, 0)


def test_scores_below_the_minimum_are_left_out_and_those_at_it_are_not():
    table = rows((0, 0, 50, 50, 0.5, 0), (60, 0, 90, 50, 0.3, 0), (100, 0, 150, 50, 0.299, 0))

    assert len(judge(table, min_score=0.3)) == 2


def test_rows_below_the_score_floor_carry_nothing_even_when_all_is_wanted():
    assert len(judge(rows((0, 0, 50, 50, 0.5, 0), (60, 0, 90, 50, 0.1, 0)), min_score=0.0, score_floor=0.2)) == 1
    assert len(judge(rows((0, 0, 50, 50, 0.5, 0)), min_score=0.0)) == 1


def test_boxes_of_one_object_become_one():
    table = rows((0, 0, 50, 50, 0.9, 0), (1, 1, 51, 51, 0.8, 0), (1, 1, 51, 51, 0.7, 1))

    assert judge(table).class_ids.tolist() == [0, 1]
    assert len(judge(table, iou=0.99)) == 3


def test_only_the_classes_asked_for_are_reported():
    table = rows((0, 0, 50, 50, 0.9, 0), (60, 0, 90, 50, 0.8, 1), (100, 0, 150, 50, 0.7, 2))

    assert judge(table, classes=("dog", "person")).class_ids.tolist() == [0, 2]
    assert len(judge(table, classes=("cat",))) == 0


def test_no_more_than_the_best_so_many_are_reported():
    table = rows(*[(20 * i, 0, 20 * i + 10, 10, 0.9 - i / 100, 0) for i in range(10)])

    assert judge(table, max_detections=3).scores.tolist() == pytest.approx([0.9, 0.89, 0.88])


def test_regions_choose_by_the_centre_of_the_box():
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    table = rows((100, 50, 280, 150, 0.9, 0), (100, 50, 320, 150, 0.8, 1), (380, 0, 399, 20, 0.7, 2))

    assert judge(table, regions=(left_half,)).class_ids.tolist() == [0]
    corner = ((0.9, 0.0), (1.0, 0.0), (1.0, 0.2))
    assert judge(table, regions=(left_half, corner)).class_ids.tolist() == [0, 2]


def test_boxes_are_clipped_and_those_in_the_padding_left_out():
    found = judge(rows((-10, -10, 20, 20, 0.9, 0), (10, 210, 60, 260, 0.8, 0)))

    assert np.allclose(found.boxes, [[0, 0, 0.05, 0.1]])


@pytest.mark.parametrize(
    "row",
    [
        (50, 0, 50, 50, 0.9, 0),
        (50, 0, 20, 50, 0.9, 0),
        (float("nan"), 0, 20, 50, 0.9, 0),
        (0, 0, 20, float("nan"), 0.9, 0),
        (0, 0, 20, 50, float("nan"), 0),
        (0, 0, 20, 50, 0.9, 3),
        (0, 0, 20, 50, 0.9, -1),
        (0, 0, 20, 50, 0.9, float("nan")),
    ],
)
def test_rows_that_no_sound_model_returns_are_left_out(row):
    assert len(judge(rows(row))) == 0


def test_infinite_boxes_do_no_harm():
    found = judge(rows((0, 0, float("inf"), 50, 0.9, 0), (-float("inf"), 0, 20, 50, 0.8, 0), (5, 5, 50, 50, 0.7, 0)))

    assert found.scores.tolist() == pytest.approx([0.7])


def test_candidates_are_exhausted_when_the_last_row_still_counts():
    full = rows(*[(20 * i, 0, 20 * i + 10, 10, 0.9 - i / 10, 0) for i in range(4)], count=4)

    assert judge(full, min_score=0.5).saturated
    assert not judge(full, min_score=0.65).saturated


def test_keypoints_are_normalised_and_attributes_left_alone():
    extras = ("kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "angle")
    table = rows((0, 0, 50, 50, 0.9, 0, 100, 300, 0.75, 45), extras=4)

    found = DetectionFilter(LABELS, extras).judge(table, PLACE)

    assert found.extras.tolist() == [[0.25, 1.5, 0.75, 45]]


def test_the_answer_does_not_share_the_engines_memory():
    table = rows((0, 0, 50, 50, 0.9, 0, 7), extras=1)
    found = DetectionFilter(LABELS, ("angle",)).judge(table, PLACE)

    table[:] = 0

    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.extras.tolist() == [[7]]
    assert found.boxes.max() > 0


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="rows have 7 columns"):
        judge(rows(extras=1))


def test_the_channels_settings_stand_above_the_engines_defaults():
    table = rows((0, 0, 50, 50, 0.5, 0))

    def found(**options: object) -> int:
        config = ChannelConfig("a", VideoFormat(Codec.H264), (EngineRef("e"),), **options)
        return len(DetectionFilter.for_channel(config, LABELS, min_score=0.6, iou=0.45).judge(table, PLACE))

    assert found() == 0
    assert found(min_score=0.4) == 1
    assert found(min_score=0.4, classes=("car",)) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_whatever_the_candidates_all_that_is_reported_is_sound(seed, count):
    rng = np.random.default_rng(seed)
    table = rng.uniform(-100, 600, (count, 6)).astype(np.float32)
    table[:, 4] = np.sort(rng.uniform(0, 1, count))[::-1]
    table[:, 5] = rng.integers(-1, 5, count)

    found = judge(table, max_detections=10)

    assert len(found) <= 10
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.class_ids.tolist()) <= {0, 1, 2}


def test_a_concave_region_leaves_out_its_notch():
    notched = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.2), (0.0, 1.0))
    points = np.array([[0.5, 0.1], [0.5, 0.6], [0.1, 0.7], [0.9, 0.7]], np.float32)

    assert Regions([notched]).contain(points).tolist() == [True, False, True, True]
    assert not Regions([])


CORNER = st.sampled_from([0.0, 10.0, 60.0, 200.0, 399.0, -5.0, float("nan"), float("inf"), -float("inf"), 3e38, -3e38])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER, st.floats(0.3125, 1, width=32)), max_size=6),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.9, 3.0, -1.0, float("nan")]), min_size=6, max_size=6),
)
def test_a_handful_of_candidates_is_judged_as_many_are(corners: list[tuple[float, ...]], class_ids: list[float]):
    best_first = sorted(corners, key=lambda corner: -corner[4])
    few = [(*corner, class_id) for corner, class_id in zip(best_first, class_ids, strict=False)]
    # Rows that nothing sound is in take part in nothing, but make it many; all classes are wanted, which is no limit.
    many = [*few, *[(9.0, 9.0, 9.0, 9.0, 0.3, 0.0)] * 8]
    with np.errstate(over="ignore", invalid="ignore"):
        found, wanted = judge(rows(*few)), judge(rows(*many), classes=LABELS)
    assert np.array_equal(found.boxes, wanted.boxes)
    assert np.array_equal(found.scores, wanted.scores)
    assert np.array_equal(found.class_ids, wanted.class_ids)
