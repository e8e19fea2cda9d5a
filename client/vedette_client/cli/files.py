"""Write files that people name: refused before anything is fetched, and there under their name only when whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import IO, TYPE_CHECKING, Any

from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_OF_JPEG = frozenset({".jpg", ".jpeg", ""})


def check_place(path: Path, option: str) -> None:
    """Make sure that a file can be written, before anything is fetched for it.

    Raises:
        OptionsError: It is a folder, or there is none for it, or one that nothing can be written to.
    """
    if path.is_dir():
        _refuse(path, option, "a folder is there", "the name of a file")
    check_folder(path.parent, path, option)


def check_jpeg_place(path: Path, option: str) -> None:
    """Make sure that a JPEG can be written, under a name that does not say that it is something else.

    Raises:
        OptionsError: As `check_place`; or its name ends otherwise.
    """
    if path.suffix.lower() not in _OF_JPEG:
        _refuse(path, option, "the picture is a JPEG", "a name that ends in .jpg or .jpeg, or has no ending")
    check_place(path, option)


def check_folder(folder: Path, path: Path, option: str) -> None:
    """Make sure that there is a folder, and that something can be put into it.

    Args:
        folder: The folder.
        path: What was typed, for the message.
        option: Where it was typed.

    Raises:
        OptionsError: There is none, or it is closed to us.
    """
    if not folder.is_dir():
        _refuse(path, option, f"there is no folder {folder}", "a place in a folder that is there")
    if not os.access(folder, os.W_OK | os.X_OK):
        _refuse(path, option, f"nothing may be written to {folder}", "a place in a folder that may be written to")


def _refuse(path: Path, option: str, what: str, allowed: str) -> None:
    raise OptionsError(f"{option} is {str(path)!r}; {what}; allowed: {allowed}")


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "x") -> Iterator[IO[Any]]:
    """Write a file that is there under its name only when all of it was written; `xb`: of bytes."""
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with draft.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file at once."""
    with whole_file(path, "xb") as file:
        file.write(data)
