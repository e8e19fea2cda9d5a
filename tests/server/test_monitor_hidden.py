"""Whose feet are hidden by somebody else stands where they were; who goes away, sits down or walks off does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_monitor import NOON, final, judge_of
from vedette_server.data.rules import Cross, Crowd, Enter, Inside, Leave, Line, Rule, Zone
from vedette_server.monitor.base import Scene, TrackView
from vedette_server.monitor.hidden import Wholeness

FLOOR = Zone("floor", ((0.0, 0.6), (1.0, 0.6), (1.0, 1.0), (0.0, 1.0)))
EDGE = Line("edge", ((0.0, 0.6), (1.0, 0.6)))
BEHIND = (0.45, 0.2, 0.55, 0.8)
# Stands in front of whom is behind from the shoulders on.
FRONT = (0.42, 0.4, 0.6, 0.95)
HEAD = (0.45, 0.2, 0.55, 0.4)
FPS = 15


def shown(*boxes, fps=FPS):
    """Film objects of these boxes, frame by frame; None: not seen."""
    scenes = []
    last = {}
    for index, frame in enumerate(boxes):
        time_s = NOON + index / fps
        views = []
        for name, box in zip("ab", frame, strict=False):
            last[name] = box or last.get(name)
            if last[name] is not None:
                seen = box is not None
                score = 0.9 if seen else 0.0
                views.append(TrackView(name, "person", last[name], score, 0.9, seen, True, NOON, time_s))
        scenes.append(Scene(time_s, "s1", index + 1, 16 / 9, tuple(views)))
    return scenes


def told(frames, *rules):
    judge = judge_of(rules, zones=(FLOOR,), lines=(EDGE,))
    return final(change for scene in shown(*frames) for change in judge.step(scene).events)


def taken(boxes, others=(FRONT,), fps=FPS):
    """Take boxes one after the other; return those that rules go by."""
    known = Wholeness()
    return [known.take(box, NOON + index / fps, others) for index, box in enumerate(boxes)]


def slid(begin, end, frames):
    """Let a box become another one evenly."""
    return [
        tuple(low + (high - low) * index / frames for low, high in zip(begin, end, strict=True))
        for index in range(frames + 1)
    ]


@pytest.mark.parametrize("frames", [1, 5, 18])
def test_who_is_hidden_by_another_one_stays_in_the_zone_and_on_this_side_of_the_line(frames: int) -> None:
    over = [*slid(BEHIND, HEAD, frames), *[HEAD] * 30, *slid(HEAD, BEHIND, frames)]
    film = [(BEHIND, None)] * 30 + [(box, FRONT) for box in over] + [(BEHIND, FRONT)] * 15
    rules = (Rule("in", Enter("floor")), Rule("out", Leave("floor")), Rule("over", Cross("edge")))

    events = told(film, *rules, Rule("here", Inside("floor")))

    assert [(event.rule, event.track_ids) for event in events if "a" in event.track_ids] == [
        ("in", ("a",)),
        ("here", ("a",)),
    ]
    assert not [event for event in events if event.rule in {"out", "over"}]


def test_who_is_hidden_and_not_even_found_counts_where_the_feet_were() -> None:
    film = [(BEHIND, None)] * 30 + [(HEAD, FRONT)] * 10 + [(None, FRONT)] * 10 + [(HEAD, FRONT)] * 10
    crowd = Rule("crowd", Crowd("floor", at_least=2, distance=0.15))

    [event] = told(film, crowd)

    assert event.end_s is None


def test_the_picture_of_an_event_shows_the_box_as_it_was_seen() -> None:
    film = [(BEHIND, None)] * 15 + [(HEAD, FRONT)] * 15
    [here] = [one for one in told(film, Rule("here", Inside("floor"))) if one.track_ids == ("a",)]

    assert here.box in {BEHIND, HEAD}


def test_a_box_is_completed_at_its_lower_edge_and_goes_on_to_move() -> None:
    moved = (HEAD[0] + 0.02, HEAD[1], HEAD[2] + 0.02, HEAD[3])

    assert taken([BEHIND] * 15 + [HEAD, moved])[-2:] == [
        pytest.approx(BEHIND),
        pytest.approx((BEHIND[0] + 0.02, BEHIND[1], BEHIND[2] + 0.02, BEHIND[3])),
    ]


def test_after_ten_seconds_nobody_knows_any_more_where_the_feet_are() -> None:
    boxes = taken([BEHIND] * 15 + [HEAD] * 15 * 15)

    assert boxes[15 + 149] == pytest.approx(BEHIND)
    assert boxes[15 + 152 :] == [HEAD] * (15 * 15 - 152)


def test_without_anybody_in_front_a_box_counts_as_it_is_seen() -> None:
    beside = (0.7, 0.4, 0.9, 0.95)

    assert taken([BEHIND] * 15 + [HEAD] * 15, others=(beside,))[15:] == [HEAD] * 15
    assert taken([BEHIND] * 15 + [HEAD] * 15, others=())[15:] == [HEAD] * 15


def test_whose_size_is_not_known_yet_is_as_large_as_seen() -> None:
    assert taken([BEHIND] * 5 + [HEAD])[-1] == HEAD


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0.45, 0.5, 0.55, 0.8), id="sits down: the head comes down, the feet stay"),
        pytest.param((0.47, 0.2, 0.53, 0.56), id="is further away: smaller on all sides"),
        pytest.param((0.45, 0.2, 0.55, 0.25), id="too little of it to tell"),
        pytest.param((0.45, 0.2, 0.55, 0.78), id="jitter"),
    ],
)
def test_what_is_not_hidden_from_below_counts_as_it_is_seen(box: tuple[float, float, float, float]) -> None:
    assert taken([BEHIND] * 30 + [box])[-1] == box


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 0.9), st.integers(15, 150), st.integers(3, 30))
def test_who_goes_away_behind_somebody_is_where_the_feet_are_seen(share: float, frames: int, fps: int) -> None:
    # The head at the height of the horizon: it stays where it is, and the feet come up to it.
    away = (0.5 - 0.05 * share, 0.2, 0.5 + 0.05 * share, 0.2 + 0.6 * share)
    boxes = [BEHIND] * fps + slid(BEHIND, away, frames)

    assert taken(boxes, fps=fps) == boxes


def test_who_is_hidden_bit_by_bit_is_known_as_large_as_before_it_began() -> None:
    assert taken([BEHIND] * 30 + slid(BEHIND, HEAD, 18))[-1][3] == pytest.approx(BEHIND[3], abs=0.03)
