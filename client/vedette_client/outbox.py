"""Packets that wait to be sent, not numbered yet.

Pure code, one thread. A recorded stream waits while this is full. A live one never waits: when the
connection stalls, whole groups of pictures are dropped here, before they get a number, and the next packet
says how many.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_client.sources.base import SourcePacket


@dataclass(slots=True)
class Waiting:
    """One packet that waits.

    Attributes:
        packet: The packet.
        since_s: When it came, monotonic.
        dropped_before: Packets dropped between the one before and this one.
        discontinuity: It does not continue the one before it.
    """

    packet: SourcePacket
    since_s: float
    dropped_before: int
    discontinuity: bool


class Outbox:
    """A bounded queue in decoding order.

    Args:
        max_packets: Bound in packets.
        max_bytes: Bound in bytes; a lone packet may be larger.
        max_wait_s: A live packet waits no longer than this.
        intra: No packet refers to another, so that the oldest alone may go.
    """

    def __init__(self, max_packets: int, max_bytes: int, max_wait_s: float, *, intra: bool = False) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._max_wait_s = max_wait_s
        self._intra = intra
        self._queue: deque[Waiting] = deque()
        self._bytes = 0
        self._dropped = 0
        self._need_keyframe = False
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether a further packet would be over the bound."""
        return len(self._queue) >= self._max_packets or self._bytes >= self._max_bytes

    def peek(self) -> SourcePacket | None:
        """Show the packet whose turn is next."""
        return self._queue[0].packet if self._queue else None

    def put(self, packet: SourcePacket, now_s: float) -> None:
        """Queue a packet, over the bound if need be: for those who wait while it is `full`."""
        self._queue.append(Waiting(packet, now_s, self._dropped, packet.discontinuity or self._dropped > 0))
        self._bytes += len(packet.data)
        self._dropped = 0

    def put_live(self, packet: SourcePacket, now_s: float) -> int:
        """Queue a live packet, and drop what has become too much or too old.

        Returns:
            How many packets were dropped, this one included when it cannot be used.
        """
        before = self.dropped_total
        if self._need_keyframe and not (packet.keyframe or self._intra):
            self._count_drop(1)
            return 1
        self._need_keyframe = False
        self.put(packet, now_s)
        while self._queue and self._is_over(now_s):
            self._shed()
        return self.dropped_total - before

    def take(self) -> Waiting:
        """Take the oldest packet."""
        waiting = self._queue.popleft()
        self._bytes -= len(waiting.packet.data)
        return waiting

    def clear(self) -> int:
        """Drop everything; return how many packets that were."""
        count = len(self._queue)
        self._drop_first(count)
        return count

    def _is_over(self, now_s: float) -> bool:
        if len(self._queue) > 1 and self._bytes > self._max_bytes:
            return True
        return len(self._queue) > self._max_packets or now_s - self._queue[0].since_s > self._max_wait_s

    def _shed(self) -> None:
        """Drop up to the newest keyframe; without one, everything up to the next that comes."""
        if self._intra:
            self._drop_first(1)
            return
        newest = next((i for i in range(len(self._queue) - 1, 0, -1) if self._queue[i].packet.keyframe), None)
        if newest is None:
            self._need_keyframe = True
            newest = len(self._queue)
        self._drop_first(newest)

    def _drop_first(self, count: int) -> None:
        carried = 0
        for _ in range(count):
            carried += self.take().dropped_before
        self._dropped += carried
        self._count_drop(count)
        if self._queue:
            self._queue[0].dropped_before += self._dropped
            self._queue[0].discontinuity = True
            self._dropped = 0

    def _count_drop(self, count: int) -> None:
        self._dropped += count
        self.dropped_total += count
