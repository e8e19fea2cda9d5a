"""Ask a question in a process of its own, within a time limit.

A library that crashes or hangs while it is imported, as those around GPUs do, costs its own question and no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

CHILD = "vedette_engines.doctor.child"
_TOLD_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    Attributes:
        value: The answer; empty: there is none.
        failure: Why there is none, in one line; empty: there is.
        seconds: How long it took, start of the process included.
    """

    value: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0


class Asker(Protocol):
    """Who answers; tests have another one than `ask`."""

    def __call__(self, question: str, /, **arguments: Any) -> Answer:
        """Answer one question of `questions.QUESTIONS`."""
        ...


def ask(question: str, /, *, timeout_s: float = 60.0, **arguments: Any) -> Answer:
    """Ask one of `questions.QUESTIONS` in a process of its own; it and what it started are ended in any case.

    Args:
        question: Which.
        timeout_s: It is ended when it has not answered by then.
        arguments: Of the question; plain data.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vedette-doctor-") as name:
        place, said = Path(name) / "answer.json", Path(name) / "said.txt"
        command = [sys.executable, "-P", "-m", CHILD, question, json.dumps(arguments), str(place)]
        code = _run(command, said, timeout_s)
        seconds = round(time.monotonic() - began, 3)
        if place.exists():
            # A crash while a library cleans up behind the answer is not held against it.
            answer = json.loads(place.read_text(encoding="utf-8"))
            return Answer(answer.get("value", {}), answer.get("failure", ""), seconds)
        return Answer({}, _told(code, timeout_s, said), seconds)


def _run(command: list[str], said: Path, timeout_s: float) -> int | None:
    """Run a command; its exit code, or None where it had to be ended."""
    with said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own module)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # It leads a group: whatever a library started goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment() -> dict[str, str]:
    """Let the child find this very package, however the parent did."""
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}


def _told(code: int | None, timeout_s: float, said: Path) -> str:
    """Say how a process ended that left no answer."""
    if code is None:
        return f"did not answer within {timeout_s:g} s and was ended"
    text = said.read_bytes()[-_TOLD_BYTES:].decode(errors="replace")
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"crashed with {signal.Signals(-code).name}" + (f": {last}" if last else "")
    return f"ended with {code}" + (f": {last}" if last else "")
