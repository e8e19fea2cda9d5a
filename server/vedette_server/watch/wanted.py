"""What a watcher wants. Plain data and pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.event import Event
    from vedette_server.store.querying import EventFilter
    from vedette_server.watch.offsets import Offset


@dataclass(frozen=True, slots=True)
class WatchWish:
    """What somebody wants to watch.

    Attributes:
        channels: Bare names; None: all that `may_see` lets pass, also those that come later.
        may_see: Tells of a bare name whether it may be seen.
        results: Send results.
        events: Send events.
        filter: Which events; its channels and times are not looked at.
        found_only: Only results in which something was found.
        interval_s: Results at least so far apart, per channel; 0: all.
        offset: Where to go on; None: from now on.
        earliest: From the first event that is kept; there is no offset then.
    """

    channels: frozenset[str] | None
    may_see: Callable[[str], bool]
    results: bool
    events: bool
    filter: EventFilter
    found_only: bool = False
    interval_s: float = 0.0
    offset: Offset | None = None
    earliest: bool = False

    def sees(self, channel: str) -> bool:
        """Tell whether a channel is one of those wanted, and may be seen."""
        return (self.channels is None or channel in self.channels) and self.may_see(channel)

    def wants(self, event: Event) -> bool:
        """Tell whether an event is to be sent."""
        return self.sees(event.channel) and matches(event, self.filter)


def matches(event: Event, wanted: EventFilter) -> bool:
    """Tell whether an event is what a filter chooses, channels and times not looked at."""
    return (
        (not wanted.rules or event.rule in wanted.rules)
        and (not wanted.kinds or event.kind in wanted.kinds)
        and (not wanted.states or event.state in wanted.states)
        and (not wanted.labels or event.label in wanted.labels)
        and not (wanted.unacknowledged and event.acknowledgement is not None)
    )
