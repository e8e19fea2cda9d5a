"""Put kept events on the wire, so that one that does not fit the contract keeps no other from being read.

What does not fit was kept by a fault of ours. It is left out of lists and watches,
told once in the log, and counted; who asks for that very event is told why it does not come.

Threads: the event loop; the count may be read from any.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_server.errors import StateError
from vedette_server.rpc.convert_event import event_name, event_to_wire

if TYPE_CHECKING:
    from vedette.v1 import event_pb2
    from vedette_server.data.event import Event

# So many are remembered as told; beyond, the oldest would be told again.
_REMEMBERED = 10_000

_log = logging.getLogger(__name__)


class SendableEvents:
    """Puts events on the wire, and remembers which cannot be.

    Attributes:
        unfit: Records that were found not to fit the contract.
    """

    def __init__(self) -> None:
        self.unfit = 0
        self._told: dict[int, None] = {}

    def find(self, event: Event, record: int, *, trail: bool = True) -> event_pb2.Event | None:
        """Put an event together, see `event_to_wire`; None: it does not fit."""
        try:
            return event_to_wire(event, record, trail=trail)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are read
            self._tell(event, record, error)
            return None

    def get(self, event: Event, record: int) -> event_pb2.Event:
        """Put an event together that was asked for by its name.

        Raises:
            StateError: EVENT_UNSENDABLE.
        """
        wire = self.find(event, record)
        if wire is None:
            message = f"event {event.event_id!r} cannot be sent: its record {record} does not fit the contract"
            raise StateError("EVENT_UNSENDABLE", f"{message}; the server's log tells why", record=str(record))
        return wire

    def _tell(self, event: Event, record: int, error: Exception) -> None:
        if record in self._told:
            return
        self.unfit += 1
        self._told[record] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        told = {"event_name": event_name(event.channel, event.event_id), "record": record, "error": repr(error)}
        _log.error("an event cannot be sent: lists and watches go on without it", extra=told)
