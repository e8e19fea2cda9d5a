"""A supervisor in a process of its own, over workers that are a few lines of Python."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from vedette_server.supervise import Plan

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 30.0

# What a stand-in may use: the n-th worker is told its number, its line is there, it writes for the test to read.
PRELUDE = """
import asyncio, faulthandler, json, os, pathlib, signal, socket, sys, time
from vedette_server.lifeline import Lifeline, tie
tie(os.environ)
faulthandler.enable()
lifeline = Lifeline.inherited(os.environ)
number = sum(lifeline.past.restarts.values())
def say(*words):
    # Not print: a handler of a signal may interrupt another word.
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
def serve(after=lambda: None, stubborn=False):
    async def main():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        def asked(name):
            say("worker", number, name)
            if not stubborn: stop.set()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            loop.add_signal_handler(getattr(signal, name), asked, name)
        with lifeline.beating(loop, lambda: (say("worker", number, "stop now"), stop.set())):
            say("worker", number, "serves", os.getpid())
            lifeline.serves()
            after()
            await stop.wait()
    asyncio.run(main())
"""


class Supervised:
    """A supervisor over stand-ins.

    Args:
        code: What a worker does, after `PRELUDE`.
        plan: What the supervisor is told.
        wrapper: What starts the supervisor.
    """

    def __init__(self, code: str, plan: Plan, wrapper: tuple[str, ...] = ()) -> None:
        paths = [str(ROOT / folder) for folder in ("server", "engines", "proto")]
        supervisor = [sys.executable, "-m", "vedette_server.supervise", plan.text()]
        self.process = subprocess.Popen(
            [*wrapper, *supervisor, sys.executable, "-c", PRELUDE + code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._new.put(line)
        self._new.put("")

    def wait_for(self, words: str) -> str:
        """Return the next line that has these words."""
        while True:
            line = self._new.get(timeout=WAIT_S)
            if words in line:
                return line.strip()
            if not line:
                raise AssertionError(f"it ended without {words!r}: {''.join(self.lines)}")

    def worker(self, number: int) -> int:
        """Wait until the n-th worker serves; return the number of its process."""
        return int(self.wait_for(f"worker {number} serves").rpartition(" ")[2])

    def tell(self, number: int) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def code(self) -> int:
        """Wait for the supervisor's end; return its exit code."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    @property
    def output(self) -> str:
        """All that was said."""
        return "".join(self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
