"""When a simulated device does what: one engine for each kind of operation, and the queues of its streams.

An operation begins when those before it in its stream are done, the events that its stream waits for are done, and its
engine is free; of two that could begin, the one that was enqueued first does. What happened since somebody last looked
is worked out at the next look, each at the moment at which it was due: so the times are exact on either clock.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_engines.cuda.ordering import Knowledge, MisuseError
from vedette_engines.cuda.timeline import Span, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.cuda.simulated_clock import Clock


@dataclass(slots=True, eq=False)
class Mark:
    """One record of an event."""

    knowledge: Knowledge
    done: bool = False
    at_s: float = 0.0


@dataclass(slots=True, eq=False)
class Task:
    """One thing in a stream's queue; without an engine it takes no time.

    Attributes:
        queue: The queue it is in.
        label: What it is.
        engine: What carries it out; None: nothing has to.
        duration_s: How long that takes; infinite: it hangs.
        start: Called when it begins.
        finish: Called with the time when it is done.
        awaits: The record that has to be done before it begins.
        ticket: Counts what is enqueued.
    """

    queue: Queue
    label: str
    engine: str | None = None
    duration_s: float = 0.0
    start: Callable[[], None] = lambda: None
    finish: Callable[[float], None] = lambda _: None
    awaits: Mark | None = None
    ticket: int = 0
    began: bool = False

    @property
    def ready(self) -> bool:
        """Whether it may begin as far as its stream is concerned."""
        return not self.began and (self.awaits is None or self.awaits.done)


@dataclass(slots=True, eq=False)
class Queue:
    """What a stream has to do, in order."""

    handle: int
    tasks: deque[Task] = field(default_factory=deque)


class Schedule:
    """The queues and engines of one device. Any thread.

    Args:
        clock: The time.
        timeline: Takes what was done; None: nobody wants to know.
    """

    def __init__(self, clock: Clock, timeline: Timeline | None) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._timeline = timeline
        # Up to here everything that was due has happened.
        self._moment_s = clock()
        self._busy: list[Queue] = []
        self._running: dict[str, tuple[float, Task]] = {}
        self._tickets = itertools.count(1)
        clock.drive(self._advance)

    def append(self, task: Task) -> None:
        """Put a task behind those of its queue; it begins now if it can."""
        with self.lock:
            # On a virtual clock no time has passed since somebody waited; nothing ends because somebody enqueues.
            if self._clock() > self._moment_s:
                self.catch_up()
            task.ticket = next(self._tickets)
            if not task.queue.tasks:
                self._busy.append(task.queue)
            task.queue.tasks.append(task)
            self._begin_what_can()

    def is_free(self, engine: str) -> bool:
        """Tell whether an engine does nothing now."""
        self.catch_up()
        return engine not in self._running

    def catch_up(self) -> float:
        """Let everything happen that is due by now, and tell the time."""
        with self.lock:
            now = self._clock()
            self._advance(now)
            return now

    def run_until(self, done: Callable[[], bool], doing: str) -> None:
        """Let time pass until something is done.

        Raises:
            MisuseError: It never will be: streams wait for each other.
        """
        while True:
            with self.lock:
                self.catch_up()
                if done():
                    return
                next_s = min((end_s for end_s, _ in self._running.values()), default=math.inf)
            if math.isinf(next_s):
                raise MisuseError(f"{doing} waits for ever: what it waits for can never begin, or never ends")
            # Without the lock: others go on meanwhile.
            self._clock.wait_until(next_s)

    def stop(self) -> None:
        """Forget all that is to be done."""
        with self.lock:
            for queue in self._busy:
                queue.tasks.clear()
            self._busy.clear()
            self._running.clear()

    def _advance(self, until_s: float) -> None:
        with self.lock:
            while self._finish_next(until_s):
                self._begin_what_can()
            self._moment_s = max(self._moment_s, until_s)

    def _begin_what_can(self) -> None:
        """Begin every task whose turn it is."""
        while True:
            heads = [queue.tasks[0] for queue in self._busy]
            able = [task for task in heads if task.ready and (task.engine is None or task.engine not in self._running)]
            if not able:
                return
            task = min(able, key=lambda candidate: candidate.ticket)
            task.began = True
            task.start()
            if task.engine is None:
                self._finish(task, self._moment_s)
            else:
                self._running[task.engine] = (self._moment_s + task.duration_s, task)

    def _finish_next(self, until_s: float) -> bool:
        """Finish the task that is done first, if that is in time; tell whether there was one."""
        if not self._running:
            return False
        engine = min(self._running, key=lambda name: (self._running[name][0], self._running[name][1].ticket))
        end_s, task = self._running[engine]
        if end_s > until_s:
            return False
        del self._running[engine]
        self._moment_s = max(self._moment_s, end_s)
        if self._timeline is not None:
            self._timeline.add(Span(engine, task.queue.handle, task.label, end_s - task.duration_s, end_s))
        self._finish(task, end_s)
        return True

    def _finish(self, task: Task, moment_s: float) -> None:
        task.queue.tasks.popleft()
        if not task.queue.tasks:
            self._busy.remove(task.queue)
        task.finish(moment_s)
