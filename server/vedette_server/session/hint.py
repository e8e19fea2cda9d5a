"""Tell a live camera how many frames the server can use."""

from __future__ import annotations

WINDOW_S = 2.0
SHED_SHARE = 0.2
CHANGE_SHARE = 0.25


class RateHint:
    """Watches what becomes of a channel's packets, and says when the sender had better slow down.

    A window of ``WINDOW_S`` is judged at a time. When more than ``SHED_SHARE`` of its packets were shed, the
    rate of those that were not is the hint, unless it is within ``CHANGE_SHARE`` of the one that stands.
    A window in which nothing was shed takes the hint back. Not thread-safe: the session's lock is held.

    Attributes:
        fps: The hint that stands, frames per second; None: the sender may do as it likes.
    """

    def __init__(self, now: float) -> None:
        self.fps: float | None = None
        self._since = now
        self._analysed = 0
        self._shed = 0

    def analysed(self) -> None:
        """Count a packet that was analysed."""
        self._analysed += 1

    def shed(self) -> None:
        """Count a packet that was skipped because the server was busy."""
        self._shed += 1

    def judge(self, now: float) -> bool:
        """Judge the window if it is over; tell whether the hint has changed."""
        elapsed = now - self._since
        if elapsed < WINDOW_S:
            return False
        analysed, shed = self._analysed, self._shed
        self._since, self._analysed, self._shed = now, 0, 0
        before = self.fps
        if shed > SHED_SHARE * (analysed + shed):
            useful = round(max(analysed / elapsed, 0.1), 2)
            if before is None or abs(useful - before) > CHANGE_SHARE * before:
                self.fps = useful
        elif not shed and analysed:
            self.fps = None
        return self.fps != before
