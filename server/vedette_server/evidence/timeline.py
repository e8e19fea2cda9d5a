"""Lay the packets of a file on one line of time, whatever their clocks do.

MP4 wants decoding times that rise and are never above presentation times. Cameras restart their clocks, leave decoding
times out, or both. A packet that does not continue the one before it is set as much later as the wall clock says.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.format import Codec

if TYPE_CHECKING:
    from vedette_server.evidence.ring import Kept

TICKS = 90_000
"""Of a second, in the files."""
_FRAME_TICKS = TICKS // 25
_TOLERATED_TICKS = 10 * TICKS
_LONGEST_GAP_S = 3600.0
# The deepest reordering that H.264 and HEVC know.
_DEPTH = 16
_REORDERED = frozenset({Codec.H264, Codec.HEVC, Codec.MPEG4})


@dataclass(slots=True)
class Placed:
    """A packet and its times in the file, in ticks; without a decoding time until it is known."""

    kept: Kept
    pts: int
    dts: int | None
    duration: int


class Timeline:
    """Gives the packets of one file their times, in decoding order."""

    def __init__(self) -> None:
        self._offset: int | None = None
        self._last: Kept | None = None
        self._last_raw = 0
        self._end = 0
        self._last_dts: int | None = None
        self._held: list[Placed] = []
        self._unused: list[int] = []
        self._delay: int | None = None

    def place(self, kept: Kept) -> list[Placed]:
        """Take one packet; return those whose times are known now, in order."""
        scale = kept.fmt.time_base * TICKS
        packet = kept.packet
        stamp = packet.pts if packet.pts is not None else packet.dts
        raw = round(stamp * scale) if stamp is not None else round(kept.time_s * TICKS)
        done = self._rebase(kept, raw) if self._offset is None or self._breaks(kept, raw) else []
        offset = self._offset or 0
        pts = raw + offset
        # A packet without dts has it invented; so have all that follow until the next break.
        dts = None if packet.dts is None or packet.pts is None or self._held else round(packet.dts * scale) + offset
        if dts is None and kept.fmt.codec not in _REORDERED:
            dts = pts
        duration = round(packet.duration * scale) if packet.duration else 0
        self._last, self._last_raw = kept, raw
        self._end = max(self._end, pts + (duration or _FRAME_TICKS))
        placed = Placed(kept, pts, dts, duration)
        return done + ([self._settle(placed)] if dts is not None else self._hold(placed))

    def flush(self) -> list[Placed]:
        """Return the packets that still wait."""
        done = []
        while self._held:
            done.append(self._invent())
        self._delay = None
        return done

    def _breaks(self, kept: Kept, raw: int) -> bool:
        last = self._last
        if last is None or kept.gap:
            return True
        if (kept.packet.pts is None) != (last.packet.pts is None):
            return True
        jump = raw - self._last_raw
        wall = max(kept.time_s - last.time_s, 0.0) * TICKS
        return jump < -_TOLERATED_TICKS or jump > wall + _TOLERATED_TICKS

    def _rebase(self, kept: Kept, raw: int) -> list[Placed]:
        done = self.flush()
        start = 0
        if self._last is not None:
            gap_s = min(max(kept.time_s - self._last.time_s, 0.0), _LONGEST_GAP_S)
            start = max(self._end, self._end - _FRAME_TICKS + round(gap_s * TICKS))
        self._offset = start - raw
        return done

    def _hold(self, placed: Placed) -> list[Placed]:
        self._held.append(placed)
        heapq.heappush(self._unused, placed.pts)
        return [self._invent()] if len(self._held) > _DEPTH else []

    def _invent(self) -> Placed:
        """Give the packet that waits longest its decoding time: the lowest presentation time unused, less a delay."""
        if self._delay is None:
            ranked = sorted(self._unused)
            self._delay = max(0, *(rank - held.pts for rank, held in zip(ranked, self._held, strict=True)))
        placed = self._held.pop(0)
        placed.dts = heapq.heappop(self._unused) - self._delay
        return self._settle(placed)

    def _settle(self, placed: Placed) -> Placed:
        """See that decoding times rise and that none is above its presentation time."""
        dts = min(placed.dts if placed.dts is not None else placed.pts, placed.pts)
        if self._last_dts is not None and dts <= self._last_dts:
            dts = self._last_dts + 1
        placed.pts = max(placed.pts, dts)
        placed.dts = self._last_dts = dts
        return placed
