"""Run the command `vedette`, in a process of its own, and read what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from support_serving import ROOT

# Who starts the tests in the background has them ignore Ctrl-C; these commands are to hear it.
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from vedette_client.cli.main import main; main()"
)
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """The environment without any setting of Vedette's but those given, in which our packages are found."""
    paths = [str(ROOT / folder) for folder in ("proto", "server", "engines", "client")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "140"} | more


def start(*args: str | Path, code: str = _CODE, **settings: str) -> subprocess.Popen[str]:
    """Start `vedette` with these arguments, and these variables in its environment."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**settings),
    )


def finish(process: subprocess.Popen[str]) -> Said:
    """Wait for its end."""
    out, err = process.communicate(timeout=_TIMEOUT_S)
    return Said(process.returncode, out, err)


def vedette(*args: str | Path, **settings: str) -> Said:
    """Run `vedette` to its end."""
    return finish(start(*args, **settings))


def interrupt(process: subprocess.Popen[str]) -> Said:
    """Press Ctrl-C and wait for its end."""
    process.send_signal(signal.SIGINT)
    return finish(process)


def is_gone(pid: int, within_s: float = 10.0) -> bool:
    """Tell whether a process has ended, or does so soon; one that nobody has asked for its exit code has."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
