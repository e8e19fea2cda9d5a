"""Lay the packets of a channel on one line of time, by which tracks, rules and clips go.

By capture times where the client gives them and they tell the date; else by presentation times where every frame is
analysed or the packets are of a recording (it is sent faster or slower than it was taken), from the receipt of the
first on; else by receipt. Where only some packets have the one or the other, those that lack it lie as far behind the
one before as they came behind it: so the clocks of camera and server, which may be years apart, are never mixed.

The line does not run back: where a clock is set back, it goes on from where it was, until the session ends. A capture
time before 1970, or more than a day ahead of its receipt, is that of a clock that was never set, and counts as none.

Pure; the caller sees to it that one thread at a time calls.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from vedette_server.data.packet import Packet

# Pictures are shown in another order than they are sent in, by no more than this.
_REORDERED_S = 2.0
_AHEAD_S = 86_400.0
_LEAST_S = 1e-6


class _Source(Enum):
    """What a packet's time was taken from."""

    CAPTURE = 1
    PRESENTATION = 2
    RECEIPT = 3


class PacketClock:
    """The time line of one session.

    Args:
        time_base: Seconds per tick.
        recorded: Every frame is analysed.
        dated: Capture times are of a clock that tells the date, and not times inside a recording.
    """

    def __init__(self, time_base: Fraction, *, recorded: bool, dated: bool = True) -> None:
        self._time_base = float(time_base)
        self._dated = dated
        self.recorded = recorded
        self._offset_s = 0.0
        self._latest_s: float | None = None
        # The latest packet: where its time was taken from, its own time without the offset, and its receipt.
        self._source: _Source | None = None
        self._own_s = self._received_s = 0.0
        # Where presentation times are counted from.
        self._first_pts, self._first_s = 0, 0.0
        self._latest_dts: int | None = None

    def time_of(self, packet: Packet) -> float:
        """Give a packet its time, seconds since the epoch, above 0; packets in the order in which they came."""
        own_s = self._own(packet)
        time_s = own_s + self._offset_s
        latest_s = self._latest_s
        if latest_s is not None and time_s < latest_s - _REORDERED_S and not self._is_reordered(packet):
            self._offset_s += latest_s - time_s
            time_s = latest_s
        self._latest_dts = packet.dts
        self._latest_s = time_s if latest_s is None else max(latest_s, time_s)
        return max(time_s, _LEAST_S)

    def _own(self, packet: Packet) -> float:
        received_s = packet.received_wall_ns / 1e9
        source = self._source_of(packet, received_s)
        if source is _Source.CAPTURE:
            own_s = (packet.capture_wall_ns or 0) / 1e9
        else:
            own_s = self._without_capture(packet, source, received_s)
        self._source, self._own_s, self._received_s = source, own_s, received_s
        return own_s

    def _source_of(self, packet: Packet, received_s: float) -> _Source:
        if self._dated and packet.capture_wall_ns is not None:
            capture_s = packet.capture_wall_ns / 1e9
            if 0 < capture_s <= received_s + _AHEAD_S:
                return _Source.CAPTURE
        played = self.recorded or not self._dated
        return _Source.PRESENTATION if played and packet.pts is not None else _Source.RECEIPT

    def _without_capture(self, packet: Packet, source: _Source, received_s: float) -> float:
        """Give a time that goes on from the packet before."""
        went_on_s = received_s if self._source is None else self._own_s + max(received_s - self._received_s, 0.0)
        if source is _Source.RECEIPT or packet.pts is None:
            return went_on_s
        if self._source is not _Source.PRESENTATION:
            self._first_pts, self._first_s = packet.pts, went_on_s
        return self._first_s + (packet.pts - self._first_pts) * self._time_base

    def _is_reordered(self, packet: Packet) -> bool:
        """Tell whether a presentation time is earlier only because pictures are shown in another order."""
        dts, pts, before = packet.dts, packet.pts, self._latest_dts
        if self._source is not _Source.PRESENTATION or dts is None or pts is None or before is None:
            return False
        return pts >= dts > before
