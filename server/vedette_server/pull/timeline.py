"""How a camera's time goes on over breaks and rounds, and when a recording's packets are due.

Pure code, for one thread.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet

DEFAULT_FPS = 25.0
# A step of the timestamps beyond this is a jump of a clock, not a time to wait.
_MAX_STEP_S = 10.0
# So late, and what is missed is not caught up: a burst would only be shed.
_MAX_LATE_S = 2.0


class TimeLine:
    """Puts the packets of one connection after another on one line of time that never runs back.

    Args:
        time_base: Seconds per tick of the line.
    """

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self._scale = Fraction(1)
        self._shift = 0
        # Whether the shift is known, which takes a packet that has a time; and where the line has got to.
        self._joined = True
        self._gap_ticks = 0
        self._end: int | None = None

    def join(self, time_base: Fraction, gap_s: float) -> None:
        """Begin a connection whose packets come so many seconds after the end of the last one.

        Args:
            time_base: Seconds per tick of its packets.
            gap_s: The pause.
        """
        self._scale = time_base / self.time_base
        self._shift = 0
        self._joined = self._end is None
        self._gap_ticks = round(max(0.0, gap_s) / self.time_base)

    def place(self, packet: Packet) -> None:
        """Give a packet its times on the line."""
        if self._scale != 1:
            packet.pts = None if packet.pts is None else round(packet.pts * self._scale)
            packet.dts = None if packet.dts is None else round(packet.dts * self._scale)
            packet.duration = None if packet.duration is None else max(1, round(packet.duration * self._scale))
        stamps = [stamp for stamp in (packet.dts, packet.pts) if stamp is not None]
        if not stamps:
            return
        if not self._joined and self._end is not None:
            self._shift = self._end + max(1, self._gap_ticks) - min(stamps)
            self._joined = True
        packet.pts = None if packet.pts is None else packet.pts + self._shift
        packet.dts = None if packet.dts is None else packet.dts + self._shift
        end = max(stamps) + self._shift + (packet.duration or 0)
        self._end = end if self._end is None else max(self._end, end)


class Pacer:
    """Says when the packets of a recording are due.

    Args:
        time_base: Seconds per tick.
        fps: The container's rate, for packets without times; None: 25.
    """

    def __init__(self, time_base: Fraction, fps: float | None) -> None:
        self._tick_s = float(time_base)
        self._start_s: float | None = None
        self._step_s = 1 / (fps or DEFAULT_FPS)
        self._zero: int | None = None
        self._shift_s = 0.0
        self._due_s = 0.0
        self._next_s = 0.0

    def due_s(self, packet: Packet) -> float:
        """Return the seconds after the first packet at which this one is due; never before the one before it."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        due_s = self._next_s
        if ticks is not None:
            if self._zero is None:
                self._zero = ticks
            due_s = (ticks - self._zero) * self._tick_s + self._shift_s
            if abs(due_s - self._next_s) > _MAX_STEP_S:
                self._shift_s += self._next_s - due_s
                due_s = self._next_s
        self._due_s = max(self._due_s, due_s)
        self._next_s = self._due_s + (packet.duration * self._tick_s if packet.duration else self._step_s)
        return self._due_s

    def wait_s(self, packet: Packet, now_s: float) -> float:
        """Return how long to wait before this packet is handed on, and let the schedule slip where it is far behind.

        Args:
            packet: The next packet.
            now_s: Monotonic seconds; the schedule starts with the first packet.
        """
        if self._start_s is None:
            self._start_s = now_s
        wait_s = self.due_s(packet) - (now_s - self._start_s)
        if wait_s < -_MAX_LATE_S:
            self._shift_s -= wait_s
            self._due_s -= wait_s
            self._next_s -= wait_s
        return max(0.0, wait_s)
