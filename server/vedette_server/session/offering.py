"""Give every answer of a session's decoder its place, and send the pictures on their way.

Called by the pipeline's worker that decodes the session, one at a time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from vedette_server.decode.base import Decoded
    from vedette_server.session.admission import Admission
    from vedette_server.session.seams import SessionParts, Watcher
    from vedette_server.session.session import Session

_log = logging.getLogger(__name__)


class Offering:
    """What happens to decoded pictures.

    Args:
        lock: The session's.
        admission: Decides which go on.
        parts: Where they go.
        watcher: Looks at them first; None: nobody does.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        lock: threading.Lock,
        admission: Admission,
        parts: SessionParts,
        watcher: Watcher | None,
        clock: Callable[[], float],
    ) -> None:
        self._lock = lock
        self._admission = admission
        self._parts = parts
        self._watcher = watcher
        self._clock = clock

    def take(self, session: Session, answers: Sequence[Decoded], refuse: SkipReason | None) -> bool:
        """Admit what the decoder answered, and offer it to the engines.

        Args:
            session: Whose it is.
            answers: In presentation order.
            refuse: Why no picture goes on; None: they do.

        Returns:
            Some were settled at once.
        """
        watcher = self._watcher
        if watcher is not None and refuse is None:
            self._look(watcher, answers)
        now = self._clock()
        with self._lock:
            admitted = [self._admission.admit(session, answer, now, refuse) for answer in answers]
        frames = [frame for frame in admitted if frame is not None]
        if pictures := sum(answer.picture is not None for answer in answers):
            self._parts.metrics.picture(pictures)
        for frame in frames:
            frame.kept = watcher is not None and watcher.keeps_pictures
            displaced = self._parts.scheduler.offer(frame)
            if displaced is not None:
                session.skip(displaced, SkipReason.SESSION_LOST if displaced is frame else SkipReason.SUPERSEDED)
        return len(frames) < len(admitted)

    @staticmethod
    def _look(watcher: Watcher, answers: Sequence[Decoded]) -> None:
        try:
            watcher.look(answers)
        except Exception:  # noqa: BLE001 - every packet gets its verdict, whatever becomes of its channel's monitoring
            _log.exception("pictures could not be monitored")
