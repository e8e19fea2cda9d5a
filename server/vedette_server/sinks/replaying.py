"""Puts the dead letters of one sink through again, one at each call, so that what is new does not wait for them.

Threads: all methods are the sink's thread's; the future may be waited for by anybody.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from vedette_server.errors import UnavailableError
from vedette_server.sinks.figures import Replayed

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.sinks.attempts import Attempts
    from vedette_server.sinks.dead_letters import DeadLetter, DeadLetters, Key

# The file of what is left is written so often: a crash in between delivers what was put through since then twice.
SETTLE_S = 5.0
# A large file on a slow disk takes its time: at most a twentieth of all goes into writing it.
_SHARE = 20


class Replaying:
    """One pass over the dead letters that there are when it begins, the oldest first.

    A letter that fails again is kept, and so are the later ones of its channel, unless it was refused for good; when
    the sink itself is down, all that are left are kept.

    Args:
        dead: The letters.
        attempts: Tries to deliver.
        clock: Gives seconds that only rise.
    """

    def __init__(self, dead: DeadLetters, attempts: Attempts, clock: Callable[[], float] = time.monotonic) -> None:
        self.result: Future[Replayed] = Future()
        self._dead = dead
        self._attempts = attempts
        self._clock = clock
        self._left = deque(dead.keys())
        self._held: set[str] = set()
        self._delivered = self._kept = 0
        self._reason = ""
        self._trouble: UnavailableError | None = None
        self._settle_s = clock() + SETTLE_S

    def step(self) -> bool:
        """Try one letter; False: that was all, and `finish` is to be called."""
        while self._left and self._trouble is None:
            letter = self._read(self._left.popleft())
            if letter is not None and letter.event.channel in self._held:
                self._kept += 1
            elif letter is not None:
                self._try(letter)
                return True
        return False

    def finish(self) -> None:
        """Forget what was delivered, and say what became of all."""
        self._settle()
        if self.result.done():
            return
        if self._trouble is not None:
            self.result.set_exception(self._trouble)
        else:
            self.result.set_result(Replayed(self._delivered, self._kept, self._reason))

    def cancel(self, why: str) -> None:
        """End it; what was delivered is forgotten."""
        self._trouble = UnavailableError("REPLAY_ENDED", f"the replay was ended: {why}")
        self.finish()

    def _read(self, key: Key) -> DeadLetter | None:
        try:
            return self._dead.letter(key)
        except (OSError, ValueError) as error:
            words = f"the dead letter {key[0]}-{key[1]} cannot be read: {getattr(error, 'strerror', None) or error}"
            self._trouble = UnavailableError("REPLAY_NOT_READ", words)
            return None

    def _try(self, letter: DeadLetter) -> None:
        error = self._attempts.deliver([self._attempts.message(letter.number, letter.event)], again=True)
        if error is None:
            self._dead.remove(letter.key)
            self._delivered += 1
            if self._clock() >= self._settle_s:
                self._settle()
            return
        self._kept += 1
        self._reason = error.message
        if error.of_sink:
            self._kept += len(self._left)
            self._left.clear()
        elif not error.permanent:
            self._held.add(letter.event.channel)

    def _settle(self) -> None:
        began_s = self._clock()
        try:
            self._dead.settle()
        except OSError as error:
            words = f"dead letters that were delivered cannot be removed: {error.strerror or error}"
            self._trouble = self._trouble or UnavailableError("REPLAY_NOT_KEPT", words)
        ended_s = self._clock()
        self._settle_s = ended_s + max(SETTLE_S, _SHARE * (ended_s - began_s))
