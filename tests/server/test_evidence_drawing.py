"""What is drawn into pictures: arrows that go the way the judge tells, labels that leave each other room."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vedette_server.data.rules import Line, Zone
from vedette_server.evidence.drawing import Drawing, Label, Labelled, arrow_of, draw, place
from vedette_server.monitor.geometry import crossings, to_plane

share = st.floats(0.0, 1.0)
SIZES = [(320, 180), (640, 360), (1920, 1080), (360, 640)]
RED = (60, 60, 255)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(share, share), min_size=2, max_size=5), st.sampled_from(SIZES))
def test_who_goes_along_the_arrow_crosses_from_left_to_right(
    points: list[tuple[float, float]], size: tuple[int, int]
) -> None:
    width, height = size
    pixels = [(round(x * (width - 1)), round(y * (height - 1))) for x, y in points]
    arrow = arrow_of(pixels, size)
    # Of a line of a few pixels rounding decides.
    assume(max(math.dist(*piece) for piece in pairwise(pixels)) >= 10)
    assert arrow is not None
    # As the judge has it: normalised, then on the plane; the step goes a little beyond where the arrow may end.
    start, tip = (np.array(end) for end in arrow)
    normalised = [(x / (width - 1), y / (height - 1)) for x, y in (*pixels, start, tip + (tip - start) * 0.1)]
    *line, before, after = to_plane(normalised, width / height)
    found = [direction for _, direction in crossings(line, before, after)]
    # Where the line bends back on itself the arrow may cross its other pieces, too, in turns.
    assert 1 in found
    assert found == [1] or len(points) > 2
    assert 0 <= arrow[1][0] < width
    assert 0 <= arrow[1][1] < height


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "points", [((0.5, 0.1), (0.5, 0.9)), ((0.5, 0.9), (0.5, 0.1)), ((0.1, 0.5), (0.9, 0.5)), ((0.9, 0.6), (0.1, 0.4))]
)
def test_the_head_of_the_arrow_stands_on_the_side_where_left_to_right_ends(
    points: tuple[tuple[float, float], ...], size: tuple[int, int]
) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    draw(picture, Drawing(lines=[Line("", points)]))
    drawn = picture.max(2) > 80
    # The line itself out of the way, what is left is the arrow and its letters.
    line = np.rint(np.array(points) * (width - 1, height - 1)).astype(int)
    on_line = np.zeros(drawn.shape, np.uint8)
    cv2.line(on_line, line[0].tolist(), line[1].tolist(), 1, max(width // 480, 1) + 4)
    rows, columns = np.nonzero(drawn & (on_line == 0))
    middle = np.array([0.5, 0.5])
    near = np.hypot(columns - width / 2, rows - height / 2) < max(min(size) / 10, 20) * 0.6
    sides = {1: 0, -1: 0}
    for x, y in zip(columns[near], rows[near], strict=True):
        point = (x / (width - 1), y / (height - 1))
        beyond = middle + 4 * (middle - point)
        *plane, there, here = to_plane([*points, tuple(beyond), point], width / height)
        for _, direction in crossings(plane, there, here):
            sides[direction] += 1
    assert sides[1] > 1.5 * sides[-1] > 0, "the head has more pixels than the tail"


def test_a_line_without_length_has_no_arrow() -> None:
    assert arrow_of([(5, 5), (5, 5)], (320, 180)) is None


def test_an_arrow_that_would_end_beyond_the_picture_ends_on_the_line() -> None:
    assert arrow_of([(0, 179), (319, 179)], (320, 180)) == ((160, 159), (160, 179))


def label(*around: tuple[int, int, int, int], size: tuple[int, int] = (40, 10)) -> Label:
    return Label("car", RED, np.array(around), size)


def test_a_label_stands_above_else_inside_else_below_else_beside() -> None:
    same = [label((100, 50, 130, 90), size=(20, 10))] * 7
    inside = [(100, 50), (100, 90), (100, 80), (100, 65)]
    assert place(same, (320, 180)) == [(100, 40), *inside, (130, 50), (80, 50)]


def test_a_label_without_a_free_place_covers_the_least() -> None:
    taken = [(0, 0, 320, 90), (0, 90, 110, 180)]
    assert place([label((100, 50, 130, 90), size=(20, 10))], (320, 180), taken) == [(110, 90)]
    assert place([label((0, 95, 30, 180), size=(20, 10))], (320, 180), taken) == [(0, 85)], (
        "none is better than another"
    )


def test_a_label_at_the_picture_s_edge_is_moved_in() -> None:
    assert place([label((300, 2, 330, 90)), label((-30, 170, -5, 179))], (320, 180)) == [(280, 0), (0, 160)]


def test_a_label_keeps_clear_of_arrows_and_goes_to_another_corner() -> None:
    assert place([label((50, 50, 50, 50), (200, 90, 200, 90))], (320, 180), [(0, 30, 120, 70)]) == [(200, 80)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-50, 400)] * 4, st.integers(1, 500), st.integers(1, 300)), max_size=12),
    st.sampled_from(SIZES),
)
def test_labels_stand_inside_the_picture(found: list[tuple[int, ...]], size: tuple[int, int]) -> None:
    labels = [label((a, b, c, d), size=(wide, high)) for a, b, c, d, wide, high in found]
    for one, (x, y) in zip(labels, place(labels, size), strict=True):
        assert (x, y) >= (0, 0)
        assert x == 0 or x + one.size[0] <= size[0]
        assert y == 0 or y + one.size[1] <= size[1]


LEFT = [(0.05, 0.3, 0.17), (0.12, 0.32, 0.19), (0.2, 0.28, 0.27), (0.45, 0.02, 0.57), (0.5, 0.4, 0.57)]
RIGHT = [(0.53, 0.45, 0.6), (0.56, 0.42, 0.63), (0.62, 0.5, 0.69), (0.93, 0.6, 1.0), (0.7, 0.7, 0.82)]
SCENE = Drawing(
    [Labelled((x1, y1, x2, min(y1 + 0.3, 1.0)), "person 0.90", seen=y1 != 0.42) for x1, y1, x2 in (*LEFT, *RIGHT)],
    [
        Zone("driveway", ((0.1, 0.5), (0.45, 0.45), (0.5, 0.95), (0.05, 0.95))),
        Zone("4 in square", ((0.55, 0.35), (0.95, 0.35), (0.95, 0.9), (0.6, 0.9))),
    ],
    [Line("gate", ((0.3, 0.1), (0.35, 0.9))), Line("kerb", ((0.98, 0.98), (0.6, 0.97), (0.02, 0.99)))],
)


@pytest.mark.parametrize("size", SIZES)
def test_in_a_crowded_picture_every_label_can_be_read(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    width, height = size
    strips: list[tuple[int, int, int, int]] = []
    kept = cv2.rectangle

    def seen(picture: np.ndarray, one: tuple[int, int], other: tuple[int, int], colour: object, thick: int) -> None:
        if thick < 0:
            strips.append((*one, *other))
        kept(picture, one, other, colour, thick)

    monkeypatch.setattr(cv2, "rectangle", seen)
    picture = np.zeros((height, width, 3), np.uint8)
    draw(picture, SCENE)
    assert len(strips) == 14
    for one, other in combinations(strips, 2):
        wide, high = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) + 1 for i in (0, 1))
        # In the smallest picture there is no room to the pixel: corners touch, letters do not.
        assert max(wide, 0) * max(high, 0) <= (6 if size == (320, 180) else 0), (one, other)
    assert min(y2 - y1 for _, y1, _, y2 in strips) >= 12, "small, but readable"


def test_a_picture_too_small_for_labels_has_its_boxes_alone() -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    draw(picture, Drawing([Labelled((0.1, 0.5, 0.4, 0.9), "person 0.50")]))
    bare = np.zeros((48, 64, 3), np.uint8)
    draw(bare, Drawing([Labelled((0.1, 0.5, 0.4, 0.9))]))
    assert np.array_equal(picture, bare)
    assert bare.any()
