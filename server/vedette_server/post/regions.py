"""Tell which points lie in a channel's regions of interest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.config import Polygon


class Regions:
    """Polygons, ready to be asked.

    Args:
        polygons: Corners in order, the last joined to the first; the plane's unit is the caller's.
    """

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._edges = [_edges(np.array(polygon, np.float64)) for polygon in polygons]

    def __bool__(self) -> bool:
        """Tell whether there is any region."""
        return bool(self._edges)

    def contain(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell of each point whether it lies in at least one polygon, by the even-odd rule.

        Source: W. Randolph Franklin, PNPOLY: a ray to the right crosses the outline an odd number of times.

        Args:
            points: ``float32 [n, 2]``, x, y.

        Returns:
            ``bool [n]``.
        """
        inside = np.zeros(len(points), np.bool_)
        x, y = points[:, :1], points[:, 1:]
        for start_x, start_y, end_y, slope in self._edges:
            spans = (start_y > y) != (end_y > y)
            crossings = np.count_nonzero(spans & (x < start_x + (y - start_y) * slope), axis=1)
            inside |= crossings % 2 == 1
        return inside


def _edges(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return of each edge, ``float64 [m]`` each: start x, start y, end y, and x per y (0 for level ones: unused)."""
    ends = np.roll(corners, -1, axis=0)
    rise = ends[:, 1] - corners[:, 1]
    slope = np.divide(ends[:, 0] - corners[:, 0], rise, out=np.zeros(len(corners)), where=rise != 0)
    return corners[:, 0], corners[:, 1], ends[:, 1], slope
