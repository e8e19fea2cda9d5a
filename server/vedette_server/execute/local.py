"""Run an engine in this process, on the pipeline's own workers: a batcher in front of lanes.

Workers `acquire` slots and `submit` surfaces, and `take` a batch's run when it is due and a lane is free:
a frame goes from its decoder through its engine to its verdict without changing threads when there is
nothing to wait for. A batch that fails costs its own frames only: they are called back with the error,
and the lane goes on. `healthy` turns false after several failures in a row, and true with the next
success; it is false, too, while a run takes far too long, of which only who asks learns.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from vedette_engines.gpu.nvtx import nvtx_range
from vedette_server.batch.batcher import Batcher
from vedette_server.execute.client import lane_name
from vedette_server.execute.describing import fit_of, label_of
from vedette_server.execute.reckoning import Reckoning, tell
from vedette_server.metrics import EngineDepths
from vedette_server.picture.slots import Slot, SlotPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.runners.base import Lane, LoadedEngine
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Surface
    from vedette_server.metrics import EngineMetrics
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

# A run of a batch that takes longer hangs: its lane may never come back.
LONGEST_RUN_S = 30.0


class LocalInference:
    """One loaded engine with its lanes, slots and batcher.

    Args:
        engine: The loaded engine; closed with this object.
        lanes: Runs at the same time.
        max_batch: Most surfaces in a batch.
        max_wait_s: Longest wait of a batch's oldest surface for others.
        on_slot_free: Called from a worker when slots became free.
        on_health: Called from a worker when failures changed `healthy`.
        metrics: Takes batch sizes, busy time and failures.
        on_batch: Called from a lane with the moments at which a batch left and its results were there.
        clock: Monotonic seconds.
        tracer: Records batches; None: nobody does.
    """

    def __init__(
        self,
        engine: LoadedEngine,
        *,
        lanes: int,
        max_batch: int,
        max_wait_s: float,
        on_slot_free: Callable[[], None],
        on_health: Callable[[], None],
        metrics: EngineMetrics,
        on_batch: Callable[[float, float], None] = lambda _started_s, _finished_s: None,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        manifest = engine.bundle.manifest
        self.label = label_of(manifest, engine.backend)
        self.defaults = manifest.defaults
        self.fit = fit_of(manifest)
        self.lanes = self.workers = lanes
        self.max_batch = max_batch
        self.engine = engine
        self._slots = SlotPool((lanes + 1) * max_batch, self.fit.width, self.fit.height)
        self._lock = threading.Lock()
        self._batcher: Batcher[Surface] = Batcher(max_batch, max_wait_s)
        self._lanes = [engine.open_lane() for _ in range(lanes)]
        self._free_lanes = list(self._lanes)
        self._numbers = {lane: number for number, lane in enumerate(self._lanes)}
        # When the runs that are on began.
        self._began_s: dict[Lane, float] = {}
        self._on_slot_free = on_slot_free
        self._metrics = metrics
        self._reckoning = Reckoning(metrics, on_batch, on_health, None if tracer is None else tracer.engine(self.label))
        self._clock = clock
        metrics.watch(lambda: self.depths)

    def acquire(self) -> Slot | None:
        """Take a free slot, or None when all are in use. Never blocks."""
        return self._slots.acquire()

    def release(self, slot: Slot) -> None:
        """Give back a slot that was not submitted."""
        self._slots.release(slot)

    @property
    def depths(self) -> EngineDepths:
        """How much waits and is in use now."""
        return EngineDepths(
            ready=len(self._batcher),
            slots_in_use=self._slots.in_use,
            slots=self._slots.count,
            lanes=self.lanes,
            in_flight=len(self._began_s),
        )

    @property
    def healthy(self) -> bool:
        """Whether it neither failed several times in a row nor hangs."""
        with self._lock:
            oldest_s = min(self._began_s.values(), default=None)
        hangs = oldest_s is not None and self._clock() - oldest_s > LONGEST_RUN_S
        return not (hangs or self._reckoning.fails)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in use; so it stays when nobody acquires slots any more."""
        if self._slots.in_use:
            return False
        with self._lock:
            return not self._began_s and not len(self._batcher)

    def warm_up(self) -> None:
        """Run the sizes of batches that are usual, and touch all memory; before anybody else uses it.

        Raises:
            RunError: The engine fails on an empty picture.
        """
        slots: list[Slot] = []
        while (slot := self._slots.acquire()) is not None:
            slot.pixels.fill(self.fit.pad)
            slots.append(slot)
        try:
            frames = [slot.pixels for slot in slots]
            for size in _sizes(self.max_batch):
                self._lanes[0].run(frames[:size])
            for lane in self._lanes[1:]:
                lane.run(frames[: self.max_batch])
        finally:
            for slot in slots:
                self._slots.release(slot)

    def fill(self, slot: Slot, picture: Picture) -> None:
        """Letterbox a picture into a slot.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        picture.letterbox_into(slot.pixels, self.fit)

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:  # noqa: ARG002 - it is in the slot
        """Give what the engine gets of a slot that was filled: its pixels."""
        return slot.pixels

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of the next batches. Never blocks."""
        with self._lock:
            self._batcher.put(surface, self._clock())

    def drop_waiting(self) -> None:
        """Forget the surfaces whose batch has not left, and take their slots back; nobody is told."""
        with self._lock:
            waiting = self._batcher.drain()
        for surface in waiting:
            self._slots.release(surface.slot)

    def take(self, now: float) -> Callable[[], None] | None:
        """Return the run of a batch that is due, if a lane is free for it."""
        with self._lock:
            if not self._free_lanes:
                return None
            batch = self._batcher.take(now)
            if not batch:
                return None
            lane = self._free_lanes.pop()
            self._began_s[lane] = now
            return partial(self._run, lane, batch)

    def due_at(self) -> float | None:
        """Tell when `take` will have something, monotonic seconds; None when that is not known."""
        with self._lock:
            return self._batcher.due_at() if self._free_lanes else None

    def close(self) -> None:
        """Close lanes and engine; may be called twice. Nobody runs a batch any more."""
        self._metrics.watch(None)
        for lane in self._lanes:
            lane.close()
        self.engine.close()

    def _run(self, lane: Lane, batch: Sequence[Surface]) -> None:
        started = self._clock()
        error = ""
        rows = None
        try:
            with nvtx_range("compute"):
                rows = lane.run([surface.slot.pixels for surface in batch])
        except Exception as failure:  # noqa: BLE001 - whatever a runtime throws costs this batch, not the server
            error = f"{type(failure).__name__}: {failure}"
            _log.exception("engine failed on a batch")
        finished = self._clock()
        for surface in batch:
            self._slots.release(surface.slot)
        self._on_slot_free()
        number = self._numbers[lane]
        self._reckoning.settle(len(batch), started, finished, failed=bool(error), lane=number)
        tell(batch, rows, started, finished, error, lane=lane_name(number))
        # The rows are the lane's until it runs again.
        with self._lock:
            del self._began_s[lane]
            self._free_lanes.append(lane)


def _sizes(max_batch: int) -> list[int]:
    """Choose the batches to warm up with, the largest first: memory is then taken once."""
    small = range(1, min(max_batch, 8) + 1)
    powers = (1 << exponent for exponent in range(max_batch.bit_length()))
    return sorted({*small, *powers, max_batch}, reverse=True)
