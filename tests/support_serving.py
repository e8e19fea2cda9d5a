"""A server in a process of its own, and what tests ask of real material."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
START_S = 60.0


class ServerProcess:
    """`vedette serve` on a free port of loopback.

    Args:
        arguments: Further flags.
        port: The port to listen on; 0: any.
        command: What serves, before its flags.
        paths: Further folders in which Python looks for modules, first of all.
    """

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        command: Sequence[str] = (sys.executable, "-m", "vedette_server"),
        paths: Sequence[str] = (),
    ) -> None:
        folders = [*paths, *(str(ROOT / folder) for folder in ("proto", "server", "engines", "client"))]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--metrics-port", "off", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
        )
        self.lines: list[str] = []
        self._metrics_url: str | None = None
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_for("serving on ").rpartition(":")[2])
        self.address = f"127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._new.put(line)
        self._new.put("")

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that Prometheus would read now, by name and labels."""
        if self._metrics_url is None:
            self._metrics_url = f"http://{self.wait_for('metrics on ').rpartition(' ')[2]}/metrics"
        with urllib.request.urlopen(self._metrics_url, timeout=START_S) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def wait_for(self, words: str) -> str:
        """Return the next line that has these words."""
        while True:
            line = self._new.get(timeout=START_S)
            if words in line:
                return line.strip()
            if not line:
                raise AssertionError(f"the server ended: {''.join(self.lines)}")

    @property
    def output(self) -> str:
        """What the server has printed."""
        return "".join(self.lines)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Signal the server and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        """End it at once."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
