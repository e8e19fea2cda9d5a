"""The file of a trace: held by one server, compressed when its name says so, never larger than its limit.

Its content is one JSON array. What was written is complete at any moment but for the closing bracket, which readers
of the format do without: a server that is killed leaves a file that opens. Compressed, it is flushed with every chunk.

Threads: opened by the one that starts the server, used by the writer alone.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import zlib
from typing import TYPE_CHECKING

from vedette_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A trace says the same words again and again: more effort gains little, and the writer is to be cheap.
_LEVEL = 1
# `zlib`'s way to ask for the header and the trailer of gzip.
_GZIP_WBITS = 31
_OPENING, _CLOSING = "[\n", "\n]\n"
# What is left free for the last words and the end of the compression.
_RESERVE_BYTES = 1024


class TraceFile:
    """A trace on its way to the disk.

    Args:
        path: Where it is written; what was there is replaced. Compressed when it ends in `.gz`.
        max_bytes: Its size at most, on the disk.

    Attributes:
        path: Where it is written.

    Raises:
        SettingsError: It cannot be written, or another server writes it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._descriptor: int | None = None
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WBITS) if path.suffix == ".gz" else None
        self._first = True
        try:
            # Not blocking: a named pipe that nobody reads is refused, instead of waiting for a reader.
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(path, flags, 0o644)
            os.set_blocking(self._descriptor, True)
            self._claim(self._descriptor)
            self._put(_OPENING)
        except OSError as error:
            self._release()
            raise SettingsError(
                f"trace.file is {str(path)!r}, which cannot be written ({error.strerror}); "
                "allowed: a file in a folder that is there"
            ) from error
        except SettingsError:
            self._release()
            raise

    def write(self, events: Sequence[str]) -> bool:
        """Add events, if there is room for them; return whether there was.

        Args:
            events: Each one JSON object.

        Raises:
            OSError: The disk is full, or gone.
        """
        text = self._joined(events)
        if self._size_bytes + len(text) + _RESERVE_BYTES > self._max_bytes:
            return False
        if text:
            self._put(text)
            self._first = False
        return True

    def close(self, events: Sequence[str] = ()) -> None:
        """Complete the file with some last events, and let go of it; may be called twice.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self._descriptor is None:
            return
        try:
            self._put(self._joined(events) + _CLOSING, last=True)
        finally:
            self._release()

    def abandon(self) -> None:
        """Let go of the file as it is; may be called twice."""
        self._release()

    @property
    def size_bytes(self) -> int:
        """What was written so far, on the disk."""
        return self._size_bytes

    def _claim(self, descriptor: int) -> None:
        """Make the file this server's own, and empty."""
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - there is none on Windows

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # A file system that knows no locks is no reason to do without a trace.
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise SettingsError(
                        f"trace.file is {str(self.path)!r}, which another server writes; allowed: a file of its own"
                    ) from error
        os.ftruncate(descriptor, 0)

    def _joined(self, events: Sequence[str]) -> str:
        text = ",\n".join(events)
        if text and not self._first:
            text = ",\n" + text
        return text

    def _put(self, text: str, *, last: bool = False) -> None:
        data = text.encode()
        if self._zip is not None:
            data = self._zip.compress(data) + self._zip.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        rest = memoryview(data)
        while rest and self._descriptor is not None:
            written = os.write(self._descriptor, rest)
            self._size_bytes += written
            rest = rest[written:]

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
