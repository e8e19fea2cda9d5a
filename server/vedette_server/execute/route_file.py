"""Keep routes in a file, so that they survive a restart.

Written beside its place and renamed, so that a reader sees the old state or the new one. A file that cannot be
read or written costs the persistence, not the server.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from vedette_server.data.engine import Route

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

STATE_VERSION = 1


class RouteFile:
    """Routes by engine, with the channels that each holds for and the versions that were withdrawn.

    Args:
        path: The file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._failed = ""

    def read(self) -> dict[str, tuple[Route, dict[str, float], set[str]]]:
        """Read what was kept: by engine the route, when each channel was seen last, and what was withdrawn."""
        if self.path is None or not self.path.exists():
            return {}
        try:
            return _entries(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("routes cannot be read, all begin anew: %s: %s", self.path, error)
            return {}

    def write(self, state: Mapping[str, tuple[Route, Mapping[str, float], set[str]]]) -> bool:
        """Keep the state; return whether it could be kept."""
        if self.path is None:
            return False
        kept = {
            name: {"route": asdict(route), "channels": dict(channels), "withdrawn": sorted(withdrawn)}
            for name, (route, channels, withdrawn) in state.items()
        }
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as stream:
                json.dump({"version": STATE_VERSION, "engines": kept}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            if self._failed != str(error):
                self._failed = str(error)
                _log.warning("routes are not kept, a restart forgets them: %s", error)
            return False
        self._failed = ""
        return True


def _entries(state: dict[str, Any]) -> dict[str, tuple[Route, dict[str, float], set[str]]]:
    if state["version"] != STATE_VERSION:
        raise ValueError(f"version is {state['version']}; this server knows {STATE_VERSION}")
    return {name: _entry(name, kept) for name, kept in state["engines"].items()}


def _entry(name: str, kept: dict[str, Any]) -> tuple[Route, dict[str, float], set[str]]:
    known = {field.name for field in fields(Route)}
    values = {key: value for key, value in kept["route"].items() if key in known}
    values |= {"name": name, "previous": tuple(str(version) for version in values.get("previous", ()))}
    channels = {str(channel): float(seen_s) for channel, seen_s in kept["channels"].items()}
    return Route(**values), channels, {str(version) for version in kept["withdrawn"]}
