"""Wake connections on the event loop from worker threads, many with one call.

A lane that finishes a batch rings for every channel in it; the loop is woken once for all that were
rung since it last looked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


class Wakeable(Protocol):
    """Somebody who waits on the event loop."""

    def wake(self) -> None:
        """Look for news; called on the event loop."""
        ...


class Bell:
    """Collects who is to be woken.

    Args:
        loop: The loop that they wait on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._rung: set[Wakeable] = set()

    def ring(self, who: Wakeable) -> None:
        """Have somebody woken soon; any thread may call this."""
        with self._lock:
            first = not self._rung
            self._rung.add(who)
        if first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        with self._lock:
            rung, self._rung = self._rung, set()
        for who in rung:
            who.wake()
