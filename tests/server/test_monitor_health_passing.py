"""The time that passes for a camera's health: by the monotonic clock alone, dated by the wall clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.monitor.health.passing import PassingTime

WALL_S = 1_700_000_000.0


def test_dates_follow_a_clock_that_is_set_and_not_one_that_trembles() -> None:
    passing = PassingTime()
    for at_s, off_s, expected_s in ((5.0, 0.0, 0.0), (6.0, 0.4, 0.0), (7.0, 3600.0, 3600.0), (8.0, 0.0, 0.0)):
        assert passing.at(at_s, WALL_S + at_s + off_s) == at_s
        assert passing.apart_s == pytest.approx(WALL_S + expected_s)


def test_what_is_told_late_sets_no_date() -> None:
    passing = PassingTime()
    passing.at(100.0, WALL_S + 100.0 - 3600.0)
    assert passing.at(90.0, WALL_S + 90.0) == 100.0
    assert passing.apart_s == pytest.approx(WALL_S - 3600.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e9, 3e9)), min_size=1, max_size=50))
def test_whatever_the_wall_clock_says_time_is_the_latest_that_came(moments: list[tuple[float, float]]) -> None:
    passing, latest_s = PassingTime(), float("-inf")
    for steady_s, wall_s in moments:
        latest_s = max(latest_s, steady_s)
        assert passing.at(steady_s, wall_s) == latest_s
