"""Where tracks are thought to be, and how surely, at any time: Kalman filters in seconds, one array for all tracks.

Of each track the centre moves with constant velocity, disturbed by white acceleration; width and height drift at
random. The four are independent of each other, so that each is a filter of two numbers (place, velocity) in closed
form, and a step for all tracks is a dozen operations on arrays `[tracks, 4]`. The disturbance is that of continuous
time (Bar-Shalom, Li, Kirubarajan 2001, "Estimation with Applications to Tracking and Navigation", 6.2.2): to predict by
0.2 s at once is the same as to predict ten times by 20 ms, which is what skipped frames need. All noise is in sizes of
the object (the root of its area), as in SORT and ByteTrack, where it is in heights.

Lengths are heights of the picture, so that both axes have one measure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Standard deviations, in sizes of the object.
_MEASURED = np.array([0.06, 0.06, 0.15, 0.15])  # of a detection's centre, width and height
_SPEED = 1.5  # per second, of an object seen for the first time: a person walks at 1.3 and runs at 3
# Per second: white acceleration of the centre, variance of its velocity after a second; drift of width and height.
_ACCELERATION = 0.05
_DRIFT = 0.1
# Nothing is smaller, so that a box without area divides nothing by zero.
_SMALLEST = 0.004
# So near the picture's edge a box is cut, in heights of the picture.
_EDGE = 0.01
# A side that is at once shorter, or longer, than so many times itself is hidden in part, or not its own alone.
_PART, _MORE = 0.65, 1.5
# So much alike has the other side to be.
_SAME = 0.9
# What is not seen for long is not looked for everywhere: a place is taken for known so well at least, in sizes.
_LOST_WITHIN = 0.25


class MotionModel:
    """The filters of all tracks of a channel; rows are in the order of its tracks."""

    def __init__(self) -> None:
        self.means = np.empty((0, 4))
        self.velocities = np.empty((0, 4))
        self._places = np.empty((0, 4))
        self._crosses = np.empty((0, 4))
        self._speeds = np.empty((0, 4))

    def __len__(self) -> int:
        """Return how many tracks there are."""
        return len(self.means)

    def start(self, measured: NDArray[np.float64]) -> None:
        """Add tracks that are seen for the first time.

        Args:
            measured: `float64 [n, 4]`: centre x, centre y, width, height; copied.
        """
        sizes = _sizes(measured)
        self.means = np.concatenate((self.means, measured))
        self.velocities = np.concatenate((self.velocities, np.zeros_like(measured)))
        self._places = np.concatenate((self._places, (sizes * _MEASURED) ** 2))
        self._crosses = np.concatenate((self._crosses, np.zeros_like(measured)))
        self._speeds = np.concatenate((self._speeds, (sizes * _SPEED) ** 2 * _MOVES))

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Forget all tracks but these."""
        self.means = self.means[rows]
        self.velocities = self.velocities[rows]
        self._places = self._places[rows]
        self._crosses = self._crosses[rows]
        self._speeds = self._speeds[rows]

    def predict(self, elapsed_s: float) -> None:
        """Let time pass."""
        if elapsed_s <= 0.0 or not len(self.means):
            return
        variances = _sizes(self.means) ** 2
        self.means += elapsed_s * self.velocities
        self._places += elapsed_s * (2.0 * self._crosses + elapsed_s * self._speeds)
        self._places += variances * (_ACCELERATION * elapsed_s**3 / 3.0 * _MOVES + _DRIFT**2 * elapsed_s)
        self._crosses += elapsed_s * self._speeds + variances * (_ACCELERATION * elapsed_s**2 / 2.0 * _MOVES)
        self._speeds += variances * (_ACCELERATION * elapsed_s * _MOVES)

    def expected(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how surely detections of these tracks can be foretold.

        Returns:
            `float64 [n, 4]`, variances of where they would be; `float64 [n]`, how vague that is: the logarithm of how
            many times larger the variances are than a detection's own, from 0.
        """
        sizes = _sizes(self.means[rows])
        least = (sizes * _MEASURED) ** 2
        variances = np.minimum(self._places[rows], (sizes * _LOST_WITHIN) ** 2) + least
        return variances, np.log(variances / least).sum(axis=1)

    def correct(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> None:
        """Take what was seen of some tracks.

        Args:
            rows: `intp [n]`, each at most once.
            measured: `float64 [n, 4]`: centre x, centre y, width, height.
        """
        places, crosses = self._places[rows], self._crosses[rows]
        surprise = measured - self.means[rows]
        inverse = 1.0 / (places + (_sizes(measured) * _MEASURED) ** 2)
        gain, gain_speed = places * inverse, crosses * inverse
        self.means[rows] += gain * surprise
        self.velocities[rows] += gain_speed * surprise
        self._places[rows] = (1.0 - gain) * places
        self._crosses[rows] = (1.0 - gain) * crosses
        self._speeds[rows] -= gain_speed * crosses

    def visible(self, aspect: float) -> NDArray[np.float64]:
        """Return the parts of all tracks that lie in the picture: `float64 [n, 4]`, without area where none does."""
        low, high = self.means[:, :2] - self.means[:, 2:] / 2.0, self.means[:, :2] + self.means[:, 2:] / 2.0
        low, high = np.maximum(low, 0.0), np.minimum(high, (aspect, 1.0))
        return np.concatenate(((low + high) / 2.0, np.maximum(high - low, 0.0)), axis=1)

    def completed(self, rows: NDArray[np.intp], measured: NDArray[np.float64], aspect: float) -> NDArray[np.float64]:
        """Return detections of tracks as if the picture did not end: what is cut at its edge is as large as before.

        An object that leaves would seem to shrink and to slow down otherwise.

        Args:
            rows: `intp [n]`.
            measured: `float64 [n, 4]`, one detection of each.
            aspect: Width of the picture over its height.
        """
        half, known = measured[:, 2:] / 2.0, self.means[rows, 2:] / 2.0
        low, high = measured[:, :2] - half, measured[:, :2] + half
        larger = known > half
        cut_low, cut_high = larger & (low < _EDGE), larger & (high > np.array((aspect, 1.0)) - _EDGE)
        both = cut_low & cut_high
        centres = np.where(cut_low, high - known, np.where(cut_high, low + known, measured[:, :2]))
        centres = np.where(both, self.means[rows, :2], centres)
        return np.concatenate((centres, np.where(cut_low | cut_high, known, half) * 2.0), axis=1)

    def stop(self) -> None:
        """Take all tracks for standing, where they are: nobody looked for long."""
        sizes = _sizes(self.means)
        self.velocities[:] = 0.0
        self._places[:] = (sizes * _MEASURED) ** 2
        self._crosses[:] = 0.0
        self._speeds[:] = (sizes * _SPEED) ** 2 * _MOVES


def refitted(
    means: NDArray[np.float64], measured: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fit what is known of objects to detections of another width or height alone: a part of them, or more than them.

    Half behind a pillar, or taken together with another one: the object keeps its size; of the edges of the detection
    that one is the object's which is nearer to where it is thought to be.

    Args:
        means: `float64 [n, 4]`, where objects are thought to be.
        measured: `float64 [n, 4]`, a detection for each.

    Returns:
        `float64 [n, 4]`, where the objects are; `bool [n]`, whether that is another place than the detection's.
    """
    known, half = means[..., 2:] / 2.0, measured[..., 2:] / 2.0
    odd: NDArray[np.bool_] = (half < known * _PART) | (half > known * _MORE)
    if not odd.any():
        return measured, np.zeros(odd.shape[:-1], np.bool_)
    off = measured[..., :2] - means[..., :2]
    low, high = off - half + known, off + half - known
    shift = np.where(np.abs(low) < np.abs(high), low, high)
    # Of an object that has come nearer, or is another one, the other side has changed, too.
    same = (half > known * _SAME) & (half < known / _SAME)
    odd &= same[..., ::-1] & (np.abs(shift) <= known)
    centres = np.where(odd, means[..., :2] + shift, measured[..., :2])
    either: NDArray[np.bool_] = np.asarray(odd.any(axis=-1))
    return np.concatenate((centres, np.where(odd, known, half) * 2.0), axis=-1), either


_MOVES = np.array([1.0, 1.0, 0.0, 0.0])


def _sizes(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the roots of areas: `float64 [n, 1]`."""
    sides = np.maximum(measured[:, 2:], _SMALLEST)
    roots: NDArray[np.float64] = np.sqrt(sides[:, :1] * sides[:, 1:])
    return roots


def measured_of(boxes: NDArray[np.float32], aspect: float) -> NDArray[np.float64]:
    """Return centres and sizes of boxes: `float64 [n, 4]`, in heights of the picture."""
    corners = boxes.astype(np.float64)
    corners[:, 0::2] *= aspect
    sides = corners[:, 2:] - corners[:, :2]
    return np.concatenate((corners[:, :2] + sides * 0.5, sides), axis=1)


def box_of(mean: NDArray[np.float64], aspect: float) -> tuple[float, float, float, float]:
    """Return the box of one track, normalised and within the picture."""
    x, y, width, height = mean.tolist()
    half_width, half_height = max(width, 0.0) / 2.0, max(height, 0.0) / 2.0
    edges = (x - half_width) / aspect, y - half_height, (x + half_width) / aspect, y + half_height
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) if math.isfinite(edge) else 0.0 for edge in edges)
    return left, top, right, bottom
