"""Under which circumstances figures were measured: without them they say little."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where and with what a load test was run.

    Attributes:
        time: When it began, ISO 8601, UTC.
        vedette: Version of the client.
        server: Version of the server; empty when it was not told.
        grpc: Version of gRPC.
        python: Version of Python.
        system: Operating system and machine.
        processor: The processor's name; empty when unknown.
        cores: Cores that this process may use.
        server_pid: The server's process when it shares this machine; None when it does not, or is not known.
    """

    time: str
    vedette: str
    server: str
    grpc: str
    python: str
    system: str
    processor: str
    cores: int
    server_pid: int | None


def circumstances(server: str, server_pid: int | None) -> Circumstances:
    """Look around."""
    return Circumstances(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        vedette=metadata.version("vedette"),
        server=server,
        grpc=metadata.version("grpcio"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        server_pid=server_pid,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
