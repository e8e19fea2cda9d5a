"""Rules about one object: zones, lines and stays, against truths in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

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
from vedette_server.data.event import EventKind, EventState
from vedette_server.data.rules import (
    Anchor,
    Cross,
    CrossDirection,
    Dwell,
    Enter,
    Inside,
    Leave,
    Line,
    Rule,
    Zone,
)

FPS = 15.0
FRAME = 1 / FPS
# From x = 0.4 to 0.6, over all heights that walkers have.
BAND = Zone("band", ((0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)))
DISC = Zone(
    "disc", tuple((0.5 + 0.2 * math.cos(a / 16 * math.pi), 0.5 + 0.2 * math.sin(a / 16 * math.pi)) for a in range(32))
)
# Downwards: who goes to the right comes from the left of whoever looks up it; seen along it, downwards, left is right.
GATE = Line("gate", ((0.5, 0.0), (0.5, 1.0)))


def soon_after(found: float, true: float, delay: float = FRAME) -> bool:
    return true - 1e-6 <= found <= true + delay + 1e-6


def test_who_walks_through_a_zone_enters_is_inside_and_leaves() -> None:
    rules = [Rule("in", Enter("band")), Rule("out", Leave("band")), Rule("while", Inside("band"))]
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0))
    changes = play(judge_of(rules, zones=(BAND,)), film([walker], at_rate(FPS, 0, 8)))
    assert_lives_are_sound(changes)
    entered, stayed, left = (
        next(event for event in final(changes) if event.kind is kind)
        for kind in (EventKind.ENTER, EventKind.INSIDE, EventKind.LEAVE)
    )
    assert len(final(changes)) == 3
    assert soon_after(entered.start_s - NOON, 3.0)
    assert entered.state is EventState.ENDED
    assert entered.end_s == entered.start_s
    assert soon_after(stayed.start_s - NOON, 3.0)
    # The margin of 0.01 takes 0.1 s more to walk.
    assert soon_after(left.start_s - NOON, 5.1)
    assert stayed.end_s == left.start_s
    assert (stayed.place, stayed.label, stayed.track_ids, stayed.channel) == ("band", "person", ("w",), "gate")
    assert stayed.engine_version == "box@1"
    assert stayed.measures["dwell_s"] == pytest.approx(2.1, abs=2 * FRAME)


def test_a_way_along_a_circle_enters_a_disc_when_the_formula_says() -> None:
    # A circle of radius 0.3 around (0.8, 0.5) meets the disc of radius 0.2 around (0.5, 0.5), 0.3 away, where the
    # cosine rule says: cos a = -(0.3^2 + 0.3^2 - 0.2^2) / (2 * 0.3 * 0.3).
    rules = [Rule("in", Enter("disc"), hysteresis=0.0), Rule("out", Leave("disc"), hysteresis=0.0)]
    rate = 0.5
    walker = Walker("w", lambda t: (0.8 + 0.3 * math.cos(rate * t), 0.5 + 0.3 * math.sin(rate * t)))
    changes = play(judge_of(rules, zones=(DISC,)), film([walker], at_rate(30, 0, 2 * math.pi / rate)))
    half = math.acos((0.09 + 0.09 - 0.04) / 0.18)
    inwards, outwards = (math.pi - half) / rate, (math.pi + half) / rate
    assert [event.kind for event in final(changes)] == [EventKind.ENTER, EventKind.LEAVE]
    # 32 corners are up to 0.2 * (1 - cos(pi/32)) = 0.001 inside the disc: at 0.15 widths/s that is 7 ms and more.
    assert seconds_of(changes) == pytest.approx([inwards, outwards], abs=1 / 30 + 0.03)


def test_a_crossing_is_told_when_it_was_and_which_way() -> None:
    walkers = [Walker("right", straight(0.2, 0.5, 0.1, 0)), Walker("left", straight(0.9, 0.6, -0.1, 0))]
    changes = play(judge_of([Rule("gate", Cross("gate"))], lines=(GATE,)), film(walkers, at_rate(FPS, 0, 8)))
    assert_lives_are_sound(changes)
    assert seconds_of(changes) == pytest.approx([3.0, 4.0], abs=1e-6)
    assert [event.track_ids for event in final(changes)] == [("right",), ("left",)]
    # Down the picture one's right hand points to its left.
    assert [event.measures["direction"] for event in final(changes)] == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("direction", "who"), [(CrossDirection.LEFT_TO_RIGHT, "left"), (CrossDirection.RIGHT_TO_LEFT, "right")]
)
def test_only_the_wanted_direction_counts(direction: CrossDirection, who: str) -> None:
    walkers = [Walker("right", straight(0.2, 0.5, 0.1, 0)), Walker("left", straight(0.9, 0.6, -0.1, 0))]
    rule = Rule("gate", Cross("gate", direction))
    changes = play(judge_of([rule], lines=(GATE,)), film(walkers, at_rate(FPS, 0, 8)))
    assert [event.track_ids for event in final(changes)] == [(who,)]


def test_who_goes_round_the_end_of_a_line_has_not_crossed_it() -> None:
    half = Line("half", ((0.5, 0.0), (0.5, 0.5)))
    walker = Walker("w", straight(0.2, 0.7, 0.1, 0))
    assert play(judge_of([Rule("half", Cross("half"))], lines=(half,)), film([walker], at_rate(FPS, 0, 6))) == []


def test_a_bent_line_is_crossed_once_at_its_corner() -> None:
    bent = Line("bent", ((0.3, 0.2), (0.5, 0.5), (0.3, 0.8)))
    walker = Walker("w", straight(0.2, 0.5, 0.1, 0))
    changes = play(judge_of([Rule("bent", Cross("bent"))], lines=(bent,)), film([walker], at_rate(FPS, 0, 6)))
    assert seconds_of(changes) == pytest.approx([3.0], abs=1e-6)


def test_the_width_of_the_picture_is_the_unit_of_the_margin_in_both_directions() -> None:
    floor = Zone("floor", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)))
    rule = Rule("out", Leave("floor"), hysteresis=0.05)
    # Upwards by 0.1 heights a second; 0.05 widths are 0.1 heights where the picture is twice as wide as high.
    walker = Walker("w", straight(0.5, 0.7, 0.0, -0.1))
    changes = play(judge_of([rule], zones=(floor,)), film([walker], at_rate(FPS, 0, 5), aspect=2.0))
    [left] = seconds_of(changes)
    assert soon_after(left, 3.0)


@pytest.mark.parametrize(
    ("anchor", "true"), [(Anchor.BOTTOM_CENTRE, 2.0), (Anchor.CENTRE, 2.5), (Anchor.TOP_CENTRE, 3.0)]
)
def test_the_anchor_says_what_of_a_box_has_to_be_in(anchor: Anchor, true: float) -> None:
    floor = Zone("floor", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)))
    # Boxes are 0.1 high.
    walker = Walker("w", straight(0.5, 0.3, 0.0, 0.1))
    changes = play(
        judge_of([Rule("in", Enter("floor"), anchor=anchor)], zones=(floor,)), film([walker], at_rate(FPS, 0, 5))
    )
    [entered] = seconds_of(changes)
    assert soon_after(entered, true)


def test_loitering_begins_when_the_time_is_over_whenever_frames_come() -> None:
    rule = Rule("loiter", Dwell("band", at_least_s=4.0))
    walker = Walker(
        "w", lambda t: (0.1 + 0.1 * t, 0.5) if t < 4 else (0.5, 0.5) if t < 10 else (0.5 + 0.1 * (t - 10), 0.5)
    )
    times = [t for t in at_rate(FPS, 0, 13) if not 6.5 < t < 7.5]
    changes = play(judge_of([rule], zones=(BAND,)), film([walker], times))
    assert_lives_are_sound(changes)
    [event] = final(changes)
    entered = next(t for t in times if 0.1 + 0.1 * t >= 0.4)
    assert event.start_s - NOON == pytest.approx(entered + 4.0)
    assert soon_after((event.end_s or 0) - NOON, 11.1)
    assert event.measures["dwell_s"] == pytest.approx(8.0, abs=0.3)


def test_who_does_not_stay_long_enough_does_not_loiter() -> None:
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0))
    rule = Rule("loiter", Dwell("band", at_least_s=2.5))
    assert play(judge_of([rule], zones=(BAND,)), film([walker], at_rate(FPS, 0, 8))) == []


def test_labels_and_the_best_score_choose_whose_way_is_judged() -> None:
    rules = [Rule("cars", Enter("band"), labels=("car",)), Rule("sure", Enter("band"), min_score=0.8)]
    walkers = [
        Walker("p", straight(0.1, 0.3, 0.1, 0), score=0.7),
        Walker("c", straight(0.1, 0.5, 0.1, 0), label="car", score=0.85),
    ]
    changes = play(judge_of(rules, zones=(BAND,)), film(walkers, at_rate(FPS, 0, 5)))
    assert sorted((event.rule, event.track_ids[0]) for event in changes) == [("cars", "c"), ("sure", "c")]


def test_a_track_that_is_never_confirmed_counts_for_nothing() -> None:
    rules = [Rule("in", Enter("band")), Rule("gate", Cross("gate")), Rule("while", Inside("band"))]
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0))
    scenes = film([walker], at_rate(FPS, 0, 8), confirm=10_000)
    assert play(judge_of(rules, zones=(BAND,), lines=(GATE,)), scenes) == []


def test_what_was_seen_before_a_track_was_confirmed_counts_when_it_is() -> None:
    walker = Walker("w", straight(0.3, 0.5, 0.1, 0.0))
    rules = [Rule("in", Enter("band")), Rule("gate", Cross("gate"))]
    scenes = film([walker], at_rate(FPS, 0, 4), confirm=40)
    changes = play(judge_of(rules, zones=(BAND,), lines=(GATE,)), scenes)
    entered, crossed = final(changes)
    assert soon_after(entered.start_s - NOON, 1.0)
    assert crossed.start_s - NOON == pytest.approx(2.0, abs=1e-6)
    assert entered.sequence == round((entered.start_s - NOON) * FPS) + 1


def test_the_same_frames_give_the_same_events() -> None:
    rules = [Rule("in", Enter("band")), Rule("gate", Cross("gate")), Rule("while", Inside("band"))]
    scenes = film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 8))
    once = play(judge_of(rules, zones=(BAND,), lines=(GATE,)), scenes)
    assert once
    assert play(judge_of(rules, zones=(BAND,), lines=(GATE,)), scenes) == once


def test_frames_that_come_again_invent_nothing() -> None:
    rules = [Rule("in", Enter("band")), Rule("gate", Cross("gate")), Rule("while", Inside("band"))]
    scenes = film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 8))
    once = play(judge_of(rules, zones=(BAND,), lines=(GATE,)), scenes)
    assert play(judge_of(rules, zones=(BAND,), lines=(GATE,)), [*scenes[:60], *scenes]) == once


def test_another_channel_rule_or_session_has_other_identities() -> None:
    scenes = film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 5))
    other = [replace(scene, session="s2") for scene in scenes]
    rule = Rule("in", Enter("band"))
    runs = [
        play(judge_of([rule], zones=(BAND,)), scenes),
        play(judge_of([rule], zones=(BAND,), channel="yard"), scenes),
        play(judge_of([replace(rule, name="also")], zones=(BAND,)), scenes),
        play(judge_of([rule], zones=(BAND,)), other),
    ]
    ids = {event.event_id for changes in runs for event in changes}
    assert len(ids) == 4
    assert all(len(name) == 26 and name == name.lower() and name.isalnum() for name in ids)
