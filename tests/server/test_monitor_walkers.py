"""Events of walkers against a truth by algebra: the goals hold, and the truth catches rules that are wrong."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest

from support_walkers import ASPECT, evenly, found
from support_walkers_judged import KINDS, Watcher, told_of, verdict_on, watch_of
from support_walkers_truth import AFTER_S, DWELL_S, LENGTH_S, Stage, Walker, stage
from support_walkers_ways import Leg, Way, is_within
from vedette_server.data.rules import Dwell, Rule

SEEDS = (0, 1)
TIMES = evenly(15, LENGTH_S + AFTER_S)
SQUARE = (0.4 + 0.1j, 0.6 + 0.1j, 0.6 + 0.3j, 0.4 + 0.3j)
LINE = (0.5 + 0.05j, 0.5 + 0.4j)


@cache
def staged(seed, cast="squares"):
    return stage(seed, cast, walkers=6) if cast == "squares" else stage(seed, cast, walkers=1, meetings=4)


def alone(*legs, zones=None, lines=None):
    """Let one walker walk among these places."""
    walker = Walker(Way(legs), 0.05, 0.1, "person")
    return Stage((walker,), (), {"square": SQUARE} if zones is None else zones, lines or {})


def happened(scene):
    return [(one.kind, round(one.time_s, 6), one.direction) for one in scene.happenings()]


def watched(scene, config=None, times=TIMES):
    return verdict_on(scene, told_of(scene, scene.samples(times), config))


def shares(verdicts):
    """Give precision and recall by kind."""
    sums = {
        name: sum((verdict.counts()[name] for verdict in verdicts), Counter()) for name in ("hits", "missed", "false")
    }
    return {
        kind: (
            sums["hits"][kind] / max(sums["hits"][kind] + sums["false"][kind], 1),
            sums["hits"][kind] / max(sums["hits"][kind] + sums["missed"][kind], 1),
        )
        for kind in KINDS
    }


# -- the rules, by the truth --


def test_with_the_truths_own_boxes_nearly_all_is_told_and_nearly_nothing_else() -> None:
    told = shares([watched(staged(seed)) for seed in SEEDS])

    assert all(min(pair) >= 0.98 for pair in told.values()), told


def test_whoever_meets_and_crosses_crosses_each_line_once() -> None:
    for seed in SEEDS:
        verdict = watched(staged(seed, "people"))

        assert not [one for one in verdict.missed if one.kind == "cross"]
        assert not [one for one in verdict.false if one.kind.value == "cross"]


def test_whoever_walks_out_of_the_picture_has_left_the_zone_that_ends_there() -> None:
    door = (0.8 + 0.1j, 1.0 + 0.1j, 1.0 + 0.4j, 0.8 + 0.4j)
    for fps in (5, 15, 30):
        for speed in (0.05, 0.1, 0.15):
            scene = alone(Leg(1.0, 1.0 + 0.54 / speed, 0.5 + 0.3j, 1.04 + 0.3j), zones={"door": door})

            verdict = watched(scene, times=evenly(fps, LENGTH_S))

            assert [one.kind for one, _ in verdict.pairs if one.kind != "dwell"] == ["enter", "leave"], (fps, speed)
            assert not verdict.missed
            assert not verdict.false


@pytest.mark.parametrize("fps", [5, 15])
def test_whoever_goes_behind_a_pillar_bit_by_bit_and_comes_out_bit_by_bit_is_the_same(fps: int) -> None:
    pillar = (0.46, 0.54)
    times = evenly(fps, 10.0)
    scene = alone(Leg(0.0, 10.0, 0.1 + 0.2j, 0.9 + 0.2j), zones={}, lines={"line": LINE})
    detections = []
    for left, top, right, bottom in scene.boxes(np.array(times))[0] * np.array((1.0, ASPECT) * 2):
        parts = (max(left, 0.0), min(right, pillar[0])), (max(left, pillar[1]), min(right, 1.0))
        boxes = [(low, top, high, bottom) for low, high in parts if high - low > 0.005]
        detections.append(found(boxes, [0.9] * len(boxes), [0] * len(boxes)))

    watcher = Watcher(scene.labels, watch_of(scene))
    identities = {one for sample in scene.samples(times, detections) for one in watcher.follow(sample) if one}

    verdict = verdict_on(scene, watcher.all_events())
    assert len(identities) == 1
    assert len(verdict.pairs) == 1
    assert not verdict.false


def test_a_bit_of_somebody_who_is_looked_for_right_there_is_nobody_new() -> None:
    times = evenly(10, 4.0)
    whole = [(x, 0.3, x + 0.1, 0.6) for x in (0.1 + 0.1 * time_s for time_s in times)]
    bits = [(box[2] - 0.02, 0.35, box[2], 0.5) for box in whole]
    boxes = [whole[index] if index < 20 else bits[index] if index > 24 else None for index in range(30)]
    detections = [found([box] if box else [], [0.9] if box else [], [0] if box else []) for box in boxes]
    scene = alone(Leg(0.0, 4.0, 0.15 + 0.3j, 0.55 + 0.3j), zones={})
    watcher = Watcher(scene.labels, watch_of(scene))

    identities = {one for sample in scene.samples(times[:30], detections) for one in watcher.follow(sample) if one}

    assert len(identities) == 1


# -- the truth can fail the rules --


def test_a_judge_whose_zones_are_shifted_is_caught() -> None:
    config = watch_of(staged(0))
    shifted = tuple(
        dataclasses.replace(zone, vertices=tuple((x - 0.1, y) for x, y in zone.vertices)) for zone in config.zones
    )

    told = shares([watched(staged(0), dataclasses.replace(config, zones=shifted))])

    assert min(told["enter"]) < 0.9
    assert min(told["leave"]) < 0.9
    assert min(told["cross"]) >= 0.98


def test_a_judge_whose_lines_run_the_other_way_is_caught() -> None:
    config = watch_of(staged(0))
    turned = tuple(dataclasses.replace(line, points=line.points[::-1]) for line in config.lines)

    # Some are still right: where two meet at a line, another one did cross it that way.
    assert max(shares([watched(staged(0), dataclasses.replace(config, lines=turned))])["cross"]) < 0.5


def test_a_judge_that_waits_too_long_for_a_dwell_is_caught() -> None:
    config = watch_of(staged(0))
    late = tuple(
        Rule(rule.name, Dwell(rule.condition.zone, DWELL_S + 2)) if isinstance(rule.condition, Dwell) else rule
        for rule in config.rules
    )

    assert min(shares([watched(staged(0), dataclasses.replace(config, rules=late))])["dwell"]) < 0.5


def test_a_tracker_that_loses_everybody_every_second_is_caught() -> None:
    scene = staged(0)
    samples = list(scene.samples(TIMES))
    for index, sample in enumerate(samples):
        if index % 60 < 50:
            sample.detections.scores[:] = 0.1

    assert min(shares([verdict_on(scene, told_of(scene, samples))])["enter"]) < 0.9


def test_events_told_twice_are_caught() -> None:
    scene = staged(0)
    events = told_of(scene, scene.samples(TIMES))

    verdict = verdict_on(scene, [*events, *events])

    assert len(verdict.false) >= len(events)


# -- the truth itself --


def test_a_straight_way_meets_a_square_where_algebra_says() -> None:
    scene = alone(Leg(0.0, 10.0, 0.2 + 0.2j, 0.8 + 0.2j), lines={"line": LINE})

    into, out, across = (0.2 / 0.06, 0.4 / 0.06, 5.0)
    assert happened(scene) == [
        ("enter", round(into, 6), 0),
        ("leave", round(out, 6), 0),
        ("dwell", round(into + DWELL_S, 6), 0),
        ("cross", across, -1),  # the line runs down: who goes to the right comes from its right
    ]


def test_an_arc_meets_a_line_at_the_angle_that_geometry_says() -> None:
    # Half a circle around (0.5, 0.2) from its left over its top to its right, clockwise.
    scene = alone(
        Leg(0.0, 6.0, 0.3 + 0.2j, 0.7 + 0.2j, turn=math.pi - 1e-9), zones={}, lines={"line": (0.4 + 0j, 0.4 + 0.2j)}
    )

    [(_, time_s, direction)] = happened(scene)

    assert time_s == pytest.approx(6.0 * math.acos(0.5) / math.pi, abs=1e-6)
    assert direction == -1


@pytest.mark.parametrize("turn", [0.0, 0.7, -1.1])
def test_a_leg_goes_from_its_start_to_its_end_at_constant_speed(turn: float) -> None:
    leg = Leg(2.0, 7.0, 0.1 + 0.4j, 0.6 + 0.1j, turn)

    places = leg.at(np.linspace(2.0, 7.0, 101))

    assert places[[0, -1]] == pytest.approx(np.array([leg.start, leg.end]))
    steps = np.abs(np.diff(places))
    assert steps == pytest.approx(np.full(100, steps.mean()))


def test_what_is_solved_is_what_looking_closely_finds() -> None:
    for seed in SEEDS:
        scene = staged(seed)
        for name, corners in scene.zones.items():
            for number, walker in enumerate(scene.walkers):
                times = np.arange(walker.way.begin_s, walker.way.end_s, 1e-2)
                inside = [is_within(place, corners) for place in walker.way.at(times)]
                changes = int(np.count_nonzero(np.diff([False, *inside])))

                told = [one for one in scene.happenings() if (one.walker, one.place) == (number, name)]

                assert changes == sum(one.kind in {"enter", "leave"} for one in told)


def test_who_appears_in_a_zone_enters_it_and_who_vanishes_there_does_not_leave() -> None:
    here = 0.5 + 0.2j

    assert happened(alone(Leg(1.0, 9.0, here, here))) == [("enter", 1.0, 0), ("dwell", 1.0 + DWELL_S, 0)]


@pytest.mark.parametrize(
    ("legs", "flaw"),
    [
        ([Leg(0.0, 10.0, -0.05 + 0.29j, 1.05 + 0.29j)], "lingers at an edge"),
        (
            [Leg(0.0, 10.0, -0.05 + 0.2j, 0.39 + 0.2j), Leg(10.0, 14.0, 0.39 + 0.2j, 0.39 + 0.2j)],
            "an end that is not clear",
        ),
        ([Leg(0.0, 20.0, -0.05 + 0.2j, 1.05 + 0.2j)], "a stay of about the dwell's length"),
        ([Leg(0.0, 10.0, -0.05 + 0.2j, 0.5 + 0.2j)], "vanishes in a zone on its way"),
    ],
)
def test_what_nobody_could_decide_is_not_walked(legs: list[Leg], flaw: str) -> None:
    assert alone(*legs).flaw() == flaw
