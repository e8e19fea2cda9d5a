"""Run the command `vedette`, in a process of its own, and read what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support_serving import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_CODE = "from vedette_client.cli.main import main; main()"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """The environment without any setting of Vedette's, in which our packages are found."""
    paths = [str(ROOT / folder) for folder in ("proto", "server", "engines", "client")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "140"}


def start(*args: str | Path, code: str = _CODE) -> subprocess.Popen[str]:
    """Start `vedette` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def finish(process: subprocess.Popen[str]) -> Said:
    """Wait for its end."""
    out, err = process.communicate(timeout=_TIMEOUT_S)
    return Said(process.returncode, out, err)


def vedette(*args: str | Path) -> Said:
    """Run `vedette` to its end."""
    return finish(start(*args))


def interrupt(process: subprocess.Popen[str]) -> Said:
    """Press Ctrl-C and wait for its end."""
    process.send_signal(signal.SIGINT)
    return finish(process)
