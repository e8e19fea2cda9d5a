"""A sink that appends to a file: one message on each line, on the disk when it counts as delivered.

A file that was moved away or removed (as logrotate does) is opened anew; a full disk is a failure that passes, and
leaves no half line. The folder is not made: where a disk is not mounted nothing is written beside it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.errors import SettingsError
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vedette_server.sinks.base import EventMessage
    from vedette_server.sinks.table import Table

_MOST = 256
# A line is not longer: the end of a whole one is looked for in so many bytes.
_LONGEST_LINE = 1024 * 1024
# So each of ours begins, see `document.py`.
_BEGIN = b'{"version":'


@dataclass(frozen=True, slots=True)
class JsonlSettings:
    """Where lines are written.

    Attributes:
        path: The file.
        max_bytes: It is put aside (`.1`, `.2`, ...) before it grows beyond this; 0: never.
        keep: So many are kept of those put aside.
    """

    path: Path
    max_bytes: int = 0
    keep: int = 5


def read_jsonl(table: Table) -> JsonlSettings:
    """Read the keys of the kind `jsonl`.

    Raises:
        SettingsError: A value is not allowed.
    """
    path = table.path("path")
    if path is None:
        raise SettingsError(f"{table.where}: path is missing; needed: the file to append to")
    if path.is_dir():
        table.refuse("path", str(path), "a file; this is a folder")
    table.claim(f"the file {path.resolve()}")
    return JsonlSettings(path, table.whole("max_bytes", 0, 0, 1 << 50), table.whole("keep", 5, 1, 1000))


class JsonlSink:
    """Appends to a file.

    Args:
        settings: Where.
        write: Writes to a descriptor, as `os.write` does: so that a test can fill the disk.
    """

    def __init__(self, settings: JsonlSettings, write: Callable[[int, bytes], int] = os.write) -> None:
        self._settings = settings
        self._write = write
        self._descriptor: int | None = None

    @property
    def most(self) -> int:
        """So many messages are written with one wait for the disk."""
        return _MOST

    def deliver(self, messages: Sequence[EventMessage]) -> None:
        """Append messages.

        Raises:
            SinkError: It cannot now.
        """
        content = b"".join(one.body() + b"\n" for one in messages)
        try:
            descriptor = self._open(len(content))
            self._append(descriptor, content)
        except OSError as error:
            self.close()
            words = f"file {self._settings.path}: {error.strerror or error}"
            raise SinkError(words, of_sink=True) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, descriptor: int, content: bytes) -> None:
        before = os.fstat(descriptor).st_size
        try:
            left = content
            while left:
                left = left[self._write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise

    def _open(self, more_bytes: int) -> int:
        """Give the file, opened anew when it is not the one under its name any more."""
        path = self._settings.path
        if self._descriptor is not None and not self._is_there(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            _mend(self._descriptor)
            sync_folder(path.parent)
        size = os.fstat(self._descriptor).st_size
        if self._settings.max_bytes and size and size + more_bytes > self._settings.max_bytes:
            self.close()
            self._put_aside()
            return self._open(0)
        return self._descriptor

    def _is_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._settings.path.stat())
        except FileNotFoundError:
            return False

    def _put_aside(self) -> None:
        path = self._settings.path
        for index in range(self._settings.keep, 0, -1):
            older = path.with_name(f"{path.name}.{index}")
            newer = path if index == 1 else path.with_name(f"{path.name}.{index - 1}")
            if newer.exists():
                newer.replace(older)
        sync_folder(path.parent)


def _mend(descriptor: int) -> None:
    """Cut off half a line that a crash has left: its message was not delivered and comes again.

    Only what is ours and torn is cut; whatever else has no end, as editors leave it, is given one.
    """
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, min(size, _LONGEST_LINE), max(0, size - _LONGEST_LINE))
    if not tail or tail.endswith(b"\n"):
        return
    end = tail.rfind(b"\n")
    line = tail[end + 1 :]
    if (end < 0 and size > _LONGEST_LINE) or not _is_torn(line):
        os.write(descriptor, b"\n")
        return
    os.ftruncate(descriptor, size - len(line))


def _is_torn(line: bytes) -> bool:
    if not (line.startswith(_BEGIN) or _BEGIN.startswith(line)):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
