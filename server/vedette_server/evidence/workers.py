"""A few threads of low priority on which evidence is written, apart from the pipeline.

A job is stepped again and again: each step does a bounded amount of work and says when it wants the next. So a hundred
clips under way share one thread, and none holds it for long.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vedette_server.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_NICENESS = 10


class Job(Protocol):
    """Something that is done in steps."""

    def step(self) -> float | None:
        """Do some of it; return in how many seconds to go on, or None when it is done. Must not raise."""
        ...

    def abort(self) -> None:
        """Give it up: the server stops. Called at most once, and then never `step` again."""
        ...


class _Turn(NamedTuple):
    """A job that waits: until when, and in which order where that is the same."""

    due_s: float
    number: int
    job: Job
    lasting: bool


class EvidenceWorkers:
    """Steps jobs.

    Args:
        threads: How many are stepped at once.
        max_jobs: More are refused, but for lasting ones.
        clock: Monotonic seconds.
    """

    def __init__(self, threads: int = 1, max_jobs: int = 512, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_jobs = max_jobs
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Turn] = []
        self._numbers = itertools.count()
        self._jobs = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"evidence-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def jobs(self) -> int:
        """How many are under way, but for lasting ones."""
        return self._jobs

    def submit(self, job: Job, *, lasting: bool = False) -> None:
        """Begin a job.

        Args:
            job: What to do.
            lasting: It goes on for as long as its channel, which bounds how many there are: it takes no other's place.

        Raises:
            EvidenceError: Too many are under way, or the workers are closed.
        """
        with self._changed:
            if self._closing:
                raise EvidenceError("evidence is not written any more: the server stops")
            if not lasting:
                if self._jobs >= self._max_jobs:
                    message = f"{self._jobs} pieces of evidence are being written; at most that many are allowed"
                    raise EvidenceError(message)
                self._jobs += 1
            heapq.heappush(self._waiting, _Turn(self._clock(), next(self._numbers), job, lasting))
            self._changed.notify()

    def close(self, grace_s: float = 5.0) -> None:
        """Give jobs up that are not done, and end the threads; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = self._clock() + grace_s
        for thread in self._threads:
            thread.join(max(until - self._clock(), 0.0))
        with self._changed:
            left, self._waiting = self._waiting, []
            self._jobs -= sum(not turn.lasting for turn in left)
        for turn in left:
            turn.job.abort()

    def _run(self) -> None:
        _lower_priority()
        while (turn := self._take()) is not None:
            try:
                wait_s = turn.job.step()
            except Exception:  # noqa: BLE001 - a job that breaks its promise must not end the thread of all others
                _log.exception("a piece of evidence was given up")
                wait_s = None
            with self._changed:
                cut_short = self._closing and wait_s is not None
                if wait_s is None or cut_short:
                    self._jobs -= not turn.lasting
                else:
                    due_s = self._clock() + wait_s
                    heapq.heappush(self._waiting, turn._replace(due_s=due_s, number=next(self._numbers)))
                    self._changed.notify()

            if cut_short:
                turn.job.abort()

    def _take(self) -> _Turn | None:
        """Wait for the job that is due next; None: the workers are closing."""
        with self._changed:
            while not self._closing:
                if not self._waiting:
                    self._changed.wait()
                    continue
                wait_s = self._waiting[0].due_s - self._clock()
                if wait_s <= 0:
                    return heapq.heappop(self._waiting)
                self._changed.wait(wait_s)
        return None


def _lower_priority() -> None:
    """Let the pipeline's threads go first; Linux keeps the niceness of each thread apart."""
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        except OSError:
            _log.info("evidence is written at the pipeline's own priority: it cannot be lowered")
