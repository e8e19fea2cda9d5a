"""Schedules against clocks written down by hand, over midnight and over the days on which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.rules import ScheduleSpan
from vedette_server.monitor.schedule import Schedule, longest_minutes


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def stretch(spans: list[ScheduleSpan], zone: str, at: str) -> tuple[str, str] | None:
    found = Schedule(spans, zone).stretch(utc(at))
    if found is None:
        return None
    begin, end = (datetime.fromtimestamp(time_s, UTC).strftime("%m-%d %H:%M") for time_s in found)
    return begin, end


NIGHT = [ScheduleSpan(from_minute=22 * 60, to_minute=6 * 60)]
OFFICE = [ScheduleSpan(days=(1, 2, 3, 4, 5), from_minute=8 * 60, to_minute=18 * 60)]


def test_no_span_at_all_is_always() -> None:
    begin, end = Schedule([], "UTC").stretch(0.0) or (0.0, 0.0)
    assert begin < -1e12
    assert end > 1e12


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # 2026-07-06 is a Monday; Berlin is two hours ahead.
        ("2026-07-06T05:59:59", None),
        ("2026-07-06T06:00:00", ("07-06 06:00", "07-06 16:00")),
        ("2026-07-06T15:59:59", ("07-06 06:00", "07-06 16:00")),
        ("2026-07-06T16:00:00", None),
        ("2026-07-04T10:00:00", None),
    ],
)
def test_a_span_is_read_off_the_clock_on_the_wall(at: str, expected: tuple[str, str] | None) -> None:
    assert stretch(OFFICE, "Europe/Berlin", at) == expected


def test_a_span_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = [ScheduleSpan(days=(5,), from_minute=22 * 60, to_minute=6 * 60)]
    assert stretch(friday, "UTC", "2026-07-11T05:59:00") == ("07-10 22:00", "07-11 06:00")  # Saturday morning
    assert stretch(friday, "UTC", "2026-07-10T05:59:00") is None  # Friday morning
    assert stretch(friday, "UTC", "2026-07-11T23:00:00") is None


def test_spans_that_touch_are_one_stretch() -> None:
    weekend = [ScheduleSpan(days=(6, 7)), ScheduleSpan(days=(5,), from_minute=20 * 60)]
    assert stretch(weekend, "UTC", "2026-07-12T12:00:00") == ("07-10 20:00", "07-13 00:00")
    assert stretch(weekend, "UTC", "2026-07-13T00:00:00") is None


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # Berlin: 2026-03-29 at 02:00 the clock is put to 03:00; the night is seven hours long.
        ("2026-03-29T00:30:00", ("03-28 21:00", "03-29 04:00")),
        # 2026-10-25 at 03:00 the clock is put back to 02:00; it is nine hours long.
        ("2026-10-25T00:30:00", ("10-24 20:00", "10-25 05:00")),
    ],
)
def test_a_night_is_shorter_or_longer_when_clocks_are_changed(day: str, expected: tuple[str, str]) -> None:
    assert stretch(NIGHT, "Europe/Berlin", day) == expected


def test_an_hour_that_is_left_out_is_not_watched_and_one_that_comes_twice_is_watched_twice() -> None:
    two_to_three = [ScheduleSpan(from_minute=120, to_minute=180)]
    assert stretch(two_to_three, "Europe/Berlin", "2026-03-29T01:00:00") is None
    assert stretch(two_to_three, "Europe/Berlin", "2026-03-29T00:59:59") is None
    assert stretch(two_to_three, "Europe/Berlin", "2026-10-25T00:00:00") == ("10-25 00:00", "10-25 02:00")


def test_a_time_that_comes_twice_begins_a_span_at_its_first_and_ends_one_at_its_last() -> None:
    until = [ScheduleSpan(from_minute=60, to_minute=150)]  # 01:00 to 02:30
    assert stretch(until, "Europe/Berlin", "2026-10-25T00:00:00") == ("10-24 23:00", "10-25 01:30")
    since = [ScheduleSpan(from_minute=150, to_minute=240)]  # 02:30 to 04:00
    assert stretch(since, "Europe/Berlin", "2026-10-25T02:00:00") == ("10-25 00:30", "10-25 03:00")


def test_a_time_that_is_left_out_is_the_moment_of_the_change() -> None:
    half_past = [ScheduleSpan(from_minute=150, to_minute=195)]  # 02:30 to 03:15
    assert stretch(half_past, "Europe/Berlin", "2026-03-29T01:10:00") == ("03-29 01:00", "03-29 01:15")
    until = [ScheduleSpan(from_minute=90, to_minute=150)]  # 01:30 to 02:30
    assert stretch(until, "Europe/Berlin", "2026-03-29T00:45:00") == ("03-29 00:30", "03-29 01:00")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            ScheduleSpan,
            days=st.lists(st.integers(1, 7), max_size=3).map(tuple),
            from_minute=st.integers(0, 1439),
            to_minute=st.integers(1, 1440),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    st.integers(0, 366 * 24 * 60),
)
def test_away_from_changes_of_the_clock_a_schedule_says_what_the_wall_says(
    spans: list[ScheduleSpan], zone: str, minutes: int
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    local = moment.astimezone(ZoneInfo(zone))
    around = [(moment + timedelta(hours=hours)).astimezone(ZoneInfo(zone)).utcoffset() for hours in (-30, 30)]
    if around[0] != around[1]:
        return

    def is_on(span: ScheduleSpan) -> bool:
        minute, day = local.hour * 60 + local.minute, local.isoweekday()
        yesterday = (day - 2) % 7 + 1
        today, before = (not span.days or one in span.days for one in (day, yesterday))
        if span.to_minute > span.from_minute:
            return today and span.from_minute <= minute < span.to_minute
        return (today and minute >= span.from_minute) or (before and minute < span.to_minute)

    assert (Schedule(spans, zone).stretch(moment.timestamp()) is not None) == any(is_on(span) for span in spans)


def test_asking_in_any_order_gives_the_same() -> None:
    schedule = Schedule(NIGHT, "Europe/Berlin")
    times = [utc("2026-03-20T00:00:00") + hour * 3600 for hour in range(24 * 14)]
    forwards = [schedule.stretch(time_s) for time_s in times]
    backwards = [schedule.stretch(time_s) for time_s in reversed(times)]
    assert forwards == backwards[::-1]
    assert forwards == [Schedule(NIGHT, "Europe/Berlin").stretch(time_s) for time_s in times]


def test_the_longest_stretch_of_a_week_is_known() -> None:
    assert longest_minutes(NIGHT) == 480
    assert longest_minutes(OFFICE) == 600
    assert longest_minutes([ScheduleSpan(days=(6, 7)), ScheduleSpan(days=(1,), to_minute=60)]) == 2 * 1440 + 60
    assert longest_minutes([ScheduleSpan()]) == float("inf")
