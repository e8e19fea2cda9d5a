"""Let the tracker and the judge of rules watch a scene of walkers, and hold what they tell against the truth.

An event is of a happening where kind, place and (of crossings) direction are the same, where it began within `LATE_S`
of when that may be told to have happened, and where the place it tells of is within `AWAY` of where the walker was at
that time. Each is of one at most; of all ways to pair them the one with most pairs is taken. Tracks play no part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from support_walkers import ASPECT, START_S
from support_walkers_truth import DWELL_S
from vedette_server.data.rules import Cross, Dwell, Enter, Leave, Line, Rule, WatchConfig, Zone
from vedette_server.monitor.base import Scene
from vedette_server.monitor.judge import RuleJudge
from vedette_server.monitor.tracking import ChannelTracker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from support_walkers import Sample
    from support_walkers_truth import Happening, Stage
    from vedette_server.data.event import Event
    from vedette_server.data.rules import Points

LATE_S, AWAY = 0.75, 0.08
KINDS = ("enter", "leave", "cross", "dwell")


def watch_of(stage: Stage) -> WatchConfig:
    """Ask for all that happens to a stage's zones and lines, everything else being as it is by default."""
    rules = []
    for name in stage.zones:
        rules += [
            Rule(f"enter-{name}", Enter(name)),
            Rule(f"leave-{name}", Leave(name)),
            Rule(f"dwell-{name}", Dwell(name, DWELL_S)),
        ]
    rules += [Rule(f"cross-{name}", Cross(name)) for name in stage.lines]
    zones = tuple(Zone(name, _normalised(corners)) for name, corners in stage.zones.items())
    lines = tuple(Line(name, _normalised(points)) for name, points in stage.lines.items())
    return WatchConfig(zones=zones, lines=lines, rules=tuple(rules))


def _normalised(points: Iterable[complex]) -> Points:
    return tuple((point.real, point.imag * ASPECT) for point in points)


@dataclass(slots=True)
class Watcher:
    """The tracker and the judge of one channel, at work on samples.

    Attributes:
        labels: Of the detections, by class id.
        config: What is wanted.
        tracker: Who follows.
        events: Each event as it stood last, in the order in which they began.
    """

    labels: tuple[str, ...]
    config: WatchConfig
    tracker: ChannelTracker = field(default_factory=lambda: ChannelTracker(prefix="walkers"))
    events: dict[str, Event] = field(default_factory=dict)
    _judge: RuleJudge | None = None
    _frames: int = 0

    def follow(self, sample: Sample) -> list[str]:
        """Take a frame; return the identities of its detections."""
        self._judge = self._judge or RuleJudge("walkers", self.config)
        self._frames += 1
        tracked = self.tracker.update(sample.detections, self.labels, sample.time_s, ASPECT)
        scene = Scene(sample.time_s, "walkers", self._frames, ASPECT, tracked.tracks, tracked.ended, "truth@1")
        self.events |= {event.event_id: event for event in self._judge.step(scene).events}
        return list(tracked.track_ids)

    def all_events(self) -> list[Event]:
        """Give all events as they stood last."""
        return list(self.events.values())


def told_of(stage: Stage, samples: Iterable[Sample], config: WatchConfig | None = None) -> list[Event]:
    """Watch samples to their end; return each event as it stood last."""
    watcher = Watcher(stage.labels, config or watch_of(stage))
    for sample in samples:
        watcher.follow(sample)
    return watcher.all_events()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How what was told compares with what happened.

    Attributes:
        pairs: Happenings and the events that tell of them.
        missed: Happenings that nothing was told of.
        false: Events of nothing that happened.
    """

    pairs: tuple[tuple[Happening, Event], ...]
    missed: tuple[Happening, ...]
    false: tuple[Event, ...]

    def counts(self) -> Mapping[str, Counter[str]]:
        """Count hits, misses and false ones by kind."""
        return {
            "hits": Counter(happening.kind for happening, _ in self.pairs),
            "missed": Counter(happening.kind for happening in self.missed),
            "false": Counter(event.kind.value for event in self.false),
        }


def verdict_on(stage: Stage, events: list[Event]) -> Verdict:
    """Pair events with what happened."""
    happenings = stage.happenings()
    possible = np.zeros((len(happenings), len(events)), np.int8)
    for row, happening in enumerate(happenings):
        for column, event in enumerate(events):
            possible[row, column] = _tells_of(stage, event, happening)
    chosen = maximum_bipartite_matching(csr_matrix(possible), perm_type="column")
    pairs = {row: int(column) for row, column in enumerate(chosen) if column >= 0}
    return Verdict(
        tuple((happenings[row], events[column]) for row, column in pairs.items()),
        tuple(happening for row, happening in enumerate(happenings) if row not in pairs),
        tuple(event for column, event in enumerate(events) if column not in pairs.values()),
    )


def _tells_of(stage: Stage, event: Event, happening: Happening) -> bool:
    if (event.kind.value, event.place) != (happening.kind, happening.place):
        return False
    if happening.direction and event.measures["direction"] != happening.direction:
        return False
    time_s = event.start_s - START_S
    if not happening.early_s - LATE_S <= time_s <= happening.late_s + LATE_S:
        return False
    point = min(event.trail, key=lambda one: abs(one.time_s - event.start_s))
    way = stage.walkers[happening.walker].way
    [there] = way.at(np.clip([point.time_s - START_S], way.begin_s, way.end_s))
    return bool(abs(complex(point.x, point.y / ASPECT) - there) <= AWAY)
