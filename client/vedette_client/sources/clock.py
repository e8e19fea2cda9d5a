"""When a recording's packets are due, and how its time goes on when it is looped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from vedette_client.sources.base import SourcePacket

_DEFAULT_FPS = 25.0
# A step of the timestamps beyond this is a jump of the camera's clock, not a time to wait.
_MAX_STEP_S = 10.0


class Clock:
    """Gives packets their due time and shifts the timestamps of later rounds.

    Args:
        time_base: Seconds per tick.
        native_fps: The container's rate, for packets without timestamps; None: 25.
        fps: So many packets per second whatever the timestamps say; None: by the timestamps.

    Attributes:
        rounds: How often the recording began again.
    """

    def __init__(self, time_base: Fraction, native_fps: float | None, fps: float | None) -> None:
        self.rounds = 0
        self._time_base = time_base
        self._tick_s = float(time_base)
        self._native_fps = native_fps or _DEFAULT_FPS
        self._fps = fps
        self._count = 0
        self._offset = 0
        self._first_pts: int | None = None
        self._start_dts: int | None = None
        self._due_s = 0.0
        self._untimed_s = 0.0
        self._shift_s = 0.0
        self._begin_extent()

    def stamp(self, packet: SourcePacket, pace: bool) -> SourcePacket:
        """Shift the packet's timestamps into the current round and, if it is paced, say when it is due."""
        duration = packet.duration or self._guessed_duration()
        self._extend(packet, duration)
        if packet.pts is not None:
            packet.pts += self._offset
            if self._first_pts is None:
                self._first_pts = packet.pts
            packet.capture_time_ns = max(0, int((packet.pts - self._first_pts) * self._time_base * 1_000_000_000))
        if packet.dts is not None:
            packet.dts += self._offset
        due_s = self._due(packet)
        if pace:
            packet.due_s = due_s
        self._count += 1
        self._untimed_s = due_s + duration * self._tick_s
        return packet

    def begin_round(self) -> None:
        """Begin the recording again: what follows comes after everything so far."""
        self.rounds += 1
        spans = [
            high - low for low, high in (self._pts_extent, self._dts_extent) if low is not None and high is not None
        ]
        self._offset += max(spans, default=0)
        self._begin_extent()

    def _due(self, packet: SourcePacket) -> float:
        """Never earlier than the packet before: a broken clock must not turn time back."""
        if self._fps is not None:
            return self._count / self._fps
        ticks = packet.dts if packet.dts is not None else packet.pts
        due_s = self._untimed_s
        if ticks is not None:
            if self._start_dts is None:
                self._start_dts = ticks
            due_s = float((ticks - self._start_dts) * self._time_base) + self._shift_s
            if abs(due_s - self._untimed_s) > _MAX_STEP_S:
                self._shift_s += self._untimed_s - due_s
                due_s = self._untimed_s
        self._due_s = max(self._due_s, due_s)
        return self._due_s

    def _guessed_duration(self) -> int:
        return max(1, round(1 / (self._native_fps * self._tick_s)))

    def _begin_extent(self) -> None:
        self._pts_extent: tuple[int | None, int | None] = (None, None)
        self._dts_extent: tuple[int | None, int | None] = (None, None)

    def _extend(self, packet: SourcePacket, duration: int) -> None:
        self._pts_extent = _wider(self._pts_extent, packet.pts, duration)
        self._dts_extent = _wider(self._dts_extent, packet.dts, duration)


def _wider(extent: tuple[int | None, int | None], start: int | None, duration: int) -> tuple[int | None, int | None]:
    if start is None:
        return extent
    low, high = extent
    return (start if low is None else min(low, start)), (
        start + duration if high is None else max(high, start + duration)
    )
