"""Hand out frames as engines see them, so that a calibration can learn from what cameras really show.

A worker only copies a frame that is due; a thread of its own encodes it. What it does not manage is left out.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from typing import TYPE_CHECKING

import cv2

from vedette_server.data.engine import SampledFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.conversion import Look, Sight
    from vedette_server.frame import Frame

# Frames that wait to be encoded; each holds a copy.
MOST_WAITING = 8


class FrameSampler:
    """Takes one frame of each channel every so often; a `Tap`.

    Args:
        interval_s: Time between two frames of one channel.
        take: Gets them, from this sampler's thread; must not block.
        on_close: Called once it takes no more.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        interval_s: float,
        take: Callable[[SampledFrame], None],
        on_close: Callable[[FrameSampler], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = interval_s
        self._take = take
        self._on_close = on_close
        self._clock = clock
        self._lock = threading.Lock()
        self._last_s: dict[str, float] = {}
        self._closed = False
        self._waiting: queue.Queue[tuple[str, int, NDArray[np.uint8]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._encode, name="frame-sampler", daemon=True)
        self._thread.start()

    def look(self, frame: Frame, slot: Sight, *, idle: bool) -> Look | None:  # noqa: ARG002 - a copy is cheap
        """Copy the frame if its channel's time has come and there is room."""
        channel, now = frame.channel.config.channel, self._clock()
        with self._lock:
            due = now - self._last_s.get(channel, -math.inf) >= self._interval_s
            if self._closed or not due or self._waiting.full():
                return None
            self._last_s[channel] = now
            self._waiting.put_nowait((channel, frame.packet.sequence, slot.pixels.copy()))
        return None

    def close(self) -> None:
        """Take no more; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._on_close(self)
        # Whatever waits is left out: whoever closes wants no more of it.
        while not self._put_end():
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()

    def _put_end(self) -> bool:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return False
        return True

    def _encode(self) -> None:
        while (item := self._waiting.get()) is not None:
            channel, sequence, pixels = item
            done, png = cv2.imencode(".png", pixels)
            if done and not self._closed:
                self._take(SampledFrame(channel, sequence, png.tobytes()))
