"""The clocks of simulated devices: one that passes only when somebody waits, and the one on the wall."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """What a simulated device knows of time."""

    def __call__(self) -> float:
        """Tell the time in seconds, as `time.monotonic` does."""
        ...

    def wait_until(self, moment_s: float) -> None:
        """Let it be that late, at least, and devices work meanwhile."""

    def drive(self, advance: Callable[[float], None]) -> None:
        """Let a device work up to the moment that `advance` is given, whenever time passes."""


class VirtualClock:
    """Time that passes only when somebody waits. One thread at a time."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._devices: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        """Tell the time in seconds."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass, and devices work meanwhile."""
        self.wait_until(self._now_s + seconds)

    def wait_until(self, moment_s: float) -> None:
        """Let it be that late, at least, and devices work meanwhile."""
        for advance in self._devices:
            advance(moment_s)
        self._now_s = max(self._now_s, moment_s)

    def drive(self, advance: Callable[[float], None]) -> None:
        """Let a device work up to the moment that `advance` is given, whenever time passes."""
        self._devices.append(advance)


class WallClock:
    """The time that really passes: a device on it looks at the time whenever it is called. Any thread.

    Args:
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep

    def __call__(self) -> float:
        """Tell the time in seconds."""
        return self._clock()

    def wait_until(self, moment_s: float) -> None:
        """Sleep until it is that late."""
        while (left_s := moment_s - self._clock()) > 0:
            self._sleep(left_s)

    def drive(self, advance: Callable[[float], None]) -> None:
        """Do nothing: nobody is told when time passes."""
