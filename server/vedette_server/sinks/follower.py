"""Follows the chain of events for one sink: what is delivered next, what waits, what is given up.

Nothing waits in memory: what is not delivered yet stays in the store, and a position tells where to go on
(`position.py`). A message that fails holds back the later ones of its channel, and only those:

- The sink itself is down (nobody answers, a full disk, "call later"): all of it pauses, longer each time, and nothing
  is given up, however long that lasts, but for a message that itself is tried for more than `max_age_s`. Each try is
  another channel's, so that a message on which the sink hangs does not stand before all others.
- One message fails while others are taken: its channel is behind, with a position and pauses of its own, and the others
  go on. It costs a few numbers per channel. After `max_attempts` such failures the message is given up.
- A message is refused for good: it is given up at once.

Given up means kept as a dead letter, before the position moves on. So a crash at any point gives doubles, never gaps.

Threads: all methods are called from the sink's one thread, but for `figures`, which any may call.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from vedette_server.sinks.attempts import Attempts
from vedette_server.sinks.figures import Counts, SinkFigures
from vedette_server.sinks.late import Late
from vedette_server.sinks.pauses import Pause
from vedette_server.sinks.position import Behind, Position
from vedette_server.sinks.settings import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.event import Event
    from vedette_server.sinks.base import EventMessage, Sink, SinkError
    from vedette_server.sinks.dead_letters import DeadLetters
    from vedette_server.sinks.pauses import Clock
    from vedette_server.sinks.position import PositionFile
    from vedette_server.sinks.settings import SinkSettings
    from vedette_server.store.changes import Stored
    from vedette_server.store.querying import Changes

_log = logging.getLogger(__name__)

# Records read from the store at once.
READ = 100
# Those of one channel are read anew at each step, as many may be behind.
READ_LATE = 8
# Also looks without being woken: another process may write to the store.
IDLE_S = 5.0
# The position is written at most so often.
SAVE_S = 0.5


class Chain(Protocol):
    """What is needed of a store of events."""

    def changes_after(self, offset: int, channels: Sequence[str] | None = None, limit: int = 100) -> Changes:
        """Give what was kept after an offset; see `EventStore.changes_after`."""
        ...

    def end(self) -> tuple[int, bytes]:
        """Give the number of records, and a hash that is not looked at."""
        ...


class Follower:
    """Brings one sink's messages from the store to the sink.

    Args:
        settings: What is wanted.
        sink: Where to; stays its owner's.
        store: Where from.
        place: Where its position is kept.
        dead: Where what is given up goes.
        snapshot: Fetches the annotated JPEG of an event.
        clock: Tells the time.
        chance: Gives numbers of 0..1.

    Raises:
        SettingsError: The position that was kept cannot be read.
        StoreUnavailableError: The store cannot be read.
        OSError: The position of a new sink cannot be written.
    """

    def __init__(
        self,
        settings: SinkSettings,
        sink: Sink,
        store: Chain,
        place: PositionFile,
        dead: DeadLetters,
        snapshot: Callable[[Event], bytes | None],
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._most = max(1, sink.most)
        self._store = store
        self._place = place
        self._dead = dead
        self._clock = clock
        self._counts = Counts()
        self.attempts = Attempts(settings.name, sink, dead, self._counts, snapshot)
        self._position = _begin(settings, store, place)
        self._buffer: deque[Stored] = deque()
        self._buffer_through = self._position.through
        self._pause = Pause(settings.patience, chance)
        self._late = Late(self._position, settings, clock, chance)
        self._singly = 0
        self._late_first = False
        self._dirty = False
        self._saved_s = float("-inf")

    def step(self) -> float:
        """Do a bounded piece of what is due; give in how many seconds there may be more, if nobody wakes us before."""
        now_s = self._clock.monotonic()
        if now_s < self._pause.until_s:
            return min(self._pause.until_s - now_s, self._save_if_due())
        parts = (self._step_late, self._step_on) if self._late_first else (self._step_on, self._step_late)
        # They take turns in being first: what is first when a pause is over is the only one that is tried.
        self._late_first = not self._late_first
        worked = False
        for part in parts:
            worked = part() or worked
            if self._clock.monotonic() < self._pause.until_s:
                return min(self._pause.until_s - self._clock.monotonic(), self._save_if_due())
        if worked:
            self._save_if_due()
            return 0.0
        return min(IDLE_S, self._save_if_due(), self._late.next_s() - self._clock.monotonic())

    def save(self) -> None:
        """Write the position down; a failure is logged, and costs doubles after a crash."""
        self._saved_s = self._clock.monotonic()
        if not self._dirty:
            return
        try:
            self._place.save(self._position)
            self._dirty = False
        except OSError as error:
            _log.warning("sink_position_not_kept", extra={"sink": self._settings.name, "error": str(error)})

    def figures(self, length: int) -> SinkFigures:
        """Say what was done so far; `length` is that of the chain."""
        counts = self._counts
        return SinkFigures(
            delivered=counts.delivered,
            retried=counts.retried,
            failed=counts.failed,
            dead=counts.dead,
            removed=counts.removed,
            dead_letters=len(self._dead),
            dead_letters_lost=self._dead.lost,
            lag=max(0, length - self._position.through) + self._late.held(),
            channels_behind=len(self._position.behind),
            failing=self.attempts.failing,
        )

    def _save_if_due(self) -> float:
        """Write the position when it is time; give the seconds until it is, without end when there is nothing new."""
        if not self._dirty:
            return float("inf")
        left_s = self._saved_s + SAVE_S - self._clock.monotonic()
        if left_s > 0:
            return left_s
        self.save()
        return float("inf") if not self._dirty else SAVE_S

    def _step_on(self) -> bool:
        """Go on along the chain by one group; False: there is nothing more."""
        if not self._buffer and not self._read():
            return False
        passed, group = self._next_group()
        if group:
            error = self.attempts.deliver(group, again=self._pause.tries > 0)
            if error is not None and not self._settle_failed(group, error):
                return True
            if error is None:
                self._taken(len(group))
        for _each in range(passed):
            stored = self._buffer.popleft()
            self._late.passed(stored, wanted=self._wants(stored))
            self._position.through = stored.number
        if not self._buffer:
            self._position.through = self._buffer_through
        self._singly = max(0, self._singly - passed)
        self._dirty = self._dirty or passed > 0
        return True

    def _read(self) -> bool:
        found = self._store.changes_after(self._position.through, None, READ)
        if found.removed:
            self._counts.removed += found.removed
            gap = {"after": self._position.through, "through": found.through, "records": found.removed}
            _log.warning("sink_gap", extra={"sink": self._settings.name, **gap})
        self._buffer.extend(found.changes)
        self._buffer_through = found.through
        if not found.changes and found.through != self._position.through:
            self._position.through = found.through
            self._dirty = True
        return bool(found.changes)

    def _wants(self, stored: Stored) -> bool:
        return stored.event is not None and self._settings.wanted.takes(stored.event)

    def _next_group(self) -> tuple[int, list[EventMessage]]:
        """Give the next messages, and how many records they and what is passed over make up."""
        most = 1 if self._singly else self._most
        group: list[EventMessage] = []
        for passed, stored in enumerate(self._buffer):
            if stored.event is None or not self._wants(stored) or stored.event.channel in self._position.behind:
                continue
            if len(group) == most:
                return passed, group
            group.append(self.attempts.message(stored.number, stored.event))
        return len(self._buffer), group

    def _taken(self, count: int) -> None:
        self._pause.over()
        self._late.taken(count)

    def _settle_failed(self, group: list[EventMessage], error: SinkError) -> bool:
        """Decide about a group that failed; True: it is settled, or its channel is behind."""
        now_s = self._clock.monotonic()
        if len(group) > 1:
            # One of them may be the cause: they are tried one by one. If nobody is there, all wait.
            self._singly = 0 if error.of_sink else len(self._buffer)
            if error.of_sink:
                self._pause.failed(now_s, error.retry_after_s)
            return False
        message = group[0]
        if error.permanent:
            trouble = self.attempts.bury(message, error, 1, self._clock.time())
            if trouble is None:
                return True
            error = trouble
        if error.of_sink:
            self._pause.failed(now_s, error.retry_after_s)
        self._position.behind[message.event.channel] = Behind(message.number - 1, 0)
        self._late.failed(message, error, self._pause.until_s)
        return True

    def _step_late(self) -> bool:
        """Try the channel that is behind and was tried longest ago; False: none is due."""
        channel = self._late.due(self._clock.monotonic())
        if channel is None:
            return False
        behind = self._position.behind[channel]
        found = self._store.changes_after(behind.position, [channel], max(READ_LATE, self._most))
        wanted = [one for one in found.changes if one.number <= self._position.through and self._wants(one)]
        most = 1 if self._late.in_trouble(channel) else self._most
        group = [self.attempts.message(one.number, one.event) for one in wanted[:most] if one.event is not None]
        self._dirty = True
        if not group:
            self._counts.removed += self._late.moved(channel, found.through)
            return True
        error = self.attempts.deliver(group, again=True)
        if error is None:
            self._taken(len(group))
            self._counts.removed += self._late.settled(channel, group, found.through if len(wanted) <= most else None)
        else:
            self._late_failed(channel, group, error)
        return True

    def _late_failed(self, channel: str, group: list[EventMessage], error: SinkError) -> None:
        """Decide about messages of a channel that is behind, which failed."""
        now_s = self._clock.monotonic()
        if len(group) > 1 and not error.of_sink:
            self._late.one_by_one(channel)
            return
        if error.of_sink:
            self._pause.failed(now_s, error.retry_after_s)
        if len(group) == 1 and self._late.gives_up(channel, error):
            trouble = self.attempts.bury(group[0], error, self._late.tries(channel), self._clock.time())
            if trouble is None:
                self._late.settled(channel, group, None)
                return
            error = trouble
            self._pause.failed(now_s)
        self._late.failed(group[0], error, self._pause.until_s)


def _begin(settings: SinkSettings, store: Chain, place: PositionFile) -> Position:
    """Give where a sink goes on, or where a new one begins; that is kept at once, so that nothing is missed then."""
    position = place.load()
    length = store.end()[0]
    if position is not None and position.settled <= length and position.through <= length:
        return position
    if position is not None:
        # Another store is there than before: all that is in it is new.
        _log.warning(
            "sink_position_beyond_store",
            extra={"sink": settings.name, "position": position.through, "records": length},
        )
        position = Position()
    else:
        position = Position(through=length if settings.start is Start.LATEST else 0)
    place.save(position)
    return position
