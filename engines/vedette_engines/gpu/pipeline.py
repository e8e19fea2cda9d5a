"""The state machine of one GPU: finds what is done, tells it, and starts what is due.

Nothing here waits for the device, and nothing here locks: `executor.py` lets one thread at a time in, attached.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import EnginesError, RunError
from vedette_engines.gpu.base import Outcome
from vedette_engines.gpu.lane import size_of_batch
from vedette_engines.gpu.member import Flight, tell
from vedette_engines.gpu.pacing import Pace
from vedette_engines.gpu.sharing import FairShare
from vedette_engines.gpu.timings import Anchors, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import Batch, LaneTimes
    from vedette_engines.gpu.lane import Lane
    from vedette_engines.gpu.member import Member
    from vedette_engines.gpu.timings import Anchor

_log = logging.getLogger(__name__)

# A lost device refuses so many batches of each source per turn: a source that always has one may not hold up the rest.
_REFUSED_PER_TURN = 64


class Pipeline:
    """The members of one GPU and what is under way. One thread at a time, attached.

    Args:
        device: The GPU.
        clock: Monotonic seconds.
        max_in_flight: Most batches under way; 0: all lanes of whoever works alone, and where several have work as many
            as the one with the most lanes: with more, the device's queue would decide who is next, not the weights.
        poll_s: Shortest time between two looks.
    """

    def __init__(self, device: Device, clock: Callable[[], float], max_in_flight: int, poll_s: float) -> None:
        self.members: list[Member] = []
        self.flights: list[Flight] = []
        self.usage = Usage()
        self.lost: CudaError | None = None
        self._device = device
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._poll_s = poll_s
        self._share = FairShare()
        self._pace = Pace(poll_s)
        self._anchors: Anchors | None = None
        self._busy_until_s = float("-inf")

    def turn(self) -> None:
        """Harvest, then launch.

        Raises:
            CudaError: The device is lost; whoever calls tells it to `lose`.
        """
        self._harvest()
        if self.lost is None:
            self._launch(self._clock())
        else:
            self._refuse()

    def wait_s(self, now: float) -> float | None:
        """Tell in how many seconds the next turn is worth it; None: not before somebody has something."""
        waits = []
        if self.flights:
            earliest_s = min(flight.started_s + flight.member.shortest_s(flight.size) for flight in self.flights)
            waits.append(self._pace.wait_s(now, earliest_s))
        if self.has_room:
            waits.extend(max(moment - now, self._poll_s) for moment in self._moments(now))
        return min(waits, default=None)

    def _moments(self, now: float) -> list[float]:
        """Tell when those that have a lane have a batch; not what is due but may not begin before another ends."""
        able = [member for member in self.members if self.lost or self._can_take(member)]
        due = {member: moment for member in able if (moment := member.due_at()) is not None}
        working = [member for member in self.members if member.flights or due.get(member, math.inf) <= now]
        full = self.lost is None and len(self.flights) >= self._limit(working)
        return [moment for moment in due.values() if moment > now or not full]

    @property
    def has_room(self) -> bool:
        """Whether a further batch would be started if there were one; read by any thread."""
        if self.lost is not None:
            return True
        return len(self.flights) < self._limit(self.members) and any(map(self._can_take, self.members))

    def lose(self, error: CudaError) -> None:
        """Fail all that is under way and all that comes, with a reason."""
        self.lost = error
        for flight in tuple(self.flights):
            flight.error = str(error)
            self._forget(flight)
            flight.tell(self._outcome(flight, self._clock()))

    def abandon(self, flight: Flight, reason: str) -> None:
        """Give up a batch that does not end, and its lane with it."""
        flight.error = reason
        self._forget(flight)
        flight.member.open_lanes.abandon(flight.lane)
        flight.tell(self._outcome(flight, self._clock()))

    def close(self) -> None:
        """Let go of what is the pipeline's own; may be called twice."""
        anchors, self._anchors = self._anchors, None
        if anchors is not None:
            anchors.close()

    # -- what is done ---------------------------------------------------------------------------

    def _harvest(self) -> None:
        done = [flight for flight in self.flights if self._is_done(flight)]
        if not done:
            return
        now = self._clock()
        timed = [(flight, self._times(flight)) for flight in done]
        timed.sort(key=lambda entry: entry[1].download[1] if entry[1] is not None else now)
        for flight, times in timed:
            self._finish(flight, times, now)

    def _is_done(self, flight: Flight) -> bool:
        """Look whether a batch is done.

        Raises:
            CudaError: The device is lost.
        """
        if flight.broken:
            return True
        try:
            return flight.lane.done()
        except CudaError as error:
            if error.sticky:
                raise
            flight.error = flight.error or str(error)
        try:
            # Only here is the device waited for: the frames must not be touched before the copies have ended.
            flight.lane.synchronize()
        except CudaError as error:
            if error.sticky:
                raise
            flight.broken = True
        return True

    def _times(self, flight: Flight) -> LaneTimes | None:
        """Read the events of a batch that is done.

        Raises:
            CudaError: The device is lost.
        """
        if flight.anchor is None or flight.error:
            return None
        try:
            return flight.lane.times(flight.anchor)
        except CudaError as error:
            if error.sticky:
                raise
            _log.warning("a batch could not be timed: %s", error)
            return None

    def _finish(self, flight: Flight, times: LaneTimes | None, now: float) -> None:
        outcome_times = self.usage.note(now, times)
        self._settle(flight, outcome_times, now)
        outcome = self._outcome(flight, now, outcome_times)
        self._forget(flight)
        if not flight.broken:
            flight.member.free.append(flight.lane)
        flight.tell(outcome)
        if flight.broken:
            self._replace(flight.member, flight.lane)

    def _settle(self, flight: Flight, times: LaneTimes | None, now: float) -> None:
        """Charge what a batch really took, and learn from it when the next may be done."""
        member = flight.member
        ended_s = now if times is None else times.download[1]
        if times is None:
            # Without events: the time since the device was done with the batch before, at most.
            compute_s = now - max(flight.started_s, self._busy_until_s)
        else:
            compute_s = times.compute[1] - times.compute[0]
        self._busy_until_s = max(self._busy_until_s, ended_s)
        member.account.charge(compute_s - flight.estimate_s)
        if not flight.error:
            # Seen by looking, a batch never seems quicker than the looks: so expect it a little earlier each time.
            whole_s = (ended_s - flight.started_s) * (1.0 if times is not None else 0.9)
            member.learn(flight.size, compute_s, whole_s)
            self._pace.ended(ended_s, after_s=flight.started_s)

    def _outcome(self, flight: Flight, now: float, times: LaneTimes | None = None) -> Outcome:
        rows = None if flight.error else flight.lane.rows(len(flight.batch.frames))
        return Outcome(rows, flight.error, flight.started_s, now, flight.lane.number, flight.size, times)

    def _forget(self, flight: Flight) -> None:
        self.flights.remove(flight)
        flight.member.flights.remove(flight)
        if flight.anchor is not None:
            flight.anchor.users -= 1

    def _replace(self, member: Member, lane: Lane) -> None:
        """Open a lane in place of a broken one; without it, if that cannot be.

        Raises:
            CudaError: The device is lost.
        """
        member.open_lanes.discard(lane)
        try:
            member.free.append(member.open_lanes.reopen(lane.number))
        except EnginesError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            _log.warning("lane %d is lost: %s", lane.number, error)
            if not member.open_lanes.lanes:
                member.lost = f"all lanes are lost: {error}"

    # -- what is due ----------------------------------------------------------------------------

    def _launch(self, now: float) -> None:
        due = self._due(now)
        working = [member for member in self.members if member.flights or member in due]
        limit = self._limit(working)
        while due and len(self.flights) < limit:
            member = min(due, key=lambda candidate: candidate.account.virtual_s)
            batch = member.take(now)
            if batch is not None:
                self._begin(member, batch, now)
            if batch is None or not self._can_take(member) or not _is_due(member, now):
                due.remove(member)

    def _due(self, now: float) -> list[Member]:
        """Find the members that have a batch and a lane for it, and see who is idle."""
        due = []
        for member in self.members:
            if self._can_take(member) and _is_due(member, now):
                self._share.wake(member.account)
                self._share.bound(member.account)
                due.append(member)
            elif not member.flights:
                member.account.active = False
        return due

    def _limit(self, members: Sequence[Member]) -> int:
        # One at least: batches of a member that lost all its lanes are taken, too, to be refused.
        return self._max_in_flight or max((1, *(member.lanes for member in members)))

    @staticmethod
    def _can_take(member: Member) -> bool:
        return bool(member.free or member.lost)

    def _begin(self, member: Member, batch: Batch, now: float) -> None:
        """Start a batch, or tell why not.

        Raises:
            CudaError: The device is lost.
        """
        if member.lost:
            tell(batch, Outcome(None, member.lost, now, now, 0, 0))
            return
        try:
            size = size_of_batch(batch.frames, member.sizes, member.max_batch)
        except RunError as error:
            tell(batch, Outcome(None, str(error), now, now, 0, 0))
            return
        lane = member.free.pop()
        flight = Flight(member, lane, batch, size, self._clock(), estimate_s=member.compute_s(size))
        self.flights.append(flight)
        member.flights.append(flight)
        self._share.served(member.account)
        member.account.charge(flight.estimate_s)
        if member.open_lanes.settings.timing:
            flight.anchor = self._anchor(flight.started_s)
        try:
            lane.enqueue(batch.frames, size)
        except EnginesError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            flight.error = str(error)
            self._drain(flight)

    def _anchor(self, now: float) -> Anchor | None:
        """Give what the times of a batch will be told from.

        Raises:
            CudaError: The device is lost.
        """
        try:
            if self._anchors is None:
                self._anchors = Anchors(self._device, self._clock)
            return self._anchors.take(now)
        except CudaError as error:
            if error.sticky:
                raise
            _log.warning("batches cannot be timed: %s", error)
            return None

    @staticmethod
    def _drain(flight: Flight) -> None:
        """Let what was enqueued of a failed batch end before it is told: its frames are being read."""
        try:
            flight.lane.drain()
        except CudaError as error:
            if error.sticky:
                raise
            flight.broken = True
            # Without a mark to look for there is only waiting; if that fails too, nothing is under way any more.
            with contextlib.suppress(CudaError):
                flight.lane.synchronize()

    def _refuse(self) -> None:
        """Tell all that come that the device is lost."""
        now = self._clock()
        for member in self.members:
            for _ in range(_REFUSED_PER_TURN):
                if not _is_due(member, now) or (batch := member.take(now)) is None:
                    break
                tell(batch, Outcome(None, str(self.lost), now, now, 0, 0))


def _is_due(member: Member, now: float) -> bool:
    moment = member.due_at()
    return moment is not None and moment <= now
