"""Let somebody look at a session's verdicts in presentation order, before they are booked and told.

Whoever settles a verdict may come to do this for those that others settled: one at a time does, the others leave
theirs to it. The session's lock is not held while somebody looks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from vedette_server.data.verdict import Verdict
    from vedette_server.session.books import Books
    from vedette_server.session.seams import Watcher

_log = logging.getLogger(__name__)


class Releasing:
    """The last step of a session's verdicts.

    Args:
        lock: The session's.
        books: The session's; its verdicts are held where there is a watcher.
        watcher: Who looks; None: nobody does.
    """

    def __init__(self, lock: threading.Lock, books: Books, watcher: Watcher | None) -> None:
        self._lock = lock
        self._books = books
        self._watcher = watcher
        self._busy = False
        if watcher is not None:
            books.hold()

    def drain(self) -> bool:
        """Have all looked at that were released, and book them; tell whether any was booked."""
        watcher = self._watcher
        if watcher is None:
            return False
        with self._lock:
            leaving = [] if self._busy else self._take()
            if not leaving:
                return False
            self._busy = True
        while leaving:
            for verdict in leaving:
                self._look(watcher, verdict)
            with self._lock:
                for verdict in leaving:
                    self._tell(watcher, verdict, self._books.book(verdict))
                leaving = self._take()
                self._busy = bool(leaving)
        return True

    def _take(self) -> list[Verdict]:
        released = self._books.released
        if not released:
            return []
        leaving = list(released)
        released.clear()
        return leaving

    def _tell(self, watcher: Watcher, verdict: Verdict, index: int | None) -> None:
        try:
            watcher.told(verdict, index)
        except Exception:  # noqa: BLE001 - those behind it must be booked, whoever fails to hear of this one
            _log.exception("a verdict could not be shown")

    def _look(self, watcher: Watcher, verdict: Verdict) -> None:
        try:
            watcher.judge(verdict)
        except Exception:  # noqa: BLE001 - a verdict must be told whatever becomes of its channel's monitoring
            _log.exception("a verdict could not be monitored")
        finally:
            if verdict.picture is not None:
                verdict.picture.close()
                verdict.picture = None
