"""Lay a graph out in layers from top to bottom, after Sugiyama, Tagawa and Toda (1981).

Layers by the longest path; a line over several layers gets a bend in each (a dummy) so that no box covers it; the
order within a layer by the mean place of the neighbours, a few sweeps down and up; then each item as near to its
neighbours as the others of its layer allow, in the sense of least squares (pooling adjacent violators).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP_X, GAP_Y = 26.0, 44.0
_BEND_WIDTH = 6.0
_SWEEPS = 6
# More bends than that take long to place and leave nothing to see.
MOST_BENDS = 30_000


@dataclass(frozen=True, slots=True)
class Placed:
    """Where everything stands.

    Attributes:
        centres: Middle of each box, x and y.
        bends: Of each line between two boxes, the points between them from the first to the second.
        width: Of the whole.
        height: Of the whole.
    """

    centres: tuple[tuple[float, float], ...]
    bends: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


@dataclass(slots=True)
class _Item:
    """A box, or a bend of a line."""

    width: float
    height: float
    layer: int
    x: float = 0.0
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


def lay_out(sizes: Sequence[tuple[float, float]], lines: Sequence[tuple[int, int]]) -> Placed:
    """Place boxes and lines.

    Args:
        sizes: Width and height of each box.
        lines: From box to box by index, each to a later one.
    """
    layers = layers_of(len(sizes), lines)
    items = [_Item(width, height, layer) for (width, height), layer in zip(sizes, layers, strict=True)]
    bends = _bend(items, lines)
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for index, item in enumerate(items):
        rows[item.layer].append(index)
    for sweep in range(_SWEEPS):
        _sweep(items, rows, down=sweep % 2 == 0)
    ys, height = _heights(items, rows)
    left = min((item.x - item.width / 2 for item in items), default=0.0) - GAP_X
    right = max((item.x + item.width / 2 for item in items), default=0.0) + GAP_X
    points = [(item.x - left, ys[item.layer]) for item in items]
    return Placed(
        tuple(points[: len(sizes)]), tuple(tuple(points[bend] for bend in line) for line in bends), right - left, height
    )


def layers_of(count: int, lines: Sequence[tuple[int, int]]) -> list[int]:
    """Tell the layer of each box: below all that lead to it, and where nothing does just above its first taker."""
    layers = [0] * count
    takers: list[list[int]] = [[] for _ in range(count)]
    fed = [False] * count
    for source, target in sorted(lines):
        takers[source].append(target)
        fed[target] = True
    for index in range(count):
        for target in takers[index]:
            layers[target] = max(layers[target], layers[index] + 1)
    for index in range(count - 1, -1, -1):
        if not fed[index] and takers[index]:
            layers[index] = max(0, min(layers[target] for target in takers[index]) - 1)
    return layers


def _bend(items: list[_Item], lines: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Add a bend in each layer that a line crosses, and join neighbours in layers; the bends of each line."""
    spans = sum(max(0, items[target].layer - items[source].layer - 1) for source, target in lines)
    bends: list[list[int]] = []
    for source, target in lines:
        line: list[int] = []
        before = source
        if spans <= MOST_BENDS:
            for layer in range(items[source].layer + 1, items[target].layer):
                items.append(_Item(_BEND_WIDTH, 0.0, layer))
                line.append(len(items) - 1)
                _join(items, before, line[-1])
                before = line[-1]
        _join(items, before, target)
        bends.append(line)
    return bends


def _join(items: list[_Item], above: int, below: int) -> None:
    items[above].below.append(below)
    items[below].above.append(above)


def _sweep(items: list[_Item], rows: list[list[int]], *, down: bool) -> None:
    """Go through the layers once; each is ordered and placed by the one before it."""
    for row in rows if down else reversed(rows):
        wanted = {index: _wanted(items, index, down=down) for index in row}
        row.sort(key=lambda index: wanted[index])
        for index, x in zip(row, _apart([items[i].width for i in row], [wanted[i] for i in row]), strict=True):
            items[index].x = x


def _wanted(items: list[_Item], index: int, *, down: bool) -> float:
    neighbours = items[index].above if down else items[index].below
    if not neighbours:
        return items[index].x
    return sum(items[other].x for other in neighbours) / len(neighbours)


def _apart(widths: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Place items of one layer, in this order, without overlap and as near to where they want as can be."""
    offsets = [0.0]
    for before, after in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (before + after) / 2 + GAP_X)
    # Without the offsets the places must only not fall: pool those that do.
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=False):
        pool = (place - offset, 1)
        while pools and pools[-1][0] > pool[0]:
            total, count = pools.pop()
            pool = ((total * count + pool[0] * pool[1]) / (count + pool[1]), count + pool[1])
        pools.append(pool)
    fitted = [place for place, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(fitted, offsets, strict=False)]


def _heights(items: list[_Item], rows: list[list[int]]) -> tuple[list[float], float]:
    """Tell the middle of each layer, and the height of the whole."""
    ys, y = [], GAP_Y / 2
    for row in rows:
        tallest = max((items[index].height for index in row), default=0.0)
        ys.append(y + tallest / 2)
        y += tallest + GAP_Y
    return ys, y
