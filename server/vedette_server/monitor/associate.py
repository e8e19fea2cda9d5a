"""Which detection belongs to which track.

A pair costs what the filter says of it: how unlikely the detection's place and size are (the squared Mahalanobis
distance), how vague the track is (the logarithm of its uncertainty, so that one lost for a while does not take what
another one expects), and how little the boxes overlap. A pair is possible where the place is likely, or where the boxes
overlap well: a person whose legs vanish behind a car is in a wrong place and of a wrong size, but still there. The
A detection of another width or height alone may show a part of the object, the rest of which is
hidden, or two at once: it is also held against the track with the track's own size, laid to the edge that fits. The
cheapest set of possible pairs is chosen by `scipy.optimize.linear_sum_assignment`, whose work is bounded by the cube of
the smaller side whatever the costs are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from vedette_server.monitor.motion_model import refitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# 99 % of what four normal numbers give (chi-squared).
LIKELY = 13.28
# Boxes that overlap so well are possible whatever the filter says.
OVERLAP = 0.5
# What no overlap costs against a complete one.
_APART = 4.0
# What another label of the same family costs.
_RELABELLED = 2.0
# What it costs that only a part is seen, or more than the object.
_REFITTED = 2.0


def overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of each with each.

    Args:
        one: `float64 [n, 4]`: centre x, centre y, width, height.
        other: `float64 [m, 4]`.

    Returns:
        `float64 [n, m]`, 0..1.
    """
    low = np.maximum((one[:, :2] - one[:, 2:] / 2.0)[:, None], (other[:, :2] - other[:, 2:] / 2.0)[None])
    high = np.minimum((one[:, :2] + one[:, 2:] / 2.0)[:, None], (other[:, :2] + other[:, 2:] / 2.0)[None])
    sides = np.maximum(high - low, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = (one[:, 2] * one[:, 3])[:, None] + (other[:, 2] * other[:, 3])[None] - shared
    shares: NDArray[np.float64] = shared / np.maximum(areas, 1e-12)
    return shares


def costs(
    means: NDArray[np.float64],
    expected: tuple[NDArray[np.float64], NDArray[np.float64]],
    measured: NDArray[np.float64],
    families: tuple[NDArray[np.intp], NDArray[np.intp]],
    classes: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    """Return what each pair gains: below 0 where it is possible, the less the better; 0 where it is not.

    Args:
        means: `float64 [tracks, 4]`, where they are thought to be.
        expected: How surely, by `MotionModel.expected`.
        measured: `float64 [detections, 4]`.
        families: Of tracks and of detections; different ones are never a pair.
        classes: Labels of tracks and of detections, as numbers.
    """
    variances, vague = expected
    distance = ((means[:, None] - measured[None]) ** 2 / variances[:, None]).sum(axis=2)
    shared = overlaps(means, measured)
    possible = (distance <= LIKELY) | (shared >= OVERLAP)
    gains = np.minimum(distance, LIKELY) + _APART * (1.0 - shared)
    # Only where boxes are near: for each with each it takes as long as everything else together.
    away = np.abs(means[:, None, :2] - measured[None, :, :2])
    rows, columns = np.nonzero((away <= means[:, None, 2:] + measured[None, :, 2:] / 2.0).all(axis=2))
    fitted, odd = refitted(means[rows], measured[columns])
    if odd.any():
        rows, columns = rows[odd], columns[odd]
        off = ((means[rows] - fitted[odd]) ** 2 / variances[rows]).sum(axis=1)
        least = off + _APART * (1.0 - shared[rows, columns]) + _REFITTED
        better = (off <= LIKELY) & (least < gains[rows, columns])
        rows, columns = rows[better], columns[better]
        gains[rows, columns], possible[rows, columns] = least[better], True
    gains += (vague - vague.max())[:, None] + _RELABELLED * (classes[0][:, None] != classes[1][None])
    possible &= families[0][:, None] == families[1][None]
    return np.where(possible, np.minimum(gains - (LIKELY + _APART + _RELABELLED + 1e-6), -1e-6), 0.0)


def pairs(gains: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose the pairs that together gain most: rows and columns, each at most once."""
    if not gains.size:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    rows, columns = linear_sum_assignment(gains)
    chosen = gains[rows, columns] < 0.0
    return rows[chosen], columns[chosen]
