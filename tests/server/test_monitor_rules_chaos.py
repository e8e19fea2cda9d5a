"""Whatever a tracker says, each event begins once and ends once, and the same story is told twice alike."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from support_monitor import NOON, assert_lives_are_sound, box_at, judge_of
from vedette_server.data.event import EventState
from vedette_server.data.rules import (
    Absence,
    Condition,
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
from vedette_server.monitor.base import Scene, TrackView

if TYPE_CHECKING:
    from vedette_server.data.event import Event

ZONES = (
    Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.4, 1.0), (0.0, 1.0))),
    Zone("mid", ((0.3, 0.3), (0.7, 0.3), (0.5, 0.8))),
)
LINES = (Line("gate", ((0.5, 0.0), (0.45, 0.5), (0.5, 1.0))),)
CONDITIONS: tuple[Condition, ...] = (
    Enter("left"),
    Leave("left"),
    Leave(""),
    Inside("mid"),
    Cross("gate"),
    Dwell("left", 2.0),
    Occupancy("left", at_least=2),
    Occupancy("mid", at_most=1),
    Crowd("", 2, 0.2),
    Speed("", above=0.2),
    Speed("mid", below=0.1),
    WrongWay("", 90.0),
    Left("left", 3.0),
    Removed("left", 2.0),
    Absence("mid", 2.0),
)
SOON = (ScheduleSpan(from_minute=720, to_minute=721), ScheduleSpan(from_minute=722, to_minute=730))


def rules(chance: random.Random) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            f"r{number}",
            condition,
            labels=chance.choice([(), ("person",)]),
            min_score=chance.choice([0.0, 0.5]),
            min_time_s=chance.choice([0.0, 0.0, 1.0]),
            schedule=chance.choice([(), (), SOON]),
            cool_down_s=chance.choice([0.0, 0.0, 3.0]),
            hysteresis=chance.choice([0.0, 0.01, 0.1]),
        )
        for number, condition in enumerate(CONDITIONS)
    )


def story(chance: random.Random, *, alike: bool = True) -> list[Scene | float | WatchConfig]:
    """Make up frames, times that pass without one, and changes of the configuration.

    Objects that are not alike are never taken for one another.
    """
    now, tracks, made = NOON, dict[str, TrackView](), 0
    told: list[Scene | float | WatchConfig] = []
    for sequence in range(150):
        now += chance.choice([0.0, 0.1, 0.1, 0.2, 0.2, 0.5, 4.0])
        ended = [key for key in tracks if chance.random() < 0.05]
        for key in ended:
            del tracks[key]
        if len(tracks) < 5 and chance.random() < 0.3:
            made += 1
            label = chance.choice(["person", "person", "bag"]) if alike else f"label{made}"
            tracks[f"t{made}"] = TrackView(f"t{made}", label, box_at(0.5, 0.5), 0.4, 0.4, True, False, now, now)
        for key, view in tracks.items():
            x, y = (view.box[0] + view.box[2]) / 2, view.box[3]
            step = chance.choice([0.0, 0.01, 0.1])
            box = box_at(x + chance.uniform(-step, step), y + chance.uniform(-step, step))
            seen = chance.random() < 0.8
            score = chance.random() if seen else 0.0
            tracks[key] = replace(
                view,
                box=box,
                seen=seen,
                score=score,
                best_score=max(score, view.best_score),
                confirmed=view.confirmed or (seen and chance.random() < 0.4),
                last_s=now if seen else view.last_s,
            )
        if chance.random() < 0.9:
            told.append(Scene(now, "s1", sequence, 1.5, tuple(tracks.values()), tuple(ended), "box@1"))
        else:
            told.append(now)
        if chance.random() < 0.02:
            told.append(WatchConfig(zones=ZONES, lines=LINES, rules=tuple(chance.sample(rules(chance), 8))))
    return told


def tell(first: tuple[Rule, ...], told: list[Scene | float | WatchConfig]) -> list[Event]:
    judge, changes, now = judge_of(first, zones=ZONES, lines=LINES), [], NOON
    for part in told:
        if isinstance(part, Scene):
            now = part.time_s
            changes += judge.step(part).events
        elif isinstance(part, WatchConfig):
            changes += judge.change(part, now).events
        else:
            now = part
            changes += judge.tick(part).events
    return changes + judge.close(now + 1).events


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000_000))
def test_each_event_begins_once_and_ends_once_whatever_is_told(seed: int) -> None:
    chance = random.Random(seed)
    first, told = rules(chance), story(chance)
    changes = tell(first, told)
    assert_lives_are_sound(changes)
    ended = [event.event_id for event in changes if event.state is EventState.ENDED]
    assert sorted(ended) == sorted({event.event_id for event in changes})
    assert tell(first, told) == changes


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1_000_000))
def test_of_one_rule_and_object_no_two_events_go_on_at_a_time(seed: int) -> None:
    chance = random.Random(seed)
    active: dict[tuple[str, str], str] = {}
    every = tuple(replace(rule, labels=()) for rule in rules(chance))
    frames = [part for part in story(chance, alike=False) if not isinstance(part, WatchConfig)]
    for event in tell(every, frames):
        if event.kind.value == "removed":
            continue  # one for each place
        key = (event.rule, event.track_ids[0] if event.track_ids and event.kind.value not in COUNTS else "")
        if event.state is EventState.ACTIVE:
            assert active.setdefault(key, event.event_id) == event.event_id
        elif active.get(key) == event.event_id:
            del active[key]


COUNTS = {"occupancy", "crowd", "absence"}
