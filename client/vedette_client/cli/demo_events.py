"""The events of `vedette demo`: rules for its scenes, lines as events come, and one event with its pictures."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from vedette_client.cli.events_lines import event_text
from vedette_client.errors import ClientError
from vedette_client.events_data import Event, EventKind, EventState, EvidenceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from vedette_client.client import Client
    from vedette_client.reach import Reach

_LOOKS_S = 0.3
# The last clip is complete a few seconds after the last camera has ended.
_PATIENCE_S = 15.0
_RULES = """
[[channels]]
name = "{name}"
[channels.zones]
square = [[0.55, 0.25], [0.95, 0.25], [0.95, 1.0], [0.55, 1.0]]
[channels.lines]
kerb = [[0.5, 0.0], [0.5, 1.0]]
[[channels.rules]]
name = "crosses"
kind = "cross"
line = "kerb"
[[channels.rules]]
name = "stays"
kind = "dwell"
zone = "square"
at_least_s = 3
[[channels.rules]]
name = "three"
kind = "occupancy"
at_least = 3
min_time_s = 1
"""


def write_channels(file: Path, names: Sequence[str]) -> None:
    """Write a file of channels for scenes: a line, a zone, three rules each."""
    file.write_text("".join(_RULES.format(name=name) for name in names), encoding="utf-8")


class EventShow:
    """Shows events while cameras run.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.events: dict[str, Event] = {}

    @contextlib.asynccontextmanager
    async def watching(self, where: Reach) -> AsyncIterator[None]:
        """Show events until the block ends, and what is still to come of them then for a few seconds more."""
        async with where.client() as client:
            looking = asyncio.create_task(self._look(client))
            try:
                yield
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._complete(), _PATIENCE_S)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def keep_one(self, where: Reach, out: Path) -> None:
        """Fetch the clip and the annotated picture of one event, have the chain checked, and say so."""
        kinds = Counter(event.kind for event in self.events.values())
        said = ", ".join(f"{count} {kind.word.replace('_', ' ')}" for kind, count in kinds.most_common())
        self._console.print(f"events: {said or 'none'}", soft_wrap=True, highlight=False)
        ready = [one for one in self.events.values() if one.clip.state is EvidenceState.READY]
        if not ready:
            return
        best = max(ready, key=lambda one: (one.kind is EventKind.CROSS, one.peak_score or 0.0))
        async with where.client() as client:
            try:
                (out / "event.jpg").write_bytes(await client.events.snapshot(best, annotated=True))
                await client.events.clip(best, out / "event.mp4")
                checked = await client.events.verify(files=True)
            except ClientError as error:
                self._console.print(f"an event's pictures could not be fetched: {error}", soft_wrap=True)
                return
        self._console.print(
            f"one of them, {best.detail}: picture {out / 'event.jpg'}, clip {out / 'event.mp4'}", soft_wrap=True
        )
        faults = f"{len(checked.findings)} do not fit" if checked.findings else "all fit"
        self._console.print(
            f"chain of events: {checked.records} records and {checked.files} files checked, {faults}", soft_wrap=True
        )

    async def _look(self, client: Client) -> None:
        async with client.watch(offset="earliest") as watch:
            async for news in watch:
                if isinstance(news, Event):
                    self._take(news)

    def _take(self, event: Event) -> None:
        before = self.events.get(event.name)
        self.events[event.name] = event
        # What came in between is for who wants to know all: `vedette watch`.
        if before is None or before.state is not event.state:
            self._console.print(event_text(event), soft_wrap=True)

    async def _complete(self) -> None:
        while not all(map(_is_complete, self.events.values())):
            await asyncio.sleep(_LOOKS_S)


def _is_complete(event: Event) -> bool:
    return event.state is EventState.ENDED and EvidenceState.PENDING not in (event.clip.state, event.snapshot.state)
