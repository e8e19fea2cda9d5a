"""Areas, lines and directions against arithmetic that is not theirs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.rules import Anchor
from vedette_server.monitor.geometry import anchor_of, area, crossings, heading_degrees, line, off_degrees

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
share = st.floats(0.01, 0.99, allow_nan=False)


@pytest.mark.parametrize(
    ("anchor", "point"),
    [(Anchor.BOTTOM_CENTRE, (0.3, 0.6)), (Anchor.CENTRE, (0.3, 0.4)), (Anchor.TOP_CENTRE, (0.3, 0.2))],
)
def test_an_anchor_is_a_point_of_the_box(anchor: Anchor, point: tuple[float, float]) -> None:
    assert anchor_of((0.2, 0.2, 0.4, 0.6), anchor) == pytest.approx(point)


def test_an_anchor_outside_is_drawn_to_the_picture_s_edge() -> None:
    assert anchor_of((-0.4, 0.5, 0.2, 1.3), Anchor.BOTTOM_CENTRE) == (0.0, 1.0)


def test_an_area_has_its_edge_and_the_margin_is_in_widths() -> None:
    assert shapely.intersects_xy(area(SQUARE, 2.0), 0.25, 0.2)
    wide = area(SQUARE, 2.0, 0.1)
    # The picture is 0.5 widths high: the square's lower edge lies at 0.375 widths.
    assert shapely.intersects_xy(wide, 0.5, 0.474)
    assert not shapely.intersects_xy(wide, 0.5, 0.476)
    assert shapely.intersects_xy(wide, 0.849, 0.25)
    assert not shapely.intersects_xy(wide, 0.851, 0.25)


def test_the_right_hand_of_who_walks_down_the_line_is_right() -> None:
    rightwards = [(0.0, 0.5), (1.0, 0.5)]  # its right hand points down the picture
    assert crossings(rightwards, (0.5, 0.4), (0.5, 0.8)) == [(pytest.approx(0.25), 1)]
    assert crossings(rightwards, (0.5, 0.8), (0.5, 0.4)) == [(pytest.approx(0.75), -1)]
    assert crossings(rightwards[::-1], (0.5, 0.4), (0.5, 0.8)) == [(pytest.approx(0.25), -1)]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(share, share), min_size=2, max_size=12), share)
def test_along_any_way_crossings_of_an_endless_line_are_its_changes_of_side(
    way: list[tuple[float, float]], height: float
) -> None:
    points = [(-1.0, height), (2.0, height)]
    found = [direction for start, end in pairwise(way) for _, direction in crossings(points, start, end)]
    sides = [y >= height for _, y in way]
    assert found == [1 if after else -1 for before, after in pairwise(sides) if before != after]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(share, share), min_size=3, max_size=8), st.tuples(share, share))
def test_a_closed_way_around_or_beside_a_bent_line_crosses_it_as_often_back_as_forth(
    way: list[tuple[float, float]], bend: tuple[float, float]
) -> None:
    # The line runs from edge to edge, so that it parts the picture in two.
    points = [(0.0, 0.5), bend, (1.0, 0.5)]
    closed = [*way, way[0]]
    assert sum(d for a, b in pairwise(closed) for _, d in crossings(points, a, b)) == 0


def test_a_line_is_built_on_the_plane() -> None:
    assert line(((0.0, 1.0), (1.0, 1.0)), 2.0).coords[0] == (0.0, 0.5)


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(0, -1, 0), (1, 0, 90), (0, 1, 180), (-1, 0, 270), (1, -1, 45)])
def test_directions_go_clockwise_from_the_top_of_the_picture(dx: float, dy: float, degrees: float) -> None:
    assert heading_degrees(dx, dy) == pytest.approx(degrees)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 360), st.floats(0, 360))
def test_two_directions_are_apart_by_the_angle_between_their_vectors(one: float, other: float) -> None:
    a, b = math.radians(one), math.radians(other)
    cosine = math.cos(a) * math.cos(b) + math.sin(a) * math.sin(b)
    assert off_degrees(one, other) == pytest.approx(math.degrees(math.acos(max(-1, min(1, cosine)))), abs=1e-4)
