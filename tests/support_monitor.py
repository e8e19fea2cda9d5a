"""Scenes for the judge of rules: walkers on known ways, and a tracker that knows the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from vedette_server.data.event import EventState
from vedette_server.data.rules import WatchConfig
from vedette_server.monitor.base import Scene, TrackView
from vedette_server.monitor.judge import RuleJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette_server.data.event import Event
    from vedette_server.data.rules import Rule

WIDTH, HEIGHT = 0.05, 0.1
# A Thursday, 12:00 UTC.
# Films of the rules: so many pictures a second.
FPS = 10.0
FRAME = 1 / FPS
NOON = 1_700_136_000.0


@dataclass(frozen=True)
class Walker:
    """An object whose anchor is where `path` says (seconds since the film's start to normalised x, y)."""

    track_id: str
    path: Callable[[float], tuple[float, float]]
    start: float = 0.0
    stop: float = 1e9
    label: str = "person"
    score: float = 0.9
    hidden: Callable[[float], bool] = field(default=lambda _: False)


def straight(x: float, y: float, dx: float, dy: float) -> Callable[[float], tuple[float, float]]:
    return lambda t: (x + dx * t, y + dy * t)


def box_at(x: float, y: float) -> tuple[float, float, float, float]:
    """Stand a box on a point."""
    return (x - WIDTH / 2, y - HEIGHT, x + WIDTH / 2, y)


def film(
    walkers: Sequence[Walker],
    times: Iterable[float],
    *,
    confirm: int = 3,
    max_lost_s: float = 3.0,
    aspect: float = 1.0,
    session: str = "s1",
    first: int = 1,
) -> list[Scene]:
    """Film walkers at times (seconds since noon) and follow them without an error."""
    scenes = []
    frames: dict[str, int] = {}
    views: dict[str, TrackView] = {}
    for sequence, t in enumerate(times, first):
        ended = []
        for walker in walkers:
            key, now = walker.track_id, NOON + t
            if walker.start <= t <= walker.stop and not walker.hidden(t):
                frames[key] = frames.get(key, 0) + 1
                before = views.get(key)
                views[key] = TrackView(
                    track_id=key,
                    label=walker.label,
                    box=box_at(*walker.path(t)),
                    score=walker.score,
                    best_score=walker.score,
                    seen=True,
                    confirmed=frames[key] >= confirm,
                    first_s=before.first_s if before else now,
                    last_s=now,
                )
            elif key in views:
                view = views[key]
                if now - view.last_s >= max_lost_s:
                    del views[key]
                    frames.pop(key)
                    ended.append(key)
                else:
                    fields = (view.best_score, False, view.confirmed, view.first_s, view.last_s)
                    views[key] = TrackView(key, view.label, view.box, 0.0, *fields)
        scenes.append(
            Scene(NOON + t, session, sequence, aspect, tuple(views.values()), tuple(ended), engine_version="box@1")
        )
    return scenes


def at_rate(fps: float, start: float, stop: float) -> list[float]:
    """Give the times of frames at a rate."""
    return [start + index / fps for index in range(round((stop - start) * fps) + 1)]


def judge_of(rules: Sequence[Rule], *, channel: str = "gate", **config: object) -> RuleJudge:
    return RuleJudge(channel, WatchConfig(rules=tuple(rules), **config))  # type: ignore[arg-type]


def play(judge: RuleJudge, scenes: Iterable[Scene]) -> list[Event]:
    """Give all changes of events that scenes bring, in order."""
    return [event for scene in scenes for event in judge.step(scene).events]


def final(changes: Iterable[Event]) -> list[Event]:
    """Give each event as it stood last, by their beginnings."""
    latest = {event.event_id: event for event in changes}
    return sorted(latest.values(), key=lambda event: event.start_s)


def seconds_of(changes: Iterable[Event]) -> list[float]:
    """Give the beginnings of all events, seconds since noon."""
    return [event.start_s - NOON for event in final(changes)]


def assert_lives_are_sound(changes: Sequence[Event]) -> None:
    """Each event begins once, ends at most once, and does not change after its end; its times do not run back."""
    seen: dict[str, Event] = {}
    for event in changes:
        before = seen.get(event.event_id)
        if before is not None:
            assert before.state is EventState.ACTIVE, f"{event.event_id} changed after its end"
            assert before.start_s == event.start_s
            assert before.update_s <= event.update_s
        assert (event.end_s is None) == (event.state is EventState.ACTIVE)
        assert event.end_s is None or event.end_s >= event.start_s
        assert len(event.trail) <= 256
        assert len(event.track_ids) <= 64
        assert event.detail
        seen[event.event_id] = event


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
