"""The blocking twin of `vedette_client.sinks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_client.sinks import REPLAY_TIMEOUT_S

if TYPE_CHECKING:
    from vedette_client.sinks import Replayed, Sink
    from vedette_client.sinks import Sinks as AsyncSinks
    from vedette_client.sync_engines import Call


class Sinks:
    """The sinks of one server; see `vedette_client.sinks.Sinks` for all of it."""

    def __init__(self, sinks: AsyncSinks, call: Call) -> None:
        self._sinks = sinks
        self._call = call

    def list(self) -> list[Sink]:
        """List the sinks, by name."""
        return self._call(self._sinks.list())

    def replay(self, name: str, *, timeout_s: float = REPLAY_TIMEOUT_S) -> Replayed:
        """Put a sink's dead letters through again, and wait until that is done."""
        return self._call(self._sinks.replay(name, timeout_s=timeout_s))
