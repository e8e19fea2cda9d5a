"""Run an engine in this process: a batcher in front of lanes, one thread each.

Decoder workers `acquire` slots and `submit` surfaces; each lane takes a batch when it is due, runs it
and calls back. A batch that fails costs its own frames only: they are called back with the error, and
the lane goes on. `healthy` turns false after several failures in a row, and true with the next success.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from vedette_engines.manifest import DetectorOutput
from vedette_server.batch.batcher import Batcher
from vedette_server.data.verdict import EngineLabel
from vedette_server.execute.client import Inference, Surface
from vedette_server.metrics import EngineDepths
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.slots import Slot, SlotPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.runners.base import Lane, LoadedEngine
    from vedette_server.metrics import EngineMetrics

_log = logging.getLogger(__name__)

FAILURES_UNTIL_UNHEALTHY = 3


class LocalInference:
    """One loaded engine with its lanes, slots and batcher.

    Args:
        engine: The loaded engine; closed with this object.
        lanes: Threads of runs.
        max_batch: Most surfaces in a batch.
        max_wait_s: Longest wait of a batch's oldest surface for others.
        on_slot_free: Called from a lane when slots became free.
        on_health: Called from a lane when `healthy` changed.
        metrics: Takes batch sizes, busy time and failures.
        clock: Monotonic seconds.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        manifest = engine.bundle.manifest
        self.label = EngineLabel(
            name=manifest.name,
            version=manifest.version,
            backend=engine.backend,
            task=manifest.task,
            labels=tuple(manifest.labels),
            extras=manifest.output.extras if isinstance(manifest.output, DetectorOutput) else (),
        )
        self.defaults = manifest.defaults
        self.fit = Letterbox(manifest.input.width, manifest.input.height, manifest.input.letterbox, manifest.input.pad)
        self.lanes = lanes
        self.max_batch = max_batch
        self.healthy = True
        self._engine = engine
        self._slots = SlotPool((lanes + 1) * max_batch, self.fit.width, self.fit.height)
        self._batcher: Batcher[Surface] = Batcher(max_batch, max_wait_s)
        self._due = threading.Condition()
        self._stopping = False
        self._failures = 0
        self._on_slot_free = on_slot_free
        self._on_health = on_health
        self._metrics = metrics
        self._clock = clock
        self._threads = [
            threading.Thread(target=self._run_lane, args=(engine.open_lane(),), name=f"lane-{self.label.name}-{index}")
            for index in range(lanes)
        ]
        metrics.watch(lambda: self.depths)
        for thread in self._threads:
            thread.start()

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
            ready=len(self._batcher), slots_in_use=self._slots.in_use, slots=self._slots.count, lanes=self.lanes
        )

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of the next batches. Never blocks."""
        with self._due:
            self._batcher.put(surface, self._clock())
            # The first one starts a lane's clock, a full batch ends it; those between wake nobody.
            if len(self._batcher) % self.max_batch in {0, 1}:
                self._due.notify()

    def close(self) -> None:
        """Run what was submitted, then end the lanes and close the engine; may be called twice."""
        with self._due:
            self._stopping = True
            self._due.notify_all()
        for thread in self._threads:
            thread.join()
        self._metrics.watch(None)
        self._engine.close()

    def _run_lane(self, lane: Lane) -> None:
        while batch := self._next_batch():
            self._run(lane, batch)
        lane.close()

    def _next_batch(self) -> list[Surface]:
        with self._due:
            while True:
                now = self._clock()
                batch = self._batcher.take(math.inf if self._stopping else now)
                if batch and len(self._batcher):
                    self._due.notify()
                if batch or self._stopping:
                    return batch
                due = self._batcher.due_at()
                self._due.wait(None if due is None else max(due - now, 0.0))

    def _run(self, lane: Lane, batch: Sequence[Surface]) -> None:
        started = self._clock()
        error = ""
        rows = None
        try:
            rows = lane.run([surface.slot.pixels for surface in batch])
        except Exception as failure:  # noqa: BLE001 - whatever a runtime throws costs this batch, not the server
            error = f"{type(failure).__name__}: {failure}"
            _log.exception("engine failed on a batch")
        finished = self._clock()
        for surface in batch:
            self._slots.release(surface.slot)
        self._on_slot_free()
        self._metrics.batch(len(batch), finished - started, failed=bool(error))
        self._judge_health(failed=bool(error))
        for index, surface in enumerate(batch):
            row = None if rows is None else rows[index]
            surface.done(Inference(row, len(batch), started, finished, error))

    def _judge_health(self, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        healthy = self._failures < FAILURES_UNTIL_UNHEALTHY
        if healthy != self.healthy:
            self.healthy = healthy
            self._on_health()
