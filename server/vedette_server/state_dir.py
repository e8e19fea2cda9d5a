"""The folder of what a server keeps of its channels: one server at a time.

Two servers that write one chain of events would each sign heads that the other's events do not stand in.
"""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING, Self

from vedette_server.errors import SettingsError
from vedette_server.private import FILE_MODE, make_folder, others_may

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

LOCK = "lock"
_log = logging.getLogger(__name__)


class StateDir:
    """A folder that is ours until it is closed, or the process is gone.

    Args:
        path: The folder, made if it is missing, for its owner only; of one that others may use the log warns.
        setting: What names it.

    Raises:
        SettingsError: It cannot be used, or another server uses it.
    """

    def __init__(self, path: Path, setting: str = "monitor.state_dir") -> None:
        self.path = path
        try:
            make_folder(path)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise SettingsError(f"{setting} {str(path)!r} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if not isinstance(error, BlockingIOError):
                why = f"it cannot be locked: {error.strerror}"
                raise SettingsError(f"{setting} {str(path)!r} cannot be used: {why}") from error
            raise SettingsError(
                f"{setting} {str(path)!r} is used by another server; allowed: a folder of its own for each"
            ) from error
        if others := others_may(path):
            # Whoever made it so may have a reason, such as a group that reads evidence.
            _log.warning(
                "folder_open_to_others", extra={"setting": setting, "folder": str(path), "others": f"{others:03o}"}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the folder to others; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
