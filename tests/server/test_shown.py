"""How a refused value is shown."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette_server.shown import shown


def single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


@given(st.decimals(min_value=-1000, max_value=1000, places=2))
def test_what_was_typed_is_shown_though_it_came_in_single_precision(typed) -> None:
    assert shown(single(float(typed))) == repr(float(typed) if typed else single(float(typed)))


@given(st.floats(width=64))
def test_no_number_is_shown_as_another(value: float) -> None:
    told = float(shown(value))
    assert told == value or value != value or single(told) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((single(1.2), 0.5), "(1.2, 0.5)"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (1.0000000001, "1.0000000001"),
        (1e300, "1e+300"),
        (3, "3"),
        (True, "true"),
        ([True, "a", {"b": False}], "[true, 'a', {b = false}]"),
        ("a" * 100, "'" + "a" * 76 + "..."),
    ],
)
def test_other_values_are_shown_as_they_are(value: object, words: str) -> None:
    assert shown(value) == words
