"""Whether the times of the packets tell that some are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet


class TimeGaps:
    """Sees by their times that packets are missing.

    Args:
        tolerance: How many usual intervals may pass before something must be missing.
        reorders: PTS need not rise from packet to packet: only DTS is asked.
    """

    def __init__(self, tolerance: float, *, reorders: bool) -> None:
        self._tolerance = tolerance
        self._reorders = reorders
        self._time: int | None = None
        self._interval = 0

    def gap_before(self, packet: Packet) -> str:
        """Say, in words, that time is missing before a packet; empty when none is or none can be told."""
        time = packet.dts if packet.dts is not None or self._reorders else packet.pts
        before, self._time = self._time, time
        if time is None or before is None:
            return ""
        step = time - before
        usual, self._interval = self._interval, max(packet.duration or 0, 0)
        if not self._interval and step > 0:
            self._interval = min(usual, step) if usual else step
        if usual and step > usual * self._tolerance:
            return f"{step} ticks lie between two packets that should be {usual} apart"
        if step < -usual * self._tolerance:
            return f"time goes back by {-step} ticks"
        return ""
