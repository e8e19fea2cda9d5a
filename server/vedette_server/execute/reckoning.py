"""What is done with the end of a batch, whatever ran it: count it, judge the engine by it, tell its frames.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from vedette_server.execute.client import Inference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.gpu.base import Outcome
    from vedette_server.execute.client import Surface
    from vedette_server.metrics import EngineMetrics
    from vedette_server.trace import EngineTrace

_log = logging.getLogger(__name__)

FAILURES_UNTIL_UNHEALTHY = 3


class Reckoning:
    """Counts the batches of one engine and judges its health by them.

    Args:
        metrics: Takes batch sizes, busy time and failures.
        on_batch: Called with the moments at which a batch left and its results were there.
        on_health: Called when failures changed `fails`.
        trace: Records batches; None: nobody does.
    """

    def __init__(
        self,
        metrics: EngineMetrics,
        on_batch: Callable[[float, float], None],
        on_health: Callable[[], None],
        trace: EngineTrace | None = None,
    ) -> None:
        self._metrics = metrics
        self._on_batch = on_batch
        self._on_health = on_health
        self._trace = trace
        self._lock = threading.Lock()
        self._failures = 0

    @property
    def fails(self) -> bool:
        """Whether several batches in a row have failed; over with the next success."""
        return self._failures >= FAILURES_UNTIL_UNHEALTHY

    def settle(
        self,
        size: int,
        started_s: float,
        finished_s: float,
        *,
        failed: bool,
        lane: int = 0,
        outcome: Outcome | None = None,
    ) -> None:
        """Take note of a batch; must not be called with a lock held that `on_health` takes.

        Args:
            size: Its frames.
            started_s: When it left.
            finished_s: When its results were there.
            failed: It failed.
            lane: Which lane ran it, where the calling thread did.
            outcome: What a GPU's executor said of it; None: the calling thread ran it.
        """
        if self._trace is not None:
            if outcome is None:
                self._trace.ran(lane, started_s, finished_s, size, failed=failed)
            else:
                self._trace.came(outcome, size)
        self._metrics.batch(size, finished_s - started_s, failed=failed)
        self._on_batch(started_s, finished_s)
        with self._lock:
            before = self.fails
            self._failures = self._failures + 1 if failed else 0
            changed = before != self.fails
        if changed:
            self._on_health()


def tell(
    surfaces: Sequence[Surface],
    rows: NDArray[np.float32] | None,
    started_s: float,
    finished_s: float,
    error: str,
    *,
    first: int = 0,
    batch_size: int = 0,
    lane: str = "lane 0",
) -> None:
    """Tell each surface what became of it.

    Args:
        surfaces: Those to be told; none is told twice.
        rows: The engine's output for the whole batch; None when it failed.
        started_s: When the batch left.
        finished_s: When its results were there.
        error: Why it failed; empty when it did not.
        first: Row of the first of them.
        batch_size: Surfaces of the whole batch; 0: these.
        lane: Name of the lane that ran it.
    """
    size = batch_size or len(surfaces)
    for index, surface in enumerate(surfaces, first):
        row = None if rows is None else rows[index]
        try:
            surface.done(Inference(row, size, started_s, finished_s, error, lane))
        except Exception:  # noqa: BLE001 - a bug in one channel's books costs neither the others nor who tells
            _log.exception("result could not be handed over")
