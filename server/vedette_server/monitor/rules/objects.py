"""Rules about one object for as long as something holds of it: inside, dwell, speed, wrong way, left.

A condition begins to hold only where the object is seen; while it is not, what held goes on to hold.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING

from vedette_server.data.event import EventKind
from vedette_server.data.rules import Anchor, Dwell, Left, Speed, WrongWay
from vedette_server.monitor.episodes import Episode
from vedette_server.monitor.geometry import anchor_of, heading_degrees, off_degrees
from vedette_server.monitor.rules.base import SLACK_S, Now, RuleRunner, Setting, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.monitor.places import ZoneWatch
    from vedette_server.monitor.traces import Trace

# What holds goes on to hold until a speed is off by this share, or a direction by so many degrees.
_SPEED_SLACK = 0.1
_DEGREES_SLACK = 10.0
# What strays no further than this (or the rule's margin, where that is more) does not move; widths of the picture.
STILL_RADIUS = 0.02


class ObjectRunner(RuleRunner):
    """One event for each object of which something holds, for as long as it does."""

    # It has to hold for so long before it is what the rule means.
    wait_s = 0.0

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        self._zone = watch

    @abstractmethod
    def _since(self, trace: Trace, now: Now, on: bool, /) -> float | None:
        """Tell since when it holds of an object that is seen; None: it does not."""

    @abstractmethod
    def _measures(self, trace: Trace, since_s: float, now: Now, /) -> dict[str, float]:
        """Measure it."""

    def _over_s(self, _key: str, now: Now, /) -> float:
        """Tell when it was over, of an object of which it does not hold any more."""
        return now.time_s

    def step(self, now: Now) -> None:
        """Judge a frame."""
        open_from = self.since_s(now.time_s)
        for trace in now.counted:
            if not trace.seen:
                continue
            key = trace.track_id
            on = key in self._episodes
            since = self._since(trace, now, on)
            if since is None:
                self._end(key, self._over_s(key, now), now)
            elif on:
                self._note(key, (trace,), self._measures(trace, since, now), now)
            elif open_from is not None and self._counts(trace):
                start = max(max(since, open_from) + self.wait_s, self._quiet(key))
                if now.time_s + SLACK_S >= start + self.rule.min_time_s:
                    start, measures = self._start(key, start), self._measures(trace, since, now)
                    self._begin(key, Episode(self._origin, now.moment, start, trace, (trace,), measures), now)


class InsideRunner(ObjectRunner):
    """An object is in a zone."""

    kind = EventKind.INSIDE

    def _since(self, trace: Trace, _now: Now, _on: bool, /) -> float | None:
        stay = self._zone.stays.get(trace.track_id)
        return stay.since.time_s if stay is not None and stay.inside else None

    def _measures(self, _trace: Trace, since_s: float, now: Now, /) -> dict[str, float]:
        return {"dwell_s": now.time_s - since_s}

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"in {self.setting.place or 'the picture'} for {seconds(measures['dwell_s'])}"


class DwellRunner(InsideRunner):
    """An object stays in a zone for long."""

    kind = EventKind.DWELL

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        self.wait_s = condition.at_least_s if isinstance(condition, Dwell) else 0.0


class HoldingRunner(ObjectRunner):
    """Something holds that has to be measured anew in every frame, so that its beginning has to be remembered."""

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        self._holding: dict[str, float] = {}
        # When it was last told for sure that it holds, and of whom that cannot be told since.
        self._sure_s: dict[str, float] = {}
        self._doubted: set[str] = set()

    @abstractmethod
    def _holds(self, trace: Trace, now: Now, on: bool, /) -> bool | None:
        """Tell whether it holds; None: it cannot be told, and stays as it was."""

    def _since(self, trace: Trace, now: Now, on: bool, /) -> float | None:
        key = trace.track_id
        holds = self._holds(trace, now, on) if self._zone.is_in(trace) else False
        if holds:
            self._holding.setdefault(key, now.time_s)
            self._sure_s[key] = now.time_s
            self._doubted.discard(key)
        elif holds is None:
            self._doubted.add(key)
        else:
            self._holding.pop(key, None)
        return self._holding.get(key)

    def _over_s(self, key: str, now: Now, /) -> float:
        """Tell when it was over: what could not be told in between does not count."""
        return self._sure_s.get(key, now.time_s) if key in self._doubted else now.time_s

    def _kept(self, key: str) -> dict[str, float] | None:
        """Give what was measured last, where nothing can be measured."""
        return dict(self._episodes[key].measures) if key in self._episodes else None

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost."""
        super().inherit(old, trace)
        if old in self._holding:
            self._holding[trace.track_id] = self._holding.pop(old)
        if old in self._sure_s:
            self._sure_s[trace.track_id] = self._sure_s.pop(old)
            self._doubted.add(trace.track_id)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        super().forget(track_id)
        self._holding.pop(track_id, None)
        self._sure_s.pop(track_id, None)
        self._doubted.discard(track_id)


