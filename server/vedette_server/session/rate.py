"""Hold a channel to its `max_fps` by taking the frames nearest to an even beat.

The beat is kept: a frame that comes a little early or late does not move those after it, so that a camera of 15 fps
that is limited to 5 gives every third frame, jitter or not. What is early enough is learnt from the distance of the
frames.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

import math

# Weight of the newest distance between frames in the running mean; the jitter of single frames averages out.
_SMOOTHING = 1 / 8


class RateLimiter:
    """Admits at most ``max_fps`` frames per second.

    In any ``x`` seconds at most ``x * max_fps + 2.5`` frames are admitted, while time does not run backwards.

    Args:
        max_fps: Frames per second, above 0; None: no limit.

    Raises:
        ValueError: ``max_fps`` is out of range.
    """

    def __init__(self, max_fps: float | None) -> None:
        self._interval_s = _interval_s(max_fps)
        self._due_s: float | None = None
        self._last_s: float | None = None
        self._admitted_s = 0.0
        self._distance_s: float | None = None

    def set(self, max_fps: float | None) -> None:
        """Change the limit; the next frame is due one new interval after the last one admitted.

        Raises:
            ValueError: ``max_fps`` is out of range.
        """
        self._interval_s = _interval_s(max_fps)
        if self._due_s is not None:
            self._due_s = self._admitted_s + self._interval_s

    def admit(self, t_s: float) -> bool:
        """Tell whether the frame of time ``t_s`` is to be analysed.

        Args:
            t_s: On one clock for all calls, usually rising. When it jumps backwards the beat starts anew.
        """
        self._learn_distance(t_s)
        interval_s = self._interval_s
        due_s = t_s if self._due_s is None else self._due_s
        slack_s = min(self._distance_s or 0.0, interval_s) / 2
        # After a frame that was admitted early the next one is due within 1.5 intervals; further off is another time.
        jumped_back = due_s - t_s > 2 * interval_s
        if t_s < due_s - slack_s and not jumped_back:
            return False
        late = t_s - due_s > interval_s
        self._due_s = t_s + interval_s if late or jumped_back else due_s + interval_s
        self._admitted_s = t_s
        return True

    def _learn_distance(self, t_s: float) -> None:
        last_s, self._last_s = self._last_s, t_s
        if last_s is None or t_s <= last_s:
            return
        # Longer pauses tell nothing: from one interval on every frame is due.
        distance_s = min(t_s - last_s, self._interval_s) if self._interval_s else t_s - last_s
        if self._distance_s is None:
            self._distance_s = distance_s
        else:
            self._distance_s += (distance_s - self._distance_s) * _SMOOTHING


def _interval_s(max_fps: float | None) -> float:
    if max_fps is None:
        return 0.0
    if not 0 < max_fps < math.inf:
        raise ValueError(f"max_fps is {max_fps}; it must be a number above 0, or None for no limit")
    return 1 / max_fps
