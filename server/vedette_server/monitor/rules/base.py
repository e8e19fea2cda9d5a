"""What all rules have in common: whose objects count, when they are judged, and how their events begin and end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.monitor.episodes import Episode, Moment, Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.data.event import Event, EventKind
    from vedette_server.data.rules import Rule
    from vedette_server.monitor.places import LineWatch, ZoneWatch
    from vedette_server.monitor.schedule import Schedule
    from vedette_server.monitor.traces import Trace

# Times are sums of floats: what lacks less than this is not missing.
SLACK_S = 1e-5
# Events of one cause that begin at the same time, where times come twice, are told apart by this.
APART_S = 2e-6


@dataclass(slots=True)
class Now:
    """One frame, as rules see it.

    Attributes:
        moment: What goes into events.
        counted: Tracks that count.
        out: Events that began, changed or ended, in order.
    """

    moment: Moment
    counted: list[Trace] = field(default_factory=list)
    out: list[Event] = field(default_factory=list)

    @property
    def time_s(self) -> float:
        """When it was taken."""
        return self.moment.time_s


@dataclass(frozen=True, slots=True)
class Setting:
    """What a rule is set to work with.

    Attributes:
        channel: The channel's bare name.
        rule: The rule.
        schedule: When it is judged.
        place: Name of its zone or line.
        width_metres: Metres per width of the picture; None: there is no scale.
        since_s: Since when the rule is in effect; what happened before does not count.
    """

    channel: str
    rule: Rule
    schedule: Schedule
    place: str
    width_metres: float | None
    since_s: float


class RuleRunner(ABC):
    """One rule at work: begins, carries on and ends its events.

    Args:
        setting: What it works with.
        watch: The zone or the line.
    """

    kind: EventKind

    def __init__(self, setting: Setting, watch: ZoneWatch | LineWatch) -> None:
        self.setting = setting
        self.rule = setting.rule
        self.watch: ZoneWatch | LineWatch = watch
        self._origin = Origin(setting.channel, self.rule.name, self.kind, setting.place, self.rule.anchor, self._tell)
        self._labels = frozenset(self.rule.labels)
        self._episodes: dict[str, Episode] = {}
        self._quiet_until: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    # -- what a rule is --

    @abstractmethod
    def step(self, now: Now) -> None:
        """Judge a frame."""

    @abstractmethod
    def _tell(self, measures: Mapping[str, float], /) -> str:
        """Say what happened, after the object's label."""

    def started(self, now: Now, /) -> None:  # noqa: B027  # most have nothing to take up
        """Take the rule up: what is there is no news."""

    def back(self, trace: Trace, /) -> None:  # noqa: B027  # most have nothing to take up
        """Take up an object that was taken for another one: that it is where it is is no news."""

    def ended(self, trace: Trace, now: Now, /) -> None:
        """Let a track go that has ended."""
        self._end(trace.track_id, trace.last.time_s, now)

    def unwatched(self, until_s: float, /) -> None:  # noqa: B027  # most wait for nothing but objects
        """Let what is no event yet be so since then at the earliest: before, nobody looked for some time."""

    def inherit(self, old: str, trace: Trace, /) -> None:
        """Let a track go on in the place of one that was lost."""
        if old in self._episodes:
            self._episodes[trace.track_id] = self._episodes.pop(old)
            self._episodes[trace.track_id].inherit(trace)
        if old in self._quiet_until:
            self._quiet_until[trace.track_id] = self._quiet_until.pop(old)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        self._quiet_until.pop(track_id, None)
        self._begun.pop(track_id, None)

    def _ripen(self, now: Now, /) -> None:  # noqa: B027  # most wait for a frame
        """Begin what only waited for time to pass."""

    # -- what all have in common --

    def pass_time(self, now: Now, from_s: float) -> None:
        """Let time pass without a frame, from the latest moment before: what is over by the schedule ends."""
        stretch = self.setting.schedule.stretch(from_s)
        if stretch is not None and stretch[1] <= now.time_s:
            closing = Now(_at(now.moment, stretch[1]), now.counted, now.out)
            self._ripen(closing)
            self.close(closing, "the rule's schedule has closed")
            stretch = None
        self._ripen(now)

    def close(self, now: Now, why: str) -> None:
        """End all events that go on."""
        for key in list(self._episodes):
            self._end(key, now.time_s, now, why)

    def since_s(self, time_s: float) -> float | None:
        """Tell since when the rule is judged without a break; None: it is not."""
        stretch = self.setting.schedule.stretch(time_s)
        return None if stretch is None else max(stretch[0], self.setting.since_s)

    def _counts(self, trace: Trace) -> bool:
        """Tell whether an object is one that the rule is about."""
        return trace.best_score >= self.rule.min_score and (not self._labels or trace.label in self._labels)

    def _quiet(self, key: str) -> float:
        return self._quiet_until.get(key, -math.inf)

    def _start(self, cause: str, start_s: float) -> float:
        """Give an event its beginning: later than that of the one before of the same cause."""
        before = self._begun.get(cause, -math.inf)
        self._begun[cause] = max(start_s, before + APART_S)
        return self._begun[cause]

    def _begin(self, key: str, episode: Episode, now: Now) -> None:
        self._episodes[key] = episode
        now.out.append(episode.told)

    def _note(self, key: str, members: tuple[Trace, ...], measures: Mapping[str, float], now: Now) -> None:
        episode = self._episodes[key]
        episode.note(now.time_s, members, measures)
        told = episode.tell()
        if told is not None:
            now.out.append(told)

    def _end(self, key: str, end_s: float, now: Now, why: str = "") -> None:
        episode = self._episodes.pop(key, None)
        if episode is None:
            return
        event = episode.end(end_s, why)
        now.out.append(event)
        if self.rule.cool_down_s > 0:
            self._quiet_until[key] = (event.end_s or end_s) + self.rule.cool_down_s


def _at(moment: Moment, time_s: float) -> Moment:
    return Moment(time_s, moment.session, moment.sequence, moment.engine_version, moment.aspect)


def seconds(value: float) -> str:
    """Write a span of time for a person."""
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
