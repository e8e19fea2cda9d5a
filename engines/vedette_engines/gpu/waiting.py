"""How the executor's thread waits: until some time is over, or somebody wakes it."""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol


class Waiting(Protocol):
    """Where one thread waits, and any thread wakes it."""

    def wait(self, seconds: float | None) -> None:
        """Wait so long, or until woken; at once if woken since the last wait. None: however long it takes."""

    def wake(self) -> None:
        """End the wait, or the next one."""


class LockWaiting:
    """Waits on a lock that is held, and is woken by its release.

    A condition or an event would make a lock for every wait: that costs more than all else of a turn that finds
    nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float | None) -> None:
        """Wait so long, or until woken."""
        self._lock.acquire(timeout=-1 if seconds is None else min(max(seconds, 0.0), threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """End the wait, or the next one."""
        # It is not held when somebody else has woken it already.
        with contextlib.suppress(RuntimeError):
            self._lock.release()
