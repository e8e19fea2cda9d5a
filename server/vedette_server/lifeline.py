"""The worker's end of the line to its supervisor.

Over one socket pair the worker's event loop beats, and says once that it serves; the supervisor asks it to stop
at once. Its other end closes when the supervisor dies: the worker then ends, too, and on Linux the kernel sees to
that even when the worker hangs. How the socket and what happened before are handed down stands in one variable
of the environment, which `supervise.py` sets.

Threads: the event loop's only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from vedette_server.worker_words import BEAT, BEAT_S, SERVES, VARIABLE, Past

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping, MutableMapping

_PR_SET_PDEATHSIG = 1


class Lifeline:
    """The line to the supervisor; see `inherited`.

    Args:
        line: The worker's end; None: there is no supervisor, and all of this does nothing.
        past: What happened before.
    """

    def __init__(self, line: socket.socket | None = None, past: Past | None = None) -> None:
        self.past = past or Past({})
        self._line = line
        if line is not None:
            line.setblocking(False)

    @property
    def is_held(self) -> bool:
        """Whether there is a supervisor."""
        return self._line is not None

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Lifeline:
        """Take the line that the supervisor left in the environment, out of it."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return cls()
        told = json.loads(text)
        # What this process starts must not hold the line open.
        os.set_inheritable(told["line"], False)
        return cls(socket.socket(fileno=told["line"]), Past(told["restarts"], told["last"], told["at_s"]))

    @contextlib.contextmanager
    def beating(self, loop: asyncio.AbstractEventLoop, stop_now: Callable[[], None]) -> Iterator[None]:
        """Beat as long as the loop turns.

        Args:
            loop: The loop, which runs.
            stop_now: Called when the supervisor asks for it, and when it is dead.
        """
        line = self._line
        if line is None:
            yield
            return
        timer: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal timer
            self._send(BEAT)
            timer = loop.call_later(BEAT_S, beat)

        def heard() -> None:
            with contextlib.suppress(BlockingIOError):
                if not line.recv(64):
                    # The end of the line is heard for ever.
                    loop.remove_reader(line)
                stop_now()

        loop.add_reader(line, heard)
        beat()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            loop.remove_reader(line)

    def serves(self) -> None:
        """Say that calls are taken."""
        self._send(SERVES)

    def close(self) -> None:
        """Close the line; may be called twice."""
        if self._line is not None:
            self._line.close()

    def _send(self, word: bytes) -> None:
        # A supervisor that was stopped for a while reads nothing, one that is dead shows on the reading side.
        with contextlib.suppress(OSError):
            if self._line is not None:
                self._line.send(word)


def tie(environ: Mapping[str, str]) -> None:
    """Have the kernel end this process at once when its supervisor dies; Linux only, and only with a supervisor.

    At once and not by a drain: whoever starts the next supervisor wants the port now, and a worker that hangs
    would never drain.
    """
    text = environ.get(VARIABLE, "")
    if not text or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != json.loads(text)["supervisor"]:
        # It died before it was asked for.
        os._exit(1)
