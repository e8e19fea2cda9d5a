"""Folders and files for their owner only: what is kept shows people, and holds passwords of their cameras."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing; one that is there stays as it is.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    missing = []
    for one in (path, *path.parents):
        if one.exists():
            break
        missing.append(one)
    for one in reversed(missing):
        # Not `parents=True`: it makes those above with the mode of everybody's.
        one.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def open_private(path: str, flags: int) -> int:
    """Open a file, made for its owner only where it is missing; the `opener` of `open`."""
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def others_may(path: Path) -> int:
    """Tell what others than its owner may do with a folder, as bits of its mode; 0: nothing.

    Raises:
        OSError: It cannot be told.
    """
    return stat.S_IMODE(path.stat().st_mode) & 0o077
