"""Raw outputs against the source framework's: identical ones pass, one wrong element anywhere is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vedette_engines.compare.gates import TensorGate, judge
from vedette_engines.compare.tensors import compare_tensors

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)
TENSORS = SHAPES.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32)))


@settings(max_examples=60)
@given(TENSORS)
def test_what_is_the_same_passes(values: np.ndarray) -> None:
    (found,) = compare_tensors([values], [values.copy()], ["out"])
    assert (found.largest, found.share_beyond, found.mismatched) == (0.0, 0.0, 0)
    assert judge([found], TensorGate(0.0, 0.0)) == ()


@settings(max_examples=60)
@given(TENSORS, st.data())
def test_one_element_that_is_off_is_caught_wherever_it_stands(values: np.ndarray, data: st.DataObject) -> None:
    values[np.unravel_index(0, values.shape)] = 1000.0
    place = data.draw(st.integers(0, values.size - 1))
    wrong = values.copy()
    wrong[np.unravel_index(place, values.shape)] += np.float32(1.0)  # 1e-3 of the largest value
    (found,) = compare_tensors([values], [wrong], ["out"])
    assert found.where == np.unravel_index(place, values.shape)
    assert found.share_beyond == pytest.approx(1 / values.size)
    (reason,) = judge([found], TensorGate(share_beyond=1.0))
    assert f"at {list(map(int, found.where))}" in reason
    assert "source.largest_relative wants at most 0.0001" in reason


@settings(max_examples=40)
@given(TENSORS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_a_value_that_is_finite_on_one_side_only_is_caught(values: np.ndarray, odd: float, data: st.DataObject) -> None:
    place = np.unravel_index(data.draw(st.integers(0, values.size - 1)), values.shape)
    wrong = values.copy()
    wrong[place] = odd
    for want, have in ((values, wrong), (wrong, values)):
        (found,) = compare_tensors([want], [have], ["out"])
        assert judge([found], TensorGate(1.0, 1.0)) != ()


def test_equal_infinities_and_nan_on_both_sides_agree() -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1.0], np.float32)
    (found,) = compare_tensors([values], [values.copy()], ["out"])
    assert judge([found], TensorGate()) == ()
    (found,) = compare_tensors([values], [np.array([-np.inf, -np.inf, np.nan, 1.0])], ["out"])
    assert "1 values are NaN or infinite on one side only, the first at [0]" in judge([found], TensorGate())[0]


def test_a_wrong_count_shape_or_kind_is_a_finding() -> None:
    ones = np.ones((2, 3), np.float32)
    found = compare_tensors([ones, ones, ones, ones], [ones, ones.T, ones.astype(np.int64)], ["a", "b", "c", "d"])
    assert [one.reason for one in found] == [
        "",
        "is [3, 2], the reference [2, 3]",
        "is int64, the reference float32",
        "the candidate has no output number 3",
    ]
    assert len(judge(found, TensorGate())) == 3
    (_, more) = compare_tensors([ones], [ones, ones], ["a"])
    assert more.reason == "the reference has no output number 1"


def test_what_holds_no_number_is_no_comparison() -> None:
    empty, sick = np.zeros((0, 4), np.float32), np.full(3, np.nan, np.float32)
    for values in (empty, sick):
        found = compare_tensors([values], [values], ["out"])
        assert "nothing can be compared" in judge(found, TensorGate())[0]
    assert judge((), TensorGate()) == ("no output was compared with the source",)


def test_zeros_allow_no_difference() -> None:
    zeros = np.zeros(4, np.float32)
    (found,) = compare_tensors([zeros], [zeros + 1e-9], ["out"])
    assert judge([found], TensorGate()) != ()
    assert found.to_json()["largest_relative"] is None


def test_float16_is_compared_with_float32() -> None:
    values = np.linspace(0, 1, 10, dtype=np.float32)
    (found,) = compare_tensors([values], [values.astype(np.float16)], ["out"])
    assert not found.reason
    assert 0 < found.largest < 1e-3


def test_the_gate_is_passed_right_on_its_bound() -> None:
    want = np.array([1024.0, 1.0, 1.0, 1.0], np.float32)
    have = want + np.array([0, 0.125, 0, 0], np.float32)
    found = compare_tensors([want], [have], ["out"])
    assert judge(found, TensorGate(0.125 / 1024, 0.25)) == ()
    assert "source.largest_relative" in judge(found, TensorGate(0.124 / 1024, 0.25))[0]
    assert "source.share_beyond" in judge(found, TensorGate(0.125 / 1024, 0.24))[0]


def test_a_difference_tells_itself_in_plain_data_and_in_words() -> None:
    want = np.array([[4.0, 2.0]], np.float32)
    (found,) = compare_tensors([want], [want + np.array([[0, 0.5]], np.float32)], ["logits"])
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == {
        "name": "logits",
        "shape": [1, 2],
        "largest": 0.5,
        "largest_reference": 4.0,
        "largest_relative": 0.125,
        "share_beyond": 0.5,
        "mismatched": 0,
        "where": [0, 1],
        "reason": "",
    }
    assert str(found).startswith("logits [1, 2]: largest difference 0.5 at [0, 1], 0.12 of the largest value 4;")
