from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.picture.letterbox import Letterbox

SIDES = st.integers(1, 5000)
LETTERBOXES = st.builds(
    Letterbox,
    width=st.integers(1, 1300),
    height=st.integers(1, 1300),
    placement=st.sampled_from(["top-left", "centre"]),
    pad=st.integers(0, 255),
)
ASPECTS = st.sampled_from([Fraction(1), Fraction(4, 3), Fraction(16, 11), Fraction(1, 2)])
TURNS = st.sampled_from([0, 90, 180, 270])


@settings(max_examples=200)
@given(LETTERBOXES, SIDES, SIDES, TURNS, ASPECTS)
def test_a_picture_of_any_shape_stands_inside_the_input_and_never_vanishes(fit, width, height, turn, aspect):
    place = fit.place(width, height, turn, aspect)

    assert place.fit_width >= 1
    assert place.fit_height >= 1
    assert place.left >= 0
    assert place.top >= 0
    assert place.left + place.fit_width <= fit.width
    assert place.top + place.fit_height <= fit.height
    assert place.fit_width == fit.width or place.fit_height == fit.height


@settings(max_examples=200)
@given(LETTERBOXES, SIDES, SIDES, TURNS, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_a_box_that_goes_to_the_input_and_back_stays_where_it_was(fit, width, height, turn, corners):
    place = fit.place(width, height, turn)
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    box = np.array([[x1, y1, x2, y2]], np.float32) * np.array([place.width, place.height] * 2, np.float32)

    back = place.to_source(place.to_input(box))

    assert np.abs(back - box).max() <= 1.0
    assert (back >= 0).all()
    assert (back <= np.array([place.width, place.height] * 2)).all()


@settings(max_examples=100)
@given(LETTERBOXES, SIDES, SIDES, st.lists(st.floats(-3000, 3000, width=32), min_size=4, max_size=4))
def test_boxes_in_the_padding_are_clipped_to_the_picture(fit, width, height, box):
    normalised = fit.place(width, height).to_normalised(np.array([box], np.float32))

    assert normalised.dtype == np.float32
    assert ((normalised >= 0) & (normalised <= 1)).all()


@pytest.mark.parametrize(
    ("source", "fitted"),
    [((768, 432), (416, 234)), ((480, 270), (416, 234)), ((1920, 1080), (416, 234)), ((1080, 1920), (234, 416))],
)
def test_common_pictures_are_scaled_without_the_rounding_error_of_floats(source, fitted):
    place = Letterbox(416, 416).place(*source)

    assert (place.fit_width, place.fit_height) == fitted
    assert (place.left, place.top) == (0, 0)


def test_a_centred_picture_has_padding_on_both_sides():
    place = Letterbox(640, 640, "centre").place(1280, 720)

    assert (place.left, place.top, place.fit_width, place.fit_height) == (0, 140, 640, 360)
    assert place.to_normalised(np.array([[0, 140, 640, 500]], np.float32)).tolist() == [[0, 0, 1, 1]]


def test_a_turned_picture_is_fitted_upright():
    place = Letterbox(416, 416).place(768, 432, rotation_degrees=90)

    assert (place.width, place.height) == (432, 768)
    assert (place.fit_width, place.fit_height) == (234, 416)
    assert place.coded_fit == (416, 234)
    assert place == Letterbox(416, 416).place_upright(432, 768, rotation_degrees=90)


def test_wide_samples_make_a_wide_picture_and_turn_with_it():
    fit = Letterbox(640, 640)

    assert fit.place(720, 576, 0, Fraction(64, 45)).coded_fit == (640, 360)
    assert fit.place(720, 576, 90, Fraction(64, 45)).coded_fit == (640, 360)


def test_points_may_lie_outside_the_picture():
    place = Letterbox(100, 100).place(200, 100)

    assert place.points_to_normalised(np.array([[50, 75]], np.float32)).tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize(
    "arguments",
    [(0, 416), (416, 0), (416, 416, "middle"), (416, 416, "centre", 256)],
)
def test_a_letterbox_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"allowed"):
        Letterbox(*arguments)


@pytest.mark.parametrize(
    "arguments", [(0, 10), (10, 0), (10, 10, 45), (10, 10, 0, Fraction(0)), (10, 10, 0, Fraction(-1, 2))]
)
def test_a_picture_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"allowed"):
        Letterbox(416, 416).place(*arguments)
