"""Tell a live camera how many frames the server can use."""

from __future__ import annotations

WINDOW_S = 2.0
SHED_SHARE = 0.2
CHANGE_SHARE = 0.25


class RateHint:
    """Watches what becomes of a channel's packets, and says when the sender had better slow down.

    A hint is given at most once per ``WINDOW_S``, when more than ``SHED_SHARE`` of the window's packets
    were shed and the useful rate moved by more than ``CHANGE_SHARE`` since the hint before. Not
    thread-safe: the session's lock is held.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._analysed = 0
        self._shed = 0
        self._told: float | None = None

    def analysed(self) -> None:
        """Count a packet that was analysed."""
        self._analysed += 1

    def shed(self) -> None:
        """Count a packet that was skipped because the server was busy."""
        self._shed += 1

    def to_tell(self, now: float) -> float | None:
        """Return a new hint in frames per second, or None when there is none."""
        elapsed = now - self._since
        if elapsed < WINDOW_S:
            return None
        analysed, shed = self._analysed, self._shed
        self._since, self._analysed, self._shed = now, 0, 0
        if shed <= SHED_SHARE * (analysed + shed):
            return None
        useful = round(max(analysed / elapsed, 0.1), 2)
        if self._told is not None and abs(useful - self._told) <= CHANGE_SHARE * self._told:
            return None
        self._told = useful
        return useful
