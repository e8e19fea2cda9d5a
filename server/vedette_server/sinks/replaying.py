"""Puts the dead letters of one sink through again, one at each call, so that what is new does not wait for them.

Threads: `step` and `cancel` are the sink's thread's; the future may be waited for by anybody.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from vedette_server.errors import UnavailableError
from vedette_server.sinks.figures import Replayed

if TYPE_CHECKING:
    from vedette_server.sinks.attempts import Attempts
    from vedette_server.sinks.dead_letters import DeadLetters

# What was delivered is forgotten in portions: a crash in between delivers at most so many twice.
FORGET = 50


class Replaying:
    """One pass over the dead letters that there are when it begins, the oldest first.

    A letter that fails again is kept, and so are the later ones of its channel, unless it was refused for good; when
    the sink itself is down, all that are left are kept.

    Args:
        dead: The letters.
        attempts: Tries to deliver.
    """

    def __init__(self, dead: DeadLetters, attempts: Attempts) -> None:
        self.result: Future[Replayed] = Future()
        self._dead = dead
        self._attempts = attempts
        self._left = deque(dead.letters())
        self._held: set[str] = set()
        self._done: list[int] = []
        self._delivered = self._kept = 0
        self._reason = ""

    def step(self) -> bool:
        """Try one letter; False: that was all."""
        while self._left:
            letter = self._left.popleft()
            if letter.event.channel in self._held:
                self._kept += 1
                continue
            error = self._attempts.deliver([self._attempts.message(letter.number, letter.event)], again=True)
            if error is None:
                self._done.append(letter.number)
                self._delivered += 1
                return self._forget(FORGET)
            self._kept += 1
            self._reason = error.message
            if error.of_sink:
                self._kept += len(self._left)
                self._left.clear()
            elif not error.permanent:
                self._held.add(letter.event.channel)
            return True
        if self._forget(1) and not self.result.done():
            self.result.set_result(Replayed(self._delivered, self._kept, self._reason))
        return False

    def cancel(self, why: str) -> None:
        """End it; what was delivered is forgotten."""
        self._forget(1)
        if not self.result.done():
            self.result.set_exception(UnavailableError("REPLAY_ENDED", f"the replay was ended: {why}"))

    def _forget(self, least: int) -> bool:
        if len(self._done) < least:
            return True
        try:
            self._dead.remove(self._done)
        except OSError as error:
            if not self.result.done():
                words = f"dead letters that were delivered cannot be removed: {error.strerror or error}"
                self.result.set_exception(UnavailableError("REPLAY_NOT_KEPT", words))
            self._left.clear()
            return False
        self._done.clear()
        return True
