"""Drive one GPU from one thread: several engines, each with lanes, several batches under way at once.

The thread never waits for the device: it looks for batches that are done, tells them, starts those that are due, and
sleeps until the next look is worth it or somebody nudges it. While batch k computes, batch k+1 is uploaded and k-1 is
downloaded, each in a lane of its own.

Threads: all of it may be called by any thread, but not from within `Batch.done` or a source.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError
from vedette_engines.gpu.lane import LaneSettings, no_annotation
from vedette_engines.gpu.member import Member
from vedette_engines.gpu.opening_lanes import plan_lanes
from vedette_engines.gpu.pacing import POLL_S
from vedette_engines.gpu.pipeline import Pipeline
from vedette_engines.gpu.timings import ExecutorFigures
from vedette_engines.gpu.waiting import LockWaiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import DeviceEngine, Source
    from vedette_engines.gpu.waiting import Waiting

__all__ = ["Executor", "ExecutorFigures", "LaneSettings", "Member"]

_log = logging.getLogger(__name__)

_DEFAULTS = LaneSettings()
_CLOSE_S = 30.0
_AFTER_FAILURE_S = 1.0


def _ignore(_: CudaError) -> None:
    """Do nothing."""


class Executor:
    """All that runs on one GPU.

    Args:
        device: The GPU; closed by whoever opened it, after this.
        clock: Monotonic seconds.
        max_in_flight: Most batches under way; 0: all lanes of whoever works alone, and where several have work, as many
            as the one with the most lanes has.
        poll_s: Shortest time between two looks at a GPU that is busy.
        annotate: Marks what the host does for a batch, for a profiler.
        on_lost: Called once, from the thread that notices, when the device is lost: nothing on it works any more, and
            the process must end.
        waiting: How the thread waits; with a clock of its own kind, a wait of that kind.
    """

    def __init__(
        self,
        device: Device,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_in_flight: int = 0,
        poll_s: float = POLL_S,
        annotate: Callable[[str], AbstractContextManager[object]] = no_annotation,
        on_lost: Callable[[CudaError], None] = _ignore,
        waiting: Waiting | None = None,
    ) -> None:
        if max_in_flight < 0:
            raise ValueError(f"max_in_flight is {max_in_flight}; allowed is 0 and up")
        self.device = device
        self._clock = clock
        self._annotate = annotate
        self._on_lost = on_lost
        self._waiting = waiting or LockWaiting()
        self._pipeline = Pipeline(device, clock, max_in_flight, poll_s)
        # Held for a turn, never while waiting.
        self._turn = threading.Lock()
        self._progress = threading.Condition(self._turn)
        # Lanes of one engine are opened one after the other.
        self._opening = threading.Lock()
        self._inside: int | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._closed = False
        self._ended = False
        self._figures_s = clock()
        self._figures_batches = 0

    @property
    def lost(self) -> CudaError | None:
        """Why nothing works any more; None: it does."""
        return self._pipeline.lost

    @property
    def members(self) -> tuple[Member, ...]:
        """What runs on it now."""
        return tuple(self._pipeline.members)

    def add(
        self, engine: DeviceEngine, source: Source, settings: LaneSettings = _DEFAULTS, weight: float = 1.0
    ) -> Member:
        """Open lanes for an engine, run each batch size once, capture them, and begin to ask its source.

        Args:
            engine: Loaded on this device; closed by whoever opened it, after `remove` or `close`.
            source: Has its batches.
            settings: How its lanes are.
            weight: Its share of the compute time where several engines have work.

        Raises:
            LoadError: The device has no room, the engine refuses, or the executor is closed or lost.
            ValueError: The weight is not above 0.
        """
        with self._opening:
            self._check_usable()
            lanes = plan_lanes(self.device, engine, settings, self._annotate)
            try:
                with self.device.attached():
                    lanes.open()
            except CudaError as error:
                if error.sticky:
                    self._lose(error)
                raise LoadError(f"lanes cannot be opened: {error}") from error
        try:
            member = Member(lanes, source, weight, self._clock)
            with self._turn:
                self._check_usable()
                self._pipeline.members.append(member)
        except BaseException:
            with self.device.attached():
                lanes.close()
            raise
        self._waiting.wake()
        return member

    def remove(self, member: Member, timeout_s: float = _CLOSE_S) -> bool:
        """Ask a member's source no more, wait for what it has under way, and close its lanes.

        Returns:
            Whether all ended in time. What did not was told that it failed, and its lanes are left open: their memory
            cannot be had back before it ends.
        """
        self._refuse_inside()
        with self._turn:
            member.leaving = True
        ended = self._wait_for(lambda: not member.flights, timeout_s)
        with self._turn:
            for flight in tuple(member.flights):
                self._pipeline.abandon(flight, f"the batch did not end within {timeout_s} s and was given up")
            if member in self._pipeline.members:
                self._pipeline.members.remove(member)
            member.free.clear()
        # Not in the turn: to give memory back waits for all that is under way on the device, others' batches too.
        with self._attached():
            member.open_lanes.close()
        return ended

    def nudge(self) -> None:
        """Tell that a source has something, or will have it sooner than it said. Never blocks."""
        # With all lanes busy the next turn comes by itself, as soon as one is free.
        if self._pipeline.has_room:
            self._waiting.wake()

    def step(self) -> float | None:
        """Take one turn: tell what is done, start what is due.

        Returns:
            Seconds until the next turn is worth it; None: not before a nudge.
        """
        self._refuse_inside()
        try:
            # One that is lost may refuse to be attached to; those who come must still be told.
            with self._turn, contextlib.nullcontext() if self.lost else self.device.attached():
                self._inside = threading.get_ident()
                try:
                    self._pipeline.turn()
                finally:
                    self._inside = None
                self._progress.notify_all()
                return self._pipeline.wait_s(self._clock())
        except CudaError as error:
            self._lose(error)
            return 0.0

    def start(self) -> None:
        """Start the thread that takes the turns."""
        if self._thread is None and not self._closed:
            name = f"gpu-{self.device.facts.index}"
            self._thread = threading.Thread(target=self._drive, name=name, daemon=True)
            self._thread.start()

    def figures(self, window_s: float | None = None) -> ExecutorFigures:
        """Tell what the GPU's engines did of late.

        Args:
            window_s: In so many last seconds; None: since the last call without a window.
        """
        now, usage = self._clock(), self._pipeline.usage
        in_flight = len(self._pipeline.flights)
        if window_s is not None:
            return usage.figures(now - window_s, now, in_flight)
        figures = usage.figures(self._figures_s, now, in_flight)
        # Counted, for one may be noted while the figures are made, with an end before.
        batches, self._figures_s, self._figures_batches = self._figures_batches, now, usage.batches
        return replace(figures, batches=self._figures_batches - batches)

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """End: take no more batches, wait for those under way, close all lanes; may be called twice.

        Returns:
            Whether all ended in time; see `remove`.
        """
        if self._closed:
            return self._ended
        self._refuse_inside()
        self._closed = True
        deadline_s = self._clock() + timeout_s
        # The thread may hang in a call of the driver, with the turn: then nothing can be closed.
        taken = self._turn.acquire(timeout=timeout_s)
        if taken:
            for member in self._pipeline.members:
                member.leaving = True
            self._turn.release()
            self._wait_for(lambda: not self._pipeline.flights, timeout_s)
        # A turn takes less than a second, unless it hangs.
        if not self._join(max(deadline_s - self._clock(), 1.0) if taken else 0.0):
            self._give_up()
            return False
        self._ended = not self._pipeline.flights
        for member in self.members:
            self.remove(member, 0.0)
        with self._turn, self._attached():
            self._pipeline.close()
        return self._ended

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        """Be attached, as far as a device can be attached to that is lost: what is closed then fails by itself."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.device.attached())
            except CudaError as error:
                _log.warning("closing without the device: %s", error)
            yield

    def _refuse_inside(self) -> None:
        if self._inside == threading.get_ident():
            raise RuntimeError("called from within Batch.done or a source: the executor would wait for itself")

    def _check_usable(self) -> None:
        if self._closed:
            raise LoadError("the executor is closed")
        if self._pipeline.lost is not None:
            raise LoadError(f"the GPU is lost: {self._pipeline.lost}")

    def _wait_for(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is done by the thread that takes the turns, or take them here if there is none."""
        deadline_s = self._clock() + timeout_s
        while not done():
            left_s = deadline_s - self._clock()
            if left_s <= 0:
                return False
            if self._thread is not None:
                self._waiting.wake()
                with self._progress:
                    self._progress.wait_for(done, left_s)
                continue
            wait_s = self.step()
            if not done():
                self._waiting.wait(left_s if wait_s is None else min(wait_s, left_s))
        return True

    def _drive(self) -> None:
        with self._attached():
            while not self._stopping:
                try:
                    wait_s = self.step()
                except Exception as error:  # noqa: BLE001 - without its thread nobody would ever be told anything
                    _log.exception("the executor's thread failed")
                    self._lose(CudaError("CUDA_ERROR_UNKNOWN", f"driving the GPU ({error!r})", sticky=True))
                    # What failed may fail again: no sooner than a while later, or when somebody has something.
                    wait_s = _AFTER_FAILURE_S
                self._waiting.wait(wait_s)

    def _join(self, timeout_s: float) -> bool:
        self._stopping = True
        self._waiting.wake()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _give_up(self) -> None:
        """Tell all under way that they failed: the thread hangs in a call of the driver."""
        _log.error("the executor's thread hangs in a call of the driver")
        now = self._clock()
        for flight in tuple(self._pipeline.flights):
            flight.give_up("the GPU hangs", now)

    def _lose(self, error: CudaError) -> None:
        """Fail everything, and tell it, once."""
        with self._turn:
            if self._pipeline.lost is not None:
                return
            self._pipeline.lose(error)
            self._progress.notify_all()
        _log.error("the GPU is lost: %s", error)
        try:
            self._on_lost(error)
        except Exception:  # noqa: BLE001 - whoever is told cannot hurt
            _log.exception("that the GPU is lost could not be told")
