"""Whether the times of the packets tell that some are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet


class TimeGaps:
    """Sees by their times that packets are missing.

    Where headers count pictures, only a gap as long as a group of pictures matters: after it, the counts
    may be what they would have been.

    Args:
        tolerance: How many usual intervals may pass before something must be missing, at most.
        reorders: PTS need not rise from packet to packet: only DTS is asked.
    """

    def __init__(self, tolerance: float, *, reorders: bool) -> None:
        self._most = self._tolerance = tolerance
        self._reorders = reorders
        self._time: int | None = None
        self._interval = 0
        self._group = 0

    def gap_before(self, packet: Packet, *, keyframe: bool) -> str:
        """Say, in words, that time is missing before a packet; empty when none is or none can be told."""
        if keyframe:
            if self._group:
                self._tolerance = min(self._most, self._group + 0.5)
            self._group = 1
        elif self._group:
            self._group += 1
        time = packet.dts if packet.dts is not None or self._reorders else packet.pts
        before, self._time = self._time, time
        usual, self._interval = self._interval, max(packet.duration or 0, 0)
        if time is None or before is None:
            return ""
        step = time - before
        if not self._interval and step > 0:
            self._interval = min(usual, step) if usual else step
        if usual and step > usual * self._tolerance:
            return f"{step} ticks lie between two packets that should be {usual} apart"
        if step < -usual * self._tolerance:
            return f"time goes back by {-step} ticks"
        return ""
