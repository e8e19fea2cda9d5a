"""Lay the packets of a channel on one line of time, by which tracks, rules and clips go.

By capture times where the client gives them and they tell the date; else by presentation times where every frame is
analysed or the packets are of a recording (it is sent faster or slower than it was taken), from the receipt of the
first on; else by receipt. Where only some packets have the one or the other, those that lack it lie as far behind the
one before as they came behind it: so the clocks of camera and server, which may be years apart, are never mixed.

The line does not run back: where a clock is set back, it goes on from where it was; where that clock comes forward
again, the line waits for it no longer than it has to, and is by its clock again. Time that passes is told by the
server's monotonic clock: its wall clock only says where the line begins, and what is too far from it.

Of what is live, a capture time more than an hour ahead of its receipt, or more than a day behind it, is that of a clock
that was never set, and counts as none: so the line, too, is ahead of receipt by no more than an hour while the server's
own clock is not set back. What waited at a client without a network may be a day old. A clock that was set back three
times within a minute is not believed for the rest of that minute. A recording may be as old as it likes, but is not
from tomorrow.

Pure; the caller sees to it that one thread at a time calls.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from vedette_server.data.packet import Packet

# Pictures are shown in another order than they are sent in, by no more than this.
_REORDERED_S = 2.0
# A capture time is believed where it is ahead of receipt, and of what is live behind it, by no more than this.
_AHEAD_S, _RECORDED_AHEAD_S, _BEHIND_S = 3600.0, 86_400.0, 86_400.0
_MOST_JUMPS, _JUMPS_S = 3, 60.0
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
        # By so much the line was ahead of the monotonic clock at most.
        self._lead_s = -math.inf
        # The latest packet: where its time was taken from, its own time without the offset, and its receipt.
        self._source: _Source | None = None
        self._own_s = self._received_s = 0.0
        # Where presentation times are counted from.
        self._first_pts, self._first_s = 0, 0.0
        self._latest_dts: int | None = None
        # The latest capture time that was near enough to receipt, and when one of them was earlier than the one before.
        self._capture_s = -math.inf
        self._jumps: deque[float] = deque(maxlen=_MOST_JUMPS)

    def time_of(self, packet: Packet) -> float:
        """Give a packet its time, seconds since the epoch, above 0; packets in the order in which they came."""
        before_s = self._own_s
        own_s = self._own(packet)
        if self._latest_s is not None:
            self._fit(packet, own_s, own_s - before_s, self._latest_s)
        time_s = own_s + self._offset_s
        self._latest_dts = packet.dts
        self._latest_s = time_s if self._latest_s is None else max(self._latest_s, time_s)
        self._lead_s = max(self._lead_s, self._latest_s - packet.received_s)
        return max(time_s, _LEAST_S)

    @property
    def _live(self) -> bool:
        return self._dated and not self.recorded

    def _fit(self, packet: Packet, own_s: float, step_s: float, latest_s: float) -> None:
        """Choose the offset so that the line does not run back, nor ahead where a clock comes forward again."""
        if own_s + self._offset_s < latest_s - _REORDERED_S and not self._is_reordered(packet):
            self._offset_s = latest_s - own_s
        elif self._offset_s > 0 and self._live:
            # Never further ahead of the time that passes than it was by the clock alone.
            self._offset_s = max(min(self._offset_s, self._lead_s + packet.received_s - own_s), 0.0)
        elif step_s > max(_REORDERED_S, self._offset_s / 2):
            # A recording's pace is its own; but what is about as large as the step back is the step forward again.
            self._offset_s = max(min(self._offset_s, latest_s - own_s), 0.0)

    def _own(self, packet: Packet) -> float:
        source = self._source_of(packet)
        if source is _Source.CAPTURE:
            own_s = (packet.capture_wall_ns or 0) / 1e9
        else:
            own_s = self._without_capture(packet, source)
        self._source, self._own_s, self._received_s = source, own_s, packet.received_s
        return own_s

    def _source_of(self, packet: Packet) -> _Source:
        if self._dated and packet.capture_wall_ns is not None and self._believes(packet, packet.capture_wall_ns / 1e9):
            return _Source.CAPTURE
        played = self.recorded or not self._dated
        return _Source.PRESENTATION if played and packet.pts is not None else _Source.RECEIPT

    def _believes(self, packet: Packet, capture_s: float) -> bool:
        """Tell whether a capture time may be true; takes note of it."""
        ahead_s = capture_s - packet.received_wall_ns / 1e9
        if not self._live:
            return capture_s > 0 and ahead_s <= _RECORDED_AHEAD_S
        if capture_s <= 0 or not -_BEHIND_S <= ahead_s <= _AHEAD_S:
            return False
        if capture_s < self._capture_s - _REORDERED_S:
            self._jumps.append(packet.received_s)
        self._capture_s = capture_s
        return len(self._jumps) < _MOST_JUMPS or packet.received_s - self._jumps[0] >= _JUMPS_S

    def _without_capture(self, packet: Packet, source: _Source) -> float:
        """Give a time that goes on from the packet before."""
        wall_s = packet.received_wall_ns / 1e9
        went_on_s = wall_s if self._source is None else self._own_s + max(packet.received_s - self._received_s, 0.0)
        if source is _Source.RECEIPT or packet.pts is None:
            behind = self._live and went_on_s + self._offset_s < wall_s - _BEHIND_S
            # The server's own clock was never set when the session began.
            return wall_s if behind else went_on_s
        if self._source is not _Source.PRESENTATION:
            self._first_pts, self._first_s = packet.pts, went_on_s
        return self._first_s + (packet.pts - self._first_pts) * self._time_base

    def _is_reordered(self, packet: Packet) -> bool:
        """Tell whether a presentation time is earlier only because pictures are shown in another order."""
        dts, pts, before = packet.dts, packet.pts, self._latest_dts
        if self._source is not _Source.PRESENTATION or dts is None or pts is None or before is None:
            return False
        return pts >= dts > before
