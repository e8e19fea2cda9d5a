"""Whether a camera sends the same picture over and over.

Looked for in rows at full resolution, cut into segments: a living camera's differ by noise even where nothing moves, a
frozen one's do not. A segment that never changes while the others do not either is no proof by itself, so:

- A clock that the camera writes over its picture runs on while the picture is frozen: up to a twelfth of the segments
  may change, if they are always the same ones.
- What keeps still is told from noise by what is usual of the camera: a third of its quiet moments' noise.
- Where an encoder (or a synthetic scene) leaves no noise at all, a still scene cannot be told from a frozen one but by
  waiting: then a minute, not ten seconds.
- Every key picture encodes a frozen picture anew, a little differently: one picture in four may differ a little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vedette_server.data.event import EventKind
from vedette_server.monitor.health.finding import Finding, Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.monitor.luma import Luma

_SEGMENTS = 12
_OVERLAY = 1 / 12
_LEAST_NOISE, _NOISE_SHARE = 0.04, 0.3
# A channel whose quiet moments have less noise than this is taken for one without noise.
_NOISELESS = 0.12
_PATIENCE_S, _NOISELESS_PATIENCE_S = 10.0, 60.0
_PULSE, _PULSES = 1.5, 0.25


class Stillness:
    """Watches for a picture that stands still."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._first: NDArray[np.uint8] | None = None
        self._since_s = 0.0
        self._changed: NDArray[np.bool_] | None = None
        self._count = self._pulses = 0
        self._noise = Level(600, 10, 0.2)

    def take(self, luma: Luma, time_s: float) -> Finding | None:
        """Take a picture with lines; return a finding while it stands still, however short it has by now."""
        lines, before = luma.lines, self._before
        self._before = lines
        if lines is None or before is None or lines.shape != before.shape:
            self._restart(lines, time_s)
            return None
        stir = _stir(lines, before)
        quiet = _quiet(stir)
        usual = self._noise.known
        limit = max(_LEAST_NOISE, _NOISE_SHARE * (usual or 0.0))
        if not self._still(lines, stir, quiet, limit):
            if quiet > limit or self._count == 0:
                self._noise.learn(quiet)
            self._restart(lines, time_s)
            return None
        noiseless = usual is None or usual < _NOISELESS
        if noiseless:
            # It is a figure of the camera too: without it a noiseless channel would never be known as one.
            self._noise.learn(quiet)
        return Finding(
            EventKind.CAMERA_FROZEN,
            "the picture does not change any more",
            {"difference": quiet, "usual_difference": usual or 0.0},
            patience_s=_NOISELESS_PATIENCE_S if noiseless else _PATIENCE_S,
            since_s=self._since_s,
        )

    def _still(self, lines: NDArray[np.uint8], stir: NDArray[np.float32], quiet: float, limit: float) -> bool:
        assert self._first is not None  # noqa: S101 - set with the picture before
        self._count += 1
        pulse = quiet > limit
        self._pulses += pulse
        if pulse:
            drift = _quiet(_stir(lines, self._first))
            return drift < _PULSE and self._count >= 4 and self._pulses <= _PULSES * self._count
        changed = stir > max(3 * limit, 0.5)
        self._changed = changed if self._changed is None else self._changed | changed
        return float(self._changed.mean()) <= _OVERLAY and _quiet(_stir(lines, self._first)) < _PULSE

    def _restart(self, lines: NDArray[np.uint8] | None, time_s: float) -> None:
        self._first, self._since_s, self._changed = lines, time_s, None
        self._count = self._pulses = 0


def _stir(lines: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``float32 [rows, 12]``: by how much of 255 each segment of each row differs on average."""
    size = (_SEGMENTS, len(lines))
    difference = cv2.absdiff(lines, before).astype(np.float32)
    stir: Any = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
    return stir  # type: ignore[no-any-return]


def _quiet(stir: NDArray[np.float32]) -> float:
    """Return the mean of all but the most changed twelfth: without a clock that is written over the picture."""
    flat = np.sort(stir, axis=None)
    return float(flat[: int(len(flat) * (1 - _OVERLAY))].mean())
