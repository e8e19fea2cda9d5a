"""Lay the packets of a channel on one line of time, by which tracks, rules and clips go.

By capture times where the client gives them; else by presentation times where every frame is analysed (a recording is
sent faster or slower than it was taken), from the receipt of the first on; else by receipt. The line does not run back:
where a clock is set back, it goes on from where it was, until the session ends.

Pure; the caller sees to it that one thread at a time calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from vedette_server.data.packet import Packet

# Pictures are shown in another order than they are sent in, by no more than this.
_REORDERED_S = 2.0


class PacketClock:
    """The time line of one session.

    Args:
        time_base: Seconds per tick.
        recorded: Every frame is analysed.
    """

    def __init__(self, time_base: Fraction, *, recorded: bool) -> None:
        self._time_base = float(time_base)
        self.recorded = recorded
        self._first: tuple[float, int] | None = None
        self._offset_s = 0.0
        self._latest_s: float | None = None

    def time_of(self, packet: Packet) -> float:
        """Give a packet its time, seconds since the epoch; packets in the order in which they came."""
        time_s = self._own(packet) + self._offset_s
        if self._latest_s is not None and time_s < self._latest_s - _REORDERED_S:
            self._offset_s += self._latest_s - time_s
            time_s = self._latest_s
        self._latest_s = time_s if self._latest_s is None else max(self._latest_s, time_s)
        return time_s

    def _own(self, packet: Packet) -> float:
        if packet.capture_wall_ns is not None:
            return packet.capture_wall_ns / 1e9
        received_s = packet.received_wall_ns / 1e9
        if not self.recorded or packet.pts is None:
            return received_s
        if self._first is None:
            self._first = received_s, packet.pts
        first_s, first_pts = self._first
        return first_s + (packet.pts - first_pts) * self._time_base
