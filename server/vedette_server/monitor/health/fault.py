"""One kind of fault of one camera: when it counts, when it is over, and the events that tell of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_server.data.event import Event, EventState
from vedette_server.monitor.episodes import event_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_server.data.event import EventKind

RULE = "camera"
# An event that goes on is told again after so long.
_KEEP_S = 10.0
# Whoever was ill must be well for so long at least.
_WELL_S = 2.0


class Fault:
    """A fault that may be there, and the event while it counts.

    Args:
        channel: The channel's bare name.
        kind: Which fault.
        apart_s: Tells how many seconds since the epoch are ahead of the times that it is called with.

    Attributes:
        since_s: When it was first seen, this time; None while it is not.
        event: The event that goes on, in seconds since the epoch; None where it does not count (yet).
    """

    def __init__(self, channel: str, kind: EventKind, apart_s: Callable[[], float]) -> None:
        self._channel = channel
        self._apart = apart_s
        # As it was when the event began: however the wall clock is set meanwhile, it lasts as long as it lasts.
        self._apart_s = 0.0
        self.kind = kind
        self.since_s: float | None = None
        self.event: Event | None = None
        self._well_s: float | None = None
        self._told_s = 0.0

    @property
    def suspected(self) -> bool:
        """Whether it is seen or counts."""
        return self.since_s is not None or self.event is not None

    def see(
        self,
        time_s: float,
        detail: str,
        *,
        after_s: float,
        measures: Mapping[str, float],
        since_s: float | None = None,
        session: str = "",
        sequence: int = 0,
    ) -> Event | None:
        """Take note that it is there; return an event that begins or is told again.

        Args:
            time_s: Now.
            detail: In words, for a person.
            after_s: It counts when it has been there for so long.
            measures: What was measured.
            since_s: When it began, where that is known to be earlier than now.
            session: The session's bare name.
            sequence: The packet at which it is noted.
        """
        self._well_s = None
        if self.since_s is None:
            self.since_s = time_s if since_s is None else since_s
        if self.event is not None:
            update_s = max(time_s + self._apart_s, self.event.update_s)
            self.event = replace(self.event, update_s=update_s, measures=dict(measures))
            if time_s - self._told_s < _KEEP_S:
                return None
            self._told_s = time_s
            return self.event
        if time_s - self.since_s < after_s:
            return None
        self._apart_s = self._apart()
        start_s = self.since_s + self._apart_s
        self.event = Event(
            event_id=event_id_of(self._channel, RULE, self.kind, "", start_s),
            channel=self._channel,
            kind=self.kind,
            rule=RULE,
            state=EventState.ACTIVE,
            start_s=start_s,
            update_s=time_s + self._apart_s,
            measures=dict(measures),
            session=session,
            sequence=sequence,
            detail=detail,
        )
        self._told_s = time_s
        return self.event

    def miss(self, time_s: float, after_s: float) -> Event | None:
        """Take note that it is not there; return the event when it has ended by that."""
        if self.event is None:
            self.since_s = None
            return None
        if self._well_s is None:
            self._well_s = time_s
        if time_s - self._well_s < max(min(after_s, _WELL_S), 0.0):
            return None
        return self.end(self._well_s)

    def end(self, time_s: float, why: str = "") -> Event | None:
        """End it; return its event where it counted."""
        event, self.event, self.since_s, self._well_s = self.event, None, None, None
        if event is None:
            return None
        end_s = max(time_s + self._apart_s, event.start_s)
        detail = f"{event.detail}; {why}" if why else event.detail
        return replace(event, state=EventState.ENDED, end_s=end_s, update_s=max(event.update_s, end_s), detail=detail)
