"""Walkers among zones and lines, and what happens to them, by algebra alone: nothing of the rules' code is used.

What the truth is: the reference point is the bottom centre of a walker's box. It enters a zone when it crosses its
edge inwards, or when the walker appears in it (is born there: comes out of a door); it leaves when it crosses the edge
outwards; it dwells when it has been in for `DWELL_S`; it crosses a line where its way does.

When it happened is known to the moment only where the walker is clear: its box lies in the picture, and neither a
pillar nor another walker's box is near it. Elsewhere it may be told at any time until it is clear again.

What even a person could not decide does not occur. Ways that would bring it about are not walked (`Stage.flaw`), which
is seen from the ways alone, before anything is tracked or judged:

- Who comes nearer to an edge or a line than `NEAR` goes straight over it and away on the other side, within `PASSED_S`;
  nobody halts, appears or vanishes so near. `NEAR` is three times the default hysteresis.
- A stay in a zone is at least `SURELY_S` longer or shorter than `DWELL_S`.
- Nobody is hidden for longer than `HIDDEN_S`, nor less than clear for longer than `UNCLEAR_S`, nor crosses two edges of
  one zone, nor one line twice, while it is not clear.
- Who vanishes in a zone has stood still there for `STOOD_S`: whether somebody whom nobody sees any more has gone on,
  and out, is not to be known.
- Nobody appears near where somebody has just vanished: that would be the same one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from support_walkers import ASPECT, START_S, Sample, found
from support_walkers_ways import Leg, Way, distances, is_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_server.post.detections import Detections

LENGTH_S = 45.0
# Pictures go on for so long after the last walker is gone: a track that was lost has to end.
AFTER_S = 5.0
DWELL_S, SURELY_S = 3.0, 1.0
NEAR, PASSED_S = 0.03, 2.0
HIDDEN_S, UNCLEAR_S = 1.5, 3.0
# Nobody appears so near, so shortly, to where somebody vanished.
VANISHED_NEAR, VANISHED_S = 0.2, 4.0
STOOD_S = 1.5
# Between boxes of walkers that are clear of each other; what the engine `blobs` asks for.
GAP = 0.025
# What is covered by more than this is not seen.
COVERED = 0.6
# Nobody can be told of a walker of whom less than this is in the picture.
LEAST_IN = 0.3
_GRID_S = 1 / 30
_TOP, _BOTTOM = 0.05, 1 / ASPECT - 0.03


@dataclass(frozen=True, slots=True)
class Walker:
    """One object: a box of a fixed size whose bottom centre goes a way; sizes are in widths of the picture."""

    way: Way
    width: float
    height: float
    label: str

    def boxes(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return its boxes on the plane, not cut: `float64 [n, 4]`, NaN where it is nowhere."""
        feet = self.way.at(times)
        x, y = feet.real, feet.imag
        return np.stack([x - self.width / 2, y - self.height, x + self.width / 2, y], axis=1)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that is to be told.

    Attributes:
        kind: `enter`, `leave`, `cross` or `dwell`.
        place: The zone or the line.
        walker: Whom it happened to.
        time_s: When, seconds since the scene's begin.
        early_s, late_s: Between these it may be told to have happened.
        direction: Of crossings.
    """

    kind: str
    place: str
    walker: int
    time_s: float
    early_s: float
    late_s: float
    direction: int = 0


@dataclass(frozen=True)
class Stage:
    """Walkers, pillars in front of them (x from, x to), zones and lines (corners on the plane)."""

    walkers: tuple[Walker, ...]
    pillars: tuple[tuple[float, float], ...]
    zones: Mapping[str, tuple[complex, ...]]
    lines: Mapping[str, tuple[complex, ...]]
    seed: int = 0

    # -- what is seen --

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, by class id."""
        return tuple(sorted({walker.label for walker in self.walkers}))

    def samples(self, times: Sequence[float], detected: Sequence[Detections] | None = None) -> Iterator[Sample]:
        """Look at times: who is there, and what a detector tells; None: the truth's own boxes."""
        moments = np.array(times)
        boxes, seen = self._seen(moments)
        labels = self.labels
        for index, time_s in enumerate(times):
            ids = np.flatnonzero(seen[:, index])
            there = boxes[ids, index]
            told = found(there.tolist(), [0.9] * len(ids), [labels.index(self.walkers[i].label) for i in ids])
            sources = ids if detected is None else np.empty(0, np.int64)
            yield Sample(START_S + time_s, ids, there, told if detected is None else detected[index], sources)

    def boxes(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the boxes of all walkers on the plane, not cut: `float64 [walkers, n, 4]`."""
        return np.stack([walker.boxes(times) for walker in self.walkers])

    def _seen(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return normalised boxes, cut at the picture's edge, and who is seen: `[walkers, n, 4]`, `[walkers, n]`."""
        whole = self.boxes(times)
        cut = np.clip(whole, 0.0, (1.0, 1 / ASPECT, 1.0, 1 / ASPECT))
        inside = (cut[..., 2] - cut[..., 0]) / (whole[..., 2] - whole[..., 0]) > LEAST_IN
        covered = self._covered(whole)
        return cut * (1.0, ASPECT, 1.0, ASPECT), inside & (covered <= COVERED)

    def _covered(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tell which share of each box pillars, or the one walker that covers most, hide: the lower, the nearer."""
        width = boxes[..., 2] - boxes[..., 0]
        area = width * (boxes[..., 3] - boxes[..., 1])
        hidden = np.zeros(width.shape)
        for start, end in self.pillars:
            across = np.minimum(boxes[..., 2], end) - np.maximum(boxes[..., 0], start)
            hidden = np.fmax(hidden, across / width)
        for row, cover in enumerate(boxes):
            across, down = _shared(boxes, cover)
            share = np.maximum(across, 0) * np.maximum(down, 0) / area
            share[row] = 0.0
            hidden = np.fmax(hidden, np.where(cover[:, 3] > boxes[..., 3], share, 0.0))
        return hidden

    # -- what happens --

    @cached_property
    def _grid(self) -> NDArray[np.float64]:
        return np.arange(0.0, LENGTH_S + AFTER_S, _GRID_S)

    @cached_property
    def _grid_boxes(self) -> NDArray[np.float64]:
        return self.boxes(self._grid)

    @cached_property
    def _clear(self) -> NDArray[np.bool_]:
        """Tell who is clear when: `[walkers, grid]`."""
        boxes = self._grid_boxes
        clear = (boxes[..., 0] >= 0) & (boxes[..., 2] <= 1)
        for start, end in self.pillars:
            clear &= (boxes[..., 2] < start) | (boxes[..., 0] > end)
        for row, other in enumerate(boxes):
            across, down = _shared(boxes, other)
            near = (across > -GAP) & (down > -GAP)
            near[row] = False
            clear &= ~near
        return clear

    def happenings(self) -> list[Happening]:
        """Solve what happens."""
        told = []
        for number, walker in enumerate(self.walkers):
            for name, corners in self.zones.items():
                for arrival, departure in self._stays(walker, corners):
                    told.append(self._happening("enter", name, number, arrival))
                    if departure is not None:
                        told.append(self._happening("leave", name, number, departure))
                    until = walker.way.end_s if departure is None else departure
                    if until - arrival > DWELL_S:
                        told.append(self._happening("dwell", name, number, arrival, DWELL_S))
            for name, points in self.lines.items():
                for time_s, direction in walker.way.crossings(points):
                    told.append(self._happening("cross", name, number, time_s, direction=direction))
        return told

    def _stays(self, walker: Walker, corners: tuple[complex, ...]) -> list[tuple[float, float | None]]:
        """Solve when a walker is in a zone; None: it vanishes there."""
        times = [time_s for time_s, _ in walker.way.crossings((*corners, corners[0]))]
        if is_within(walker.way.legs[0].start, corners):
            times.insert(0, walker.way.begin_s)
        ends: list[float | None] = [*times[1::2], *([None] if len(times) % 2 else [])]
        return list(zip(times[::2], ends, strict=True))

    def _happening(
        self, kind: str, place: str, number: int, time_s: float, later_s: float = 0.0, direction: int = 0
    ) -> Happening:
        early_s, late_s = self._doubt(number, time_s)
        return Happening(kind, place, number, time_s + later_s, early_s + later_s, late_s + later_s, direction)

    def _doubt(self, number: int, time_s: float) -> tuple[float, float]:
        """Tell when a walker was clear last before a time, and first after it."""
        clear = self._clear[number]
        index = min(int(time_s / _GRID_S), len(clear) - 2)
        if clear[index] and clear[index + 1]:
            return time_s, time_s
        before, after = np.flatnonzero(clear[: index + 1]), np.flatnonzero(clear[index + 1 :])
        way = self.walkers[number].way
        return (
            float(self._grid[before[-1]]) if len(before) else way.begin_s,
            float(self._grid[index + 1 + after[0]]) if len(after) else way.end_s,
        )

    # -- what does not occur --

    def flaw(self) -> str:
        """Say what nobody could decide about this scene; empty: nothing."""
        hidden = self._covered(self._grid_boxes) > COVERED
        for number, walker in enumerate(self.walkers):
            flaw = (
                self._astray(walker, number)
                or self._too_long(number, hidden[number])
                or self._at_ends(walker, number)
                or self._near_edges(walker, number)
                or self._unsure(number)
            )
            if flaw:
                return flaw
        return self._replaced()

    def _astray(self, walker: Walker, number: int) -> str:
        """Walkers come and go at the picture's sides only, and stay in it in between."""
        boxes = self._grid_boxes[number]
        there = (boxes[:, 2] > 0) & (boxes[:, 0] < 1)
        if len(_spans(there)) != 1 or walker.way.end_s > LENGTH_S or walker.way.begin_s < 0:
            return "comes and goes"
        beyond = (boxes[there, 1] < _TOP) | (boxes[there, 3] > _BOTTOM)
        return "beyond the top or the bottom" if beyond.any() else ""

    def _too_long(self, number: int, hidden: NDArray[np.bool_]) -> str:
        boxes = self._grid_boxes[number]
        there = (boxes[:, 2] > 0) & (boxes[:, 0] < 1)
        unclear = there & ~self._clear[number]
        for flags, most_s in ((hidden & there, HIDDEN_S), (unclear, UNCLEAR_S)):
            if any((end - start) * _GRID_S > most_s for start, end in _spans(flags)):
                return "hidden for too long"
        return ""

    def _at_ends(self, walker: Walker, number: int) -> str:
        """Who appears or vanishes in the picture is clear then, for a second and more, and near nothing."""
        ends = ((walker.way.begin_s, walker.way.legs[0].start, 1), (walker.way.end_s, walker.way.legs[-1].end, -1))
        for time_s, place, way in ends:
            if not 0 < place.real < 1:
                continue
            first = math.ceil(time_s / _GRID_S) if way > 0 else math.floor(time_s / _GRID_S)
            clear = self._clear[number][first::way][: round(1.0 / _GRID_S)]
            away = min(float(distances(np.array([place]), points)[0]) for points in self._courses())
            if not clear.all() or away < NEAR:
                return "an end that is not clear"
        last = walker.way.legs[-1]
        stood = last.start == last.end and last.end_s - last.begin_s >= STOOD_S
        in_zone = any(is_within(last.end, corners) for corners in self.zones.values())
        return "vanishes in a zone on its way" if in_zone and not stood else ""

    def _courses(self) -> list[tuple[complex, ...]]:
        return [(*corners, corners[0]) for corners in self.zones.values()] + [*self.lines.values()]

    def _near_edges(self, walker: Walker, number: int) -> str:
        places = walker.way.at(self._grid)
        for points in self._courses():
            times = [time_s for time_s, _ in walker.way.crossings(points)]
            near = _spans(distances(places, points) < NEAR)
            inside = [(start * _GRID_S, end * _GRID_S) for start, end in near]
            if len(inside) != len(times):
                return "lingers at an edge"
            for (start_s, end_s), time_s in zip(inside, times, strict=True):
                if not start_s - _GRID_S <= time_s <= end_s + _GRID_S or end_s - start_s > PASSED_S:
                    return "lingers at an edge"
            doubts = [self._doubt(number, time_s) for time_s in times]
            if any(late_s >= early_s for (_, late_s), (early_s, _) in pairwise(doubts)):
                return "two crossings while it is not clear"
        return ""

    def _unsure(self, number: int) -> str:
        """Stays are clearly long enough for a dwell, or clearly not."""
        walker = self.walkers[number]
        for corners in self.zones.values():
            for arrival, departure in self._stays(walker, corners):
                early_s, late_s = self._doubt(number, arrival)
                end_s = walker.way.end_s if departure is None else departure
                gone_early_s, gone_late_s = self._doubt(number, end_s)
                if gone_late_s - early_s > DWELL_S - SURELY_S and gone_early_s - late_s < DWELL_S + SURELY_S:
                    return "a stay of about the dwell's length"
        return ""

    def _replaced(self) -> str:
        for one in self.walkers:
            for other in self.walkers:
                place, end = other.way.legs[0].start, one.way.legs[-1].end
                soon = 0 <= other.way.begin_s - one.way.end_s <= VANISHED_S
                if soon and 0 < end.real < 1 and abs(place - end) < VANISHED_NEAR:
                    return "appears where somebody vanished"
        return ""


def _shared(boxes: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tell how far boxes overlap with another one, across and down; below 0: how far they are apart; NaN: nowhere."""
    across = np.minimum(boxes[..., 2], other[:, 2]) - np.maximum(boxes[..., 0], other[:, 0])
    down = np.minimum(boxes[..., 3], other[:, 3]) - np.maximum(boxes[..., 1], other[:, 1])
    return np.nan_to_num(across, nan=-1.0), np.nan_to_num(down, nan=-1.0)


def _spans(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give the runs of what is true: first index, and that after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


# -- scenes --


def stage(seed: int, cast: str = "squares", *, walkers: int = 12, meetings: int = 3) -> Stage:
    """Make the scene of a seed: walkers of all kinds, and pairs that meet and cross, of one label or of two.

    Args:
        seed: Always gives the same.
        cast: `squares` in three colours, as the engine `blobs` finds them, or `people`, tall and of one label.
        walkers: So many walk on their own.
        meetings: So many pairs meet.
    """
    rng = np.random.default_rng((seed, len(cast)))
    made = _empty(seed, rng)
    groups = [*([_meeting] * meetings), *([_alone] * walkers)]
    for group in groups:
        for _ in range(600):
            fresh = tuple(group(rng, cast))
            # Most of what is wrong is so of them alone, which is quicker to tell.
            if replace(made, walkers=fresh).flaw():
                continue
            tried = replace(made, walkers=(*made.walkers, *fresh))
            if not tried.flaw():
                made = tried
                break
    return made


def _empty(seed: int, rng: np.random.Generator) -> Stage:
    """Draw the places: a square zone, one with a bay, one that ends at the picture's side; a line, and one with a bend.

    Their corners are jittered.
    """

    def corners(*points: tuple[float, float]) -> tuple[complex, ...]:
        return tuple(
            complex(x + (rng.uniform(-0.02, 0.02) if x < 1 else 0.0), (y + rng.uniform(-0.03, 0.03)) / ASPECT)
            for x, y in points
        )

    zones = {
        "yard": corners((0.15, 0.35), (0.38, 0.3), (0.4, 0.62), (0.17, 0.66)),
        "bay": corners(
            (0.3, 0.72), (0.7, 0.7), (0.72, 0.9), (0.58, 0.9), (0.57, 0.8), (0.45, 0.8), (0.44, 0.9), (0.3, 0.9)
        ),
        "door": corners((0.84, 0.32), (1.0, 0.3), (1.0, 0.8), (0.85, 0.78)),
    }
    lines = {
        "gate": corners((0.5, 0.25), (0.52, 0.64)),
        "kerb": corners((0.6, 0.62), (0.68, 0.45), (0.66, 0.28)),
    }
    pillar = float(rng.uniform(0.2, 0.75))
    return Stage((), ((pillar, pillar + float(rng.uniform(0.05, 0.08))),), zones, lines, seed)


def _body(rng: np.random.Generator, cast: str) -> dict[str, Any]:
    if cast == "people":
        height = float(rng.uniform(0.11, 0.18))
        return {"width": height * 0.4, "height": height, "label": "person"}
    side = float(rng.uniform(0.045, 0.085))
    return {"width": side, "height": side, "label": str(rng.choice(["red", "green", "blue"]))}


def _feet(rng: np.random.Generator, height: float) -> float:
    return float(rng.uniform(_TOP + height + 0.005, _BOTTOM - 0.005))


def _side(rng: np.random.Generator, body: Mapping[str, Any], *, left: bool) -> complex:
    beyond = body["width"] / 2 + 0.01
    return complex(-beyond if left else 1 + beyond, _feet(rng, body["height"]))


def _alone(rng: np.random.Generator, cast: str) -> list[Walker]:
    """Draw somebody who comes from a side or appears, goes by some places, may halt there, and leaves or vanishes."""
    body = _body(rng, cast)

    def middle() -> complex:
        left, right = (0.1, 0.9) if rng.random() < 0.4 else [(0.2, 0.35), (0.33, 0.42), (0.87, 0.97)][rng.integers(3)]
        return complex(rng.uniform(left, right), _feet(rng, body["height"]))

    come, go = rng.random() < 0.7, rng.random() < 0.75
    left = bool(rng.random() < 0.5)
    places = [middle() for _ in range(int(rng.integers(1, 4)))]
    places.insert(0, _side(rng, body, left=left) if come else middle())
    places.append(_side(rng, body, left=bool(rng.random() < 0.5)) if go else middle())
    time_s = float(rng.uniform(0.0, LENGTH_S - 12.0))
    legs = []
    for number in range(len(places) - 1):
        start, end = places[number], places[number + 1]
        turn = float(rng.uniform(-1.2, 1.2)) if rng.random() < 0.5 else 0.0
        bent = turn / 2 / math.sin(turn / 2) if turn else 1.0
        until_s = time_s + abs(end - start) * bent / float(rng.uniform(0.05, 0.15))
        legs.append(Leg(time_s, until_s, start, end, turn))
        time_s = until_s
        if (number < len(places) - 2 or not go) and rng.random() < 0.6:
            until_s = time_s + float(rng.uniform(STOOD_S, 9.0))
            legs.append(Leg(time_s, until_s, end, end))
            time_s = until_s
    return [Walker(Way(tuple(legs)), **body)]


def _meeting(rng: np.random.Generator, cast: str) -> list[Walker]:
    """Draw two who walk towards each other and meet in the picture; half of them are alike."""
    one, other = _body(rng, cast), _body(rng, cast)
    if rng.random() < 0.5:
        other["label"] = one["label"]
    feet = _feet(rng, max(one["height"], other["height"]))
    where, when_s = float(rng.uniform(0.25, 0.75)), float(rng.uniform(10.0, LENGTH_S - 15.0))
    pair = []
    for body, leftward in ((one, False), (other, True)):
        y = min(max(feet + float(rng.uniform(-0.02, 0.02)), _TOP + body["height"]), _BOTTOM)
        start, end = (complex(_side(rng, body, left=left).real, y) for left in (not leftward, leftward))
        speed = float(rng.uniform(0.06, 0.15))
        begin_s = when_s - abs(where - start.real) / speed
        pair.append(Walker(Way((Leg(begin_s, begin_s + abs(end - start) / speed, start, end),)), **body))
    return pair
