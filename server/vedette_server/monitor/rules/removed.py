"""Something that stood in a zone is gone.

From tracks alone: an object of the rule's labels that had not moved for `STOOD_S` in the zone makes its place a spot;
nothing of its label is near the spot for as long as the rule says. The event ends when something of that label is
there again. Who took it cannot be told. At most 64 spots are remembered for a rule; the oldest is given up first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.event import EventKind
from vedette_server.data.rules import Anchor, Removed
from vedette_server.monitor.episodes import Episode
from vedette_server.monitor.geometry import anchor_of
from vedette_server.monitor.rules.base import SLACK_S, Now, RuleRunner, Setting, seconds
from vedette_server.monitor.rules.objects import STILL_RADIUS, Stillness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.monitor.places import ZoneWatch
    from vedette_server.monitor.traces import Trace

STOOD_S = 10.0
_MOST_SPOTS = 64


@dataclass(slots=True)
class Spot:
    """A place where something stood.

    Attributes:
        trace: What stood there last.
        x: Where, on the plane.
        y: Where, on the plane.
        gone_s: Since when nothing is there; None: something is.
    """

    trace: Trace
    x: float
    y: float
    gone_s: float | None = None


class RemovedRunner(RuleRunner):
    """Something that stood in a zone is gone for long."""

    kind = EventKind.REMOVED

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        self._zone = watch
        condition = setting.rule.condition
        self._wait_s = condition.at_least_s if isinstance(condition, Removed) else 0.0
        self._still = Stillness(max(STILL_RADIUS, setting.rule.hysteresis))
        # By a number that counts them: the key of their events as well.
        self._spots: dict[str, Spot] = {}
        self._made = 0

    def step(self, now: Now) -> None:
        """Judge a frame."""
        there = [trace for trace in now.counted if self._counts(trace)]
        for key, spot in self._spots.items():
            self._visit(key, spot, there, now)
        for trace in there:
            if not trace.seen:
                continue
            still_s = now.time_s - self._still.take(trace, now.moment.aspect)
            if still_s >= STOOD_S and self._zone.is_in(trace) and self._near(trace, now) is None:
                self._remember(trace, now)
        self._ripen(now)

    def _visit(self, key: str, spot: Spot, there: list[Trace], now: Now) -> None:
        occupant = next(
            (trace for trace in there if trace.label == spot.trace.label and self._at(trace, spot, now)), None
        )
        if occupant is not None:
            spot.gone_s, spot.trace = None, occupant
            self._end(key, now.time_s, now)
        elif spot.gone_s is None:
            spot.gone_s = now.time_s
        elif key in self._episodes:
            self._note(key, (), {"gone_s": now.time_s - spot.gone_s}, now)

    def _at(self, trace: Trace, spot: Spot, now: Now) -> bool:
        x, y = anchor_of(trace.box, Anchor.CENTRE)
        return math.hypot(x - spot.x, y / now.moment.aspect - spot.y) <= 2 * self._still.radius

    def _near(self, trace: Trace, now: Now) -> str | None:
        same = (key for key, spot in self._spots.items() if spot.trace.label == trace.label)
        return next((key for key in same if self._at(trace, self._spots[key], now)), None)

    def _remember(self, trace: Trace, now: Now) -> None:
        x, y = anchor_of(trace.last.whole, Anchor.CENTRE)
        self._made += 1
        self._spots[str(self._made)] = Spot(trace, x, y / now.moment.aspect)
        if len(self._spots) > _MOST_SPOTS:
            oldest = next(iter(self._spots))
            self._end(oldest, now.time_s, now, "too many other things are gone")
            del self._spots[oldest]
            self._quiet_until.pop(oldest, None)

    def _ripen(self, now: Now, /) -> None:
        open_from = self.since_s(now.time_s)
        if open_from is None:
            return
        for key, spot in self._spots.items():
            if spot.gone_s is None or key in self._episodes:
                continue
            start = max(max(spot.gone_s, open_from) + self._wait_s, self._quiet(key))
            if now.time_s + SLACK_S >= start + self.rule.min_time_s:
                self._raise(key, spot, start, now)

    def _raise(self, key: str, spot: Spot, start: float, now: Now) -> None:
        gone_s = spot.gone_s if spot.gone_s is not None else start
        start = self._start(spot.trace.track_id, start)
        measures = {"gone_s": max(now.time_s, start) - gone_s}
        episode = Episode(self._origin, now.moment, start, spot.trace, (spot.trace,), measures, spot.trace.last)
        self._begin(key, episode, now)

    def ended(self, _trace: Trace, _now: Now, /) -> None:
        """Let a track go: its spot is found empty at the next look."""

    def unwatched(self, until_s: float, /) -> None:
        """Let spots be empty since then at the earliest: their things ended because nobody looked."""
        for key, spot in self._spots.items():
            if spot.gone_s is not None and key not in self._episodes:
                spot.gone_s = max(spot.gone_s, until_s)

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost: the spot finds it by itself."""
        self._still.inherit(old, trace.track_id)

    def forget(self, track_id: str) -> None:
        """Forget a track; what stood at a spot is remembered with it."""
        super().forget(track_id)
        self._still.forget(track_id)

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"removed from {self.setting.place or 'the picture'}, gone for {seconds(measures['gone_s'])}"
