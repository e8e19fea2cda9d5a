"""Verdicts leave in presentation order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.session.timeline import PlaceError, Timeline


def test_values_leave_in_the_order_of_their_places() -> None:
    timeline: Timeline[str] = Timeline()
    first, second, third = timeline.open(), timeline.open(), timeline.open()
    assert timeline.settle(second, "b") == []
    assert timeline.held == 1
    assert timeline.open_places == 2
    assert timeline.settle(first, "a") == ["a", "b"]
    assert timeline.settle(third, "c") == ["c"]
    assert timeline.held == timeline.open_places == 0


def test_none_is_a_value_like_any_other() -> None:
    timeline: Timeline[None] = Timeline()
    assert timeline.settle(timeline.open(), None) == [None]


@pytest.mark.parametrize("released", [True, False])
def test_a_place_is_settled_once(released: bool) -> None:
    timeline: Timeline[str] = Timeline()
    blocker, place = timeline.open(), timeline.open()
    if released:
        timeline.settle(blocker, "a")
    timeline.settle(place, "b")
    with pytest.raises(PlaceError, match=f"place {place} "):
        timeline.settle(place, "b")


@pytest.mark.parametrize("place", [-1, 1, 7])
def test_a_place_that_was_never_opened_cannot_be_settled(place: int) -> None:
    timeline: Timeline[str] = Timeline()
    timeline.open()
    with pytest.raises(PlaceError, match=f"place {place} is not open"):
        timeline.settle(place, "a")


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=80))
def test_whatever_the_order_of_settling_nothing_is_lost_or_overtakes(choices: list[int]) -> None:
    timeline: Timeline[int] = Timeline()
    unsettled: list[int] = []
    left: list[int] = []
    opened = 0
    for choice in [*choices, *[3] * len(choices)]:
        if choice % 2 or not unsettled:
            place = timeline.open()
            assert place == opened
            opened += 1
            unsettled.append(place)
        else:
            place = unsettled.pop(choice % len(unsettled))
            left += timeline.settle(place, place)
        assert timeline.open_places == len(unsettled)
        assert timeline.held == opened - len(unsettled) - len(left)
        assert left == list(range(min(unsettled, default=opened)))
    while unsettled:
        place = unsettled.pop()
        left += timeline.settle(place, place)
    assert left == list(range(opened))
