"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from vedette_server.worker_words import DEVICE_LOST, SERVES, STOP_NOW, VARIABLE, Past

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRESSURE = (signal.SIGABRT, signal.SIGKILL)


class Patience(NamedTuple):
    """How long a worker may be silent.

    Attributes:
        start_s: From its start to its first beat; 0: for ever.
        hang_s: Between two beats; 0: for ever.
        abort_s: To write where it hangs, when asked for that.
        kill_s: To go when it was killed.
    """

    start_s: float = 120.0
    hang_s: float = 30.0
    abort_s: float = 5.0
    kill_s: float = 30.0


class Worker:
    """A worker process that runs.

    Args:
        command: What to run, with its whole path.
        past: What happened to those before it.
        patience: How long it may be silent.

    Attributes:
        pid: Its number.
        line: The supervisor's end of the line; closed when the worker has closed its own.
        due_at_s: Monotonic time at which it has been silent for too long.
        served_at_s: Monotonic time since which it takes calls; None: not yet.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], past: Past, patience: Patience) -> None:
        self._patience = patience
        self._pressed = 0
        self._beats = False
        self.served_at_s: float | None = None
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        with theirs:
            theirs.set_inheritable(True)
            told = {"line": theirs.fileno(), "supervisor": os.getpid(), **past._asdict()}
            try:
                self.pid = os.posix_spawn(
                    command[0],
                    list(command),
                    os.environ | {VARIABLE: json.dumps(told)},
                    file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                    # Ctrl-C is for the supervisor, which passes it on.
                    setpgroup=0,
                    setsigmask=(),
                    # Ignored by Python for itself.
                    setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
                )
            except OSError:
                self.line.close()
                raise
        self.due_at_s = time.monotonic() + (patience.start_s or math.inf)

    def hear(self) -> None:
        """Take what the worker says."""
        said = b""
        with contextlib.suppress(OSError):
            said = self.line.recv(4096)
        if not said:
            # It ends, or it is broken: either way it has to be gone in time.
            self.line.close()
            return
        self._beats = True
        if SERVES in said:
            self.served_at_s = time.monotonic()
        if not self._pressed:
            self.due_at_s = time.monotonic() + (self._patience.hang_s or math.inf)

    def press(self) -> bool:
        """Answer its silence: ask for a traceback, then kill; return False when nothing helps."""
        if self._pressed == len(_PRESSURE):
            return False
        self.signal(_PRESSURE[self._pressed])
        self._pressed += 1
        killed = self._pressed == len(_PRESSURE)
        self.due_at_s = time.monotonic() + (self._patience.kill_s if killed else self._patience.abort_s)
        return True

    def tell(self, number: int, times: int) -> None:
        """Pass on what the supervisor was told: the first time drain, the second stop at once, then be killed."""
        if times <= 2:
            self.signal(number)
        if times == 2:
            with contextlib.suppress(OSError):
                self.line.send(STOP_NOW)
        if times > 2:
            self._pressed = len(_PRESSURE)
            self.signal(signal.SIGKILL)
            self.due_at_s = time.monotonic() + self._patience.kill_s

    def signal(self, number: int) -> None:
        """Send it a signal; its number is nobody else's as long as it is not waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def why(self, code: int) -> tuple[str, str]:
        """Say why it ended: in one of few words, and for people.

        Args:
            code: Its exit code; the negative number of the signal that killed it.
        """
        if self._pressed:
            patience = self._patience
            return "hung", f"hung: no beat for {patience.hang_s if self._beats else patience.start_s:g} s"
        if code == DEVICE_LOST:
            return "device_lost", f"device lost, exit code {code}"
        if code >= 0:
            return "exit", f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return "signal", f"signal {-code}"
        return name, name + (": out of memory?" if -code == signal.SIGKILL else "")
