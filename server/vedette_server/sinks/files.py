"""Writes small files so that a crash leaves the old one or the new one, and what was appended stays."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# What was seen of people, and where it went to: nobody's but the server's.
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can look into, or make one that is there already so.

    Raises:
        OSError: It cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    if folder.stat().st_mode & 0o777 != PRIVATE_FOLDER:
        with contextlib.suppress(PermissionError):  # another's, who lets us in: as he wants it
            folder.chmod(PRIVATE_FOLDER)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step; see `write_pieces`."""
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file in one step; on the disk when it returns. Only its owner may read it.

    Raises:
        OSError: It cannot; the old one is there as before.
    """
    beside = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE), "wb") as file:
        os.fchmod(file.fileno(), PRIVATE)  # one that a crash has left may be older
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk.

    Raises:
        OSError: It cannot.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
