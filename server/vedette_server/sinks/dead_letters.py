"""What a sink did not take, kept to be looked at and delivered again: a file of JSON lines.

Each line: `number`, `reason`, `tries`, `dead_time_s` (seconds since the epoch) and `event`, in the canonical form of
the store (`store/canonical.py`). Bounded; when it is full, the oldest tenth goes, counted and logged. Threads: one
writes; any may read.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.sinks.files import write_whole
from vedette_server.store.canonical import decode, encode

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from vedette_server.data.event import Event
    from vedette_server.sinks.settings import DeadBounds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        number: Its record in the chain.
        event: The event as it was then.
        reason: Why it was given up.
        tries: So often it was tried.
        dead_s: When it was given up, seconds since the epoch.
    """

    number: int
    event: Event
    reason: str
    tries: int
    dead_s: float


class DeadLetters:
    """The file.

    Args:
        path: Where.
        bounds: How much it holds at most.
    """

    def __init__(self, path: Path, bounds: DeadBounds) -> None:
        self._path = path
        self._bounds = bounds
        self._lock = threading.Lock()
        self._lines = self._read()
        self._bytes = sum(map(len, self._lines))
        self._lost = 0
        # Whatever a crash has torn is not appended to.
        self._whole = not self._lines and not path.exists()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def lost(self) -> int:
        """So many had to make room for later ones."""
        return self._lost

    def letters(self) -> list[DeadLetter]:
        """Give all, the oldest first."""
        with self._lock:
            lines = list(self._lines)
        return [_letter(line) for line in lines]

    def add(self, letter: DeadLetter) -> None:
        """Keep one more; on the disk when it returns.

        Raises:
            OSError: It cannot; nothing has changed.
        """
        line = _line(letter)
        with self._lock:
            lines, lost = self._fitting([*self._lines, line])
            if lost or not self._whole:
                write_whole(self._path, b"".join(lines))
            else:
                self._append(line)
            self._whole = True
            self._lines, self._bytes = lines, sum(map(len, lines)) if lost else self._bytes + len(line)
            self._lost += lost
        if lost:
            _log.warning("dead_letters_lost", extra={"file": str(self._path), "letters": lost})

    def remove(self, numbers: Collection[int]) -> None:
        """Forget those of these records.

        Raises:
            OSError: It cannot; all are still there.
        """
        with self._lock:
            lines = [line for line in self._lines if json.loads(line)["number"] not in numbers]
            write_whole(self._path, b"".join(lines))
            self._whole = True
            self._lines, self._bytes = lines, sum(map(len, lines))

    def _fitting(self, lines: list[bytes]) -> tuple[list[bytes], int]:
        """Give what may stay, and how many go; when some have to, a tenth does, so that it is not done each time."""
        size = self._bytes + len(lines[-1])
        if len(lines) <= self._bounds.most and size <= self._bounds.most_bytes:
            return lines, 0
        first = 0
        while first < len(lines) - 1 and (
            len(lines) - first > self._bounds.most * 9 // 10 or size > self._bounds.most_bytes * 9 // 10
        ):
            size -= len(lines[first])
            first += 1
        return lines[first:], first

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            before = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                self._whole = False
                os.truncate(self._path, before)
                raise

    def _read(self) -> list[bytes]:
        if not self._path.exists():
            return []
        lines = []
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                _letter(line)
                lines.append(line)
            except ValueError:
                _log.warning("dead_letter_unreadable", extra={"file": str(self._path), "bytes": len(line)})
        return lines


def _line(letter: DeadLetter) -> bytes:
    fields = {
        "number": letter.number,
        "reason": letter.reason,
        "tries": letter.tries,
        "dead_time_s": letter.dead_s,
    }
    return json.dumps(fields).encode()[:-1] + b', "event": ' + encode(letter.event) + b"}\n"


def _letter(line: bytes) -> DeadLetter:
    """Read a line.

    Raises:
        ValueError: It is not one.
    """
    try:
        content = json.loads(line)
        event = decode(json.dumps(content["event"]).encode())
        return DeadLetter(content["number"], event, content["reason"], content["tries"], content["dead_time_s"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no dead letter: {error!r}") from error
