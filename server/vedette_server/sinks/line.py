"""The thread of one sink: announces, replays, and steps along the chain, until it is asked to end."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from vedette_server.errors import UnavailableError
from vedette_server.sinks.base import Announcing, SinkError
from vedette_server.sinks.follower import IDLE_S
from vedette_server.sinks.pauses import Pause
from vedette_server.sinks.replaying import Replaying
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.sinks.base import Sink
    from vedette_server.sinks.dead_letters import DeadLetters
    from vedette_server.sinks.figures import Replayed, SinkFigures
    from vedette_server.sinks.follower import Follower
    from vedette_server.sinks.pauses import Clock
    from vedette_server.sinks.settings import SinkSettings

_log = logging.getLogger(__name__)


class Line:
    """One sink and its thread.

    Args:
        settings: What is wanted.
        sink: Where to; closed by its thread.
        follower: Brings messages there.
        dead: What it did not take.
        clock: Tells the time.
        chance: Gives numbers of 0..1.
        records: Gives the channels; None: they are not known.
    """

    def __init__(
        self,
        settings: SinkSettings,
        sink: Sink,
        follower: Follower,
        dead: DeadLetters,
        clock: Clock,
        chance: Callable[[], float],
        records: Callable[[], tuple[ChannelRecord, ...] | None],
    ) -> None:
        self.dead = dead
        self._name = settings.name
        self._wanted = settings.wanted
        self._sink = sink
        self._follower = follower
        self._clock = clock
        self._records = records
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._closing = False
        self._replaying: Replaying | None = None
        self._announce = isinstance(sink, Announcing)
        self._announce_pause = Pause(settings.patience, chance)
        self._store_pause = Pause(settings.patience, chance)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{self._name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is more to do."""
        self._woken.set()

    def channels_changed(self) -> None:
        """Say that the channels have changed."""
        self._announce = isinstance(self._sink, Announcing)
        self._woken.set()

    def figures(self, length: int) -> SinkFigures:
        """Say what was done so far."""
        return self._follower.figures(length)

    def replay(self) -> Future[Replayed]:
        """Put the dead letters through again; one that goes on already is joined.

        Raises:
            UnavailableError: It closes.
        """
        with self._lock:
            if self._closing:
                raise UnavailableError("CLOSING", f"sink {self._name!r}: the server closes")
            if self._replaying is None:
                self._replaying = Replaying(self.dead, self._follower.attempts)
            future = self._replaying.result
        self._woken.set()
        return future

    def ask_to_end(self) -> None:
        """Have the thread end soon."""
        with self._lock:
            self._closing = True
        self._woken.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False: it has not ended."""
        if self._thread is None:
            self._sink.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._woken.clear()
                wait_s = self._turn()
                if wait_s > 0 and not self._closing:
                    self._woken.wait(wait_s)
        finally:
            self._follower.save()
            with self._lock:
                replaying, self._replaying = self._replaying, None
            if replaying is not None:
                replaying.cancel("the server closes")
            self._sink.close()

    def _turn(self) -> float:
        """Do a piece of what is due; give the seconds until there may be more."""
        try:
            announce_s = self._announce_if_due()
            self._replay_if_asked()
            wait_s = self._follower.step()
        except (StoreUnavailableError, StoreUnusableError) as error:
            return self._store_failed(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end this sink for good
            _log.exception("sink_line_failed", extra={"sink": self._name})
            return self._store_failed(error)
        self._store_pause.over()
        return 0.0 if self._replaying is not None else min(wait_s, announce_s)

    def _replay_if_asked(self) -> None:
        """Put one dead letter through again."""
        replaying = self._replaying
        if replaying is None or replaying.step():
            return
        # Before its result is known: who then asks for another must not be given this one.
        with self._lock:
            self._replaying = None
        replaying.finish()

    def _store_failed(self, error: Exception) -> float:
        now_s = self._clock.monotonic()
        if self._store_pause.tries == 0:
            _log.warning("sink_store_failed", extra={"sink": self._name, "error": str(error)})
        return self._store_pause.failed(now_s) - now_s

    def _announce_if_due(self) -> float:
        """Tell the sink which channels there are, when that has changed; give the seconds until it is tried again."""
        if not self._announce or not isinstance(self._sink, Announcing):
            return IDLE_S
        now_s = self._clock.monotonic()
        if now_s < self._announce_pause.until_s:
            return self._announce_pause.until_s - now_s
        # First: what changes while they are read is announced again.
        self._announce = False
        records = self._records()
        if records is None:
            return IDLE_S
        try:
            self._sink.announce(self._wanted.records(records))
        except SinkError as error:
            self._announce = True
            if self._announce_pause.tries == 0:
                _log.warning("sink_not_announced", extra={"sink": self._name, "reason": error.message})
            return self._announce_pause.failed(now_s) - now_s
        self._announce_pause.over()
        return IDLE_S
