"""Run an engine on a GPU: a batcher in front of the GPU's executor, whose results the pipeline's workers hand over.

Workers `acquire` slots in pinned memory, `fill` them and `submit` surfaces. The executor's thread takes batches when a
lane is free for them and says what became of them: it gives the slots back at once, so that the next frames are
converted while results are still read, and puts the results into a queue. What comes after (NMS, tracking, verdicts:
`Surface.done`) is a job of the workers.

A GPU that is lost answers what it held, and whatever is submitted later, with the error.

Threads: any, except where said otherwise. One short lock; neither the pipeline nor the executor is called with it held.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.base import Batch, Outcome
from vedette_server.batch.batcher import Batcher
from vedette_server.execute.client import lane_name
from vedette_server.execute.describing import fit_of, label_of
from vedette_server.execute.feeds import Feeds, slot_stride, ways
from vedette_server.execute.reckoning import Reckoning
from vedette_server.execute.results import Ended, Results
from vedette_server.metrics_figures import EngineDepths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.gpu.base import Feed
    from vedette_engines.gpu.executor import Executor, LaneSettings
    from vedette_engines.runners.base import LoadedEngine
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Surface
    from vedette_server.execute.feeds import Source
    from vedette_server.metrics import EngineMetrics
    from vedette_server.picture.slots import Slot
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

# Batches of slots besides those of the lanes: one gathers while one is converted.
BATCHES_AHEAD = 2
# The first batch of an engine; its lanes ran it once when they were opened.
WARM_UP_S = 60.0
# Of so much of the last time the overlap is told.
OVERLAP_S = 15.0


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """How an engine runs on a GPU.

    Attributes:
        lanes: Its lanes.
        weight: Its share of the GPU, beside the other engines'.
        max_wait_s: Longest wait of a batch's oldest surface for others.
        slots: Frames that are converted or under way at once; None: a batch for each lane and two.
        pinned_bytes: Most page-locked memory: half of it for slots, the rest for pictures as they were decoded.
        preprocess: The device letterboxes.
    """

    lanes: LaneSettings
    weight: float = 1.0
    max_wait_s: float = 0.005
    slots: int | None = None
    pinned_bytes: int = 1 << 30
    preprocess: bool = False


class _Door:
    """The engine as its executor sees it; see `vedette_engines.gpu.base.Source`."""

    def __init__(self, inference: DeviceInference) -> None:
        self._inference = inference

    def take(self, now: float) -> Batch | None:
        return self._inference.next_batch(now)

    def due_at(self) -> float | None:
        return self._inference.batch_due_at()


class DeviceInference:
    """One loaded engine on one GPU, with its slots and batcher.

    Args:
        engine: The loaded engine, which is on a device; closed with this object.
        executor: Drives that device.
        settings: How it runs.
        on_slot_free: Called by workers when slots may be acquired again that were kept back.
        on_health: Called when failures changed `healthy`.
        on_ready: Called from the executor's thread when there are jobs and free slots.
        metrics: Takes batch sizes, times and failures.
        on_batch: Called with the moments at which a batch left and its results were there.
        clock: Monotonic seconds; the executor's.
        tracer: Records batches; None: nobody does.

    Raises:
        LoadError: The engine is not on a device, or that has no room for its lanes or its slots.
    """

    def __init__(
        self,
        engine: LoadedEngine,
        executor: Executor,
        settings: DeviceSettings,
        *,
        on_slot_free: Callable[[], None],
        on_health: Callable[[], None],
        on_ready: Callable[[], None],
        metrics: EngineMetrics,
        on_batch: Callable[[float, float], None] = lambda _started_s, _finished_s: None,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        on_device = engine.on_device
        if on_device is None:
            raise LoadError(f"engine {engine.bundle.name} {engine.bundle.version} is not on a device")
        manifest = engine.bundle.manifest
        self.label = label_of(manifest, on_device.backend)
        self.defaults = manifest.defaults
        self.fit = fit_of(manifest)
        self.engine = engine
        self.workers = 1
        self._device = on_device.device
        self._place = f"GPU {self.device}"
        self._executor = executor
        self._on_health = on_health
        self._on_ready = on_ready
        self._metrics = metrics
        trace = None if tracer is None else tracer.engine(self.label, self._place)
        self._reckoning = Reckoning(metrics, on_batch, on_health, trace)
        self._results = Results(on_slot_free)
        self._clock = clock
        self._lock = threading.Lock()
        self._warm_ups: deque[Batch] = deque()
        self._lost = ""
        self._closed = False
        self._batcher: Batcher[Surface] = Batcher(on_device.max_batch, settings.max_wait_s)
        self._member = executor.add(on_device, _Door(self), settings.lanes, settings.weight)
        self.lanes, self.max_batch = self._member.lanes, self._member.max_batch
        self._batcher.max_batch = self.max_batch
        try:
            self._feeds = self._make_feeds(settings)
        except BaseException as error:
            executor.remove(self._member)
            if isinstance(error, CudaError):
                raise LoadError(f"no pinned memory for slots: {error}") from error
            raise
        self._results.limit = self._feeds.slots.count
        metrics.watch(lambda: self.depths)

    def _make_feeds(self, settings: DeviceSettings) -> Feeds:
        wanted = settings.slots or (self.lanes + BATCHES_AHEAD) * self.max_batch
        fitting = settings.pinned_bytes // 2 // slot_stride(self.fit)
        count = max(min(wanted, fitting), self.max_batch)
        if count < wanted:
            _log.warning("engine %s has %d slots, not %d: pinned memory", self.label.name, count, wanted)
        left = settings.pinned_bytes - count * slot_stride(self.fit)
        with self._device.attached():
            return Feeds(self._device, count, self.fit, max(left, 0) if settings.preprocess else None)

    # -- channels -------------------------------------------------------------------------------

    def acquire(self) -> Slot | None:
        """Take a free slot, or None when all are in use, or results are told too slowly. Never blocks."""
        if self._lost or self._results.full:
            return None
        return self._feeds.slots.acquire()

    def release(self, slot: Slot) -> None:
        """Give back a slot that was not submitted, and let go of what it holds."""
        self._feeds.release((slot,))

    def fill(self, slot: Slot, picture: Picture) -> None:
        """Put a picture into a slot: letterboxed, or as it was decoded where the device letterboxes.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        self._feeds.fill(slot, picture)

    def put(self, slot: Slot, picture: Picture, source: Source | None) -> None:
        """Do as `fill`, with what the picture gave as its source; from here on the source is let go of by this object.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        self._feeds.put(slot, picture, source)

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        """Give the pixels of a slot that was filled, letterboxed now where the device would do it.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        return self._feeds.pixels(slot, picture)

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of the next batches. Never blocks."""
        before = after = None
        with self._lock:
            lost = self._lost
            if not lost:
                before = self._batcher.due_at()
                self._batcher.put(surface, self._clock())
                after = self._batcher.due_at()
        if lost:
            self._fail([surface], lost)
        elif before is None or (after is not None and after < before):
            # Between the first of a batch and the one that fills it nothing changes for the executor.
            self._executor.nudge()

    # -- its owner ------------------------------------------------------------------------------

    @property
    def device(self) -> int:
        """Number of its GPU."""
        return self._device.facts.index

    def overlap(self) -> float:
        """Tell the share of its GPU's busy time in which copies and computing of several batches ran at once."""
        return self._executor.figures(OVERLAP_S).overlap

    @property
    def takes_pictures(self) -> bool:
        """Whether the device letterboxes."""
        return self._feeds.takes_pictures

    @property
    def lost(self) -> str:
        """Why its GPU is lost; empty: it is not."""
        return self._lost

    @property
    def free_share(self) -> float:
        """Share of its slots that are free."""
        slots = self._feeds.slots
        return 0.0 if self._lost else 1.0 - slots.in_use / slots.count

    @property
    def depths(self) -> EngineDepths:
        """How much waits and is in use now."""
        slots = self._feeds.slots
        return EngineDepths(len(self._batcher), slots.in_use, slots.count, self.lanes, self._member.in_flight)

    @property
    def healthy(self) -> bool:
        """Whether it neither failed several times in a row nor hangs, and has its GPU."""
        return not (self._lost or self._member.hung_since is not None or self._reckoning.fails)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in use; so it stays when nobody acquires slots any more."""
        return not (self._feeds.slots.in_use or self._results.untold)

    def warm_up(self) -> None:
        """Run one full batch through the executor, and touch all slots; before anybody else uses it.

        Raises:
            RunError: The engine fails on an empty picture, or does not come back.
        """
        slots: list[Slot] = []
        while (slot := self._feeds.slots.acquire()) is not None:
            slot.pixels.fill(self.fit.pad)
            slots.append(slot)
        outcome = self._run_once([self._feeds.feed(slot) for slot in slots[: self.max_batch]])
        self._feeds.release(slots)
        if outcome.error:
            raise RunError(outcome.error)

    def _run_once(self, frames: Sequence[Feed]) -> Outcome:
        came = threading.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            came.set()

        with self._lock:
            self._warm_ups.append(Batch(frames, done))
        self._executor.nudge()
        if not came.wait(WARM_UP_S):
            # The slots stay taken: the device may still read them.
            raise RunError(f"the first batch did not come back in {WARM_UP_S:g} s")
        return outcomes[0]

    def drop_waiting(self) -> None:
        """Forget the surfaces that nobody was told of; nobody is told.

        Slots come back now, or when the device has read them.
        """
        with self._lock:
            waiting = self._batcher.drain()
            self._results.forget()
        self._feeds.release([surface.slot for surface in waiting])

    def lose(self, reason: str) -> None:
        """Take note that the GPU is lost: whatever waits, and comes later, fails."""
        with self._lock:
            if self._lost or self._closed:
                return
            self._lost = reason
            waiting = self._batcher.drain()
        if waiting:
            self._fail(waiting, reason)
        self._on_health()

    def close(self) -> None:
        """Wait for what is under way, and let go of lanes, slots and engine; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting = self._batcher.drain()
            self._results.forget()
        self._metrics.watch(None)
        ended = self._executor.remove(self._member)
        self._feeds.release([surface.slot for surface in waiting])
        if not ended:
            # What hangs may still use all of it.
            _log.error("engine not closed, a batch of it hangs: %s %s", self.label.name, self.label.version)
            return
        try:
            with self._device.attached():
                self._feeds.close()
            self.engine.close()
        except CudaError:
            # Of a GPU that is lost nothing can be given back; whoever was told of that ends the process.
            _log.exception("engine not closed: %s %s", self.label.name, self.label.version)

    # -- the executor ---------------------------------------------------------------------------

    def next_batch(self, now: float) -> Batch | None:
        """Give the executor a batch that is due; on its thread."""
        with self._lock:
            if self._warm_ups:
                return self._warm_ups.popleft()
            surfaces = self._batcher.take(now)
            if not surfaces:
                return None
            epoch = self._results.begin(len(surfaces))
        # Slots that are neighbours in memory and in the batch go to the device by one copy.
        surfaces.sort(key=_slot_index)
        frames = [self._feeds.feed(surface.slot) for surface in surfaces]
        self._metrics.fed(ways(frames))
        return Batch(frames, partial(self._end, surfaces, epoch))

    def batch_due_at(self) -> float | None:
        """Tell the executor when `next_batch` will have something; on its thread."""
        with self._lock:
            return -math.inf if self._warm_ups else self._batcher.due_at()

    def _end(self, surfaces: Sequence[Surface], epoch: int, outcome: Outcome) -> None:
        """Take a batch back; on the executor's thread."""
        self._feeds.release([surface.slot for surface in surfaces])
        started, finished, error = outcome.started_s, outcome.finished_s, outcome.error
        lane = lane_name(outcome.lane, self._place)
        self._reckoning.settle(len(surfaces), started, finished, failed=bool(error), outcome=outcome)
        if error:
            _log.error("engine %s %s failed on a batch: %s", self.label.name, self.label.version, error)
        if outcome.times is not None:
            self._metrics.batch_times(outcome.times)
        self._results.end(epoch, Ended(surfaces, outcome.rows, started, finished, error, lane))
        self._on_ready()

    # -- the workers ----------------------------------------------------------------------------

    def take(self, now: float) -> Callable[[], None] | None:  # noqa: ARG002 - results are due when they are there
        """Return a job that tells some surfaces of their results, if there are any."""
        return self._results.take()

    def due_at(self) -> float | None:
        """Tell when `take` will have something: now, or not before `on_ready`."""
        return self._clock() if self._results else None

    def _fail(self, surfaces: Sequence[Surface], reason: str) -> None:
        """Answer surfaces that no executor has taken."""
        self._feeds.release([surface.slot for surface in surfaces])
        now = self._clock()
        self._results.end(self._results.begin(len(surfaces)), Ended(surfaces, None, now, now, reason))
        self._on_ready()


def _slot_index(surface: Surface) -> int:
    return surface.slot.index
