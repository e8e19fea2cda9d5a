"""An engine in an executor: its lanes, its source, what it has under way, and what its batches take."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_engines.gpu.base import Outcome
from vedette_engines.gpu.pacing import Shortest
from vedette_engines.gpu.sharing import Account

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.gpu.base import Batch, DeviceEngine, Source
    from vedette_engines.gpu.lane import Lane
    from vedette_engines.gpu.opening_lanes import OpenLanes
    from vedette_engines.gpu.timings import Anchor

_log = logging.getLogger(__name__)

HANGS_AFTER_S = 30.0
# How much a batch's compute time counts against what was known of its size.
_LEARNS = 1 / 8


@dataclass(slots=True, eq=False)
class Flight:
    """A batch that is under way.

    Attributes:
        member: Whose.
        lane: Where.
        batch: What.
        size: Rows that are computed.
        started_s: When it was enqueued.
        anchor: What its times will be told from; None: they will not be.
        estimate_s: Compute time that it was charged in advance.
        error: Why it failed; empty: it has not.
        broken: Its lane cannot be used again.
    """

    member: Member
    lane: Lane
    batch: Batch
    size: int
    started_s: float
    anchor: Anchor | None = None
    estimate_s: float = 0.0
    error: str = ""
    broken: bool = False
    _untold: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Keep the batch until it is told."""
        self._untold.append(self.batch)

    def tell(self, outcome: Outcome) -> None:
        """Tell what became of it, once, whichever thread comes first."""
        try:
            batch = self._untold.pop()
        except IndexError:
            return
        tell(batch, outcome)

    def give_up(self, reason: str, now: float) -> None:
        """Tell that it failed, whatever becomes of it."""
        self.tell(Outcome(None, reason, self.started_s, now, self.lane.number, self.size))


def tell(batch: Batch, outcome: Outcome) -> None:
    """Tell what became of a batch; whoever is told cannot hurt."""
    try:
        batch.done(outcome)
    except Exception:  # noqa: BLE001 - a bug in one owner's books costs neither the others nor the lane
        _log.exception("what became of a batch could not be told")


@dataclass(slots=True)
class _Kind:
    """What batches of one size take.

    Attributes:
        compute_s: Compute time of a batch, about.
        shortest: From enqueueing to the end, at least.
    """

    compute_s: float = 0.0
    shortest: Shortest = field(default_factory=Shortest)


class Member:
    """An engine in an executor. Its properties may be read by any thread.

    Args:
        lanes: Its lanes, open.
        source: Has its batches.
        weight: Its share of the compute time, against the weights of others.
        clock: The executor's.
    """

    def __init__(self, lanes: OpenLanes, source: Source, weight: float, clock: Callable[[], float]) -> None:
        self.engine: DeviceEngine = lanes.engine
        self.source = source
        self.open_lanes = lanes
        self.free: list[Lane] = list(reversed(lanes.lanes))
        self.flights: list[Flight] = []
        self.account = Account()
        self.weight = weight
        self.leaving = False
        self.lost = ""
        self._clock = clock
        self._kinds: dict[int, _Kind] = {}

    @property
    def lanes(self) -> int:
        """How many batches it can have under way."""
        return len(self.open_lanes.lanes)

    @property
    def graphs(self) -> int:
        """How many batch sizes of a lane run as a captured graph."""
        return max((lane.graphs for lane in self.open_lanes.lanes), default=0)

    @property
    def max_batch(self) -> int:
        """Most frames per batch."""
        return self.open_lanes.max_batch

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes, rising; a batch of another size is padded to the next."""
        return self.open_lanes.sizes

    @property
    def weight(self) -> float:
        """Its share of the compute time, against the weights of others."""
        return self.account.weight

    @weight.setter
    def weight(self, weight: float) -> None:
        if not weight > 0:
            raise ValueError(f"weight is {weight}; allowed is above 0")
        self.account.weight = weight

    @property
    def in_flight(self) -> int:
        """How many batches are under way."""
        return len(self.flights)

    @property
    def hung_since(self) -> float | None:
        """Since when a batch is under way that should long be done, by the executor's clock; None: none is.

        Told by looking at the clock: it is true, too, when the executor's thread itself hangs in a call of the driver.
        """
        started_s = min((flight.started_s for flight in tuple(self.flights)), default=None)
        return started_s if started_s is not None and self._clock() - started_s > HANGS_AFTER_S else None

    def due_at(self) -> float | None:
        """Ask the source when it has something; one that raises has nothing."""
        if self.leaving:
            return None
        try:
            return self.source.due_at()
        except Exception:  # noqa: BLE001 - a broken source costs itself, not the others on the GPU
            _log.exception("a source cannot tell when it has a batch")
            return None

    def take(self, now: float) -> Batch | None:
        """Take a batch that is due; of a source that raises there is none."""
        if self.leaving:
            return None
        try:
            return self.source.take(now)
        except Exception:  # noqa: BLE001 - a broken source costs itself, not the others on the GPU
            _log.exception("a source cannot give its batch")
            return None

    def compute_s(self, size: int) -> float:
        """Tell how long batches of a size compute, about; 0 before the first."""
        return self._kind(size).compute_s

    def shortest_s(self, size: int) -> float:
        """Tell how long batches of a size are under way, at least; 0 before the first."""
        return self._kind(size).shortest.seconds

    def learn(self, size: int, compute_s: float, whole_s: float) -> None:
        """Note what a batch took."""
        kind = self._kind(size)
        kind.compute_s += (compute_s - kind.compute_s) * (_LEARNS if kind.compute_s else 1.0)
        kind.shortest.note(whole_s)

    def _kind(self, size: int) -> _Kind:
        return self._kinds.setdefault(size, _Kind())
