"""Where the events of all channels go: to the store, with their evidence on its way.

What the store has taken is told to whoever follows (`store/feed.py`); a file whose event is not there any more is
removed. Nothing here waits: what finds no room in the writer's queue is thinned as `store/waiting.py`
says, and counted.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from vedette_server.data.event import EventState
from vedette_server.errors import EvidenceError, InvalidError
from vedette_server.store.changes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.event import Event
    from vedette_server.evidence.collecting import Collector
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.store.changes import EvidenceChange, Stored
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.writer import EventWriter

_log = logging.getLogger(__name__)

_GONE = frozenset({Outcome.UNKNOWN, Outcome.REMOVED, Outcome.FAILED})


class EventDesk:
    """Takes events.

    Args:
        writer: Brings them to the store.
        feed: Wakes those who follow.
        files: Where evidence lies; None: none is kept.
    """

    def __init__(self, writer: EventWriter, feed: EventFeed, files: EvidenceStore | None) -> None:
        self._writer = writer
        self._feed = feed
        self._files = files
        self._lock = threading.Lock()
        self._begun: dict[str, int] = {}
        self._active: set[str] = set()

    @property
    def counts(self) -> dict[str, int]:
        """Events that began, by kind."""
        with self._lock:
            return dict(self._begun)

    def take(self, events: Sequence[Event], collector: Collector | None, wants: Callable[[Event], bool]) -> None:
        """Take what a channel's events have become.

        Args:
            events: In order.
            collector: Sees to their evidence; None: none is kept.
            wants: Tells whether an event's rule wants evidence.
        """
        for event in events:
            self._count(event)
            ready, errands = (event, ()) if collector is None else collector.prepare(event, wanted=wants(event))
            try:
                self._writer.submit(ready, self._feed.told)
            except InvalidError:
                _log.exception("an event cannot be kept", extra={"channel": event.channel, "rule": event.rule})
                continue
            if collector is not None:
                collector.start(errands)

    def evidence(self, change: EvidenceChange) -> None:
        """Take what became of a piece of evidence."""

        def kept(stored: Stored) -> None:
            if stored.outcome in _GONE:
                self._discard(change)
            self._feed.told(stored)

        self._writer.submit(change, kept)

    def _count(self, event: Event) -> None:
        with self._lock:
            if event.event_id not in self._active:
                self._begun[event.kind.value] = self._begun.get(event.kind.value, 0) + 1
            (self._active.discard if event.state is EventState.ENDED else self._active.add)(event.event_id)

    def _discard(self, change: EvidenceChange) -> None:
        """Remove the files of an event that is not there: retention was quicker, or the store refused it."""
        for piece in (change.snapshot, change.annotated, change.clip):
            if self._files is None or piece is None or not piece.path:
                continue
            try:
                self._files.remove(piece.path)
            except EvidenceError:
                # It is told already; the next start removes what no event names.
                _log.warning("a file without an event stays", extra={"path": piece.path})
