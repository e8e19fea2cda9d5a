"""Load the engines of second stages beside everything else.

A thread for every engine that is being loaded, and only meanwhile: one that hangs keeps nobody but its own stages
waiting. One that cannot be loaded is tried again after a while, told once.

Threads: any.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from vedette_server.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette_server.cascade.seat import StageSeat
    from vedette_server.cascade.tallies import Tallies
    from vedette_server.data.config import ChannelConfig, EngineRef
    from vedette_server.execute.client import InferenceClient
    from vedette_server.execute.guest import Guest

_log = logging.getLogger(__name__)

RETRY_S = 30.0
# At the end loads that are under way are waited for so long.
LAST_LOAD_S = 5.0


class EngineHouse(Protocol):
    """What stages need of the server's engines; `execute.engines.Engines` is one."""

    def prepare(self, refs: Iterable[EngineRef]) -> None:
        """Load whatever a channel with these engines may get. Blocks."""
        ...

    def choose(self, config: ChannelConfig) -> tuple[InferenceClient, ...]:
        """Choose what a channel runs, of what `prepare` has loaded."""
        ...

    def join(self, guest: Guest) -> None:
        """Take note of somebody who runs engines now."""
        ...

    def leave(self, guest: Guest) -> None:
        """Take note that somebody runs them no more."""
        ...


class StageLoader:
    """Loads the engines of stages.

    Args:
        engines: The server's.
        tallies: Counts failures.
        clock: Monotonic seconds.
    """

    def __init__(self, engines: EngineHouse, tallies: Tallies, clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = engines
        self._tallies = tallies
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[EngineRef, dict[StageSeat, None]] = {}
        self._threads: dict[EngineRef, threading.Thread] = {}
        self._failed: dict[EngineRef, tuple[str, float]] = {}
        self._closed = False

    def ask(self, seat: StageSeat) -> None:
        """Have a stage's engine loaded and the stage seated there, soon; never blocks. May be asked again."""
        ref = seat.engine
        with self._lock:
            failed = self._failed.get(ref)
            if self._closed or seat.is_closed() or (failed is not None and self._clock() < failed[1]):
                return
            waiting = self._waiting.setdefault(ref, {})
            waiting[seat] = None
            if ref not in self._threads:
                thread = threading.Thread(target=self._run, args=(ref,), name=f"stage-{ref.name}", daemon=True)
                self._threads[ref] = thread
                thread.start()

    def let_go(self, seat: StageSeat) -> None:
        """Let a stage look no more, and its engine go where nobody else needs it. May be called twice."""
        with self._lock:
            self._waiting.get(seat.engine, {}).pop(seat, None)
        seat.close()
        self._engines.leave(seat)

    def failure(self, ref: EngineRef) -> str:
        """Tell why an engine could not be loaded; empty: it could, or was not tried."""
        with self._lock:
            return self._failed.get(ref, ("", 0.0))[0]

    def close(self) -> None:
        """Load no more, and wait a little for what is being loaded; may be called twice."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            threads = tuple(self._threads.values())
        deadline_s = time.monotonic() + LAST_LOAD_S
        for thread in threads:
            thread.join(max(deadline_s - time.monotonic(), 0.0))

    def _run(self, ref: EngineRef) -> None:
        while (seat := self._next(ref)) is not None:
            try:
                self._seat(seat)
            except VedetteError as error:
                self._fail(ref, str(error))
            except Exception as error:  # noqa: BLE001 - a runtime's fault costs the stage only
                _log.exception("engine of a second stage could not be loaded")
                self._fail(ref, f"{type(error).__name__}: {error}")
            else:
                with self._lock:
                    self._failed.pop(ref, None)

    def _next(self, ref: EngineRef) -> StageSeat | None:
        """Return whoever waits for an engine; None: nobody does, and the thread is to end."""
        with self._lock:
            waiting = self._waiting.get(ref)
            if not waiting:
                self._waiting.pop(ref, None)
                del self._threads[ref]
                return None
            seat = next(iter(waiting))
            del waiting[seat]
            return seat

    def _seat(self, seat: StageSeat) -> None:
        """Load an engine and take a seat there; blocks."""
        if seat.is_closed() or seat.runs is not None:
            return
        self._engines.prepare((seat.engine,))
        seat.rebind(self._engines.choose(seat.config))
        # Open before it joins: engines end it at once where the version is gone already.
        if not seat.open():
            return
        self._engines.join(seat)
        if seat.is_closed():
            self._engines.leave(seat)

    def _fail(self, ref: EngineRef, message: str) -> None:
        self._tallies.count(ref.name, "load_failures")
        with self._lock:
            told = self._failed.get(ref, ("", 0.0))[0]
            self._failed[ref] = message, self._clock() + RETRY_S
            # The others would meet the same.
            self._waiting.pop(ref, None)
        if message != told:
            _log.warning("second stage without its engine: %s: %s", ref.name, message)
