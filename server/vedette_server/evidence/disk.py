"""What evidence asks of a file system, in one place: so that each step can be made to fail by a test.

Folders and files are made for their owner only; what is there already stays as it is.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from vedette_server.private import FILE_MODE, make_folder, open_private

if TYPE_CHECKING:
    from pathlib import Path

_FULL_OR_BROKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


def in_words(error: BaseException) -> str:
    """Say what failed, without the names of temporary files: the same trouble is told in the same words."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def is_of_disk(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is the disk's and not that of what was to be written."""
    causes = (error, error.__cause__)
    return any(isinstance(cause, OSError) and cause.errno in _FULL_OR_BROKEN for cause in causes)


class Disk:
    """The real one. Every call may raise `OSError`."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, for their owner only."""
        make_folder(path)

    def begin(self, path: Path) -> None:
        """Make room for a file that is going to be written under this name."""
        path.touch(mode=FILE_MODE, exist_ok=False)

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file."""
        with open(path, "wb", opener=open_private) as file:
            file.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file, and have it on the disk."""
        with open(path, "ab", opener=open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, path: Path) -> None:
        """Have a file's contents, or a folder's names, on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name, in one step."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is gone already does not matter."""
        path.unlink(missing_ok=True)

    def free_bytes(self, path: Path) -> int:
        """Tell how much can still be written."""
        return shutil.disk_usage(path).free
