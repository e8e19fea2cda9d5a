"""Decides per frame whether a channel's engines run: something moves, something is followed, or it is time again.

OpenCV's MOG2 at 96x54 on pictures whose light was first made that of the background (one gain and one offset for all).
A change of the light that makes a third of the picture white at once still opens it for some seconds. Chosen
by measurement on real clips (`bench/health.py`) against KNN, which is as good and needs more memory, and against
a running average, which keeps the ghost of whoever stood somewhere for a minute and then misses nothing by hardly ever
closing. Called in presentation order by one thread at a time. Cost per frame: 200 to 240 us of one core (MOG2 90),
besides the small picture itself.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vedette_server.data.rules import GateConfig, GateMode, MaskKind
from vedette_server.monitor.luma import HEIGHT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.rules import Mask

# A pixel has changed where it is off by the root of so many variances of its own.
_VARIANCES = 25.0
_LEARN_S = 30.0
# So much of the picture at once is no object: the light, or the camera.
_FLOOD = 0.6
_SETTLE_S = 1.0
# A difference of less than so many of 255 is no other light.
_SAME = 1.5
# Of 336 pixels that are looked at, so many have to be neither white nor black.
_FEW = 32
# At the ends of the range, or nearly: averaged pixels are seldom wholly white.
_WHITE, _BLACK = 235, 10


class GateReason(StrEnum):
    """Why engines run on a frame, or do not."""

    OFF = "off"
    START = "start"
    TRACK = "track"
    MOTION = "motion"
    HOLD = "hold"
    FLOOR = "floor"
    NO_MOTION = "no-motion"

    @property
    def runs(self) -> bool:
        """Whether they do."""
        return self is not GateReason.NO_MOTION


class MotionGate:
    """The gate of one channel.

    Args:
        config: Which frames are wanted; its `min_area` is taken of the picture without what is masked.
        masks: Motion in those of the kinds MOTION and PRIVACY does not count.
        hold_s: The gate stays open for so long after motion.

    Attributes:
        reason: Of the latest decision.
        area: Share of the picture that had changed at the latest decision, 0..1.
    """

    def __init__(self, config: GateConfig, masks: Sequence[Mask] = (), *, hold_s: float = 2.0) -> None:
        self._hold_s = hold_s
        self._background = Background()
        self._moved_s = self._ran_s = -math.inf
        self.reason = GateReason.OFF
        self.area = 0.0
        self.change(config, masks)

    def change(self, config: GateConfig, masks: Sequence[Mask] = ()) -> None:
        """Decide by another configuration from now on; what was learned stays."""
        self._config = config
        self._open = open_area(masks)
        self._size = cv2.countNonZero(self._open)
        self._least = max(config.min_area * self._size, 1.0)

    def decide(self, grey: NDArray[np.uint8], time_s: float, live_tracks: bool) -> bool:
        """Tell whether the engines run on a frame.

        Args:
            grey: ``uint8 [54, 96]``, see `Luma`; not kept.
            time_s: When it was taken; where it runs back, all is learned anew.
            live_tracks: Something is followed.
        """
        self.reason = GateReason.OFF
        if self._config.mode is GateMode.MOTION:
            self.reason = self._judge(grey, time_s, live_tracks)
        if self.reason.runs:
            self._ran_s = time_s
        return self.reason.runs

    def _judge(self, grey: NDArray[np.uint8], time_s: float, live_tracks: bool) -> GateReason:
        fresh = time_s < self._background.time_s or self._background.empty
        if fresh:
            self._background = Background()
            self._moved_s = self._ran_s = -math.inf
        changed = self._background.step(grey, time_s)
        count = cv2.countNonZero(changed & self._open)
        self.area = count / max(self._size, 1)
        if fresh:
            return GateReason.START
        if count >= self._least:
            self._moved_s = time_s
        if live_tracks:
            return GateReason.TRACK
        if time_s == self._moved_s:
            return GateReason.MOTION
        if time_s - self._moved_s <= self._hold_s:
            return GateReason.HOLD
        floor = self._config.floor_fps
        # A hair less: sums of frame times fall short of the period by rounding.
        if floor > 0 and time_s - self._ran_s >= 1 / floor - 1e-3:
            return GateReason.FLOOR
        return GateReason.NO_MOTION


class Background:
    """What a channel's picture looks like when nothing happens, and how it is lit.

    Args:
        learn_s: Of so many seconds it is made; what stands still is part of it after about a tenth.

    Attributes:
        time_s: Of the latest picture.
    """

    def __init__(self, learn_s: float = _LEARN_S) -> None:
        self.time_s = -math.inf
        self._learn_s = learn_s
        # All in the light of the first picture: each one is brought there before it is compared.
        self._mean: NDArray[np.float32] | None = None
        self._mixture = cv2.createBackgroundSubtractorMOG2(varThreshold=_VARIANCES, detectShadows=False)
        self._settled_s = -math.inf

    @property
    def empty(self) -> bool:
        """Whether no picture was seen yet."""
        return self._mean is None

    def step(self, grey: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
        """Take a picture; return ``uint8 [54, 96]``, 1 where it is another than the background, else 0."""
        if self._mean is None:
            return self._begin(grey, time_s)
        passed, self.time_s = time_s - self.time_s, time_s
        gain, offset = lighting(self._mean, grey)
        lit = grey if gain == 1 and offset == 0 else _unlit(grey, self._mean, gain, offset)
        # Right after a flood it settles: exposure control takes its time.
        learn_s = _SETTLE_S if time_s - self._settled_s < _SETTLE_S else self._learn_s
        rate = 1 - math.exp(-passed / learn_s)
        changed: Any = self._mixture.apply(lit, learningRate=rate)
        count = cv2.countNonZero(changed)
        if count > _FLOOD * changed.size:
            # No object is so large: the light changed in a way that no gain undoes, or the camera moved.
            self._settled_s = time_s
            return self._begin(grey, time_s)
        cv2.accumulateWeighted(lit, self._mean, rate)
        return _without_specks(changed) if count else changed

    def _begin(self, grey: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
        self._mixture.apply(grey, learningRate=1)
        self._mean, self.time_s = grey.astype(np.float32), time_s
        return np.zeros(grey.shape, np.uint8)


def lighting(mean: NDArray[np.float32], grey: NDArray[np.uint8]) -> tuple[float, float]:
    """Tell how a picture is lit: the gain and the offset that make it of a background, by the half that fits best.

    Args:
        mean: ``float32 [h, w]``, the background.
        grey: ``uint8 [h, w]``, the picture.

    Returns:
        1, 0 where the light is the same.
    """
    sample = mean[1::4, 1::4].ravel()
    target = grey[1::4, 1::4].ravel().astype(np.float32)
    difference = target - sample
    offset = _median(difference)
    if abs(offset) < _SAME and _median(np.abs(difference)) < _SAME:
        return 1.0, 0.0
    # What is clipped in one of both says nothing about the light.
    fit = (target > _BLACK) & (target < _WHITE) & (sample > _BLACK) & (sample < _WHITE)
    if np.count_nonzero(fit) < _FEW:
        return 1.0, 0.0
    sample, target = sample[fit], target[fit]
    return _fit(sample, target)


def _fit(sample: NDArray[np.float32], target: NDArray[np.float32]) -> tuple[float, float]:
    """Fit a line by least trimmed squares (Rousseeuw 1984): the half that fits best is fitted again, four times."""
    gain, offset = 1.0, _median(target - sample)
    for _ in range(4):
        off = np.abs(target - gain * sample - offset)
        best = off <= _median(off)
        x, y = sample[best], target[best]
        x_mean, y_mean = float(x.mean()), float(y.mean())
        x -= x_mean
        spread = float(x @ x)
        if spread < _SAME * len(x):
            break
        gain = min(max(float(x @ y) / spread, 0.2), 5.0)
        offset = y_mean - gain * x_mean
    return gain, offset


def _median(values: NDArray[np.float32]) -> float:
    """Return the upper median: numpy's own takes three times as long for so few."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _unlit(grey: NDArray[np.uint8], mean: NDArray[np.float32], gain: float, offset: float) -> NDArray[np.uint8]:
    """Bring a picture into the light of its background."""
    table = np.clip((np.arange(256) - offset) / gain + 0.5, 0, 255).astype(np.uint8)
    lit: Any = cv2.LUT(grey, table)
    expected = mean * np.float32(gain) + np.float32(offset)
    # White that would be whiter and black that would be blacker are what was expected; and who knows how white it is
    # that was white before.
    clipped = (grey >= _WHITE) & (expected > _WHITE) | (grey >= expected) & (mean > _WHITE)
    clipped |= (grey <= _BLACK) & (expected < _BLACK) | (grey <= expected) & (mean < _BLACK)
    if clipped.any():
        lit[clipped] = mean[clipped]
    return lit  # type: ignore[no-any-return]


def open_area(masks: Sequence[Mask]) -> NDArray[np.uint8]:
    """Paint where motion counts: ``uint8 [54, 96]``, 0 under masks of motion and privacy, else 1."""
    hidden: Any = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mask in masks:
        if mask.kind in {MaskKind.MOTION, MaskKind.PRIVACY}:
            corners = np.array(mask.vertices, np.float64) * (WIDTH, HEIGHT)
            # Corners lie between pixels, fillPoly's on them: hence the half.
            cv2.fillPoly(hidden, [np.round(corners - 0.5).astype(np.int32)], 1)
    return (hidden == 0).view(np.uint8)  # type: ignore[no-any-return]


def _without_specks(changed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep changed pixels (of 0 and 255, as 1) of which three stand together in a block of nine: noise does not."""
    flags: Any = cv2.min(changed, 1)  # type: ignore[call-overload]
    near: Any = cv2.boxFilter(flags, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    kept: NDArray[np.uint8] = (near >= 3).view(np.uint8) & flags
    return kept
