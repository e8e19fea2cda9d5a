"""A server to measure: in a process of its own, with its CPU time and memory read from outside."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Server:
    """`vedette serve`, or another module that serves, on a free port.

    Args:
        arguments: Further flags of `vedette serve`.
        module: What to run.

    Attributes:
        address: Where it listens.
        metrics_url: Where its metrics are; empty unless `--metrics-port` is among the flags.
        start_s: Seconds from its start until it served.
    """

    def __init__(self, *arguments: str, module: str = "vedette_server") -> None:
        began = time.monotonic()
        own = module == "vedette_server"
        flags = ["--port", "0", "--metrics-port", "off", *arguments] if own else list(arguments)
        command = [sys.executable, "-m", module, *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "serving on" not in line:
            raise SystemExit(f"the server did not start: {line}")
        self.start_s = time.monotonic() - began
        self.address = line.strip().rpartition(" ")[2]
        self.metrics_url = ""
        if "--metrics-port" in arguments:
            self.metrics_url = f"http://{self._process.stdout.readline().strip().rpartition(' ')[2]}/metrics"
        self._watched = psutil.Process(self._process.pid)

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that Prometheus would read now, by name and labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    @property
    def rss_mib(self) -> float:
        """Resident memory in MiB."""
        return float(self._watched.memory_info().rss) / 2**20

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
