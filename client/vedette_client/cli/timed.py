"""A source that remembers when each packet was due, and ends when it is told to."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from vedette_client.sources.base import Source, SourceFormat, SourcePacket


@dataclass(frozen=True, slots=True)
class Due:
    """What travels with a packet in `SourcePacket.truth`.

    Attributes:
        at_s: When it was due, monotonic; when it came, if it had no time of its own.
        truth: What the scene knows about it.
    """

    at_s: float
    truth: object | None


class TimedSource:
    """Another source with `Due` beside its packets.

    Args:
        source: The other source.
        stop: Ends the packets when set.
        duration_s: Ends them after so long; None: at the source's own end.
    """

    def __init__(self, source: Source, stop: threading.Event, duration_s: float | None = None) -> None:
        self.name = source.name
        self.live = source.live
        self._source = source
        self._stop = stop
        self._duration_s = duration_s

    def open(self) -> SourceFormat:
        """Open the other source.

        Raises:
            SourceError: It cannot be opened.
        """
        form = self._source.open()
        self.live = self._source.live
        return form

    def packets(self) -> Iterator[SourcePacket]:
        """Walk through the other source's packets.

        Raises:
            SourceError: It failed half-way.
        """
        began_s = time.monotonic()
        for packet in self._source.packets():
            at_s = time.monotonic() if packet.due_s is None else began_s + packet.due_s
            over = self._duration_s is not None and at_s - began_s >= self._duration_s
            if over or self._stop.is_set():
                return
            yield replace(packet, truth=Due(at_s, packet.truth))

    def close(self) -> None:
        """Close the other source."""
        self._source.close()
