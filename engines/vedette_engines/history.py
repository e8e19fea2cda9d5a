"""What happened to an engine: ROOT/NAME/.history.jsonl, a line for each publication, rollback, restoration, removal.

It is a log for people. Nothing is decided by it but which version numbers were used, and a line that cannot be written
fails nothing: what it tells of has happened, and a bundle carries its own provenance. A line is appended in one write,
so that lines of several writers do not mix. It holds the user's name and no machine's.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HISTORY_NAME = ".history.jsonl"
PUBLISH, WITHDRAW, ROLL_BACK, RESTORE, REMOVE = "publish", "withdraw", "rollback", "restore", "gc"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        action: `publish`, `withdraw`, `rollback`, `restore` or `gc`.
        version: The version that it happened to.
        time: When, ISO 8601, UTC.
        tool: Who did it: `vedette 0.1.0`.
        user: On whose behalf; empty where that is not known.
        detail: What else there is to tell: a reason.
    """

    action: str
    version: str
    time: str
    tool: str = ""
    user: str = ""
    detail: str = ""


def record(root: Path, name: str, action: str, version: str, detail: str = "") -> None:
    """Append a line to an engine's history; what prevents that is passed over, see above."""
    event = Event(action, version, _now(), _tool(), _user(), detail)
    line = json.dumps(asdict(event), ensure_ascii=False) + "\n"
    with contextlib.suppress(OSError):
        descriptor = os.open(root / name / HISTORY_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def read_history(root: Path, name: str) -> tuple[Sequence[Event], int]:
    """Read an engine's history, the oldest first, and tell how many lines could not be read."""
    events, damaged = [], 0
    for line in _lines(root / name / HISTORY_NAME):
        try:
            values = json.loads(line)
            events.append(Event(**{key: str(value) for key, value in values.items()}))
        except (ValueError, TypeError, AttributeError):
            damaged += 1
    return tuple(events), damaged


def versions_used(root: Path, name: str) -> frozenset[str]:
    """Tell which versions were ever published, those that were removed since among them."""
    return frozenset(event.version for event in read_history(root, name)[0] if event.action == PUBLISH)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield from (line for line in text.splitlines() if line.strip())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _tool() -> str:
    try:
        return f"vedette {metadata.version('vedette')}"
    except metadata.PackageNotFoundError:
        return "vedette"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
