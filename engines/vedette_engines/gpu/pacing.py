"""When to look again at a GPU that is busy.

Polling an event costs the host some microseconds and the lock of the interpreter; waiting for it in a driver call
would block the thread that has other lanes to serve, and a wake-up by callback comes from a thread of the driver,
which must first get the interpreter's lock too. So the executor sleeps until no batch can have ended yet, by what
batches took before, a little less, and then looks often: every `poll_s`, or less often the longer a batch is late.
"""

from __future__ import annotations

POLL_S = 100e-6
# A batch that is late by a time is looked at after a further 1/16 of it: what is lost is small against the lateness.
_LATE_SHARE = 1 / 16
_LONGEST_POLL_S = 10e-3
# A sleep lasts longer than it was told to by Linux's timer slack, 50 us, and the way back to the interpreter.
_LEAD_S = 60e-6
_SHORTEST_S = 20e-6
# How fast the shortest times that were seen are forgotten.
_FORGETS = 1 / 16


class Shortest:
    """The shortest of the last times, about: a shorter one counts at once, longer ones little by little."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen = False

    def note(self, seconds: float) -> None:
        """Note one time."""
        if not self._seen or seconds < self.seconds:
            self.seconds, self._seen = seconds, True
        else:
            self.seconds += (seconds - self.seconds) * _FORGETS


class Pace:
    """Foretells the earliest moment at which the next batch can be done.

    Two bounds: a batch takes at least what the quickest one of its kind took, and it ends at least as long after the
    batch before it as batches do that run back to back.

    Args:
        poll_s: Shortest time between two looks.
    """

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._between = Shortest()
        self._last_s: float | None = None

    def ended(self, ended_s: float, *, after_s: float) -> None:
        """Note when a batch was done, and when it was enqueued: before the one before it was done, or after."""
        if self._last_s is not None and after_s < self._last_s < ended_s:
            self._between.note(ended_s - self._last_s)
        if self._last_s is None or ended_s > self._last_s:
            self._last_s = ended_s

    def wait_s(self, now: float, earliest_s: float) -> float:
        """Tell how long to wait before the next look.

        Args:
            now: The time.
            earliest_s: When the first of the batches under way is done at the earliest, by what its kind takes.
        """
        if self._last_s is not None:
            earliest_s = max(earliest_s, self._last_s + self._between.seconds)
        if now < earliest_s:
            left_s = earliest_s - now
            return left_s - _LEAD_S if left_s > 2 * _LEAD_S else max(left_s, _SHORTEST_S)
        return min(max(self._poll_s, (now - earliest_s) * _LATE_SHARE), _LONGEST_POLL_S)
