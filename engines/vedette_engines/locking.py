"""One writer at a time for an engine's marks: a lock on ROOT/NAME/.lock, among threads and processes of one machine.

Readers need none: what is written under it is renamed into place.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from vedette_engines.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME = ".lock"
_WAIT_S = 30.0
_STEP_S = 0.02


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an engine's lock; the system lets go of it when the process ends.

    Raises:
        BundleError: The folder cannot be written, or another writer holds the lock for too long.
    """
    import fcntl  # noqa: PLC0415  (not on every system that lists engines)

    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written: {error}") from error
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BundleError(f"{folder}: another writer has held {LOCK_NAME} for {_WAIT_S:g} s") from None
                time.sleep(_STEP_S)
        yield
    finally:
        os.close(descriptor)
