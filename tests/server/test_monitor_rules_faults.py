"""What a real tracker does to rules: jitter, frames that are missing, tracks that are lost and come back as others."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

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
from vedette_server.data.event import EventKind, EventState
from vedette_server.data.rules import Cross, Dwell, Enter, Inside, Leave, Line, Occupancy, Rule, Zone

FPS = 15.0
HALF = Zone("half", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
BAND = Zone("band", ((0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)))
GATE = Line("gate", ((0.5, 0.0), (0.5, 1.0)))
MARGIN = 0.01
# A leg of a way takes so many frames: slow enough that jitter takes back many a step over the line.
LEG = 40
CROSS = Rule("gate", Cross("gate"), hysteresis=MARGIN)
PASSAGES = [
    Rule("in", Enter("half"), hysteresis=MARGIN),
    Rule("out", Leave("half"), hysteresis=MARGIN),
    Rule("while", Inside("half"), hysteresis=MARGIN),
]


def jittery(way: list[float], seed: int, amount: float) -> Walker:
    """Make somebody who goes from x to x, one after the other in LEG frames each, every frame off by some jitter."""
    noise = random.Random(seed)
    places = [
        before + (after - before) * step / LEG + noise.uniform(-amount, amount)
        for before, after in pairwise(way)
        for step in range(LEG)
    ]
    return Walker("w", lambda t: (places[min(round(t * FPS), len(places) - 1)], 0.5))


def crossings_of(way: list[float], seed: int, amount: float, rule: Rule = CROSS) -> int:
    scenes = film([jittery(way, seed, amount)], at_rate(FPS, 0, (len(way) - 1) * LEG / FPS - 1 / FPS))
    return len(final(play(judge_of([rule], lines=(GATE,)), scenes)))


# Ways that turn well away from the line, so that each change of side is one that everybody would call a crossing.
ways = st.lists(st.sampled_from([0.3, 0.4, 0.45, 0.55, 0.6, 0.7]), min_size=2, max_size=10).map(
    lambda way: [0.3, *way, way[-1]]
)


@settings(max_examples=40, deadline=None)
@given(ways, st.integers(0, 1000))
def test_crossings_are_the_changes_of_side_of_the_true_way_whatever_the_jitter(way: list[float], seed: int) -> None:
    changes = sum((before > 0.5) != (after > 0.5) for before, after in pairwise(way))
    assert crossings_of(way, seed, 0.9 * MARGIN) == changes


def test_without_hysteresis_jitter_would_be_counted() -> None:
    """The check of the check: the property above is one that hysteresis brings about."""
    way = [0.3, 0.49, 0.5, 0.5, 0.51, 0.7, 0.7]
    assert all(crossings_of(way, seed, 0.9 * MARGIN) == 1 for seed in range(10))
    bare = replace(CROSS, hysteresis=0.0)
    assert all(crossings_of(way, seed, 0.9 * MARGIN, bare) > 1 for seed in range(10))


def test_who_dances_on_the_line_and_goes_back_has_not_crossed_it() -> None:
    assert crossings_of([0.3, 0.495, 0.505, 0.495, 0.505, 0.3, 0.3], 1, 0.4 * MARGIN) == 0


def test_who_appears_on_the_line_has_not_crossed_it_whichever_side_it_turns_to() -> None:
    for side in (0.3, 0.7):
        assert all(crossings_of([0.5, 0.5, side, side], seed, 0.9 * MARGIN) == 0 for seed in range(5))


@settings(max_examples=40, deadline=None)
@given(ways, st.integers(0, 1000))
def test_enterings_and_leavings_alternate_and_stays_fill_what_lies_between(way: list[float], seed: int) -> None:
    times = at_rate(FPS, 0, (len(way) - 1) * LEG / FPS - 1 / FPS)
    changes = play(judge_of(PASSAGES, zones=(HALF,)), film([jittery(way, seed, 0.45 * MARGIN)], times))
    assert_lives_are_sound(changes)
    passages = [event for event in changes if event.kind in {EventKind.ENTER, EventKind.LEAVE}]
    wanted = [after > 0.5 for before, after in pairwise(way) if (before > 0.5) != (after > 0.5)]
    assert [event.kind is EventKind.ENTER for event in passages] == wanted
    stays = [event for event in final(changes) if event.kind is EventKind.INSIDE]
    assert [stay.start_s for stay in stays] == [event.start_s for event in passages[::2]]
    ended = [stay.end_s for stay in stays if stay.state is EventState.ENDED]
    assert ended == [event.start_s for event in passages[1::2]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=90, max_size=90), st.integers(5, 85))
def test_a_crossing_counts_once_whichever_frames_are_missing(kept: list[bool], speed: int) -> None:
    walker = Walker("w", straight(0.1, 0.5, speed / 100, 0.0))
    times = [index / FPS for index, keep in enumerate(kept) if keep and 0.1 + speed / 100 * index / FPS <= 1]
    places = [0.1 + speed / 100 * t for t in times]
    # It counts where it was seen clear of the line on both sides, and often enough to be confirmed.
    before, after = (sum(place <= 0.49 for place in places), sum(place >= 0.51 for place in places))
    changes = play(judge_of([CROSS], lines=(GATE,)), film([walker], times))
    assert_lives_are_sound(changes)
    expected = 1 if before and after and len(places) >= 3 else 0
    assert len(changes) == expected


def test_a_gap_of_many_seconds_leaves_one_crossing_and_one_stay() -> None:
    walker = Walker("w", lambda t: (0.3 if t < 5 else 0.7, 0.5))
    times = [*at_rate(FPS, 0, 3), *at_rate(FPS, 40, 43)]
    changes = play(judge_of([CROSS, *PASSAGES], zones=(HALF,), lines=(GATE,)), film([walker], times))
    assert [event.kind for event in final(changes)] == [EventKind.CROSS, EventKind.ENTER, EventKind.INSIDE]
    # Of the crossing it is known that it lies between two sightings, and a straight way is the best guess.
    assert 3 < seconds_of(changes)[0] < 40


def test_equal_times_are_borne() -> None:
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0))
    scenes = film([walker], [round(t, 0) for t in at_rate(FPS, 0, 8)])
    changes = play(judge_of([CROSS, *PASSAGES], zones=(HALF,), lines=(GATE,)), scenes)
    assert_lives_are_sound(changes)
    assert [event.kind for event in final(changes)].count(EventKind.CROSS) == 1


# -- identities --


def switched(at: float, lag: float = 0.2, jump: float = 0.0) -> list[Walker]:
    """One person who walks to the right under two identities: the second one from `at + lag` on."""
    way = straight(0.1, 0.5, 0.1, 0.0)
    return [
        Walker("a", way, stop=at),
        Walker("b", lambda t: (way(t)[0] + (jump if t < at + lag + 0.3 else 0.0), 0.5), start=at + lag),
    ]


@settings(max_examples=40, deadline=None)
@given(st.floats(2.5, 5.5), st.floats(0.05, 1.5), st.floats(-0.03, 0.03))
def test_an_identity_switch_near_a_line_gives_neither_a_second_crossing_nor_none(
    at: float, lag: float, jump: float
) -> None:
    scenes = film(switched(at, lag, jump), at_rate(FPS, 0, 9))
    changes = play(judge_of([CROSS], lines=(GATE,)), scenes)
    assert len(changes) == 1


def test_an_identity_switch_in_a_zone_goes_on_with_the_stay() -> None:
    scenes = film(switched(4.5), at_rate(FPS, 0, 12))
    rules = [
        Rule("in", Enter("band")),
        Rule("while", Inside("band")),
        Rule("loiter", Dwell("band", 1.5)),
        Rule("out", Leave("band")),
        Rule("one", Occupancy("band", at_least=2)),
    ]
    changes = play(judge_of(rules, zones=(BAND,)), scenes)
    assert_lives_are_sound(changes)
    kinds = [event.kind for event in final(changes)]
    assert sorted(kinds) == [EventKind.DWELL, EventKind.ENTER, EventKind.INSIDE, EventKind.LEAVE]
    stay = next(event for event in final(changes) if event.kind is EventKind.INSIDE)
    assert stay.track_ids == ("a", "b")
    assert stay.trail[0].x < 0.15
    assert stay.trail[-1].x > 0.59


def test_another_label_far_away_or_much_later_is_somebody_else() -> None:
    def crossings(second: Walker) -> int:
        first = Walker("a", straight(0.1, 0.5, 0.1, 0.0), stop=4.3)
        return len(play(judge_of([CROSS], lines=(GATE,)), film([first, second], at_rate(FPS, 0, 12))))

    def comes_back(start: float, y: float = 0.5) -> Walker:
        return Walker("b", lambda t: (0.48 + 0.1 * (t - start), y), start=start)

    assert crossings(comes_back(4.5)) == 1
    assert crossings(replace(comes_back(4.5), label="car")) == 2
    assert crossings(comes_back(4.5, y=0.9)) == 2
    assert crossings(comes_back(6.9)) == 2


def test_who_comes_in_where_somebody_went_out_is_somebody_else() -> None:
    walkers = [
        Walker("a", straight(0.1, 0.5, 0.1, 0.0), stop=8.9),
        Walker("b", lambda t: (0.99 - 0.1 * (t - 9.5), 0.5), start=9.5),
    ]
    changes = play(judge_of([Rule("in", Enter("half"))], zones=(HALF,)), film(walkers, at_rate(FPS, 0, 12)))
    assert [event.track_ids for event in final(changes)] == [("a",), ("b",)]


def test_two_people_who_are_seen_together_are_two() -> None:
    walkers = [Walker("a", straight(0.1, 0.5, 0.1, 0.0)), Walker("b", straight(0.05, 0.5, 0.1, 0.0), start=0.5)]
    changes = play(judge_of([CROSS, *PASSAGES], zones=(HALF,), lines=(GATE,)), film(walkers, at_rate(FPS, 0, 8)))
    assert [event.kind for event in final(changes)].count(EventKind.CROSS) == 2
    assert [event.kind for event in final(changes)].count(EventKind.ENTER) == 2


def test_who_was_taken_for_another_and_is_seen_again_has_not_entered_again() -> None:
    # `a` is hidden for a second while `b` steps out from behind it.
    walkers = [
        Walker("a", lambda _: (0.5, 0.5), hidden=lambda t: 3 < t < 4),
        Walker("b", lambda _: (0.52, 0.5), start=3.3),
    ]
    changes = play(judge_of([Rule("in", Enter("band"))], zones=(BAND,)), film(walkers, at_rate(FPS, 0, 8)))
    assert [event.track_ids for event in changes] == [("a",)]


# -- tracks that are not seen, and that end --


def test_who_is_not_seen_starts_nothing() -> None:
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0), hidden=lambda t: 3 < t < 6)
    changes = play(judge_of([CROSS, *PASSAGES], zones=(HALF,), lines=(GATE,)), film([walker], at_rate(FPS, 0, 8)))
    assert min(event.update_s for event in changes if event.kind is not EventKind.CROSS) >= NOON + 6


def test_loitering_is_told_of_when_the_object_is_seen_again() -> None:
    walker = Walker("w", lambda _: (0.5, 0.5), hidden=lambda t: 3 < t < 5)
    changes = play(judge_of([Rule("loiter", Dwell("band", 4.0))], zones=(BAND,)), film([walker], at_rate(FPS, 0, 8)))
    assert changes[0].start_s == NOON + 4.0
    assert changes[0].update_s >= NOON + 5.0


def test_a_track_that_ends_amid_a_zone_ends_its_stay_when_it_was_seen_last_and_has_not_left() -> None:
    walker = Walker("w", lambda t: (min(0.1 + 0.1 * t, 0.7), 0.5), stop=8.0)
    changes = play(judge_of(PASSAGES, zones=(HALF,)), film([walker], at_rate(FPS, 0, 12)))
    assert_lives_are_sound(changes)
    entered, stay = final(changes)
    assert (entered.kind, stay.kind) == (EventKind.ENTER, EventKind.INSIDE)
    assert stay.end_s == NOON + 8.0


def test_who_walks_out_of_the_picture_has_left_a_zone_at_its_edge() -> None:
    walker = Walker("w", straight(0.1, 0.5, 0.1, 0.0), stop=8.9)
    changes = play(judge_of(PASSAGES, zones=(HALF,)), film([walker], at_rate(FPS, 0, 13)))
    left = next(event for event in final(changes) if event.kind is EventKind.LEAVE)
    assert abs(left.start_s - NOON - 8.9) <= 1 / FPS
    assert left.box is not None


def test_a_track_that_is_not_told_of_any_more_has_ended() -> None:
    scenes = film([Walker("w", straight(0.1, 0.5, 0.1, 0.0))], at_rate(FPS, 0, 6))
    gone = [replace(scenes[-1], time_s=NOON + 7, sequence=1000, tracks=(), ended=())]
    changes = play(judge_of(PASSAGES, zones=(HALF,)), [*scenes, *gone])
    assert final(changes)[-1].end_s == NOON + 6


def test_what_is_remembered_of_tracks_that_ended_goes() -> None:
    walkers = [Walker(f"w{n}", lambda _: (0.55, 0.5), start=n * 2.0, stop=n * 2.0 + 1) for n in range(40)]
    rules = [*PASSAGES, CROSS, Rule("cool", Enter("band"), cool_down_s=5.0)]
    judge = judge_of(rules, zones=(HALF, BAND), lines=(GATE,))
    play(judge, film(walkers, at_rate(5, 0, 100), max_lost_s=0.5))
    assert remembered(judge) == 0


def remembered(judge: object) -> int:
    """Count what any part of a judge holds by track."""
    seen: set[int] = set()
    found = 0
    heap = [judge]
    while heap:
        one = heap.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | type(None) | type):
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            found += sum(isinstance(key, str) and key.startswith("w") and key[1:].isdigit() for key in one)
            heap += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            heap += one
        elif type(one).__module__.startswith("vedette_server.monitor"):
            names = getattr(one, "__dict__", None) or dict.fromkeys(getattr(type(one), "__slots__", ()))
            heap += [getattr(one, name) for name in names if hasattr(one, name)]
    return found
