"""Judge the rules of one channel: tracks in, events as they begin, change and end out.

One judge for each channel, called in presentation order by one thread at a time. The same frames give the same events
with the same identities, whether or not time is told of between them, while they are no further apart than a track may
be lost: what only waits for time is judged up to a frame's time before the frame itself. Time is told of where somebody
looked; where nobody did for longer (`_Looks`), who knows what was so: what waits begins anew. A frame that was judged
already, or is older than the latest one of its session, changes nothing; with an older one of another session all
begins anew, since its clock is another one. Time that is told without a frame may be ahead of the frames that follow it
(they were under way): they are judged at their own times.
Its memory is bounded by the tracks that live: of one that has ended nothing is kept but what its events need.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette_server.data.rules import (
    EVERYWHERE,
    Absence,
    Cross,
    Crowd,
    Dwell,
    Enter,
    Inside,
    Leave,
    Left,
    Occupancy,
    Removed,
    Rule,
    Speed,
    WatchConfig,
    WrongWay,
)
from vedette_server.errors import InvalidError
from vedette_server.monitor.base import Changes
from vedette_server.monitor.episodes import Moment
from vedette_server.monitor.geometry import WHOLE_PICTURE
from vedette_server.monitor.places import LineWatch, PlaceKey, Places, ZoneWatch
from vedette_server.monitor.rules.base import APART_S, Now, RuleRunner, Setting
from vedette_server.monitor.rules.counts import AbsenceRunner, CrowdRunner, OccupancyRunner
from vedette_server.monitor.rules.moments import CrossRunner, EnterRunner, LeaveRunner
from vedette_server.monitor.rules.objects import DwellRunner, InsideRunner, LeftRunner, SpeedRunner, WrongWayRunner
from vedette_server.monitor.rules.removed import RemovedRunner
from vedette_server.monitor.schedule import Schedule
from vedette_server.monitor.traces import Traces

if TYPE_CHECKING:
    from vedette_server.data.rules import Points
    from vedette_server.monitor.base import Scene
    from vedette_server.monitor.traces import Arrivals

# Nobody looked where frames are further apart than a track may be lost, and than so many times the middle one of the
# spans between the latest ones: of a slow camera, or of a low rate, that is how one looks.
_MOST_SPANS = 3.0
_SPANS = 5

_RUNNERS: dict[type, type[Any]] = {
    Enter: EnterRunner,
    Leave: LeaveRunner,
    Inside: InsideRunner,
    Cross: CrossRunner,
    Dwell: DwellRunner,
    Occupancy: OccupancyRunner,
    Crowd: CrowdRunner,
    Speed: SpeedRunner,
    WrongWay: WrongWayRunner,
    Left: LeftRunner,
    Removed: RemovedRunner,
    Absence: AbsenceRunner,
}


@dataclass(frozen=True, slots=True)
class _Bound:
    """A rule with all that it names, by value: equal ones go on over a change of the configuration."""

    rule: Rule
    place: str
    points: Points
    time_zone: str
    width_metres: float | None


class _Looks:
    """When somebody looked, and whether nobody did between two times.

    Attributes:
        latest_s: The latest look.
        longest_s: Looks that are no further apart are always without a break between them.
    """

    def __init__(self, longest_s: float) -> None:
        self.latest_s = -math.inf
        self.longest_s = longest_s
        self._spans: deque[float] = deque(maxlen=_SPANS)
        self._broken = False

    def lack(self, time_s: float) -> bool:
        """Tell whether nobody looked before a time."""
        usual_s = sorted(self._spans)[len(self._spans) // 2] if self._spans else 0.0
        return self._broken or time_s - self.latest_s > max(self.longest_s, _MOST_SPANS * usual_s)

    def look(self, time_s: float) -> None:
        """Take note of a look."""
        span_s = time_s - self.latest_s
        if 0 < span_s < math.inf and not self._broken:
            self._spans.append(span_s)
        self.latest_s, self._broken = time_s, False

    def end(self) -> None:
        """Take note that nobody looks until the next look."""
        self._broken = True


class RuleJudge:
    """The rules of one channel at work; a `monitor.base.Judge`.

    Args:
        channel: The channel's bare name.
        config: What is wanted of it; its rules must have passed `check`.

    Raises:
        InvalidError: A rule names a zone or a line that there is not.
    """

    def __init__(self, channel: str, config: WatchConfig) -> None:
        self._channel = channel
        self._traces = Traces()
        self._places = Places()
        self._runners: dict[_Bound, RuleRunner] = {}
        self._waiting: list[_Bound] = _bind(config)
        self._moment = Moment(-math.inf)
        self._frame: tuple[str, int] | None = None
        self._frame_s = -math.inf
        self._since_s = -math.inf
        self._looks = _Looks(config.tracking.max_lost_s)

    def step(self, scene: Scene) -> Changes:
        """Take one analysed frame."""
        if self._frame == (scene.session, scene.sequence):
            return Changes()
        changes = Changes()
        if scene.time_s < self._frame_s:
            if self._frame is None or scene.session == self._frame[0]:
                return changes
            changes = self._begin_anew()
        changes.events += self.tick(scene.time_s).events
        self._frame, self._frame_s = (scene.session, scene.sequence), scene.time_s
        self._moment = self._moment_of(scene)
        arrivals = self._traces.take(scene)
        self._places.build(scene.aspect)
        now = Now(self._moment, self._traces.counted(), changes.events)
        runners = list(self._runners.values())
        self._hand_over(arrivals, runners)
        for sightings in arrivals.rounds:
            self._places.take(sightings)
        for runner in runners:
            _judge(runner, arrivals, now)
        self._forget(arrivals, runners)
        return changes

    def _forget(self, arrivals: Arrivals, runners: list[RuleRunner]) -> None:
        for track_id in arrivals.forgotten:
            self._places.forget(track_id)
            for runner in runners:
                runner.forget(track_id)

    def _moment_of(self, scene: Scene) -> Moment:
        """Give what goes into events; what has no packet stands for the latest one that had."""
        if scene.sequence < 0 and math.isfinite(self._moment.time_s):
            return self._at(scene.time_s)
        return Moment(scene.time_s, scene.session, max(scene.sequence, 0), scene.engine_version, scene.aspect)

    def unwatched(self) -> None:
        """Take note that nobody looks until the next frame: what has to be so for some time begins anew with it."""
        self._looks.end()

    def _hand_over(self, arrivals: Arrivals, runners: list[RuleRunner]) -> None:
        """Let fresh tracks go on in the places of those that were lost."""
        for old, trace in arrivals.heirs:
            self._places.inherit(old, trace.track_id)
            for runner in runners:
                runner.inherit(old, trace)

    def tick(self, time_s: float, packet: tuple[str, int] | None = None) -> Changes:
        """Take a frame in which nothing moved: what waits for a time (absence, ends) is judged."""
        if time_s < self._moment.time_s:
            return Changes()
        changes = self._pass_time(time_s, packet)
        self._looks.look(time_s)
        return changes

    def _pass_time(self, time_s: float, packet: tuple[str, int] | None = None) -> Changes:
        changes = Changes()
        if time_s < self._moment.time_s:
            return changes
        if self._looks.lack(time_s):
            for runner in self._runners.values():
                runner.unwatched(time_s)
        before = self._moment.time_s
        self._moment = self._at(time_s, packet)
        now = Now(self._moment, self._traces.counted(), changes.events)
        if self._waiting:
            self._take_up(now, now.time_s)
            before = time_s
        for runner in self._runners.values():
            runner.pass_time(now, max(before, runner.setting.since_s))
        return changes

    def change(self, config: WatchConfig, time_s: float) -> Changes:
        """Judge by another configuration from now on; events of rules that are gone or changed end.

        Raises:
            InvalidError: A rule names a zone or a line that there is not; nothing was changed.
        """
        wanted = _bind(config)
        changes = self._pass_time(time_s)
        self._looks.longest_s = config.tracking.max_lost_s
        now = Now(self._moment, self._traces.counted(), changes.events)
        for bound in [bound for bound in self._runners if bound not in wanted]:
            self._runners.pop(bound).close(now, "the rule was changed or is gone")
        self._waiting = [bound for bound in wanted if bound not in self._runners]
        # Events of a rule that has changed must not have the identities of those that just ended.
        self._take_up(now, max(now.time_s, self._since_s) + APART_S)
        order = {bound: index for index, bound in enumerate(wanted)}
        self._runners = dict(sorted(self._runners.items(), key=lambda item: order[item[0]]))
        self._places.keep([runner.watch for runner in self._runners.values()])
        return changes

    def close(self, time_s: float) -> Changes:
        """End all events that go on: the channel is forgotten."""
        changes = self._pass_time(time_s)
        now = Now(self._moment, [], changes.events)
        for runner in self._runners.values():
            runner.close(now, "the channel is not watched any more")
        self._runners.clear()
        self._waiting.clear()
        return changes

    def _begin_anew(self) -> Changes:
        """End what goes on and forget all objects: another session began with a clock that is behind."""
        rules = [*self._runners, *self._waiting]
        changes = self.close(self._moment.time_s)
        self._traces, self._places, self._waiting = Traces(), Places(), rules
        self._looks = _Looks(self._looks.longest_s)
        self._moment, self._frame, self._frame_s = Moment(-math.inf), None, -math.inf
        return changes

    def _at(self, time_s: float, packet: tuple[str, int] | None = None) -> Moment:
        now = self._moment
        session, sequence = packet or (now.session, now.sequence)
        return Moment(time_s, session, sequence, now.engine_version, now.aspect)

    def _take_up(self, now: Now, since_s: float) -> None:
        """Set the rules to work that wait for it, on the objects that are there."""
        self._since_s = since_s
        fresh = [self._take_up_one(bound, since_s) for bound in self._waiting]
        self._waiting = []
        if self._frame is not None:
            self._places.build(now.moment.aspect)
            self._places.take([(trace, trace.last) for trace in now.counted])
        for runner in fresh:
            runner.started(now)

    def _take_up_one(self, bound: _Bound, since_s: float) -> RuleRunner:
        rule = bound.rule
        setting = Setting(
            self._channel, rule, Schedule(rule.schedule, bound.time_zone), bound.place, bound.width_metres, since_s
        )
        key = PlaceKey(bound.points, rule.anchor, rule.hysteresis)
        watch: ZoneWatch | LineWatch = (
            self._places.line(key) if isinstance(rule.condition, Cross) else self._places.zone(key)
        )
        runner: RuleRunner = _RUNNERS[type(rule.condition)](setting, watch)
        self._runners[bound] = runner
        return runner


def _judge(runner: RuleRunner, arrivals: Arrivals, now: Now) -> None:
    for trace in arrivals.back:
        runner.back(trace)
    for trace in arrivals.ended:
        runner.ended(trace, now)
    runner.step(now)


def _bind(config: WatchConfig) -> list[_Bound]:
    """Put each rule together with the place it names."""
    zones = {zone.name: zone.vertices for zone in config.zones} | {EVERYWHERE: WHOLE_PICTURE}
    lines = {line.name: line.points for line in config.lines}
    bound = []
    for rule in config.rules:
        condition = rule.condition
        places, name = (lines, condition.line) if isinstance(condition, Cross) else (zones, condition.zone)
        if name not in places:
            kind = "line" if isinstance(condition, Cross) else "zone"
            allowed = ", ".join(known for known in places if known) or f"none: no {kind} is configured"
            raise InvalidError(f"UNKNOWN_{kind.upper()}", f"rules.{rule.name}.{kind} is {name!r}; allowed: {allowed}")
        bound.append(_Bound(rule, name, places[name], config.time_zone, config.width_metres))
    return bound
