"""What is remembered of each track: where it was seen, how fast it is, its trail, and who took over from it.

A track that is not confirmed yet is remembered and not judged: once it is confirmed, what was seen of it before is
judged in one go, at the times at which it was seen. A track that was lost may go on under another identity: a fresh
one with the same label that appears near it within `HEIR_S` takes over what was known (an identity switch must not
give a second crossing, nor a second entering). Bounded: a track that ended is dropped after `HEIR_S`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.data.event import TrailPoint
from vedette_server.data.rules import Anchor
from vedette_server.monitor.geometry import anchor_of
from vedette_server.monitor.hidden import Wholeness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_server.monitor.base import Box, Scene, TrackView
    from vedette_server.monitor.geometry import Point

# A fresh track takes over from one that was lost no longer ago, and appears no further away than this share of the
# mean of its box's sides (but at least so many widths of the picture).
HEIR_S = 2.0
_HEIR_REACH = 0.75
_HEIR_LEAST = 0.03
# A velocity is that of the last second; where fewer than three frames fall into it, of the last three within five.
_WINDOW_S = 1.0
_LONGEST_S = 5.0
_SHORTEST_S = 0.3
_MOST_TRAIL = 256
_MOST_EARLY = 64
_EDGE = 0.01


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where an object was seen.

    Attributes:
        time_s: When.
        sequence: In which packet's frame.
        box: As it was seen.
        score: Of the detection.
        whole: The box by which rules tell where it is: completed where another object hides its lower part.
    """

    time_s: float
    sequence: int
    box: Box
    score: float
    whole: Box


class Trail:
    """Where an object was: at most 256 sightings, thinned evenly."""

    def __init__(self) -> None:
        self._kept: list[Sighting] = []
        self._last: Sighting | None = None
        self._step = 1
        self._count = 0
        # Points that were made of what is kept, by anchor: only what has come since is made anew.
        self._made: dict[Anchor, list[TrailPoint]] = {}

    def add(self, sighting: Sighting) -> None:
        """Add the latest sighting; every other one goes where there are too many."""
        if self._count % self._step == 0:
            self._kept.append(sighting)
            if len(self._kept) >= _MOST_TRAIL:
                self._kept = self._kept[::2]
                self._made.clear()
                self._step *= 2
        self._count += 1
        self._last = sighting

    def points(self, anchor: Anchor) -> tuple[TrailPoint, ...]:
        """Give them as points, the latest one always among them."""
        made = self._made.setdefault(anchor, [])
        made.extend(_point(seen, anchor) for seen in self._kept[len(made) :])
        if self._last is not None and self._kept[-1] is not self._last:
            return (*made, _point(self._last, anchor))
        return tuple(made)


def _point(seen: Sighting, anchor: Anchor) -> TrailPoint:
    # Every change of an event brings its trail along: a tenth of a thousandth of the picture is enough.
    x, y = anchor_of(seen.whole, anchor)
    return TrailPoint(round(seen.time_s, 3), round(x, 4), round(y, 4))


