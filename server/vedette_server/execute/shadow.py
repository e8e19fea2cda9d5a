"""Run a version on what capacity is left, and compare what it says with what channels were told.

The shadow has a thread of its own with a low priority for the processor, besides all lanes and workers: one that
fails, or hangs, or is slow, is felt by no channel. It takes a frame only when a slot of its own is free and no
worker has anything to do; its results are counted, some of them kept to be looked at, and dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import cv2

from vedette_server.conversion import Look
from vedette_server.data.engine import ShadowSample, ShadowTotals
from vedette_server.execute.client import Surface
from vedette_server.execute.comparing import Comparator, Difference, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.conversion import Sight
    from vedette_server.execute.client import Inference
    from vedette_server.execute.fleet import Loaded
    from vedette_server.frame import Frame
    from vedette_server.metrics import RouteMetrics
    from vedette_server.picture.slots import Slot

_log = logging.getLogger(__name__)

MOST_SAMPLES = 64
NICENESS = 10
# So long a shadow that was told to end may go on with its batch.
LAST_BATCH_S = 2.0
PAUSE_S = 0.005
JPEG_QUALITY = 85


@dataclass(slots=True, eq=False)
class _Pair:
    """One frame that both versions run."""

    channel: str
    sequence: int
    received_s: float
    shape: Shape
    pixels: NDArray[np.uint8]
    stable: NDArray[np.float32] | None = None
    shadow: NDArray[np.float32] | None = None
    missing: int = 2
    failed: bool = False


class Shadow:
    """The comparison of one version with the stable one; a `Tap` on the stable one's frames.

    Args:
        loaded: The shadow; the pipeline does not run it.
        stable: What it is compared with.
        is_idle: Tells whether no worker has anything to do.
        metrics: Counts what was compared.
    """

    def __init__(self, loaded: Loaded, stable: Loaded, is_idle: Callable[[], bool], metrics: RouteMetrics) -> None:
        self._loaded, self._stable = loaded, stable
        self._inference = loaded.inference
        self._comparator = Comparator(stable.inference, loaded.inference)
        self._same_input = loaded.inference.fit == stable.inference.fit
        self._is_idle = is_idle
        self._metrics = metrics
        self._lock = threading.Lock()
        self._totals = ShadowTotals(loaded.bundle.version, stable.bundle.version)
        self._score_sum = 0.0
        self._samples: deque[ShadowSample] = deque(maxlen=MOST_SAMPLES)
        self._met: deque[_Pair] = deque()
        self._stirred = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"shadow-{loaded.bundle.name}", daemon=True)
        self._thread.start()

    def report(self) -> tuple[ShadowTotals, tuple[ShadowSample, ...]]:
        """Tell how the versions differed so far, with the latest samples, the newest first."""
        with self._lock:
            return self._totals, tuple(reversed(self._samples))

    def close(self) -> bool:
        """Compare no more; return whether the shadow has let go of its lane. May be called twice."""
        self._stopping = True
        self._stirred.set()
        self._thread.join(LAST_BATCH_S)
        if not self._loaded.working:
            # Nobody would ever run them.
            self._inference.drop_waiting()
        return not self._thread.is_alive()

    def look(self, frame: Frame, slot: Sight, *, idle: bool) -> Look | None:
        """Take the frame if there is capacity for it."""
        if self._stopping:
            return None
        # A version that channels run, too, is no shadow for that long.
        own = self._inference.acquire() if idle and not self._loaded.working else None
        if own is None:
            with self._lock:
                self._totals = replace(self._totals, skipped=self._totals.skipped + 1)
            return None
        aspect = frame.channel.config.format.sample_aspect
        pair = _Pair(
            frame.channel.config.channel,
            frame.packet.sequence,
            time.time(),
            Shape(frame.width, frame.height, frame.rotation_degrees, aspect),
            slot.pixels.copy(),
        )
        return Look(partial(self._hear, pair), partial(self._submit, pair, frame, own))

    def _submit(self, pair: _Pair, frame: Frame, own: Slot) -> None:
        """Hand the frame to the shadow, once it is on its way to the stable version."""
        try:
            if self._same_input:
                own.pixels[:] = pair.pixels
            else:
                frame.picture.letterbox_into(own.pixels, self._inference.fit)
        except BaseException:
            self._inference.release(own)
            raise
        self._inference.submit(Surface(own, partial(self._hear_shadow, pair)))
        self._stirred.set()

    def _hear(self, pair: _Pair, inference: Inference) -> None:
        self._note(pair, "stable", inference)

    def _hear_shadow(self, pair: _Pair, inference: Inference) -> None:
        self._note(pair, "shadow", inference)

    def _note(self, pair: _Pair, whose: str, inference: Inference) -> None:
        """Keep a row until both are there; the comparison is the shadow's thread's."""
        with self._lock:
            if inference.row is not None:
                setattr(pair, whose, inference.row.copy())
            pair.failed |= inference.row is None and whose == "shadow"
            pair.missing -= 1
            if pair.missing == 0:
                self._met.append(pair)
                self._stirred.set()

    def _run(self) -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stopping:
            self._stirred.clear()
            while self._met and not self._stopping:
                self._judge(self._met.popleft())
            job = None
            if self._is_idle() and not self._loaded.working:
                job = self._inference.take(time.monotonic())
            if job is not None:
                job()
            elif not self._met:
                # What runs on a device comes back without a word to this thread.
                waiting = self._inference.due_at() is not None or not self._inference.idle
                self._stirred.wait(PAUSE_S if waiting else None)

    def _judge(self, pair: _Pair) -> None:
        try:
            difference = None
            if pair.stable is not None and pair.shadow is not None:
                difference = self._comparator.compare(pair.stable, pair.shadow, pair.shape)
        except Exception:  # noqa: BLE001 - rows that cannot be read are the shadow's failure
            _log.exception("shadow could not be compared")
            difference, pair.failed = None, True
        if difference is None:
            with self._lock:
                self._totals = replace(self._totals, failed=self._totals.failed + pair.failed)
            return
        self._count(pair, difference)
        self._metrics.compared(difference.differs)

    def _count(self, pair: _Pair, found: Difference) -> None:
        sample = self._sample(pair, found) if found.differs else None
        with self._lock:
            self._score_sum += found.score_difference
            totals = self._totals
            matched = totals.matched + len(found.pairs)
            self._totals = replace(
                totals,
                compared=totals.compared + 1,
                differing=totals.differing + found.differs,
                matched=matched,
                only_stable=totals.only_stable + len(found.only_stable),
                only_shadow=totals.only_shadow + len(found.only_shadow),
                score_difference=self._score_sum / matched if matched else 0.0,
            )
            if sample is not None:
                self._samples.append(replace(sample, index=self._totals.differing))

    def _sample(self, pair: _Pair, found: Difference) -> ShadowSample:
        done, jpeg = cv2.imencode(".jpg", pair.pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return ShadowSample(
            0,
            pair.channel,
            pair.sequence,
            pair.received_s,
            found.stable,
            found.shadow,
            found.only_stable,
            found.only_shadow,
            jpeg.tobytes() if done else b"",
        )
