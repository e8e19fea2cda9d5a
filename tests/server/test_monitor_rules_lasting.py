"""Rules about counts, speeds, directions and things that stand still."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_monitor import (
    FPS,
    FRAME,
    NOON,
    Walker,
    assert_lives_are_sound,
    at_rate,
    box_at,
    film,
    final,
    judge_of,
    near,
    one,
    play,
    standing,
    straight,
    when,
)
from vedette_server.data.event import Event, EventState, SeenObject
from vedette_server.data.rules import (
    Absence,
    Crowd,
    Inside,
    Left,
    Line,
    Occupancy,
    Removed,
    Rule,
    Speed,
    WrongWay,
    Zone,
)

BAND = Zone("band", ((0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)))
GATE = Line("gate", ((0.5, 0.0), (0.5, 1.0)))
# A week's minutes at noon, where films begin.
TWELVE = 12 * 60


# -- counts --


def test_so_many_are_in_a_zone_from_the_last_to_come_to_the_first_to_go() -> None:
    # Confirmed at once; a track that ends does so when it was not seen for half a second, and was gone by then.
    walkers = [standing(f"w{n}", 0.45 + 0.02 * n, 0.5, 1.0 + n, 9.0 - n) for n in range(4)]
    rule = Rule("three", Occupancy("band", at_least=3))
    scenes = film(walkers, at_rate(FPS, 0, 12), confirm=1, max_lost_s=0.5)
    event = one(play(judge_of([rule], zones=(BAND,)), scenes))
    assert when(event) == near(3.0, 7.0)
    assert event.measures["most"] == 4
    assert sorted(event.track_ids) == ["w0", "w1", "w2", "w3"]


def test_so_few_are_in_a_zone() -> None:
    rule = Rule("few", Occupancy("band", at_most=1), min_time_s=0.5)
    walkers = [standing("a", 0.45, 0.5, 0, 20), standing("b", 0.55, 0.5, 0, 5)]
    event = one(play(judge_of([rule], zones=(BAND,)), film(walkers, at_rate(FPS, 0, 9), confirm=1, max_lost_s=0.25)))
    assert when(event) == (pytest.approx(5.3, abs=FRAME), None)


def test_an_occupancy_ends_when_the_stay_of_who_was_needed_for_it_does() -> None:
    rules = [Rule("two", Occupancy("band", at_least=2)), Rule("here", Inside("band"))]
    walkers = [standing("a", 0.45, 0.5, 0, 20), standing("b", 0.55, 0.5, 1, 5)]
    scenes = film(walkers, at_rate(FPS, 0, 9), confirm=1, max_lost_s=1.5)
    events = {(event.rule, event.track_ids): event for event in final(play(judge_of(rules, zones=(BAND,)), scenes))}
    assert when(events["two", ("a", "b")]) == near(1.0, 5.0)
    assert events["two", ("a", "b")].end_s == events["here", ("b",)].end_s


def test_an_occupancy_ends_now_where_one_walks_out_as_another_one_is_given_up() -> None:
    rule = Rule("three", Occupancy("band", at_least=3))
    out = Walker("c", lambda t: (0.5 if t < 6.0 else 0.9, 0.5))
    walkers = [standing("a", 0.45, 0.5, 0, 20), standing("b", 0.55, 0.5, 0, 5), out]
    scenes = film(walkers, at_rate(FPS, 0, 9), confirm=1, max_lost_s=1.0)
    assert when(one(play(judge_of([rule], zones=(BAND,)), scenes))) == near(0.0, 6.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(5, 60)), min_size=1, max_size=6), st.integers(1, 4))
def test_occupancy_is_on_where_as_many_intervals_overlap(stays: list[tuple[int, int]], least: int) -> None:
    walkers = [
        standing(f"w{n}", 0.42 + 0.03 * n, 0.1 + 0.15 * n, begin / 10, (begin + length) / 10)
        for n, (begin, length) in enumerate(stays)
    ]
    rule = Rule("many", Occupancy("band", at_least=least), hysteresis=0.0)
    # A track ends with the first frame that does not show it, and what it took part in with the last that does.
    scenes = film(walkers, at_rate(FPS, 0, 15), confirm=1, max_lost_s=0.01)
    changes = play(judge_of([rule], zones=(BAND,)), scenes)
    assert_lives_are_sound(changes)
    frames = [sum(w.start <= tick / FPS <= w.stop for w in walkers) >= least for tick in range(151)]
    begun = [tick for tick in range(151) if frames[tick] and (tick == 0 or not frames[tick - 1])]
    over = [tick - 1 for tick in range(1, 151) if not frames[tick] and frames[tick - 1]]
    events = final(changes)
    assert [round((event.start_s - NOON) * FPS) for event in events] == begun
    assert [round((event.end_s - NOON) * FPS) for event in events if event.end_s is not None] == over


def test_an_occupancy_tells_of_all_that_counted_in_its_picture_and_an_event_of_one_object_of_none() -> None:
    rules = [Rule("two", Occupancy("band", at_least=2)), Rule("here", Inside("band"))]
    hides = Walker("b", lambda _: (0.55, 0.5), score=0.7, hidden=lambda t: 2.45 < t < 4.0)
    walkers = [
        standing("a", 0.45, 0.3, 0, 20),
        hides,
        standing("left", 0.5, 0.7, 0, 1),
        standing("outside", 0.9, 0.5, 0, 20),
        Walker("c", lambda _: (0.5, 0.9), start=3.0, score=0.95, label="car"),
    ]
    scenes = film(walkers, at_rate(FPS, 0, 9), confirm=1, max_lost_s=1.8)
    changes = play(judge_of(rules, zones=(BAND,)), scenes)
    of_two = [event for event in changes if event.rule == "two"]
    first, last = of_two[0], of_two[-1]
    assert first.objects == (
        SeenObject(box_at(0.45, 0.3), "person", 0.9),
        SeenObject(box_at(0.55, 0.5), "person", 0.7),
        SeenObject(box_at(0.5, 0.7), "person", 0.9),
    )
    assert (last.peak_score, last.peak_s) == (0.95, NOON + 3.0)
    a, b, c = last.objects
    assert (a, c) == (SeenObject(box_at(0.45, 0.3), "person", 0.9), SeenObject(box_at(0.5, 0.9), "car", 0.95))
    assert (b.box, b.ago_s) == (box_at(0.55, 0.5), pytest.approx(0.6)), "hidden then, and counted all the same"
    assert not any(event.objects for event in changes if event.rule == "here")


def test_a_crowd_tells_of_those_who_stand_close_together_and_not_of_the_others() -> None:
    three = [standing(n, x, 0.5, 0, 20) for n, x in (("a", 0.41), ("b", 0.43), ("alone", 0.59))]
    rule = Rule("crowd", Crowd("band", at_least=2, distance=0.05))
    event = one(play(judge_of([rule], zones=(BAND,)), film(three, at_rate(FPS, 0, 3), confirm=1)))
    assert [seen.box for seen in event.objects] == [box_at(0.41, 0.5), box_at(0.43, 0.5)]


def test_a_crowd_hangs_together() -> None:
    pairs = [standing(n, x, 0.5, 0, 20) for n, x in (("a", 0.41), ("b", 0.43), ("c", 0.57), ("d", 0.59))]
    rule = Rule("crowd", Crowd("band", at_least=4, distance=0.05))
    assert play(judge_of([rule], zones=(BAND,)), film(pairs, at_rate(FPS, 0, 3), confirm=1)) == []
    # One who walks by in the middle joins none of them; three on a string make one group of seven.
    between = [standing(n, x, 0.5, 2, 4) for n, x in (("e", 0.465), ("f", 0.5), ("g", 0.535))]
    scenes = film([*pairs, *between], at_rate(FPS, 0, 9), confirm=1, max_lost_s=0.5)
    event = one(play(judge_of([rule], zones=(BAND,)), scenes))
    assert when(event) == near(2.0, 4.0)
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


SPANS = st.lists(st.sampled_from([0.1, 0.1, 0.5, 1.7, 2.9]), min_size=20, max_size=60)
PARTS = st.lists(st.lists(st.floats(0.01, 0.99), max_size=3), min_size=60, max_size=60)


@settings(max_examples=40, deadline=None)
@given(SPANS, PARTS, st.floats(0, 20), st.floats(5, 40))
def test_it_makes_no_difference_whether_time_is_told_where_somebody_looked_often_enough(
    spans: list[float], parts: list[list[float]], goes: float, comes: float
) -> None:
    walkers = [standing("a", 0.5, 0.5, 0, goes), standing("b", 0.5, 0.5, goes + comes, 1e9)]
    scenes = film(walkers, [0.0, *accumulate(spans)], confirm=1, max_lost_s=0.5)
    rules = [Rule("gone", Absence("band", 10.0)), Rule("few", Occupancy("band", at_most=0), min_time_s=3.0)]
    silent, told = judge_of(rules, zones=(BAND,)), judge_of(rules, zones=(BAND,))
    ticked: list[Event] = []
    for (before, scene), between in zip(pairwise([scenes[0], *scenes]), parts, strict=False):
        for part in sorted(between):
            ticked += told.tick(before.time_s + part * (scene.time_s - before.time_s)).events
        ticked += told.step(scene).events
    plain = play(silent, scenes)
    assert [(e.event_id, when(e)) for e in final(ticked)] == [(e.event_id, when(e)) for e in final(plain)]


STRETCHES = st.lists(st.tuples(st.integers(6, 80), st.floats(3.1, 60.0), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(STRETCHES)
def test_what_waits_for_time_begins_where_somebody_looked_all_the_while_and_nowhere_else(
    stretches: list[tuple[int, float, bool]],
) -> None:
    rules = [Rule("gone", Absence("band", 5.0)), Rule("few", Occupancy("band", at_most=0), min_time_s=4.0)]
    judge, looks, changes, now = judge_of(rules, zones=(BAND,)), list[float](), list[Event](), 0.0
    for frames, stall_s, ticked in stretches:
        for scene in film([], at_rate(FPS, now, now + (frames - 1) * FRAME), first=len(looks)):
            changes += judge.step(scene).events
            looks.append(scene.time_s - NOON)
        if ticked and stall_s > 6.2:
            looks.append(looks[-1] + stall_s / 2)
            changes += judge.tick(NOON + looks[-1]).events
        now += (frames - 1) * FRAME + stall_s
    longest_s = max((frames - 1) * FRAME for frames, _, _ in stretches)
    for name, wait_s, to_s in (("gone", 5.0, 0.0), ("few", 4.0, 4.0)):
        begun = [event.start_s - NOON for event in final(changes) if event.rule == name]
        assert len(begun) == (longest_s >= wait_s - 1e-6), "what goes on is not begun again"
        for start in begun:
            since = start + to_s - wait_s
            seen = [look for look in looks if since - 1e-3 <= look <= since + wait_s + FRAME + 1e-3]
            assert seen[0] <= since + 1e-3
            assert seen[-1] >= since + wait_s - 1e-3
            assert all(after - before < 3.0 for before, after in pairwise(seen))


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


def test_who_goes_on_under_another_identity_and_turns_went_wrong_until_lost_at_the_measures_of_then() -> None:
    # Up to 2 s the wrong way; lost at the turn, found again half a second later as another one, on the way back.
    lost = Walker("a", straight(0.3, 0.5, 0.1, 0.0), start=0.0, stop=2.0)
    found = Walker("b", lambda t: (0.5 - 0.1 * (t - 2.5), 0.5), start=2.5)
    rule = Rule("wrong", WrongWay("", allowed_degrees=270.0))
    changes = play(judge_of([rule]), film([lost, found], at_rate(FPS, 0, 5), max_lost_s=1.0))
    event = one(changes)
    assert event.track_ids == ("a", "b")
    assert event.end_s == pytest.approx(NOON + 2.0, abs=FRAME + 1e-6)
    assert all(change.measures["speed"] == pytest.approx(0.1, abs=0.01) for change in changes)
    assert event.measures["direction_degrees"] == pytest.approx(90, abs=1)


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