class SpeedRunner(HoldingRunner):
    """An object is faster, or slower, than allowed."""

    kind = EventKind.SPEED

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        self._above = condition.above if isinstance(condition, Speed) else None
        self._below = condition.below if isinstance(condition, Speed) else None
        self._unit = "m/s" if setting.width_metres else "widths/s"
        self._scale = setting.width_metres or 1.0
        self._top: dict[str, float] = {}

    def _speed(self, trace: Trace, now: Now) -> float | None:
        velocity = trace.velocity(self.rule.anchor, now.moment.aspect)
        return None if velocity is None else math.hypot(*velocity) * self._scale

    def _holds(self, trace: Trace, now: Now, on: bool, /) -> bool | None:
        speed = self._speed(trace, now)
        if speed is None:
            return None
        slack = _SPEED_SLACK if on else 0.0
        fast = self._above is not None and speed > self._above * (1 - slack)
        return fast or (self._below is not None and speed < self._below * (1 + slack))

    def _measures(self, trace: Trace, _since_s: float, now: Now, /) -> dict[str, float]:
        speed = self._speed(trace, now)
        if speed is None:
            return self._kept(trace.track_id) or {"speed": 0.0, "top_speed": 0.0}
        top = speed
        if trace.track_id in self._episodes:
            top = max(speed, self._episodes[trace.track_id].measures["top_speed"])
        return {"speed": speed, "top_speed": top}

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"at {measures['speed']:.2f} {self._unit} in {self.setting.place or 'the picture'}"


class WrongWayRunner(HoldingRunner):
    """An object moves against the allowed direction."""

    kind = EventKind.WRONG_WAY

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        assert isinstance(condition, WrongWay)  # noqa: S101  # whoever builds it chose it by its condition
        self._condition = condition

    def _holds(self, trace: Trace, now: Now, on: bool, /) -> bool | None:
        velocity = trace.velocity(self.rule.anchor, now.moment.aspect)
        if velocity is None:
            return None
        if math.hypot(*velocity) < self._condition.min_speed * (0.5 if on else 1.0):
            return False
        off = off_degrees(heading_degrees(*velocity), self._condition.allowed_degrees)
        return off > self._condition.tolerance_degrees - (_DEGREES_SLACK if on else 0.0)

    def _measures(self, trace: Trace, _since_s: float, now: Now, /) -> dict[str, float]:
        velocity = trace.velocity(self.rule.anchor, now.moment.aspect)
        kept = self._kept(trace.track_id) if velocity is None else None
        if kept is not None:
            return kept
        velocity = velocity or (0.0, 0.0)
        heading = heading_degrees(*velocity)
        off = off_degrees(heading, self._condition.allowed_degrees)
        return {"direction_degrees": heading, "off_degrees": off, "speed": math.hypot(*velocity)}

    def _tell(self, measures: Mapping[str, float], /) -> str:
        where = self.setting.place or "the picture"
        return f"moves {measures['off_degrees']:.0f} degrees off the allowed direction in {where}"


class LeftRunner(ObjectRunner):
    """Something that does not move is in a zone.

    From tracks alone it cannot be told who left it, nor whether it came with the scene: anything of the rule's labels
    that stands still counts, so that labels should be of things, not of people.
    """

    kind = EventKind.LEFT

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        condition = setting.rule.condition
        self.wait_s = condition.at_least_s if isinstance(condition, Left) else 0.0
        self.still = Stillness(max(STILL_RADIUS, setting.rule.hysteresis))

    def _since(self, trace: Trace, now: Now, on: bool, /) -> float | None:
        since = self.still.take(trace, now.moment.aspect)
        if on and since > self._episodes[trace.track_id].start_s:
            return None  # it has moved
        stay = self._zone.stays.get(trace.track_id)
        return max(since, stay.since.time_s) if stay is not None and stay.inside else None

    def _measures(self, _trace: Trace, since_s: float, now: Now, /) -> dict[str, float]:
        return {"still_s": now.time_s - since_s}

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost."""
        super().inherit(old, trace)
        self.still.inherit(old, trace.track_id)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        super().forget(track_id)
        self.still.forget(track_id)

    def _tell(self, measures: Mapping[str, float], /) -> str:
        return f"left in {self.setting.place or 'the picture'}, not moved for {seconds(measures['still_s'])}"


class Stillness:
    """Since when objects have not moved: the middles of their boxes stay within a radius of where they came to rest."""

    def __init__(self, radius: float) -> None:
        self.radius = radius
        self._rests: dict[str, tuple[float, float, float]] = {}

    def take(self, trace: Trace, aspect: float) -> float:
        """Take an object that is seen; return since when it has not moved."""
        x, y = anchor_of(trace.last.whole, Anchor.CENTRE)
        y /= aspect
        rest = self._rests.get(trace.track_id)
        if rest is None or math.hypot(x - rest[0], y - rest[1]) > self.radius:
            rest = (x, y, trace.last.time_s)
        self._rests[trace.track_id] = rest
        return rest[2]

    def inherit(self, old: str, new: str) -> None:
        """Let a track go on in the place of another."""
        if old in self._rests:
            self._rests[new] = self._rests.pop(old)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        self._rests.pop(track_id, None)
