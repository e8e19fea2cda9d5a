"""One pulled channel: the thread that calls its camera, whatever source it is given.

A read that is on cannot be stopped; it ends after its timeout. So a channel keeps its one thread, and what changes is
noticed by it: however often a silent camera's source is changed, there is one thread.

Threads: the puller calls everything but `_run`, from the event loop.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from vedette_server.pull.pulling import Pull
from vedette_server.pull.status import PullState, PullStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.channel import SourceConfig
    from vedette_server.pull.desk import Desk
    from vedette_server.pull.options import PullOptions

_log = logging.getLogger(__name__)


class PulledChannel:
    """Calls one channel's camera until it is told to stop, or a recording has ended.

    Args:
        name: The channel's bare name.
        source: What to call first.
        desk: Where sessions come from.
        options: Timeouts and limits.
        on_exit: Called from its thread when that ends.

    Attributes:
        name: The channel's bare name.
        status: Where it stands.
    """

    def __init__(
        self,
        name: str,
        source: SourceConfig,
        desk: Desk,
        options: PullOptions,
        on_exit: Callable[[PulledChannel], None],
    ) -> None:
        self.name = name
        self.status = PullStatus(PullState.CONNECTING)
        self._desk = desk
        self._options = options
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._source: SourceConfig | None = source
        self._pull: Pull | None = None
        self._exited = False
        # A read that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name=f"pull-{name}", daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def change(self, source: SourceConfig) -> bool:
        """Call this source from now on; False: the thread has ended, there must be a new one."""
        with self._lock:
            if self._exited:
                return False
            self._source = source
            self._interrupted.set()
            return True

    def stop(self) -> None:
        """End soon: what the session holds is still judged. Does not wait."""
        with self._lock:
            self._source = None
            self._interrupted.set()
            pull = self._pull
        # The thread may hang in a read: the session need not wait for it.
        line = None if pull is None else pull.delivery.line
        if line is not None:
            line.finish()

    def leave(self) -> None:
        """Hang up on the session, whether it is over or not."""
        pull = self._pull
        line = None if pull is None else pull.delivery.line
        if line is not None:
            line.leave()

    @property
    def exited(self) -> bool:
        """Whether its thread has done its work."""
        return self._exited

    @property
    def told_all(self) -> bool:
        """Whether its session has told its last, or there is none."""
        pull = self._pull
        line = None if pull is None else pull.delivery.line
        return line is None or line.over or line.left

    def join(self, timeout_s: float) -> bool:
        """Wait for its thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (pull := self._next()) is not None:
                pull.run()
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread: its status tells
            _log.exception("channel %s: its thread failed", self.name)
            self._tell(PullStatus(PullState.WAITING, f"unforeseen {type(error).__name__}; change the source to go on"))
        finally:
            with self._lock:
                self._exited = True
                self._pull = None
            self._on_exit(self)

    def _next(self) -> Pull | None:
        """Take the source that is wanted now; None: none is, or the last one has ended by itself."""
        with self._lock:
            ended = self._pull is not None and not self._interrupted.is_set()
            self._interrupted.clear()
            self._exited = ended or self._source is None
            if self._exited or self._source is None:
                return None
            self._pull = Pull(self.name, self._source, self._desk, self._options, self._interrupted, self._tell)
            return self._pull

    def _tell(self, status: PullStatus) -> None:
        self.status = status
