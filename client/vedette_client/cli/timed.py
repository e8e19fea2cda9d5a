"""A source that remembers when each packet was due, and ends when it is told to."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_client.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client.sources.base import Source, SourceFormat, SourcePacket

_LOOK_S = 0.1
# A source that takes longer for a packet waits for a camera.
_PATIENCE_S = 0.5


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
        self._asked_s: float | None = None
        self._ended = threading.Event()
        self._given_up = False

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
        threading.Thread(target=self._watch, args=(began_s,), name=f"end of {self.name}", daemon=True).start()
        packets = self._source.packets()
        try:
            while (packet := self._ask(packets)) is not None:
                at_s = time.monotonic() if packet.due_s is None else began_s + packet.due_s
                if self._is_over(at_s - began_s):
                    return
                yield replace(packet, truth=Due(at_s, packet.truth))
        finally:
            self._ended.set()

    def close(self) -> None:
        """Close the other source."""
        self._ended.set()
        self._source.close()

    def _is_over(self, after_s: float) -> bool:
        return self._stop.is_set() or (self._duration_s is not None and after_s >= self._duration_s)

    def _ask(self, packets: Iterator[SourcePacket]) -> SourcePacket | None:
        self._asked_s = time.monotonic()
        try:
            return next(packets, None)
        except SourceError:
            if self._given_up:  # a read that was broken off is no failure
                return None
            raise
        finally:
            self._asked_s = None

    def _watch(self, began_s: float) -> None:
        """Run in a thread: pull the source out of a wait for a camera that is away, when it is over."""
        while not self._ended.wait(_LOOK_S):
            now_s, asked_s = time.monotonic(), self._asked_s
            waits = asked_s is not None and now_s - asked_s > _PATIENCE_S
            if waits and self._is_over(now_s - began_s):
                self._given_up = True
                self._source.close()
                return
