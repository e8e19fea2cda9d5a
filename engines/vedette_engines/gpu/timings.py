"""When the parts of batches ran on the device, on the executor's clock, and how much of it at the same time.

Events only tell the time between two of them, in milliseconds as float32: of a minute that leaves some microseconds. So
the time of an event is told from an anchor, an event whose moment on the clock is known, that is set anew every few
seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.gpu.base import LaneTimes
from vedette_engines.gpu.keeping import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Device, Event

ANCHOR_EVERY_S = 4.0
# After a failure not with every batch: what it stands behind may take long, and each look costs the host.
ANCHOR_AGAIN_S = 0.25
# How often to look whether an anchor is done before giving up for now: it is alone in its stream.
_ANCHOR_LOOKS = 1000
_SPANS_KEPT = 8192


@dataclass(slots=True, eq=False)
class Anchor:
    """An event whose moment is known.

    Attributes:
        event: The event.
        at_s: Its moment.
        users: Batches under way whose times will be told from it.
    """

    event: Event
    at_s: float = 0.0
    users: int = 0


class Anchors:
    """Tells the time of events. One thread, attached.

    Args:
        device: Whose events.
        clock: The clock to tell it on.
    """

    def __init__(self, device: Device, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept = Kept()
        self._stream = self._kept.keep(device.stream())
        # Batches under way keep the anchor that was set before them: an elapsed time is never negative.
        self._current = Anchor(self._kept.keep(device.event(timing=True)))
        self._other = Anchor(self._kept.keep(device.event(timing=True)))
        self._set_s: float | None = None
        self._due_s = float("-inf")

    def take(self, now: float) -> Anchor | None:
        """Give the anchor for a batch that is enqueued now, set anew if it is time; None: there is none yet."""
        if now >= self._due_s and not self._other.users:
            if self._set(self._other):
                self._current, self._other = self._other, self._current
                self._set_s, self._due_s = now, now + ANCHOR_EVERY_S
            else:
                self._due_s = now + ANCHOR_AGAIN_S
        if self._set_s is None:
            return None
        self._current.users += 1
        return self._current

    def close(self) -> None:
        """Let go of the events; may be called twice."""
        self._kept.close()

    def _set(self, anchor: Anchor) -> bool:
        """Set an anchor: between the last look that found it not done, and the one that found it done."""
        before = self._clock()
        self._stream.record(anchor.event)
        for _ in range(_ANCHOR_LOOKS):
            done = anchor.event.done()
            now = self._clock()
            if done:
                anchor.at_s = (before + now) / 2
                return True
            before = now
        return False


@dataclass(frozen=True, slots=True)
class ExecutorFigures:
    """What a GPU's engines did in a window of time, by the events of the batches that were done in it.

    Attributes:
        overlap: Share of the busy time in which two or more of upload, compute and download ran; 0 when nothing did.
        upload_s: Time in which something was uploaded, or letterboxed on the device.
        compute_s: Time in which an engine ran.
        download_s: Time in which something was downloaded.
        batches: Batches that were done, failed ones included.
        in_flight: Batches under way now.
        elapsed_s: Length of the window.
    """

    overlap: float
    upload_s: float
    compute_s: float
    download_s: float
    batches: int
    in_flight: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class _Done:
    ended_s: float
    times: LaneTimes | None


class Usage:
    """What ran when, of the last batches.

    Each engine of the device does one thing after another. A lane's events tell when its part was ready to begin, and
    when it was done; what lies between is the engine at work, on this batch or on one before it. So the union of all
    is the time in which the engine worked. One thread notes; any asks for figures.

    Attributes:
        batches: Batches that were ever noted.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._lock = threading.Lock()
        self._done: deque[_Done] = deque(maxlen=_SPANS_KEPT)
        self._last_s = [float("-inf")] * 3

    def note(self, ended_s: float, times: LaneTimes | None) -> LaneTimes | None:
        """Note a batch.

        Returns:
            Its times without the waiting for batches before it, on each engine.
        """
        with self._lock:
            self.batches += 1
            self._done.append(_Done(ended_s, times))
        if times is None:
            return None
        parts = []
        for place, (begin, end) in enumerate((times.upload, times.compute, times.download)):
            parts.append((min(max(begin, self._last_s[place]), end), end))
            self._last_s[place] = max(end, self._last_s[place])
        return LaneTimes(*parts)

    def figures(self, since_s: float, now: float, in_flight: int) -> ExecutorFigures:
        """Sum up the batches that were done after a moment, as far as they are kept."""
        with self._lock:
            done = list(self._done)
        if len(done) == _SPANS_KEPT:
            since_s = max(since_s, done[0].ended_s)
        done = [batch for batch in done if batch.ended_s > since_s]
        overlap, busy = _busy([batch.times for batch in done if batch.times is not None], since_s, now)
        return ExecutorFigures(overlap, *busy, len(done), in_flight, now - since_s)


def _busy(times: Sequence[LaneTimes], since_s: float, until_s: float) -> tuple[float, tuple[float, float, float]]:
    """Measure the unions of each engine's spans within a window, and the share in which they overlap."""
    if not times:
        return 0.0, (0.0, 0.0, 0.0)
    spans = np.array([(batch.upload, batch.compute, batch.download) for batch in times])
    spans = np.clip(spans, since_s, until_s)
    moments = spans.reshape(-1)
    changes = np.zeros((len(times), 3, 2, 3))
    for engine in range(3):
        changes[:, engine, 0, engine] = 1
        changes[:, engine, 1, engine] = -1
    order = np.argsort(moments, kind="stable")
    working = np.cumsum(changes.reshape(-1, 3)[order], axis=0)[:-1] > 0
    lengths = np.diff(moments[order])[:, None]
    upload, compute, download = (float(seconds) for seconds in (working * lengths).sum(axis=0))
    engines_at_once = working.sum(axis=1)
    busy = float(lengths[engines_at_once > 0].sum())
    together = float(lengths[engines_at_once > 1].sum())
    return together / busy if busy else 0.0, (upload, compute, download)
