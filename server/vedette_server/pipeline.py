"""The worker pool that decodes, converts and runs, and the order in which it does so.

The only place that decides whose packet is decoded next and whose picture is converted next. A picture
is converted when its engines have a free slot, not before: until then a newer one of the same live
channel may take its place at no cost. Runs of engines go first and conversions second, since they are
bounded by lanes and slots, and decoding last; there is a worker for every lane besides those that
decode, so that runs never keep packets waiting.

Channels with the same engines share one fair queue (`groups.py`). A frame is bound to a version of each of
its engines when its turn comes; a channel goes over to another version with all its frames that still wait.

Threads: any thread may call the methods. One lock guards all state; channels are never called with it
held, and never call in with a lock of theirs held.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from vedette_engines.gpu.nvtx import nvtx_range
from vedette_server.conversion import Converter, release
from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.execute.claims import Claims
from vedette_server.groups import Groups
from vedette_server.parking import Parking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vedette_server.conversion import Tap
    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Binding, Channel, Frame
    from vedette_server.groups import Entry, Group
    from vedette_server.picture.slots import Slot
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

# A decoder may give several pictures for one packet (at a flush all that it held), so that a queue
# must take a few more than the limit at which decoding pauses. H.264 and HEVC hold at most 16.
FLUSH_MARGIN = 32


class JobSource(Protocol):
    """Something else that has work for the pool: an engine with batches to run, or with results to hand over."""

    def take(self, now: float) -> Callable[[], None] | None:
        """Return a job that is due, or None. Called with the pool's lock held."""

    def due_at(self) -> float | None:
        """Tell when there will be one, monotonic seconds; None when that is not known: then `jobs_ready` is called."""


