"""What is wanted of each sink, beyond its own kind. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.event import Event, EventKind, EventState
    from vedette_server.sinks.base import Sink, SinkContext


class Start(StrEnum):
    """Where a sink that is new begins."""

    LATEST = "latest"
    EARLIEST = "earliest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chooses events; all that is set must hold.

    Attributes:
        channels: Patterns (`*`, `?`, `[...]`) of bare names; empty: all.
        rules: Patterns of names; empty: all.
        kinds: Empty: all.
        states: Empty: all.
        min_score: Lowest peak score; an event that has no score is wanted, too.
    """

    channels: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    kinds: tuple[EventKind, ...] = ()
    states: tuple[EventState, ...] = ()
    min_score: float = 0.0

    def takes(self, event: Event) -> bool:
        """Tell whether an event is wanted."""
        return (
            self.takes_channel(event.channel)
            and self.takes_rule(event.rule)
            and (not self.kinds or event.kind in self.kinds)
            and (not self.states or event.state in self.states)
            and (event.peak_score is None or event.peak_score >= self.min_score)
        )

    def takes_channel(self, name: str) -> bool:
        """Tell whether a channel's events may be wanted."""
        return not self.channels or any(fnmatchcase(name, one) for one in self.channels)

    def takes_rule(self, name: str) -> bool:
        """Tell whether a rule's events may be wanted."""
        return not self.rules or any(fnmatchcase(name, one) for one in self.rules)

    def records(self, records: tuple[ChannelRecord, ...]) -> tuple[ChannelRecord, ...]:
        """Give the channels whose events may be wanted."""
        return tuple(one for one in records if self.takes_channel(one.name))


@dataclass(frozen=True, slots=True)
class Patience:
    """How a delivery that fails is tried again.

    Attributes:
        first_pause_s: After the first failure about so long passes.
        longest_pause_s: The pause doubles up to this.
        max_attempts: A message is given up that failed so often while the sink took others.
        max_age_s: A message is given up that is tried for so long; how old the event is does not matter.
    """

    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    max_attempts: int = 20
    max_age_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class DeadBounds:
    """How much of what was given up is kept: messages, and bytes."""

    most: int = 10_000
    most_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One sink as it is wanted.

    Attributes:
        name: Unique; also begins the names of its files.
        kind: Which kind.
        make: Makes the sink; connects to nobody before that.
        wanted: Which events it gets.
        start: Where it begins when it is new.
        patience: How it tries again.
        dead: How much is kept of what was given up.
    """

    name: str
    kind: str
    make: Callable[[SinkContext], Sink]
    wanted: Wanted = field(default_factory=Wanted)
    start: Start = Start.LATEST
    patience: Patience = field(default_factory=Patience)
    dead: DeadBounds = field(default_factory=DeadBounds)
