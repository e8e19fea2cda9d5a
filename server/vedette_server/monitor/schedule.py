"""When a rule is judged: spans of each week in a time zone.

A span begins at the first moment at which the clock on the wall reads its beginning and ends at the last at which it
reads its end: where the clock is put back and a time comes twice, more is watched, never less. A time that is left
out because the clock is put forward is the moment at which it is put. Pure; safe from any thread.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.rules import ScheduleSpan

Stretch = tuple[float, float]

ALWAYS: Stretch = (-math.inf, math.inf)
_DAY = 1440
_WEEK = 7 * _DAY


class Schedule:
    """Tells when one rule is judged.

    Args:
        spans: Spans of each week; empty: always.
        time_zone: IANA name.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: There is no such zone.
    """

    def __init__(self, spans: Sequence[ScheduleSpan], time_zone: str) -> None:
        self._spans = tuple(spans)
        self._zone = ZoneInfo(time_zone)
        self._always = not spans or longest_minutes(spans) == math.inf
        self._current: Stretch = (math.inf, -math.inf)
        self._closed: Stretch = (math.inf, -math.inf)

    def stretch(self, time_s: float) -> Stretch | None:
        """Tell the stretch of time that a moment lies in: when it began and when it ends, seconds since the epoch.

        Spans that touch or overlap are one stretch; of those that cover several days on end the days around the
        moment are looked at. None: the rule is not judged then.
        """
        if self._always:
            return ALWAYS
        if self._current[0] <= time_s < self._current[1]:
            return self._current
        if self._closed[0] <= time_s < self._closed[1]:
            return None
        for begin, end in self._around(time_s):
            if begin <= time_s < end:
                self._current = (begin, end)
                return self._current
        self._closed = (time_s, self._next(time_s))
        return None

    def _next(self, time_s: float) -> float:
        return min((begin for begin, _ in self._around(time_s) if begin > time_s), default=time_s + 3600.0)

    def _around(self, time_s: float) -> list[Stretch]:
        """Merge what begins in the eight days before and after a moment."""
        today = datetime.fromtimestamp(time_s, self._zone).date()
        stretches = [
            stretch
            for offset in range(-8, 9)
            for span in self._spans
            if (stretch := self._on(span, today + timedelta(days=offset))) is not None
        ]
        return _merged(stretches)

    def _on(self, span: ScheduleSpan, day: date) -> Stretch | None:
        """Give the span that begins on a day; None: it does not, or the clock leaves it out."""
        if span.days and day.isoweekday() not in span.days:
            return None
        length = span.to_minute - span.from_minute
        last_day = day if length > 0 else day + timedelta(days=1)
        begin = _moment(self._zone, day, span.from_minute, 0)
        end = _moment(self._zone, last_day, span.to_minute, 1)
        return (begin, end) if begin < end else None


def longest_minutes(spans: Sequence[ScheduleSpan]) -> float:
    """Tell the longest stretch of a week in which a schedule is on without a break, minutes; infinity: it always is."""
    pieces = []
    for span in spans:
        length = span.to_minute - span.from_minute
        length += _DAY if length <= 0 else 0
        for day in span.days or range(1, 8):
            begin = (day - 1) * _DAY + span.from_minute
            pieces += [(float(begin + week * _WEEK), float(begin + length + week * _WEEK)) for week in range(3)]
    longest = max((end - begin for begin, end in _merged(pieces)), default=0.0)
    return math.inf if longest >= 2 * _WEEK else longest


def _merged(stretches: Sequence[Stretch]) -> list[Stretch]:
    merged: list[Stretch] = []
    for begin, end in sorted(stretches):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


@lru_cache(maxsize=4096)
def _moment(zone: ZoneInfo, day: date, minute: int, fold: int) -> float:
    """Give the moment at which the clock reads a time of a day; of two the first (fold 0) or the last (fold 1)."""
    local = datetime.combine(day, time()) + timedelta(minutes=minute)
    moment = local.replace(tzinfo=zone, fold=fold).timestamp()
    if datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0) == local:
        return moment
    # The clock never reads it: halve the gap until the moment of the change is found.
    early = local.replace(tzinfo=zone, fold=1).timestamp()
    late = local.replace(tzinfo=zone, fold=0).timestamp()
    offset = datetime.fromtimestamp(early, zone).utcoffset()
    while late - early > 1:
        middle = (early + late) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late
