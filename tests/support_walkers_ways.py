"""Ways of known algebra, and where they meet shapes: written apart from the rules, with no geometry library.

Points are complex numbers on the plane whose unit is the picture's width in both directions: x as normalised, y divided
by the aspect. A way is made of legs: straight ones, arcs of circles, and halts. Where a leg meets a segment is a linear
or a quadratic equation, solved in closed form; nothing is sampled.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a way, at constant speed.

    Attributes:
        begin_s, end_s: When.
        start, end: From where to where; the same where it is a halt.
        turn: By how many radians it turns on its way, clockwise as seen, below pi; 0: it is straight.
    """

    begin_s: float
    end_s: float
    start: complex
    end: complex
    turn: float = 0.0

    @property
    def centre(self) -> complex:
        """Of the arc's circle."""
        whole = cmath.exp(1j * self.turn)
        return (self.end - self.start * whole) / (1 - whole)

    def at(self, times: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Tell where it is at times within it."""
        share = (times - self.begin_s) / (self.end_s - self.begin_s)
        if not self.turn:
            return self.start + share * (self.end - self.start)
        return self.centre + (self.start - self.centre) * np.exp(1j * self.turn * share)

    def heading(self, share: float) -> complex:
        """Tell in which direction it goes after a share of it; of any length."""
        if not self.turn:
            return self.end - self.start
        return 1j * self.turn * (self.start - self.centre) * cmath.exp(1j * self.turn * share)

    def meets(self, first: complex, second: complex) -> Iterator[float]:
        """Solve where it meets the segment between two points: shares of the leg, 0..1."""
        if self.start == self.end:
            return
        along = second - first
        if self.turn:
            yield from self._arc_meets(first, along)
            return
        step, off = self.end - self.start, first - self.start
        across = _cross(step, along)
        if across:
            share, on_segment = _cross(off, along) / across, _cross(off, step) / across
            if 0 <= share < 1 and 0 <= on_segment < 1:
                yield share

    def _arc_meets(self, first: complex, along: complex) -> Iterator[float]:
        # |first + s * along - centre| = radius
        spoke, off = self.start - self.centre, first - self.centre
        a, half_b = abs(along) ** 2, (off * along.conjugate()).real
        left = half_b**2 - a * (abs(off) ** 2 - abs(spoke) ** 2)
        if left <= 0:
            return
        for root in (-math.sqrt(left), math.sqrt(left)):
            on_segment = (root - half_b) / a
            share = cmath.phase((off + on_segment * along) / spoke) / self.turn
            if 0 <= on_segment < 1 and 0 <= share < 1:
                yield share


def _cross(one: complex, other: complex) -> float:
    return (one.conjugate() * other).imag


@dataclass(frozen=True, slots=True)
class Way:
    """Legs that follow on each other."""

    legs: tuple[Leg, ...]

    @property
    def begin_s(self) -> float:
        """When it begins."""
        return self.legs[0].begin_s

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.legs[-1].end_s

    def at(self, times: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Tell where it is at times; before it begins and after it ends, nowhere (NaN)."""
        places = np.full(len(times), np.nan, np.complex128)
        for leg in self.legs:
            within = (times >= leg.begin_s) & (times <= leg.end_s)
            places[within] = leg.at(times[within])
        return places

    def crossings(self, points: Sequence[complex]) -> list[tuple[float, int]]:
        """Solve when it crosses a course through points.

        Returns:
            Of each crossing the time, and the direction: +1 from the left of the course to its right, seen along it
            in a picture whose y runs down, -1 the other way. In order.
        """
        found = []
        for leg in self.legs:
            for first, second in pairwise(points):
                for share in leg.meets(first, second):
                    rightward = _cross(second - first, leg.heading(share)) > 0
                    found.append((leg.begin_s + share * (leg.end_s - leg.begin_s), 1 if rightward else -1))
        return sorted(found)


def is_within(point: complex, corners: Sequence[complex]) -> bool:
    """Tell whether a point is in a polygon: a ray to the right crosses its edge an odd number of times."""
    odd = False
    for first, second in pairwise([*corners, corners[0]]):
        if (first.imag > point.imag) != (second.imag > point.imag):
            share = (point.imag - first.imag) / (second.imag - first.imag)
            odd ^= point.real < first.real + share * (second.real - first.real)
    return odd


def distances(places: NDArray[np.complex128], points: Sequence[complex]) -> NDArray[np.float64]:
    """Tell how far places are from a course through points."""
    nearest = np.full(len(places), np.inf)
    for first, second in pairwise(points):
        along = second - first
        share = np.clip(((places - first) * along.conjugate()).real / abs(along) ** 2, 0, 1)
        nearest = np.fmin(nearest, np.abs(places - first - share * along))
    return nearest