@dataclass(slots=True)
class Trace:
    """One track, as far as rules need it.

    Attributes:
        track_id: The track's identity.
        label: Its class.
        box: Where it is, or is thought to be; whole, see `Sighting`.
        best_score: Highest score so far.
        seen: It was seen in the frame that is being judged.
        confirmed: It counts.
        first: Its first sighting.
        last: Its latest sighting.
        recent: Its latest sightings, for its velocity.
        early: What was seen of it before it was confirmed.
        trail: Where it was.
        size: Width and height of its box where the picture's edge does not cut it.
        wholeness: What is known of its size where another object hides its lower part.
        gone_s: When it ended; None: it lives.
        given: Another identity has taken over; it does not count until it is seen again.
    """

    track_id: str
    label: str
    box: Box
    best_score: float
    first: Sighting
    last: Sighting
    seen: bool = True
    confirmed: bool = False
    recent: deque[Sighting] = field(default_factory=lambda: deque(maxlen=64))
    early: list[Sighting] = field(default_factory=list)
    trail: Trail = field(default_factory=Trail)
    size: Point = (0.0, 0.0)
    wholeness: Wholeness = field(default_factory=Wholeness)
    gone_s: float | None = None
    given: bool = False
    _velocities: dict[Anchor, tuple[Sighting, Point | None]] = field(default_factory=dict)

    def place(self, anchor: Anchor) -> Point:
        """Tell where it is, or is thought to be, normalised."""
        return anchor_of(self.box, anchor)

    def velocity(self, anchor: Anchor, aspect: float) -> Point | None:
        """Tell its velocity over a window of time, in widths of the picture per second to the right and down.

        The slope of the least-squares line, so that the jitter of a single box weighs little. None: it was not seen
        for long enough.
        """
        known = self._velocities.get(anchor)
        if known is None or known[0] is not self.last:
            known = self._velocities[anchor] = (self.last, self._slope(anchor, aspect))
        return known[1]

    def _slope(self, anchor: Anchor, aspect: float) -> Point | None:
        latest = self.recent[-1].time_s if self.recent else 0.0
        window = [seen for seen in self.recent if latest - seen.time_s <= _WINDOW_S]
        if len(window) < 3:
            window = [seen for seen in list(self.recent)[-3:] if latest - seen.time_s <= _LONGEST_S]
        if len(window) < 3 or latest - window[0].time_s < _SHORTEST_S:
            return None
        points = [anchor_of(seen.whole, anchor) for seen in window]
        times = [seen.time_s - latest for seen in window]
        middle = sum(times) / len(times)
        spread = sum((time - middle) ** 2 for time in times)
        dx = sum((time - middle) * x for time, (x, _) in zip(times, points, strict=True)) / spread
        dy = sum((time - middle) * y for time, (_, y) in zip(times, points, strict=True)) / spread
        return dx, dy / aspect

    def see(self, sighting: Sighting) -> None:
        """Take its latest sighting."""
        self.box, self.last = sighting.whole, sighting
        x1, y1, x2, y2 = sighting.whole
        self.size = _size(x1, x2, self.size[0]), _size(y1, y2, self.size[1])
        self.recent.append(sighting)
        self.trail.add(sighting)

    def miss(self, view: TrackView) -> None:
        """Take that it was not seen, and where it is thought to be: its feet are as far down as they were known to."""
        left, top, right, bottom = view.box
        height = self.wholeness.height
        self.box = left, top, right, bottom if height is None else max(bottom, top + height)
        self.seen, self.label = False, view.label

    def expected(self, anchor: Anchor, time_s: float) -> Point:
        """Tell where it would be at a time if it had gone on as it was last seen to, normalised; may be outside.

        Where the picture's edge cuts its box, the opposite side tells where it is and how it moves: the box is as large
        as it was before, and its anchor may be beyond the edge already.
        """
        x1, y1, x2, y2 = self.last.whole
        low_x, high_x = _completed(x1, x2, self.size[0])
        low_y, high_y = _completed(y1, y2, self.size[1])
        x = (low_x + high_x) / 2
        y = {Anchor.BOTTOM_CENTRE: high_y, Anchor.TOP_CENTRE: low_y}.get(anchor, (low_y + high_y) / 2)
        seen = list(self.recent)
        while len(seen) > 1 and seen[-1].time_s - seen[0].time_s > _WINDOW_S:
            del seen[0]
        span = seen[-1].time_s - seen[0].time_s if seen else 0.0
        if span < _SHORTEST_S:
            return x, y
        moved = [(new - old) / span for old, new in zip(seen[0].whole, seen[-1].whole, strict=True)]
        ahead = time_s - self.last.time_s
        return x + _rate(x1, x2, moved[0], moved[2]) * ahead, y + _rate(y1, y2, moved[1], moved[3]) * ahead


def _is_cut(low: float, high: float) -> tuple[bool, bool]:
    """Tell whether the picture's edge cuts a box at its lower side alone, and at its higher side alone."""
    return low < _EDGE and high <= 1 - _EDGE, high > 1 - _EDGE and low >= _EDGE


def _size(low: float, high: float, known: float) -> float:
    return max(high - low, known) if low < _EDGE or high > 1 - _EDGE else high - low


def _completed(low: float, high: float, size: float) -> tuple[float, float]:
    cut_low, cut_high = _is_cut(low, high)
    return (high - size if cut_low else low), (low + size if cut_high else high)


def _rate(low: float, high: float, low_rate: float, high_rate: float) -> float:
    cut_low, cut_high = _is_cut(low, high)
    if cut_high:
        return low_rate
    return high_rate if cut_low else (low_rate + high_rate) / 2


@dataclass(slots=True)
class Arrivals:
    """What a frame brought.

    Attributes:
        heirs: Identities that took over: the lost one and the fresh one.
        back: Tracks that are seen again after another identity had taken over.
        rounds: Sightings of confirmed tracks that are to be judged, at most one of each track in a round.
        ended: Tracks that ended, those that counted.
        forgotten: Identities of which nothing has to be remembered any more.
    """

    heirs: list[tuple[str, Trace]] = field(default_factory=list)
    back: list[Trace] = field(default_factory=list)
    rounds: list[list[tuple[Trace, Sighting]]] = field(default_factory=list)
    ended: list[Trace] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)


