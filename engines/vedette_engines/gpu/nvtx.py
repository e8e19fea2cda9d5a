"""Mark stages for NVIDIA's profilers, which show them above what the GPU does.

`nvtx_range("decode")` around a stage costs next to nothing until `switch_on` has found the package `nvtx`. Under
`nsys profile --trace=cuda,nvtx` the stages then stand in the domain `vedette`, one row for each thread.

A range belongs to the thread that opens it and is closed there, last opened first: what `with` does. Around work
that is queued on a stream it marks the queueing; the profiler itself ties what runs on the GPU to it.

Threads: any may mark; switching is for the start, before there are others.

Source: the package `nvtx` 0.2 (NVIDIA), `Domain.push_range` and `pop_range`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

_log = logging.getLogger(__name__)

DOMAIN = "vedette"
# Colours that tell the stages apart; whatever else is marked is grey.
_COLOURS = {
    "decode": "orange",
    "convert": "yellow",
    "upload": "blue",
    "compute": "green",
    "download": "purple",
    "verdict": "red",
}
_OTHER = "grey"


class _Nothing:
    """Marks nothing; one for all."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Do nothing."""


_NOTHING = _Nothing()


def _mark_nothing(name: str) -> AbstractContextManager[None]:  # noqa: ARG001 - what takes its place needs it
    return _NOTHING


# Replaced by `switch_on`: profilers know one process, and those who mark need no handle for it.
_mark: Callable[[str], AbstractContextManager[None]] = _mark_nothing


def nvtx_range(name: str) -> AbstractContextManager[None]:
    """Mark a stage while the context is open.

    Args:
        name: The stage, one of few: profilers keep every name.
    """
    return _mark(name)


def switch_on(library: Any = None) -> bool:
    """Mark from now on; tell whether that can be done.

    Args:
        library: The module `nvtx`; None: the one that is installed. Without it nothing is marked, as before.
    """
    global _mark  # noqa: PLW0603 - see there
    if library is None:
        try:
            library = importlib.import_module("nvtx")
        except ImportError as error:
            _log.warning("nothing is marked for profilers: the package nvtx cannot be imported: %s", error)
            return False
    _mark = _Marker(library.get_domain(DOMAIN))
    return True


def switch_off() -> None:
    """Mark no more."""
    global _mark  # noqa: PLW0603 - see there
    _mark = _mark_nothing


class _Marker:
    """Gives a range for each name; the library's attributes of a name are made once."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain
        self._ranges: dict[str, _Range] = {}

    def __call__(self, name: str) -> AbstractContextManager[None]:
        found = self._ranges.get(name)
        if found is None:
            colour = _COLOURS.get(name, _OTHER)
            attributes = self._domain.get_event_attributes(message=name, color=colour)
            # Two threads may both make it: either will do.
            found = self._ranges[name] = _Range(self._domain, attributes)
        return found


class _Range(contextlib.AbstractContextManager[None]):
    """One name's range; holds nothing of who opens it, so that many may at once."""

    __slots__ = ("_attributes", "_domain")

    def __init__(self, domain: Any, attributes: Any) -> None:
        self._domain = domain
        self._attributes = attributes

    def __enter__(self) -> None:
        self._domain.push_range(self._attributes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._domain.pop_range()
