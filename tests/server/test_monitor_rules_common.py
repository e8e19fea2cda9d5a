"""What rules have in common: minimum times, quiet, schedules, changes, updates, identities."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_monitor import (
    FPS,
    NOON,
    Walker,
    assert_lives_are_sound,
    at_rate,
    film,
    final,
    judge_of,
    near,
    play,
    seconds_of,
    standing,
    straight,
    when,
)
from vedette_server.data.event import Event, EventKind, EventState
from vedette_server.data.rules import (
    Absence,
    Cross,
    Dwell,
    Enter,
    Inside,
    Leave,
    Line,
    Occupancy,
    Rule,
    ScheduleSpan,
    WatchConfig,
    Zone,
)
from vedette_server.errors import InvalidError
from vedette_server.monitor.base import Scene
from vedette_server.monitor.episodes import event_id_of

BAND = Zone("band", ((0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)))
GATE = Line("gate", ((0.5, 0.0), (0.5, 1.0)))
# A week's minutes at noon, where films begin.
TWELVE = 12 * 60


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
    assert max(steps) <= 2.1 * min(steps[:-1])
    assert all(point.x == pytest.approx(0.1 + 0.0008 * (point.time_s - NOON), abs=1e-4) for point in trail)


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
    assert judge.tick(NOON - 60).events == []
    assert len([event for second in range(12) for event in judge.tick(NOON + second).events]) == 1


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


def test_what_happens_twice_at_one_time_has_two_identities() -> None:
    # In, out and in again in three frames of the same time.
    places = iter([0.2, 0.2, 0.2, 0.5, 0.2, 0.5, 0.5])
    scenes = film([Walker("w", lambda _: (next(places), 0.5))], [0, 1, 2, 3, 3, 3, 4])
    judge = judge_of([Rule("in", Enter("band")), Rule("while", Inside("band"))], zones=(BAND,))
    changes = play(judge, scenes)
    assert_lives_are_sound(changes)
    assert [event.kind for event in final(changes)].count(EventKind.ENTER) == 2
    assert [event.kind for event in final(changes)].count(EventKind.INSIDE) == 2


def test_a_rule_that_changes_when_its_event_has_just_begun_begins_another() -> None:
    rule = Rule("while", Inside("band"))
    judge = judge_of([], zones=(BAND,))
    changes = play(judge, film([standing("w", 0.5, 0.5, 0, 30)], at_rate(FPS, 0, 3)))
    for number in range(3):
        config = WatchConfig(zones=(BAND,), rules=(replace(rule, min_score=0.1 * number),))
        changes += judge.change(config, NOON + 5).events
        frame = film([standing("w", 0.5, 0.5, 0, 30)], [5.0], first=100 + number, confirm=1)
        changes += play(judge, frame)
    assert_lives_are_sound(changes)
    assert len(final(changes)) == 3
