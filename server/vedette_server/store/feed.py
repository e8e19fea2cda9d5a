"""Tells who follows the chain of events that there is more of it: commit first, publish then.

Nothing is handed over here: whoever is woken reads `EventStore.changes_after` from where it stands, so that it misses
nothing and sees nothing twice, however slow it is. Threads: any.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.store.changes import Stored

_log = logging.getLogger(__name__)


class EventFeed:
    """Wakes those who follow the chain.

    Args:
        length: Records in the chain now.
    """

    def __init__(self, length: int = 0) -> None:
        self._changed = threading.Condition()
        self._length = length
        self._listeners: list[list[Callable[[], None]]] = []

    @property
    def length(self) -> int:
        """The number of the latest record that is known to be kept."""
        return self._length

    def told(self, stored: Stored) -> None:
        """Take note of what was kept; the `on_committed` of an `EventWriter`. Quick."""
        if stored.number <= self._length:
            return
        with self._changed:
            self._length = max(self._length, stored.number)
            listeners = tuple(self._listeners)
            self._changed.notify_all()
        for (listener,) in listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001 - one who follows must not stop the others
                _log.exception("an event listener failed")

    def wait(self, offset: int, timeout_s: float) -> bool:
        """Wait until there are records behind an offset; False: there are none yet."""
        with self._changed:
            return self._changed.wait_for(lambda: self._length > offset, timeout_s)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a quick function called, on any thread, whenever there is more; return what ends that."""
        # Of its own, so that who listens twice ends one of the two.
        mine = [listener]
        with self._changed:
            self._listeners.append(mine)

        def end() -> None:
            with self._changed:
                self._listeners = [one for one in self._listeners if one is not mine]

        return end
