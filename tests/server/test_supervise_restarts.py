"""When a worker that ended is started again, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.restarts import JITTER, Limits, Restarts

MIDDLE = lambda: 0.5  # noqa: E731


def test_each_wait_is_twice_the_one_before_up_to_the_cap() -> None:
    restarts = Restarts(Limits(backoff_s=1.0, backoff_max_s=6.0, most=9), MIDDLE)
    assert [restarts.ended("SIGSEGV", now, 0.0) for now in range(5)] == pytest.approx([1, 2, 4, 6, 6])


def test_a_worker_that_ran_well_makes_the_wait_the_first_one_again() -> None:
    restarts = Restarts(Limits(backoff_s=1.0, settled_s=60.0, most=9), MIDDLE)
    waits = [restarts.ended("hung", now, served) for now, served in ((0, 0.0), (1, 59.9), (2, 60.0), (3, 0.0))]
    assert waits == pytest.approx([1, 2, 1, 2])


def test_it_gives_up_after_more_ends_than_allowed_within_the_window_and_not_after_slow_ones() -> None:
    limits = Limits(most=3, window_s=100.0)
    quick = Restarts(limits, MIDDLE)
    assert [quick.ended("exit", now, 0.0) is None for now in (0, 10, 20, 99)] == [False, False, False, True]
    slow = Restarts(limits, MIDDLE)
    assert [slow.ended("exit", now, 0.0) is None for now in (0, 10, 20, 100)] == [False, False, False, False]
    assert slow.recent == 3


def test_none_allowed_gives_up_at_the_first_end() -> None:
    assert Restarts(Limits(most=0)).ended("exit", 0.0, 1e6) is None


def test_restarts_are_counted_by_reason_and_giving_up_is_none() -> None:
    restarts = Restarts(Limits(most=3), MIDDLE)
    for now, reason in enumerate(("SIGSEGV", "hung", "SIGSEGV", "exit")):
        restarts.ended(reason, now, 0.0)
    assert restarts.counts == {"SIGSEGV": 2, "hung": 1}


@settings(max_examples=60)
@given(
    ends=st.lists(st.tuples(st.floats(0, 300), st.floats(0, 120)), max_size=40),
    most=st.integers(0, 8),
    first=st.floats(0.01, 10),
    cap=st.floats(1, 60),
)
def test_waits_stay_within_their_bounds_and_never_more_restarts_than_allowed_fall_into_a_window(
    ends: list[tuple[float, float]], most: int, first: float, cap: float
) -> None:
    limits = Limits(first, max(cap, first), 60.0, most, 600.0)
    restarts = Restarts(limits)
    now, granted = 0.0, []
    for gap_s, served_s in ends:
        now += gap_s
        wait_s = restarts.ended("exit", now, served_s)
        if wait_s is None:
            assert sum(at > now - limits.window_s for at in granted) >= most
            break
        granted.append(now)
        assert first * (1 - JITTER) <= wait_s <= limits.backoff_max_s * (1 + JITTER)
        assert sum(at > now - limits.window_s for at in granted) <= most
        assert sum(restarts.counts.values()) == len(granted)
