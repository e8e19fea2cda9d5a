"""The blocking twin of `vedette_client.events`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vedette_client.calls import PIECE_TIMEOUT_S
from vedette_client.errors import StreamClosedError
from vedette_client.events import VERIFY_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from vedette_client.events import Events as AsyncEvents
    from vedette_client.events_chain import ChainHead, Verification
    from vedette_client.events_data import Event, EventFilter
    from vedette_client.events_files import ClipInfo
    from vedette_client.sync_engines import Call


class Events:
    """The events of one server; see `vedette_client.events.Events` for all of it."""

    def __init__(self, events: AsyncEvents, call: Call) -> None:
        self._events = events
        self._call = call

    def find(self, channel: str | None = None, wanted: EventFilter | None = None) -> Iterator[Event]:
        """Iterate over events, the newest first, page by page."""
        found = self._events.find(channel, wanted)
        try:
            while (event := self._call(_next(found))) is not None:
                yield event
        finally:
            with contextlib.suppress(StreamClosedError):  # the client was closed meanwhile
                self._call(_close(found))

    def list(self, channel: str | None = None, wanted: EventFilter | None = None, *, limit: int = 1000) -> list[Event]:
        """List events, the newest first."""
        return self._call(self._events.list(channel, wanted, limit=limit))

    def get(self, event: Event | str) -> Event:
        """Get one event as it stands, with its trail."""
        return self._call(self._events.get(event))

    def acknowledge(self, event: Event | str, *, note: str = "", user: str = "") -> Event:
        """Take note that somebody has seen an event."""
        return self._call(self._events.acknowledge(event, note=note, user=user))

    def snapshot(self, event: Event | str, *, annotated: bool = False) -> bytes:
        """Fetch the picture of an event, a JPEG."""
        return self._call(self._events.snapshot(event, annotated=annotated))

    def clip(
        self,
        event: Event | str,
        path: Path | str,
        *,
        playable: bool = False,
        wait_s: float = 0.0,
        timeout_s: float = PIECE_TIMEOUT_S,
    ) -> ClipInfo:
        """Fetch the clip of an event into a file."""
        return self._call(self._events.clip(event, path, playable=playable, wait_s=wait_s, timeout_s=timeout_s))

    def chain_head(self) -> ChainHead:
        """Get the signed head of the chain of events."""
        return self._call(self._events.chain_head())

    def verify(
        self,
        head: ChainHead | None = None,
        *,
        files: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        timeout_s: float = VERIFY_TIMEOUT_S,
    ) -> Verification:
        """Have the server check its chain of events; `on_progress` is called on the client's own thread."""
        return self._call(self._events.verify(head, files=files, on_progress=on_progress, timeout_s=timeout_s))


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)


async def _close(events: AsyncGenerator[Event, None]) -> None:
    await events.aclose()
