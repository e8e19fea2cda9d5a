"""Rules about moments: an object enters or leaves a zone, or crosses a line.

Decided here: an object that appears in a zone has entered it (a detector may see somebody only there). One that
leaves is one that is seen outside, or whose track ended while it was going out: where it would be by then is beyond the
edge, which may be the picture's. A track that just ends in the middle of a zone has not left it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from vedette_server.data.event import EventKind
from vedette_server.data.rules import Cross
from vedette_server.monitor.episodes import momentary
from vedette_server.monitor.rules.base import SLACK_S, Now, RuleRunner, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.monitor.places import Crossing, LineWatch, ZoneWatch
    from vedette_server.monitor.traces import Sighting, Trace


class PassageRunner(RuleRunner):
    """An object enters, or leaves, a zone.

    Whether it is in is taken over only when it has been so for the rule's minimum time, so that enterings and
    leavings of one object alternate.
    """

    inward: ClassVar[bool]

    def __init__(self, setting: Setting, watch: ZoneWatch) -> None:
        super().__init__(setting, watch)
        self._zone = watch
        self._settled: dict[str, bool] = {}

    def started(self, now: Now, /) -> None:
        """Take the rule up: who is in the zone has not entered it now."""
        for trace in now.counted:
            self.back(trace)

    def back(self, trace: Trace, /) -> None:
        """Take an object up that is where it is."""
        self._settled[trace.track_id] = self._zone.is_in(trace)

    def step(self, now: Now) -> None:
        """Judge a frame."""
        for trace in now.counted:
            if trace.seen:
                self._settle(trace, now)

    def _settle(self, trace: Trace, now: Now) -> None:
        stay = self._zone.stays.get(trace.track_id)
        if stay is None or stay.inside == self._settled.get(trace.track_id, False):
            return
        if now.time_s - stay.since.time_s + SLACK_S < self.rule.min_time_s:
            return
        if stay.inside == self.inward and not self._counts(trace):
            return  # it may still become one that counts
        self._settled[trace.track_id] = stay.inside
        if stay.inside == self.inward:
            self._raise(trace, stay.since, now)

    def _raise(self, trace: Trace, seen: Sighting, now: Now) -> None:
        since = self.since_s(seen.time_s)
        if since is None or seen.time_s < max(since, self._quiet(trace.track_id)):
            return
        start = self._start(trace.track_id, seen.time_s)
        event = momentary(self._origin, now.moment, start, trace, {}, seen.sequence)
        now.out.append(event)
        self._quiet_until[trace.track_id] = seen.time_s + self.rule.cool_down_s

    def ended(self, trace: Trace, now: Now, /) -> None:
        """Let a track go; where it was going out, it has left."""
        if self.inward or not self._settled.get(trace.track_id, False) or not self._counts(trace):
            return
        stay = self._zone.stays.get(trace.track_id)
        if stay is None:
            return
        if not stay.inside:
            self._raise(trace, stay.since, now)
        elif not self._zone.contains(trace.expected(self.rule.anchor, now.time_s)):
            self._raise(trace, trace.last, now)

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost."""
        super().inherit(old, trace)
        if old in self._settled:
            self._settled[trace.track_id] = self._settled.pop(old)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        super().forget(track_id)
        self._settled.pop(track_id, None)


class EnterRunner(PassageRunner):
    """An object comes into a zone."""

    kind = EventKind.ENTER
    inward = True

    def _tell(self, _measures: Mapping[str, float], /) -> str:
        return f"entered {self.setting.place or 'the picture'}"


class LeaveRunner(PassageRunner):
    """An object leaves a zone."""

    kind = EventKind.LEAVE
    inward = False

    def _tell(self, _measures: Mapping[str, float], /) -> str:
        return f"left {self.setting.place or 'the picture'}"


class CrossRunner(RuleRunner):
    """An object crosses a line."""

    kind = EventKind.CROSS

    def __init__(self, setting: Setting, watch: LineWatch) -> None:
        super().__init__(setting, watch)
        self._line = watch
        condition = setting.rule.condition
        self._direction = condition.direction if isinstance(condition, Cross) else 0
        self._judged: dict[str, int] = {}
        self._waiting: dict[str, Crossing] = {}

    def started(self, now: Now, /) -> None:
        """Take the rule up: what was crossed before does not count."""
        for trace in now.counted:
            self.back(trace)

    def back(self, trace: Trace, /) -> None:
        """Take an object up where it is."""
        side = self._line.sides.get(trace.track_id)
        self._judged[trace.track_id] = side.count if side is not None else 0

    def step(self, now: Now) -> None:
        """Judge a frame."""
        for trace in now.counted:
            if trace.seen:
                self._judge(trace, now)

    def _judge(self, trace: Trace, now: Now) -> None:
        side = self._line.sides.get(trace.track_id)
        if side is None:
            return
        key = trace.track_id
        judged = self._judged.get(key, 0)
        # A line that was built anew, for a picture of another shape, counts anew.
        for crossing in side.crossings if side.count != judged else ():
            if crossing.number <= judged <= side.count:
                continue
            self._wait(trace, crossing, now)
        self._judged[key] = side.count
        if key in self._waiting and self._is_ripe(self._waiting[key], now.time_s):
            self._raise(trace, self._waiting.pop(key), now)

    def _wait(self, trace: Trace, crossing: Crossing, now: Now) -> None:
        """Take a crossing; where it is taken back before the minimum time is over, neither of both counts."""
        waiting = self._waiting.pop(trace.track_id, None)
        if waiting is not None:
            if not self._is_ripe(waiting, crossing.time_s):
                return
            self._raise(trace, waiting, now)
        self._waiting[trace.track_id] = crossing

    def _is_ripe(self, crossing: Crossing, time_s: float) -> bool:
        return time_s - crossing.time_s + SLACK_S >= self.rule.min_time_s

    def _raise(self, trace: Trace, crossing: Crossing, now: Now) -> None:
        if self._direction not in {0, crossing.direction} or not self._counts(trace):
            return
        since = self.since_s(crossing.time_s)
        if since is None or crossing.time_s < max(since, self._quiet(trace.track_id)):
            return
        measures = {"direction": float(crossing.direction)}
        start = self._start(trace.track_id, crossing.time_s)
        event = momentary(self._origin, now.moment, start, trace, measures, crossing.sighting.sequence)
        now.out.append(event)
        self._quiet_until[trace.track_id] = crossing.time_s + self.rule.cool_down_s

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost."""
        super().inherit(old, trace)
        if old in self._judged:
            self._judged[trace.track_id] = self._judged.pop(old)
        if old in self._waiting:
            self._waiting[trace.track_id] = self._waiting.pop(old)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        super().forget(track_id)
        self._judged.pop(track_id, None)
        self._waiting.pop(track_id, None)

    def _tell(self, measures: Mapping[str, float], /) -> str:
        # Its own sides: of a line that goes down, the left one is the right of the picture.
        way = "left to its right" if measures.get("direction", 0) > 0 else "right to its left"
        return f"crossed {self.setting.place} from its {way}"
