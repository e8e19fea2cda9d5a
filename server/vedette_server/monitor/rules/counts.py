"""Rules about how many objects are in a zone: occupancy, crowd, absence.

What was seen last holds until the next frame, so that they are judged by time alone as well. A track that is not seen
counts until it has ended; if by its end too few are left, that was so since it was seen last, and the event's end says
so. What begins by its end (absence, so few) begins then, and not before: until then it may have come back.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING

from vedette_server.data.event import EventKind
from vedette_server.data.rules import Absence, Crowd, Occupancy
from vedette_server.monitor.episodes import Episode
from vedette_server.monitor.rules.base import SLACK_S, Now, RuleRunner, Setting, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.monitor.places import ZoneWatch
    from vedette_server.monitor.traces import Trace

_RULE = ""


class CountRunner(RuleRunner):
    """One event for as long as something holds of the objects in a zone together."""

    # It has to hold for so long before it is what the rule means.
    wait_s = 0.0

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        self._zone = watch
        self._held_s: float | None = None
        self._members: tuple[Trace, ...] = ()
        # When those that ended with this frame were seen last, by track.
        self._ended: dict[str, float] = {}

    @abstractmethod
    def _part(self, inside: list[Trace], now: Now, on: bool, /) -> tuple[Trace, ...] | None:
        """Give those of the objects in the zone that take part; None: it does not hold."""

    def _measures(self, _now: Now, /) -> dict[str, float]:
        count = float(len(self._members))
        episode = self._episodes.get(_RULE)
        most = max(count, episode.measures["most"]) if episode is not None else count
        return {"count": count, "most": most}

    def started(self, now: Now, /) -> None:
        """Take the rule up: what is so counts from now on."""
        self._look(now)

    def step(self, now: Now) -> None:
        """Judge a frame."""
        before = self._members
        self._look(now)
        if self._held_s is None:
            self._end(_RULE, self._over_s(before, now), now)
        elif _RULE in self._episodes:
            self._note(_RULE, self._members, self._measures(now), now)
        else:
            self._ripen(now)
        self._ended.clear()

    def _over_s(self, before: tuple[Trace, ...], now: Now) -> float:
        """Tell when it was over: when those were seen last whose end ended it; where anybody else left as well, now."""
        ended = [self._ended.get(trace.track_id) for trace in before if not self._is_inside(trace, now)]
        seen = [time_s for time_s in ended if time_s is not None]
        return max(seen) if seen and len(seen) == len(ended) else now.time_s

    def _is_inside(self, trace: Trace, now: Now) -> bool:
        there = any(one is trace for one in now.counted)
        return there and self._counts(trace) and self._zone.is_in(trace)

    def _look(self, now: Now) -> None:
        inside = [trace for trace in now.counted if self._counts(trace) and self._zone.is_in(trace)]
        part = self._part(inside, now, _RULE in self._episodes)
        self._members = part or ()
        if part is None:
            self._held_s = None
        elif self._held_s is None:
            self._held_s = now.time_s

    def _ripen(self, now: Now, /) -> None:
        open_from = self.since_s(now.time_s)
        if self._held_s is None or open_from is None or _RULE in self._episodes:
            return
        start = max(max(self._held_s, open_from) + self.wait_s, self._quiet(_RULE))
        if now.time_s + SLACK_S >= start + self.rule.min_time_s:
            start = self._start(_RULE, start)
            episode = Episode(self._origin, now.moment, start, None, self._members, self._measures(now))
            self._begin(_RULE, episode, now)

    def ended(self, trace: Trace, _now: Now, /) -> None:
        """Let a track go: the next look at the zone does not find it."""
        self._ended[trace.track_id] = trace.last.time_s

    def unwatched(self, until_s: float, /) -> None:
        """Let it hold since then at the earliest: who came and went before, nobody saw."""
        if self._held_s is not None and _RULE not in self._episodes:
            self._held_s = max(self._held_s, until_s)

    def inherit(self, _old: str, _trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost: the next look finds it."""


class OccupancyRunner(CountRunner):
    """So many objects, or so few, are in a zone."""

    kind = EventKind.OCCUPANCY

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        self._least = condition.at_least if isinstance(condition, Occupancy) else None
        self._most = condition.at_most if isinstance(condition, Occupancy) else None

    def _part(self, inside: list[Trace], _now: Now, _on: bool, /) -> tuple[Trace, ...] | None:
        many = self._least is not None and len(inside) >= self._least
        few = self._most is not None and len(inside) <= self._most
        return tuple(inside) if many or few else None

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"in {self.setting.place or 'the picture'}: {measures['count']:.0f}"


class CrowdRunner(CountRunner):
    """Many objects stand close together: a group in which each is near another, and all hang together."""

    kind = EventKind.CROWD

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        assert isinstance(condition, Crowd)  # noqa: S101  # whoever builds it chose it by its condition
        self._least = condition.at_least
        self._reach = condition.distance / (setting.width_metres or 1.0)

    def _part(self, inside: list[Trace], now: Now, on: bool, /) -> tuple[Trace, ...] | None:
        if len(inside) < self._least:
            return None
        reach = self._reach + (self.rule.hysteresis if on else 0.0)
        places = [trace.place(self.rule.anchor) for trace in inside]
        group = _largest_group([(x, y / now.moment.aspect) for x, y in places], reach)
        return tuple(inside[index] for index in group) if len(group) >= self._least else None

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"close together in {self.setting.place or 'the picture'}: {measures['count']:.0f}"


class AbsenceRunner(CountRunner):
    """Nothing was in a zone for long."""

    kind = EventKind.ABSENCE

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        self.wait_s = condition.at_least_s if isinstance(condition, Absence) else 0.0

    def _part(self, inside: list[Trace], _now: Now, _on: bool, /) -> tuple[Trace, ...] | None:
        return None if inside else ()

    def _measures(self, now: Now, /) -> dict[str, float]:
        since = self._held_s if self._held_s is not None else now.time_s
        open_from = self.since_s(now.time_s)
        return {"absent_s": now.time_s - max(since, -math.inf if open_from is None else open_from)}

    def _tell(self, measures: Mapping[str, float], /) -> str:
        wanted = " or ".join(self.rule.labels) or "nothing"
        absent = f"no {wanted}" if self.rule.labels else wanted
        return f"{absent} in {self.setting.place or 'the picture'} for {seconds(measures['absent_s'])}"


def _largest_group(places: list[tuple[float, float]], reach: float) -> list[int]:
    """Find the largest group that hangs together by steps no longer than the reach; indices in order."""
    left = set(range(len(places)))
    largest: list[int] = []
    while left:
        group = [left.pop()]
        for one in group:  # grows while it is walked
            near = {other for other in left if math.dist(places[one], places[other]) <= reach}
            left -= near
            group.extend(near)
        if len(group) > len(largest):
            largest = group
    return sorted(largest)
