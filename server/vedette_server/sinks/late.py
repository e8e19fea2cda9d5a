"""The channels of one sink that a failure holds back: when each is tried again, and when its message is given up.

Part of `Follower`, and called by nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.sinks.pauses import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.sinks.base import EventMessage, SinkError
    from vedette_server.sinks.pauses import Clock
    from vedette_server.sinks.position import Position
    from vedette_server.sinks.settings import SinkSettings
    from vedette_server.store.changes import Stored


@dataclass(slots=True)
class _Trouble:
    """What is remembered of a channel that is behind, beyond its position.

    Attributes:
        pause: When it is tried again.
        last_s: When it was tried last.
        taken: What the sink had taken of others when it failed last.
        tries: Failures of the message that is first.
        one_by_one: Its messages are tried one by one.
    """

    pause: Pause
    last_s: float = float("-inf")
    taken: int = 0
    tries: int = 0
    one_by_one: bool = False


class Late:
    """The channels that are behind.

    Args:
        position: Where they stand; changed here.
        settings: Of the sink.
        clock: Tells the time.
        chance: Gives numbers of 0..1.
    """

    def __init__(
        self,
        position: Position,
        settings: SinkSettings,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._position = position
        self._patience = settings.patience
        self._clock = clock
        self._chance = chance
        self._taken = 0
        self._troubles = {channel: self._new() for channel in position.behind}

    def _new(self) -> _Trouble:
        return _Trouble(Pause(self._patience, self._chance), taken=self._taken)

    def taken(self, count: int) -> None:
        """Take note that the sink has taken messages."""
        self._taken += count

    def held(self) -> int:
        """Say how many messages are held back."""
        return sum(one.held for one in tuple(self._position.behind.values()))

    def next_s(self) -> float:
        """Say when the next one is due."""
        return min((one.pause.until_s for one in self._troubles.values()), default=float("inf"))

    def due(self, now_s: float) -> str | None:
        """Give the channel that is due and was tried longest ago."""
        ready = [(one.last_s, name) for name, one in self._troubles.items() if one.pause.until_s <= now_s]
        return min(ready)[1] if ready else None

    def in_trouble(self, channel: str) -> bool:
        """Tell whether only its first message is to be tried."""
        trouble = self._troubles[channel]
        return trouble.tries > 0 or trouble.one_by_one

    def one_by_one(self, channel: str) -> None:
        """Try its messages one by one, to find out which of them fails."""
        self._troubles[channel].one_by_one = True

    def tries(self, channel: str) -> int:
        """Say how often its first message has failed, this time counted."""
        return self._troubles[channel].tries + 1

    def passed(self, stored: Stored, *, wanted: bool) -> None:
        """Take note of a record that the others have passed: one of a channel that is behind waits there."""
        channel = "" if stored.event is None else stored.event.channel
        if wanted and channel in self._position.behind:
            self._position.behind[channel].held += 1

    def failed(self, message: EventMessage, error: SinkError, sink_until_s: float) -> None:
        """Take note that a channel's first message failed."""
        channel = message.event.channel
        trouble = self._troubles.setdefault(channel, self._new())
        behind = self._position.behind[channel]
        now_s = self._clock.monotonic()
        trouble.last_s = now_s
        trouble.tries += 1
        if behind.since_s is None:
            behind.since_s = self._clock.time()
        if error.of_sink:
            # It may not be this message's fault: it is tried again as soon as its turn comes.
            trouble.pause.until_s = sink_until_s
        else:
            trouble.pause.failed(now_s, error.retry_after_s)
        if self._taken != trouble.taken:
            behind.faults += 1
        trouble.taken = self._taken

    def gives_up(self, channel: str, error: SinkError) -> bool:
        """Tell whether the message that failed again just now is given up."""
        behind, trouble = self._position.behind[channel], self._troubles[channel]
        faults = behind.faults + (self._taken != trouble.taken)
        if error.permanent or faults >= self._patience.max_attempts:
            return True
        return behind.since_s is not None and self._clock.time() - behind.since_s >= self._patience.max_age_s

    def settled(self, channel: str, group: Sequence[EventMessage], through: int | None) -> int:
        """Take note that its first messages are settled; `through`: nothing more of it up to there.

        Returns:
            So many that were held back are gone from the store.
        """
        behind, trouble = self._position.behind[channel], self._troubles[channel]
        behind.position = group[-1].number
        behind.held = max(0, behind.held - len(group))
        behind.since_s, behind.faults = None, 0
        trouble.tries, trouble.taken = 0, self._taken
        trouble.pause.over()
        return 0 if through is None else self.moved(channel, through)

    def moved(self, channel: str, through: int) -> int:
        """Take note that up to a record there is nothing more of it; it is behind no longer if all has got there.

        Returns:
            So many that were held back are gone from the store.
        """
        behind = self._position.behind[channel]
        behind.position = max(behind.position, min(through, self._position.through))
        if behind.position < self._position.through:
            return 0
        del self._position.behind[channel], self._troubles[channel]
        return behind.held
