"""Which objects are in which zones since when, and which lines they have crossed.

Zones and lines are asked for all objects of a frame at once. Only sightings change anything: while an object is not
seen it is where it was seen last. Who was in stays in until it is beyond the edge by the margin; a crossing counts
once the object is clear of the line by the margin on the other side, so that who dances on the line crosses it once or
not at all.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely

from vedette_server.data.rules import Anchor
from vedette_server.monitor.geometry import anchor_of, area, crossings, line
from vedette_server.monitor.traces import HEIR_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.rules import Points
    from vedette_server.monitor.geometry import Point
    from vedette_server.monitor.traces import Sighting, Trace

_ANCHORS = tuple(Anchor)
_MOST_CROSSINGS = 16


@dataclass(frozen=True, slots=True)
class PlaceKey:
    """What is watched: rules that name the same share it.

    Attributes:
        points: Corners of an area, or points of a line, normalised.
        anchor: What of a box is where the object is.
        margin: Against jitter, in widths of the picture.
    """

    points: Points
    anchor: Anchor
    margin: float


@dataclass(slots=True)
class Stay:
    """Whether an object is in a zone, and the sighting since which it is so."""

    inside: bool
    since: Sighting


class ZoneWatch:
    """One zone, for one anchor and margin.

    Attributes:
        stays: By track.
    """

    def __init__(self, key: PlaceKey) -> None:
        self.key = key
        self.stays: dict[str, Stay] = {}
        self.inner = shapely.Polygon()
        self._outer: shapely.Polygon | None = None
        self._aspect = 1.0

    def build(self, aspect: float) -> None:
        """Build the zone for pictures of a shape."""
        self.inner = area(self.key.points, aspect)
        self._outer, self._aspect = None, aspect

    def take(self, trace: Trace, sighting: Sighting, point: Point, *, inner: bool) -> None:
        """Take a sighting: where it is on the plane, and whether that is in the zone proper."""
        stay = self.stays.get(trace.track_id)
        inside = inner or (stay is not None and stay.inside and self._near(point))
        if stay is None or stay.inside != inside:
            self.stays[trace.track_id] = Stay(inside, sighting)

    def contains(self, point: Point) -> bool:
        """Tell whether a normalised point lies in the zone or within the margin around it."""
        return self._near((point[0], point[1] / self._aspect))

    def _near(self, point: Point) -> bool:
        if self._outer is None:
            self._outer = area(self.key.points, self._aspect, self.key.margin)
        return bool(shapely.intersects_xy(self._outer, *point))

    def is_in(self, trace: Trace) -> bool:
        """Tell whether an object is in the zone."""
        stay = self.stays.get(trace.track_id)
        return stay is not None and stay.inside

    def inherit(self, old: str, new: str) -> None:
        """Let a track go on where another one was."""
        if old in self.stays:
            self.stays[new] = self.stays.pop(old)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        self.stays.pop(track_id, None)


@dataclass(frozen=True, slots=True)
class Crossing:
    """An object crossed a line.

    Attributes:
        number: Counts the object's crossings of this line, from 1.
        time_s: When, taken to have moved straight between two sightings.
        direction: +1 from the line's left to its right, -1 the other way.
        sighting: The first beyond the line.
        clear_s: When it was seen clear of the line.
    """

    number: int
    time_s: float
    direction: int
    sighting: Sighting
    clear_s: float


@dataclass(slots=True)
class Side:
    """How an object stands to a line.

    Attributes:
        point: Where it was seen last, on the plane.
        time_s: When.
        settled: It was clear of the line once.
        net: Crossings since then, those of one direction less those of the other.
        latest: The latest crossing of each direction since then: when, and the sighting.
        crossings: Those that counted, the latest ones.
        count: How many counted.
        handed: Another identity goes on here: the next sighting may be off, since a fresh box often is.
        doubted_until_s: Until then a crossing that takes back the one before is waited with: it may be such a box.
    """

    point: Point
    time_s: float
    settled: bool = False
    net: int = 0
    latest: dict[int, tuple[float, Sighting]] = field(default_factory=dict)
    crossings: deque[Crossing] = field(default_factory=lambda: deque(maxlen=_MOST_CROSSINGS))
    count: int = 0
    handed: bool = False
    doubted_until_s: float = -math.inf


class LineWatch:
    """One line, for one anchor and margin.

    Attributes:
        sides: By track.
    """

    def __init__(self, key: PlaceKey) -> None:
        self.key = key
        self.sides: dict[str, Side] = {}
        self.built = shapely.LineString()
        self._points: list[Point] = []

    def build(self, aspect: float) -> None:
        """Build the line for pictures of a shape; where objects were in those of another says nothing here."""
        self.built = line(self.key.points, aspect)
        self._points = [(float(x), float(y)) for x, y in self.built.coords]
        self.sides.clear()

    def take(self, trace: Trace, sighting: Sighting, point: Point, *, clear: bool) -> None:
        """Take a sighting: where it is on the plane, and whether that is clear of the line by the margin."""
        side = self.sides.get(trace.track_id)
        if side is None:
            self.sides[trace.track_id] = Side(point, sighting.time_s, settled=clear)
            return
        if side.handed:
            side.handed, side.doubted_until_s = False, sighting.time_s + HEIR_S
        for share, direction in crossings(self._points, side.point, point):
            side.net += direction
            side.latest[direction] = (side.time_s + share * (sighting.time_s - side.time_s), sighting)
        side.point, side.time_s = point, sighting.time_s
        if clear:
            self._settle(side, sighting)

    def _settle(self, side: Side, sighting: Sighting) -> None:
        if side.net and side.settled:
            direction = 1 if side.net > 0 else -1
            last = side.crossings[-1].direction if side.crossings else direction
            if direction != last and sighting.time_s <= side.doubted_until_s:
                return
            time_s, first = side.latest[direction]
            side.count += 1
            side.crossings.append(Crossing(side.count, time_s, direction, first, sighting.time_s))
        side.settled, side.net = True, 0
        side.latest.clear()

    def inherit(self, old: str, new: str) -> None:
        """Let a track go on where another one was."""
        if old in self.sides:
            self.sides[new] = self.sides.pop(old)
            self.sides[new].handed = True

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        self.sides.pop(track_id, None)


class Places:
    """All zones and lines that the rules of one channel watch."""

    def __init__(self) -> None:
        self._zones: dict[PlaceKey, ZoneWatch] = {}
        self._lines: dict[PlaceKey, LineWatch] = {}
        self._aspect = 0.0
        self._areas: NDArray[np.object_] = np.empty((0, 1), object)
        self._courses: NDArray[np.object_] = np.empty((0, 1), object)
        self._stale = True

    def zone(self, key: PlaceKey) -> ZoneWatch:
        """Give the watch over a zone; rules that name the same share one."""
        self._stale = self._stale or key not in self._zones
        return self._zones.setdefault(key, ZoneWatch(key))

    def line(self, key: PlaceKey) -> LineWatch:
        """Give the watch over a line; rules that name the same share one."""
        self._stale = self._stale or key not in self._lines
        return self._lines.setdefault(key, LineWatch(key))

    def keep(self, watches: Sequence[ZoneWatch | LineWatch]) -> None:
        """Forget all places but these."""
        kept = {id(watch) for watch in watches}
        self._zones = {key: zone for key, zone in self._zones.items() if id(zone) in kept}
        self._lines = {key: course for key, course in self._lines.items() if id(course) in kept}
        self._stale = True

    def build(self, aspect: float) -> None:
        """Build what is new; all of it where the picture's shape has changed."""
        if not self._stale and aspect == self._aspect:
            return
        for watch in self._watches():
            if aspect != self._aspect or _is_new(watch):
                watch.build(aspect)
        self._areas = _column([zone.inner for zone in self._zones.values()])
        self._courses = _column([course.built for course in self._lines.values()])
        self._aspect, self._stale = aspect, False

    def take(self, sightings: Sequence[tuple[Trace, Sighting]]) -> None:
        """Take what was seen, each track at most once."""
        if not sightings or not (self._zones or self._lines):
            return
        # float64 [anchor, track, 2], on the plane.
        points = np.array([[anchor_of(seen.whole, anchor) for _, seen in sightings] for anchor in _ANCHORS], np.float64)
        points[..., 1] /= self._aspect
        zones, lines = list(self._zones.values()), list(self._lines.values())
        if zones:
            there = points[[_ANCHORS.index(zone.key.anchor) for zone in zones]]
            inner = shapely.intersects_xy(self._areas, there[..., 0], there[..., 1]).tolist()
            for zone, row, where in zip(zones, inner, there.tolist(), strict=True):
                for (trace, seen), is_inner, point in zip(sightings, row, where, strict=True):
                    zone.take(trace, seen, (point[0], point[1]), inner=is_inner)
        if lines:
            there = points[[_ANCHORS.index(course.key.anchor) for course in lines]]
            away = shapely.distance(self._courses, shapely.points(there)).tolist()
            for course, distances, where in zip(lines, away, there.tolist(), strict=True):
                for (trace, seen), distance, point in zip(sightings, distances, where, strict=True):
                    course.take(trace, seen, (point[0], point[1]), clear=distance >= course.key.margin)

    def inherit(self, old: str, new: str) -> None:
        """Let a track go on where another one was."""
        for watch in self._watches():
            watch.inherit(old, new)

    def forget(self, track_id: str) -> None:
        """Forget a track."""
        for watch in self._watches():
            watch.forget(track_id)

    def _watches(self) -> list[ZoneWatch | LineWatch]:
        return [*self._zones.values(), *self._lines.values()]


def _is_new(watch: ZoneWatch | LineWatch) -> bool:
    return bool(watch.inner.is_empty if isinstance(watch, ZoneWatch) else watch.built.is_empty)


def _column(geometries: Sequence[shapely.Geometry]) -> NDArray[np.object_]:
    column = np.empty((len(geometries), 1), object)
    column[:, 0] = geometries
    return column
