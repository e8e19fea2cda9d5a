"""Rules about counts, speeds, directions and things that stand still; schedules, cool-downs, changes and updates."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_monitor import (
    NOON,
    Walker,
    assert_lives_are_sound,
    at_rate,
    film,
    final,
    judge_of,
    play,
    seconds_of,
    straight,
)
from vedette_server.data.event import Event, EventKind, EventState
from vedette_server.data.rules import (
    Absence,
    Cross,
    Crowd,
    Dwell,
    Enter,
    Inside,
    Leave,
    Left,
    Line,
    Occupancy,
    Removed,
    Rule,
    ScheduleSpan,
    Speed,
    WatchConfig,
    WrongWay,
    Zone,
)
from vedette_server.errors import InvalidError
from vedette_server.monitor.base import Scene
from vedette_server.monitor.episodes import event_id_of

FPS = 10.0
FRAME = 1 / FPS
BAND = Zone("band", ((0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)))
GATE = Line("gate", ((0.5, 0.0), (0.5, 1.0)))
# A week's minutes at noon, where films begin.
TWELVE = 12 * 60


def standing(name: str, x: float, y: float, start: float, stop: float, label: str = "person") -> Walker:
    return Walker(name, lambda _: (x, y), start=start, stop=stop, label=label)


def one(changes: list[Event]) -> Event:
    assert_lives_are_sound(changes)
    [event] = final(changes)
    return event


def when(event: Event) -> tuple[float, float | None]:
    return event.start_s - NOON, None if event.end_s is None else event.end_s - NOON


def near(*times: float) -> object:
    return pytest.approx(times, abs=FRAME + 1e-6)


# -- counts --


def test_so_many_are_in_a_zone_from_the_last_to_come_to_the_first_to_go() -> None:
    # Confirmed at once; a track that ends does so when it was not seen for half a second.
    walkers = [standing(f"w{n}", 0.45 + 0.02 * n, 0.5, 1.0 + n, 9.0 - n) for n in range(4)]
    rule = Rule("three", Occupancy("band", at_least=3))
    scenes = film(walkers, at_rate(FPS, 0, 12), confirm=1, max_lost_s=0.5)
    event = one(play(judge_of([rule], zones=(BAND,)), scenes))
    assert when(event) == near(3.0, 7.5)
    assert event.measures["most"] == 4
    assert sorted(event.track_ids) == ["w0", "w1", "w2", "w3"]


def test_so_few_are_in_a_zone() -> None:
    rule = Rule("few", Occupancy("band", at_most=1), min_time_s=0.5)
    walkers = [standing("a", 0.45, 0.5, 0, 20), standing("b", 0.55, 0.5, 0, 5)]
    event = one(play(judge_of([rule], zones=(BAND,)), film(walkers, at_rate(FPS, 0, 9), confirm=1, max_lost_s=0.25)))
    assert when(event) == (pytest.approx(5.3, abs=FRAME), None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(5, 60)), min_size=1, max_size=6), st.integers(1, 4))
def test_occupancy_is_on_where_as_many_intervals_overlap(stays: list[tuple[int, int]], least: int) -> None:
    walkers = [
        standing(f"w{n}", 0.42 + 0.03 * n, 0.1 + 0.15 * n, begin / 10, (begin + length) / 10)
        for n, (begin, length) in enumerate(stays)
    ]
    rule = Rule("many", Occupancy("band", at_least=least), hysteresis=0.0)
    # A track ends with the first frame that does not show it.
    scenes = film(walkers, at_rate(FPS, 0, 15), confirm=1, max_lost_s=0.01)
    changes = play(judge_of([rule], zones=(BAND,)), scenes)
    assert_lives_are_sound(changes)
    frames = [sum(w.start <= tick / FPS <= w.stop for w in walkers) >= least for tick in range(151)]
    begun = [tick for tick in range(151) if frames[tick] and (tick == 0 or not frames[tick - 1])]
    over = [tick for tick in range(1, 151) if not frames[tick] and frames[tick - 1]]
    events = final(changes)
    assert [round((event.start_s - NOON) * FPS) for event in events] == begun
    assert [round((event.end_s - NOON) * FPS) for event in events if event.end_s is not None] == over


def test_a_crowd_hangs_together() -> None:
    pairs = [standing(n, x, 0.5, 0, 20) for n, x in (("a", 0.41), ("b", 0.43), ("c", 0.57), ("d", 0.59))]
    rule = Rule("crowd", Crowd("band", at_least=4, distance=0.05))
    assert play(judge_of([rule], zones=(BAND,)), film(pairs, at_rate(FPS, 0, 3), confirm=1)) == []
    # One who walks by in the middle joins none of them; three on a string make one group of seven.
    between = [standing(n, x, 0.5, 2, 4) for n, x in (("e", 0.465), ("f", 0.5), ("g", 0.535))]
    scenes = film([*pairs, *between], at_rate(FPS, 0, 9), confirm=1, max_lost_s=0.5)
    event = one(play(judge_of([rule], zones=(BAND,)), scenes))
    assert when(event) == near(2.0, 4.5)
    assert event.measures["most"] == 7


def test_distances_in_a_crowd_are_metres_where_there_is_a_scale() -> None:
    two = [standing("a", 0.45, 0.5, 0, 9), standing("b", 0.5, 0.5, 0, 9)]
    scenes = film(two, at_rate(FPS, 0, 2), confirm=1)
    rule = Rule("crowd", Crowd("band", at_least=2, distance=0.6))
    assert len(final(play(judge_of([rule], zones=(BAND,), width_metres=10.0), scenes))) == 1
    assert play(judge_of([rule], zones=(BAND,), width_metres=20.0), scenes) == []


def test_nothing_was_there_for_long_is_told_without_any_frame() -> None:
    judge = judge_of([Rule("gone", Absence("band", at_least_s=30.0))], zones=(BAND,))
    changes = [event for tick in range(100) for event in judge.tick(NOON + tick).events]
    event = one(changes)
    assert when(event) == (30.0, None)
    assert event.detail.startswith("nothing in band for")


def test_absence_counts_from_the_last_to_go_and_ends_with_the_first_to_come() -> None:
    walkers = [standing("a", 0.5, 0.5, 0, 5), standing("b", 0.5, 0.5, 40, 60)]
    rule = Rule("gone", Absence("band", at_least_s=10.0), labels=("person",))
    scenes = film(walkers, at_rate(FPS, 0, 50), confirm=1, max_lost_s=0.5)
    event = one(play(judge_of([rule], zones=(BAND,)), scenes))
    assert when(event) == near(15.5, 40.0)
    assert event.measures["absent_s"] == pytest.approx(34.5, abs=0.2)
    assert event.detail.startswith("no person in band")


def test_it_makes_no_difference_whether_time_is_told_between_frames() -> None:
    walkers = [standing("a", 0.5, 0.5, 0, 5), standing("b", 0.5, 0.5, 40, 60)]
    scenes = film(walkers, [*at_rate(FPS, 0, 7), *at_rate(FPS, 39, 50)], confirm=1, max_lost_s=0.5)
    rules = [Rule("gone", Absence("band", 10.0)), Rule("few", Occupancy("band", at_most=0), min_time_s=3.0)]
    silent, told = judge_of(rules, zones=(BAND,)), judge_of(rules, zones=(BAND,))
    ticked: list[Event] = []
    for scene in scenes:
        before = told._moment.time_s
        while math.isfinite(before) and before + 1.7 < scene.time_s:
            before += 1.7
            ticked += told.tick(before).events
        ticked += told.step(scene).events
    plain = play(silent, scenes)
    assert [(e.event_id, when(e)) for e in final(ticked)] == [(e.event_id, when(e)) for e in final(plain)]
    assert len(final(plain)) == 2


# -- speeds and directions --


@pytest.mark.parametrize(("metres", "above"), [(None, 0.15), (10.0, 1.5)])
def test_who_runs_is_too_fast_for_as_long_as_it_runs(metres: float | None, above: float) -> None:
    def way(t: float) -> tuple[float, float]:  # 0.05, then 0.25, then 0.05 widths a second
        return (0.1 + 0.05 * min(t, 4) + 0.25 * max(0, min(t - 4, 2)) + 0.05 * max(0, t - 6), 0.5)

    rule = Rule("run", Speed("", above=above))
    changes = play(judge_of([rule], width_metres=metres), film([Walker("w", way)], at_rate(FPS, 0, 9)))
    event = one(changes)
    # The window of a second is filled with running from 5 to 6 s; it takes up to that long to be noticed.
    start, end = when(event)
    assert 4.2 <= start <= 5.0
    assert end is not None
    assert 6.2 <= end <= 7.0
    assert event.measures["top_speed"] == pytest.approx(0.25 * (metres or 1.0), rel=0.02)


def test_a_box_that_jumps_between_two_frames_is_no_runner() -> None:
    rule = Rule("run", Speed("", above=0.15))
    walker = Walker(
        "w", lambda t: (0.3 + 0.02 * t + (0.02 if round(t * FPS) % 2 else 0.0), 0.5)
    )  # 0.2 widths/s a frame
    assert play(judge_of([rule]), film([walker], at_rate(FPS, 0, 9))) == []


def test_who_runs_at_about_the_limit_runs_once_and_is_told_of_once_a_second_at_most() -> None:
    def way(t: float) -> tuple[float, float]:  # its speed swings by 6 % around 0.102 widths/s, every four seconds
        return (0.1 + 0.102 * t - 0.006 * 4 / (2 * math.pi) * math.cos(2 * math.pi * t / 4), 0.5)

    changes = play(judge_of([Rule("run", Speed("", above=0.1))]), film([Walker("w", way)], at_rate(FPS, 0, 8)))
    event = one(changes)
    assert event.state is EventState.ACTIVE


def test_a_measure_that_swings_is_told_of_once_a_second_at_most() -> None:
    def way(t: float) -> tuple[float, float]:
        return (0.2 + 0.05 * t - 0.04 * math.cos(2 * t), 0.5)  # at about 0.05 widths/s, 0.08 more or less

    changes = play(judge_of([Rule("move", Speed("", above=1e-6))]), film([Walker("w", way)], at_rate(FPS, 0, 15)))
    told = [event.update_s for event in changes if event.state is EventState.ACTIVE]
    assert len(final(changes)) == 1
    assert len(told) > 8
    assert all(after - before >= 1.0 - 1e-6 for before, after in pairwise(told))


def test_slow_and_fast_speeds_are_of_the_plane_not_of_normalised_numbers() -> None:
    # 0.2 heights a second are 0.1 widths where the picture is twice as wide as high.
    walker = Walker("w", straight(0.5, 0.15, 0.0, 0.2))
    scenes = film([walker], at_rate(FPS, 0, 4), aspect=2.0)
    assert play(judge_of([Rule("run", Speed("", above=0.11))]), scenes) == []
    assert len(final(play(judge_of([Rule("run", Speed("", above=0.09))]), scenes))) == 1
    assert len(final(play(judge_of([Rule("crawl", Speed("", below=0.11))]), scenes))) == 1


@pytest.mark.parametrize(
    ("degrees", "wrong"), [(0, True), (45, True), (89, True), (91, False), (180, False), (269, False), (271, True)]
)
def test_who_is_off_the_allowed_direction_by_more_than_the_tolerance_goes_wrong(degrees: float, wrong: bool) -> None:
    angle = math.radians(degrees)
    walker = Walker("w", straight(0.5, 0.55, 0.05 * math.sin(angle), -0.05 * math.cos(angle)))
    rule = Rule("wrong", WrongWay("", allowed_degrees=180.0))
    changes = play(judge_of([rule]), film([walker], at_rate(FPS, 0, 4)))
    assert bool(changes) == wrong
    if wrong:
        assert (final(changes)[0].measures["direction_degrees"] - degrees + 180) % 360 == pytest.approx(180, abs=0.5)


def test_who_hardly_moves_goes_no_way() -> None:
    walker = Walker("w", straight(0.5, 0.55, 0.0, -0.01))
    assert play(judge_of([Rule("wrong", WrongWay("", 180.0))]), film([walker], at_rate(FPS, 0, 4))) == []


# -- things --


def test_a_thing_that_is_set_down_was_left_and_is_not_left_when_it_is_taken() -> None:
    def way(t: float) -> tuple[float, float]:
        return (0.1 + 0.1 * min(t, 4), 0.5) if t < 20 else (0.5 + 0.1 * (t - 20), 0.5)

    rule = Rule("bag", Left("band", at_least_s=5.0), labels=("suitcase",))
    bag = Walker("bag", way, label="suitcase")
    owner = Walker("owner", way, label="person", stop=6)
    event = one(play(judge_of([rule], zones=(BAND,)), film([bag, owner], at_rate(FPS, 0, 24))))
    start, end = when(event)
    # It counts as still from the last 0.02 widths of its way on, 0.2 s.
    assert 8.8 - 1e-6 <= start <= 9.0 + FRAME
    assert end is not None
    assert 20.0 <= end <= 20.4
    assert event.label == "suitcase"


def test_a_thing_that_stood_is_gone_until_something_stands_there_again() -> None:
    rule = Rule("art", Removed("band", at_least_s=5.0), labels=("vase",))
    walkers = [
        standing("old", 0.5, 0.5, 0, 15, label="vase"),
        standing("thief", 0.5, 0.55, 13, 30),
        standing("new", 0.51, 0.5, 40, 60, label="vase"),
    ]
    scenes = film(walkers, at_rate(FPS, 0, 50), confirm=1, max_lost_s=1.0)
    changes = play(judge_of([rule], zones=(BAND,)), scenes)
    event = one(changes)
    assert when(event) == near(21.0, 40.0)
    assert event.track_ids == ("old",)
    assert event.box is not None


def test_the_same_thing_elsewhere_does_not_fill_the_gap() -> None:
    rule = Rule("art", Removed("band", at_least_s=5.0), labels=("vase",))
    walkers = [standing("old", 0.5, 0.5, 0, 15, label="vase"), standing("new", 0.5, 0.7, 30, 60, label="vase")]
    scenes = film(walkers, at_rate(FPS, 0, 35), confirm=1, max_lost_s=1.0)
    assert one(play(judge_of([rule], zones=(BAND,)), scenes)).state is EventState.ACTIVE


def test_what_did_not_stand_for_long_is_not_missed() -> None:
    rule = Rule("art", Removed("band", at_least_s=5.0))
    scenes = film([standing("w", 0.5, 0.5, 0, 8)], at_rate(FPS, 0, 30), confirm=1)
    assert play(judge_of([rule], zones=(BAND,)), scenes) == []


# -- what rules have in common --


def test_a_minimum_time_keeps_short_visits_out() -> None:
    def way(t: float) -> tuple[float, float]:
        return (0.5 if 2 <= t < 3 or 5 <= t < 9 else 0.2, 0.5)

    rules = [
        Rule("in", Enter("band"), min_time_s=1.5),
        Rule("out", Leave("band"), min_time_s=1.5),
        Rule("while", Inside("band"), min_time_s=1.5),
        Rule("cross", Cross("gate"), min_time_s=1.5),
    ]
    gate = Line("gate", ((0.35, 0.0), (0.35, 1.0)))
    changes = play(judge_of(rules, zones=(BAND,), lines=(gate,)), film([Walker("w", way)], at_rate(FPS, 0, 12)))
    assert_lives_are_sound(changes)
    told = sorted((event.rule, round(event.start_s - NOON)) for event in final(changes))
    assert told == [("cross", 5), ("cross", 9), ("in", 5), ("out", 9), ("while", 5)]


def test_after_an_event_there_is_quiet_for_the_same_object_only() -> None:
    def way(t: float) -> tuple[float, float]:
        return (0.5 if int(t) % 2 else 0.2, 0.5)  # in for every other second

    walkers = [Walker("a", way), Walker("b", lambda t: (way(t + 1)[0], 0.9))]
    rules = [Rule("in", Enter("band"), cool_down_s=5.0), Rule("while", Inside("band"), cool_down_s=2.5)]
    changes = play(judge_of(rules, zones=(BAND,)), film(walkers, at_rate(FPS, 0, 12)))
    times = {
        key: [round(e.start_s - NOON, 1) for e in final(changes) if (e.rule, e.track_ids[0]) == key]
        for key in (("in", "a"), ("in", "b"), ("while", "a"))
    }
    assert times["in", "a"] == [1.0, 7.0]
    assert times["in", "b"] == [0.0, 6.0, 12.0]
    # It ended at 2, is quiet until 4.5, and who is in then is told of from the next time on that it is in.
    assert times["while", "a"] == [1.0, 5.0, 9.0]


def test_a_cool_down_that_ends_while_it_holds_lets_it_begin_then() -> None:
    rule = Rule("many", Occupancy("band", at_least=1), cool_down_s=4.0)
    walkers = [standing("a", 0.5, 0.5, 0, 2), standing("b", 0.5, 0.9, 3, 20)]
    changes = play(judge_of([rule], zones=(BAND,)), film(walkers, at_rate(FPS, 0, 15), confirm=1, max_lost_s=0.01))
    assert seconds_of(changes) == near(0.0, 6.1)


def test_what_is_outside_its_schedule_is_not_judged_and_ends_with_it() -> None:
    # On from 12:01 to 12:02.
    span = (ScheduleSpan(from_minute=TWELVE + 1, to_minute=TWELVE + 2),)
    rules = [
        Rule("in", Enter("band"), schedule=span),
        Rule("while", Inside("band"), schedule=span),
        Rule("loiter", Dwell("band", 20.0), schedule=span),
        Rule("gone", Absence("", 20.0), labels=("car",), schedule=span),
        Rule("cross", Cross("gate"), schedule=span),
    ]
    early = standing("early", 0.5, 0.5, 10, 200)
    late = Walker(
        "late", lambda t: (min(0.1 + 0.01 * (t - 40), 0.55), 0.8), start=40, stop=200
    )  # in at 70 s, across at 80 s
    changes = play(judge_of(rules, zones=(BAND,), lines=(GATE,)), film([early, late], at_rate(5, 0, 150)))
    assert_lives_are_sound(changes)
    told = {(e.rule, e.track_ids[0] if e.track_ids else ""): when(e) for e in final(changes)}
    assert told == {
        ("in", "late"): near(70, 70),
        ("while", "early"): (60.0, 120.0),
        ("while", "late"): near(70, 120),
        ("loiter", "early"): (80.0, 120.0),
        ("loiter", "late"): near(90, 120),
        ("gone", ""): (80.0, 120.0),
        ("cross", "late"): near(80, 80),
    }


def test_a_schedule_that_closes_ends_events_without_a_frame() -> None:
    span = (ScheduleSpan(from_minute=TWELVE, to_minute=TWELVE + 1),)
    judge = judge_of([Rule("while", Inside("band"), schedule=span)], zones=(BAND,))
    begun = play(judge, film([standing("w", 0.5, 0.5, 0, 20)], at_rate(FPS, 0, 10)))
    assert judge.tick(NOON + 59).events == []
    [ended] = judge.tick(NOON + 3600).events
    assert (ended.event_id, when(ended)) == (begun[0].event_id, (0.0, 60.0))
    assert "schedule" in ended.detail


def test_a_schedule_follows_the_time_zone_of_the_channel() -> None:
    # Noon in UTC is 13:00 in Berlin in November.
    span = (ScheduleSpan(from_minute=TWELVE + 60, to_minute=TWELVE + 120),)
    rule = Rule("while", Inside("band"), schedule=span)
    scenes = film([standing("w", 0.5, 0.5, 0, 20)], at_rate(FPS, 0, 3))
    assert play(judge_of([rule], zones=(BAND,), time_zone="UTC"), scenes) == []
    assert len(final(play(judge_of([rule], zones=(BAND,), time_zone="Europe/Berlin"), scenes))) == 1


def test_a_change_ends_what_changed_and_lets_the_rest_go_on() -> None:
    same, other = Rule("same", Inside("band")), Rule("other", Inside("band"))
    config = WatchConfig(zones=(BAND,), rules=(same, other))
    judge = judge_of(config.rules, zones=(BAND,))
    walkers = [standing("w", 0.5, 0.5, 0, 30)]
    scenes = film(walkers, at_rate(FPS, 0, 12))
    first = play(judge, scenes[:50])
    new = Rule("new", Inside("band"))
    entering = Rule("in", Enter("band"))
    changed = replace(config, rules=(new, entering, replace(other, min_time_s=1.0), same), revision=2)
    at_change = judge.change(changed, NOON + 5.0).events
    assert [(event.rule, event.state) for event in at_change] == [("other", EventState.ENDED)]
    rest = play(judge, scenes[50:]) + judge.close(NOON + 13.0).events
    assert_lives_are_sound([*first, *at_change, *rest])
    told = {(event.rule, round(event.start_s - NOON, 1)) for event in final([*first, *at_change, *rest])}
    # Who was in already has not entered.
    assert told == {("same", 0.0), ("other", 0.0), ("new", 5.0), ("other", 5.0)}
    assert {event.state for event in final([*first, *at_change, *rest])} == {EventState.ENDED}


def test_a_zone_that_is_drawn_anew_is_another_rule() -> None:
    rule = Rule("while", Inside("band"))
    judge = judge_of([rule], zones=(BAND,))
    play(judge, film([standing("w", 0.5, 0.5, 0, 30)], at_rate(FPS, 0, 3)))
    moved = Zone("band", ((0.0, 0.0), (0.2, 0.0), (0.2, 1.0), (0.0, 1.0)))
    assert [e.state for e in judge.change(WatchConfig(zones=(moved,), rules=(rule,)), NOON + 4).events] == [
        EventState.ENDED
    ]
    assert judge.close(NOON + 5).events == []


def test_a_change_that_names_a_missing_zone_changes_nothing() -> None:
    judge = judge_of([Rule("while", Inside("band"))], zones=(BAND,))
    play(judge, film([standing("w", 0.5, 0.5, 0, 30)], at_rate(FPS, 0, 3)))
    with pytest.raises(InvalidError, match=r"rules\.x\.zone is 'nowhere'; allowed: band"):
        judge.change(WatchConfig(zones=(BAND,), rules=(Rule("x", Inside("nowhere")),)), NOON + 4)
    assert len(judge.close(NOON + 5).events) == 1


def test_closing_ends_everything_once() -> None:
    rules = [Rule("while", Inside("band")), Rule("many", Occupancy("band", at_least=1)), Rule("in", Enter("band"))]
    judge = judge_of(rules, zones=(BAND,))
    changes = play(judge, film([standing("w", 0.5, 0.5, 0, 30)], at_rate(FPS, 0, 3)))
    changes += judge.close(NOON + 4).events
    assert_lives_are_sound(changes)
    assert {event.state for event in final(changes)} == {EventState.ENDED}
    assert judge.close(NOON + 5).events == []


def test_updates_come_once_a_second_at_most_and_only_for_what_is_news() -> None:
    judge = judge_of([Rule("while", Inside("band")), Rule("many", Occupancy("band", at_least=1))], zones=(BAND,))
    walkers = [standing("w", 0.5, 0.5, 0, 100), standing("v", 0.55, 0.5, 20, 100)]
    changes = play(judge, film(walkers, at_rate(FPS, 0, 60)))
    stay = [event.update_s - NOON for event in changes if event.rule == "while" and event.track_ids == ("w",)]
    assert all(later - sooner >= 10 - 1e-6 for sooner, later in pairwise(stay[1:]))
    assert 5 <= len(stay) <= 8
    many = [event for event in changes if event.rule == "many"]
    joined = next(event for event in many if "v" in event.track_ids)
    assert joined.update_s - NOON == pytest.approx(20.2, abs=1.0)
    assert joined.measures["count"] == 2


def test_a_trail_has_at_most_256_points_spread_over_the_whole_way() -> None:
    judge = judge_of([Rule("while", Inside(""))])
    changes = play(judge, film([Walker("w", straight(0.1, 0.5, 0.0008, 0.0))], at_rate(FPS, 0, 900)))
    changes += judge.close(NOON + 900).events
    trail = changes[-1].trail
    assert 120 <= len(trail) <= 256
    assert (trail[0].time_s, trail[-1].time_s) == (NOON, NOON + 900)
    steps = [after.time_s - before.time_s for before, after in pairwise(trail)]
    assert max(steps) <= 2 * min(steps[:-1])
    assert all(point.x == pytest.approx(0.1 + 0.0008 * (point.time_s - NOON)) for point in trail)


def test_the_box_and_the_score_are_those_of_the_best_moment() -> None:
    walker = Walker("w", straight(0.41, 0.5, 0.01, 0.0))
    scenes = film([walker], at_rate(FPS, 0, 10))
    scored = [
        replace(scene, tracks=tuple(replace(v, score=1 - abs(scene.time_s - NOON - 7) / 10) for v in scene.tracks))
        for scene in scenes
    ]
    judge = judge_of([Rule("while", Inside("band"))], zones=(BAND,))
    play(judge, scored)
    [event] = judge.close(NOON + 11).events
    assert event.peak_score == pytest.approx(1.0)
    assert event.box is not None
    assert (event.box[0] + event.box[2]) / 2 == pytest.approx(0.48)


def test_another_shape_of_the_picture_is_borne() -> None:
    rules = [Rule("while", Inside("band")), Rule("gate", Cross("gate"))]
    judge = judge_of(rules, zones=(BAND,), lines=(GATE,))
    scenes = film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 8))
    turned = [replace(scene, aspect=0.5) if scene.time_s > NOON + 2 else scene for scene in scenes]
    changes = play(judge, turned)
    assert_lives_are_sound(changes)
    assert sorted(event.kind for event in final(changes)) == [EventKind.CROSS, EventKind.INSIDE]


def test_time_that_runs_back_changes_nothing() -> None:
    judge = judge_of([Rule("gone", Absence("", 10.0))])
    judge.step(Scene(NOON, "s", 1, 1.0))
    assert judge.step(Scene(NOON - 60, "s", 2, 1.0)).events == []
    assert judge.tick(NOON - 60).events == []
    assert len(judge.tick(NOON + 11).events) == 1


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.floats(0, 2e9))
def test_identities_tell_causes_apart(a: str, b: str, c: str, start_s: float) -> None:
    name = event_id_of(a, b, EventKind.ENTER, c, start_s)
    assert name == event_id_of(a, b, EventKind.ENTER, c, start_s)
    others = {
        event_id_of(a + "x", b, EventKind.ENTER, c, start_s),
        event_id_of(a, b + "x", EventKind.ENTER, c, start_s),
        event_id_of(a, b, EventKind.LEAVE, c, start_s),
        event_id_of(a, b, EventKind.ENTER, c + "x", start_s),
        event_id_of(a, b, EventKind.ENTER, c, start_s + 0.001),
        event_id_of(a, b, EventKind.ENTER, c, start_s, "x"),
    }
    assert name not in others
    assert len(others) == 6


def test_time_that_was_told_ahead_of_the_frames_under_way_costs_none_of_them() -> None:
    judge = judge_of([Rule("in", Enter("band")), Rule("while", Inside("band"))], zones=(BAND,))
    changes: list[Event] = []
    for scene in film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 8)):
        changes += judge.step(scene).events
        changes += judge.tick(scene.time_s + 0.8).events
    assert_lives_are_sound(changes)
    assert [event.kind for event in final(changes)] == [EventKind.ENTER, EventKind.INSIDE]


def test_another_session_whose_clock_is_behind_begins_anew() -> None:
    judge = judge_of([Rule("while", Inside("band")), Rule("gone", Absence("", 5.0), labels=("car",))], zones=(BAND,))
    scenes = film([standing("w", 0.5, 0.5, 0, 30)], at_rate(FPS, 0, 9))
    again = [replace(scene, session="s2") for scene in scenes]
    changes = play(judge, [*scenes, *again]) + judge.close(NOON + 10).events
    assert_lives_are_sound(changes)
    told = [(event.rule, event.session, event.state) for event in final(changes)]
    assert sorted(told) == [
        ("gone", "s1", EventState.ENDED),
        ("gone", "s2", EventState.ENDED),
        ("while", "s1", EventState.ENDED),
        ("while", "s2", EventState.ENDED),
    ]
