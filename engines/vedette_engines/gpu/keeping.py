"""Hold what was opened on a device, and close all of it."""

from __future__ import annotations

import logging
from typing import Protocol, TypeVar

from vedette_engines.cuda.base import CudaError

_log = logging.getLogger(__name__)


class Closes(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


_Thing = TypeVar("_Thing", bound=Closes)


class Kept:
    """Things of one owner. One thread at a time, attached to the device."""

    def __init__(self) -> None:
        self._things: list[Closes] = []

    def keep(self, thing: _Thing) -> _Thing:
        """Hold one thing and give it back."""
        self._things.append(thing)
        return thing

    def close(self) -> None:
        """Close all, the last first; may be called twice.

        A device that is lost closes nothing, and says so each time: that is noted in the log, and the rest is closed.
        """
        while self._things:
            try:
                self._things.pop().close()
            except CudaError as error:
                _log.warning("could not be closed: %s", error)