class Pipeline:
    """Decodes and converts for all channels.

    Args:
        workers: Threads that decode and convert; each lane of a source brings one more.
        pending_pictures: Decoded pictures of an EVERY_FRAME channel at which its decoding pauses.
        clock: Monotonic seconds.
        tracer: Records conversions; None: nobody does.
    """

    def __init__(
        self,
        workers: int,
        pending_pictures: int,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        self._pending_pictures = pending_pictures
        self._clock = clock
        self._lock = threading.Lock()
        self._parking = Parking(self._lock)
        self._entries: dict[Channel, Entry] = {}
        self._groups = Groups()
        self._ready: deque[Entry] = deque()
        self._pending = 0
        # Pictures wait, but none of their engines has a free slot.
        self._blocked = False
        # Workers that run a batch now, and are away for long.
        self._runs = 0
        self._claims = Claims()
        self._converter = Converter(self.slots_freed, lambda: self.idle, clock, tracer)
        self._sources: list[JobSource] = []
        self._stopping = False
        # Workers that are to go when they have nothing at hand.
        self._dismissed = 0
        self._threads: list[threading.Thread] = []
        self._hire(workers)

    def add_source(self, source: JobSource, lanes: int) -> None:
        """Run a source's jobs, too, up to ``lanes`` of them at once."""
        with self._lock:
            self._sources.append(source)
        self._hire(lanes)

    def remove_source(self, source: JobSource, lanes: int) -> None:
        """Run a source's jobs no more, and let as many workers go as came with it; unknown ones are left alone."""
        with self._lock:
            if source in self._sources:
                self._sources.remove(source)
                self._dismissed += lanes
                self._parking.wake_all()

    def show(self, taps: Mapping[InferenceClient, Sequence[Tap]]) -> None:
        """Show the frames of engines to those who only look, and to nobody else any more."""
        self._converter.show(taps)

    @property
    def idle(self) -> bool:
        """Whether nothing waits that a worker could do; a glance without the lock."""
        return not (self._pending or self._ready or self._due_at() <= self._clock())

    def close(self) -> None:
        """End the workers; may be called twice. What still waits is left to its channels."""
        with self._lock:
            self._stopping = True
            self._parking.wake_all()
        for thread in tuple(self._threads):
            thread.join()

    def add(self, channel: Channel) -> None:
        """Take a channel in, unless it is there already."""
        config = channel.config
        with self._lock:
            if channel in self._entries:
                return
            self._entries[channel] = self._groups.join(
                channel,
                config.priority,
                newest_wins=config.policy is DeliveryPolicy.LIVE,
                capacity=self._pending_pictures + FLUSH_MARGIN,
            )

    def update(self, channel: Channel) -> None:
        """Take over a channel's new priority and policy."""
        config = channel.config
        with self._lock:
            entry = self._entries.get(channel)
            if entry is None:
                return
            self._groups.reweigh(entry, config.priority)
            displaced = entry.group.queue.set_newest_wins(channel, config.policy is DeliveryPolicy.LIVE)
            self._pending -= len(displaced)
        for frame in displaced:
            channel.skip(frame, SkipReason.SUPERSEDED)
        self.wake(channel)

    def rebind(self, channel: Channel) -> None:
        """Take over what a channel is bound to now.

        Its frames that wait go with it, in their order; those whose turn has come end where they are.
        """
        with self._lock:
            entry = self._entries.get(channel)
            if entry is None:
                return
            # Read here: of two who rebind at once, both leave what was set last.
            entry.binding = channel.binding
            if entry.binding.inferences != entry.group.inferences:
                self._left(self._groups.move(entry))
                self._blocked = False
                if self._pending and self._worth_waking():
                    self._parking.wake_one()

    def remove(self, channel: Channel) -> list[Frame]:
        """Let a channel go and return its frames that waited for their turn."""
        with self._lock:
            entry = self._entries.pop(channel, None)
            if entry is None:
                return []
            frames = self._groups.leave(entry)
            self._pending -= len(frames)
            self._left(entry.group)
            return frames

    def wake(self, channel: Channel) -> None:
        """Say that a channel has work."""
        with self._lock:
            entry = self._entries.get(channel)
            if entry is not None:
                self._queue(entry)

    def slots_freed(self) -> None:
        """Say that an engine has free slots."""
        with self._lock:
            self._blocked = False
            if self._pending and self._worth_waking():
                self._parking.wake_one()

    def jobs_ready(self) -> None:
        """Say that a source has a job, and perhaps free slots: from a thread that is not one of the workers.

        Of what workers themselves bring about nobody need be told: they look for jobs when they are done.
        """
        with self._lock:
            self._blocked = False
            self._parking.wake_one()

    def offer(self, frame: Frame) -> Frame | None:
        """Let a frame wait for its turn; return the one that it displaced, if any.

        Called by a worker, which looks for jobs when it is done with the one at hand: it wakes nobody.
        """
        with self._lock:
            entry = self._entries.get(frame.channel)
            if entry is None:
                return frame
            group = entry.group
            self._groups.catch_up(group)
            displaced = group.queue.offer(frame.channel, frame, fresh=frame.young)
            if displaced is None:
                self._pending += 1
                self._blocked = False
            return displaced

    def pending(self, channel: Channel) -> int:
        """Return how many of a channel's frames wait for their turn."""
        with self._lock:
            entry = self._entries.get(channel)
            return 0 if entry is None else entry.group.queue.pending(channel)

    @property
    def depths(self) -> tuple[int, int]:
        """Channels that wait for a decoder, and pictures that wait for their turn."""
        with self._lock:
            return len(self._ready), self._pending

    def _hire(self, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._run, name=f"worker-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()

    def _left(self, group: Group) -> None:
        """Let a group hold no slots when nothing of it waits any more; the lock is held."""
        if not len(group.queue) and self._claims.drop(group.inferences):
            self._blocked = False
            if self._pending:
                self._parking.wake_one()

    def _queue(self, entry: Entry) -> None:
        """Put a channel in line, unless it is there or its pictures must be used up first."""
        if entry.running:
            entry.again = True
        elif not self._has_room(entry):
            entry.starved = True
        elif not entry.queued:
            entry.queued = True
            self._ready.append(entry)
            if self._worth_waking():
                self._parking.wake_one()

    def _has_room(self, entry: Entry) -> bool:
        if entry.channel.config.policy is DeliveryPolicy.LIVE:
            return True
        return entry.group.queue.pending(entry.channel) < self._pending_pictures

    def _run(self) -> None:
        while (job := self._await_job()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - a worker outlives whatever one channel does to it
                _log.exception("worker failed on a job")

    def _await_job(self) -> Callable[[], None] | None:
        """Return the next job, once there is one; None: the worker is to go."""
        with self._lock:
            job = None
            while not (self._stopping or self._dismissed) and (job := self._next()) is None:
                self._wait()
            if job is None and not self._stopping:
                self._dismissed -= 1
                self._threads.remove(threading.current_thread())
            if self._parking.idle and self._worth_waking():
                # Whoever takes a job wakes one more for the next: callers need not. Nor is a wake lost with who goes.
                self._parking.wake_one()
            return job

    def _wait(self) -> None:
        """Wait for work; one of the workers that wait watches the clock for batches that become due."""
        due = self._due_at()
        watching = due < self._parking.watched_until
        self._parking.wait(due if watching else math.inf, self._clock())

    def _due_at(self) -> float:
        times = [due for source in self._sources if (due := source.due_at()) is not None]
        return min(times, default=math.inf)

    def _worth_waking(self) -> bool:
        """Tell whether there is work for one more worker, if only to watch the clock while others run batches."""
        if self._ready or (self._pending and not self._blocked):
            return True
        return self._runs > 0 and self._due_at() < self._parking.watched_until

    def _next(self) -> Callable[[], None] | None:
        """Return the next job; the lock is held."""
        if self._stopping:
            return None
        now = self._clock()
        for source in self._sources:
            job = source.take(now)
            if job is not None:
                self._runs += 1
                return partial(self._run_batch, job)
        pick = self._pick()
        if pick is not None:
            return partial(self._convert, *pick)
        while self._ready:
            entry = self._ready.popleft()
            entry.queued = False
            if self._entries.get(entry.channel) is not entry:
                # Removed meanwhile; when it has come back, that has an entry of its own.
                continue
            entry.running = True
            return partial(self._decode, entry)
        return None

    def _pick(self) -> tuple[Frame, Binding, list[Slot]] | None:
        if not self._pending or self._blocked:
            return None
        for group in self._groups.waiting():
            slots = self._claims.take(group.inferences)
            if slots is None:
                continue
            picked = group.queue.pick()
            if picked is None:
                release(group.inferences, slots)
                continue
            self._pending -= 1
            frame = picked[1]
            group.virtual += 1.0 / max(group.weight, 1)
            entry = self._entries[frame.channel]
            # From here on the frame stays with the version whose slots it has got.
            frame.binding = entry.binding
            if entry.starved:
                entry.starved = False
                self._queue(entry)
            return frame, entry.binding, slots
        self._blocked = True
        return None

    def _convert(self, frame: Frame, binding: Binding, slots: list[Slot]) -> None:
        with nvtx_range("convert"):
            self._converter.convert(frame, binding, slots)

    def _run_batch(self, job: Callable[[], None]) -> None:
        try:
            job()
        finally:
            with self._lock:
                self._runs -= 1

    def _decode(self, entry: Entry) -> None:
        more = True
        try:
            with nvtx_range("decode"):
                more = entry.channel.work()
        finally:
            with self._lock:
                entry.running = False
                if (more or entry.again) and self._entries.get(entry.channel) is entry:
                    self._queue(entry)
                entry.again = False
