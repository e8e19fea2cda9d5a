"""One try to deliver, and what came of it, counted and logged.

Threads: the sink's own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_server.data.event import EvidenceState
from vedette_server.sinks.base import EventMessage, SinkError
from vedette_server.sinks.dead_letters import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.event import Event
    from vedette_server.sinks.base import Sink
    from vedette_server.sinks.dead_letters import DeadLetters
    from vedette_server.sinks.figures import Counts

_log = logging.getLogger(__name__)


class Attempts:
    """Tries to deliver to one sink.

    Args:
        name: The sink's name.
        sink: Where to.
        dead: Where what is given up goes.
        counts: Counted here.
        snapshot: Fetches the annotated JPEG of an event; None: there is none, or it may not be shown.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        dead: DeadLetters,
        counts: Counts,
        snapshot: Callable[[Event], bytes | None],
    ) -> None:
        self._name = name
        self._sink = sink
        self._dead = dead
        self._counts = counts
        self._snapshot = snapshot
        self.failing = ""

    def message(self, number: int, event: Event) -> EventMessage:
        """Make a message of a record; the picture is fetched when the sink asks for it."""
        return EventMessage(number, event, lambda: self._picture(event))

    def deliver(self, messages: Sequence[EventMessage], *, again: bool = False) -> SinkError | None:
        """Try once; None: all were taken."""
        if again:
            self._counts.retried += len(messages)
        try:
            self._sink.deliver(messages)
        except SinkError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - a plug-in's fault must not end its sink
            _log.exception("sink_fault", extra={"sink": self._name})
            return self._failed(SinkError(f"fault of the sink: {error!r}"))
        self._counts.delivered += len(messages)
        if self.failing:
            _log.info("sink_recovered", extra={"sink": self._name})
        self.failing = ""
        return None

    def bury(self, message: EventMessage, error: SinkError, tries: int, now_s: float) -> SinkError | None:
        """Give a message up and keep it; what went wrong when it cannot even be kept."""
        letter = DeadLetter(message.number, message.event, error.message, tries, now_s)
        try:
            self._dead.add(letter)
        except OSError as trouble:
            return self._failed(SinkError(f"dead letters cannot be kept: {trouble.strerror or trouble}", of_sink=True))
        self._counts.dead += 1
        about = {"sink": self._name, "event_id": message.event.event_id, "record": message.number}
        _log.warning("sink_dead_letter", extra={**about, "reason": error.message, "tries": tries})
        return None

    def _failed(self, error: SinkError) -> SinkError:
        self._counts.failed += 1
        if not self.failing:
            _log.warning("sink_failed", extra={"sink": self._name, "reason": error.message})
        self.failing = error.message or type(error).__name__
        return error

    def _picture(self, event: Event) -> bytes | None:
        if event.annotated.state is not EvidenceState.READY:
            return None
        try:
            return self._snapshot(event)
        except Exception:  # noqa: BLE001 - an event without its picture is better than none
            _log.exception("sink_snapshot_failed", extra={"sink": self._name, "event_id": event.event_id})
            return None
