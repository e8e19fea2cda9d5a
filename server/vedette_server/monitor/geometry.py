"""Where things are: anchors of boxes, areas with a margin, and lines that are crossed.

The plane's unit is the picture's width in both directions, so that a distance is one whichever way it runs: x as
normalised, y divided by the aspect. Pure; areas and lines are built once per configuration and aspect.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import shapely

from vedette_server.data.rules import Anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.monitor.base import Box

Point = tuple[float, float]

WHOLE_PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def anchor_of(box: Box, anchor: Anchor) -> Point:
    """Give the point of a box that says where the object is, normalised, drawn into the picture where it is outside.

    A zone that ends at the picture's edge goes on beyond it: nobody leaves it because a box reaches over the edge.
    """
    x1, y1, x2, y2 = box
    if anchor is Anchor.BOTTOM_CENTRE:
        y = y2
    elif anchor is Anchor.TOP_CENTRE:
        y = y1
    else:
        y = (y1 + y2) / 2
    return min(max((x1 + x2) / 2, 0.0), 1.0), min(max(y, 0.0), 1.0)


def to_plane(points: Sequence[Point], aspect: float) -> list[Point]:
    """Take normalised points to the plane whose unit is the picture's width."""
    return [(x, y / aspect) for x, y in points]


def area(vertices: Sequence[Point], aspect: float, margin: float = 0.0) -> shapely.Polygon:
    """Build an area on the plane, its edge moved outwards by a margin, ready to be asked often.

    Args:
        vertices: Corners in order, normalised.
        aspect: Width of the picture over its height.
        margin: In widths of the picture, 0 or more.
    """
    polygon = shapely.Polygon(to_plane(vertices, aspect))
    if margin > 0:
        polygon = shapely.buffer(polygon, margin)
    shapely.prepare(polygon)
    return polygon


def line(points: Sequence[Point], aspect: float) -> shapely.LineString:
    """Build a line on the plane, ready to be asked often."""
    built = shapely.LineString(to_plane(points, aspect))
    shapely.prepare(built)
    return built


def crossings(points: Sequence[Point], start: Point, end: Point) -> list[tuple[float, int]]:
    """Tell where a straight step crosses a line, in order.

    Of a way whose points lie on the line, or on its corners, the answer is that for the way moved by a hair, the same
    at every step, so that a way that stops on the line crosses it once (H. Edelsbrunner and E. Mücke, Simulation of
    Simplicity, 1990).

    Args:
        points: The line's, on the plane.
        start: Where the step begins, on the plane.
        end: Where it ends.

    Returns:
        Of each crossing the share of the step that lies before it, and its direction: +1 from the line's left to its
        right, seen along it from its first point to its last, -1 the other way.
    """
    found = []
    for first, second in pairwise(points):
        before, after = _side(first, second, start), _side(first, second, end)
        along, across = second[0] - first[0], first[1] - second[1]
        is_right = _is_above(after, across, along)
        if _is_above(before, across, along) == is_right:
            continue
        step, climb = start[0] - end[0], end[1] - start[1]
        if _is_above(_side(start, end, first), climb, step) == _is_above(_side(start, end, second), climb, step):
            continue
        share = before / (before - after) if before != after else 0.5
        found.append((min(max(share, 0.0), 1.0), 1 if is_right else -1))
    return sorted(found)


def _is_above(value: float, hair: float, thinner: float) -> bool:
    """Tell whether a number is above 0 after a hair was added, or one that is thinner still."""
    return (value or hair or thinner) > 0


def _side(first: Point, second: Point, point: Point) -> float:
    """Tell on which side of a directed line a point lies: above 0 right, since y runs down."""
    return (second[0] - first[0]) * (point[1] - first[1]) - (second[1] - first[1]) * (point[0] - first[0])


def heading_degrees(dx: float, dy: float) -> float:
    """Give the direction of a movement on the plane, clockwise from the top of the picture, 0..360."""
    return math.degrees(math.atan2(dx, -dy)) % 360.0


def off_degrees(one: float, other: float) -> float:
    """Give the angle between two directions, 0..180."""
    return abs((one - other + 180.0) % 360.0 - 180.0)