class Traces:
    """The tracks of one channel."""

    def __init__(self) -> None:
        self._living: dict[str, Trace] = {}
        self._ended: dict[str, Trace] = {}
        self._aspect = 1.0

    def counted(self) -> list[Trace]:
        """Give the tracks that count: they live, are confirmed, and no other identity stands for them."""
        return [trace for trace in self._living.values() if trace.confirmed and not trace.given]

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._living) + len(self._ended)

    def take(self, scene: Scene) -> Arrivals:
        """Take one frame's tracks."""
        arrivals = Arrivals()
        self._aspect = scene.aspect
        self._end(scene, arrivals)
        fresh: list[tuple[Trace, list[Sighting]]] = []
        for view in scene.tracks:
            trace = self._follow(view, scene)
            if trace is None or not trace.confirmed or not trace.seen:
                continue
            if trace.given:
                trace.given = False
                arrivals.back.append(trace)
            fresh.append((trace, trace.early or [trace.last]))
        for trace, sightings in fresh:
            if trace.early:
                self._succeed(trace, sightings, arrivals)
                trace.early = []
        longest = max((len(sightings) for _, sightings in fresh), default=0)
        # The latest sightings stand in the same round: what was seen before comes in the rounds before.
        for back in range(longest, 0, -1):
            arrivals.rounds.append([(trace, seen[-back]) for trace, seen in fresh if len(seen) >= back])
        return arrivals

    def _end(self, scene: Scene, arrivals: Arrivals) -> None:
        """Let those go that ended with this frame, and those that the tracker does not tell of any more."""
        living = {view.track_id for view in scene.tracks} - set(scene.ended)
        for track_id in [track_id for track_id in self._living if track_id not in living]:
            trace = self._living.pop(track_id)
            trace.seen = False
            trace.gone_s = scene.time_s
            if not trace.confirmed:
                continue
            self._ended[track_id] = trace
            if not trace.given:
                arrivals.ended.append(trace)
        for track_id, trace in list(self._ended.items()):
            # Kept for one frame at least, so that what ended with this frame is judged before it is forgotten.
            if scene.time_s - trace.last.time_s > HEIR_S and trace.gone_s != scene.time_s:
                del self._ended[track_id]
                arrivals.forgotten.append(track_id)

    def _follow(self, view: TrackView, scene: Scene) -> Trace | None:
        if view.track_id in scene.ended:
            return None
        trace = self._living.get(view.track_id)
        if not view.seen:
            if trace is not None:
                trace.miss(view)
            return trace
        wholeness = Wholeness() if trace is None else trace.wholeness
        others = (other.box for other in scene.tracks if other.track_id != view.track_id)
        whole = wholeness.take(view.box, scene.time_s, others)
        sighting = Sighting(scene.time_s, scene.sequence, view.box, view.score, whole)
        if trace is None:
            trace = Trace(view.track_id, view.label, whole, view.best_score, sighting, sighting, wholeness=wholeness)
            self._living[view.track_id] = trace
        if not trace.confirmed:
            trace.early.append(sighting)
            del trace.early[:-_MOST_EARLY]
        trace.label, trace.best_score = view.label, view.best_score
        trace.seen, trace.confirmed = True, trace.confirmed or view.confirmed
        trace.see(sighting)
        return trace

    def _succeed(self, trace: Trace, sightings: Iterable[Sighting], arrivals: Arrivals) -> None:
        """Find whose place a track that was just confirmed takes, and give it its trail."""
        lost = self._predecessor(trace)
        if lost is None:
            return
        lost.given = True
        self._ended.pop(lost.track_id, None)
        trail, lost.trail = lost.trail, Trail()
        for sighting in sightings:
            trail.add(sighting)
        trace.trail = trail
        arrivals.ended = [ended for ended in arrivals.ended if ended is not lost]
        arrivals.heirs.append((lost.track_id, trace))
        if lost.gone_s is not None:
            arrivals.forgotten.append(lost.track_id)

    def _predecessor(self, trace: Trace) -> Trace | None:
        first = trace.first
        best, nearest = None, math.inf
        for lost in (*self._living.values(), *self._ended.values()):
            if lost is trace or not lost.confirmed or lost.given or lost.label != trace.label:
                continue
            if not 0 < first.time_s - lost.last.time_s <= HEIR_S:
                continue
            away = _away(lost, first, self._aspect)
            if away < nearest:
                best, nearest = lost, away
        return best if nearest <= 1 else None


def _away(lost: Trace, first: Sighting, aspect: float) -> float:
    """Tell how far a sighting is from a lost track, or from where that would be by now, in shares of the reach."""
    x1, y1, x2, y2 = lost.last.box
    reach = max(_HEIR_LEAST, _HEIR_REACH * ((x2 - x1) + (y2 - y1) / aspect) / 2)
    here = anchor_of(first.box, Anchor.CENTRE)
    ahead = lost.expected(Anchor.CENTRE, first.time_s)
    if not (0 <= ahead[0] <= 1 and 0 <= ahead[1] <= 1):
        return math.inf  # it has left the picture: who comes now is somebody else
    places = (anchor_of(lost.last.box, Anchor.CENTRE), ahead)
    return min(math.hypot(x - here[0], (y - here[1]) / aspect) for x, y in places) / reach
