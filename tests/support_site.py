"""A server that monitors a channel, and what its tests do with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support_serving import ServerProcess
from vedette_client import Client, Event, EventState, EvidenceState, Policy
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vedette_client import Verdict

SCENE = "synthetic:blobs?seed=1&fps=15&seconds={seconds}&width=320&height=180&count=4&gop=15"
SITE = """
[[channels]]
name = "yard"
[channels.zones]
left = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
[channels.lines]
middle = [[0.5, 0.0], [0.5, 1.0]]
[[channels.rules]]
name = "in"
kind = "enter"
zone = "left"
[[channels.rules]]
name = "stay"
kind = "inside"
zone = "left"
[[channels.rules]]
name = "over"
kind = "cross"
line = "middle"
"""
QUICK = (
    *("--engine", "blobs", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0"),
    *("--heartbeat-interval-s", "0.4", "--resume-window-s", "1.5"),
)


def site(folder: Path, text: str = SITE, *flags: str) -> ServerProcess:
    """Start a server that keeps its state in a folder."""
    file = folder / "channels.toml"
    file.write_text(text, encoding="utf-8")
    return ServerProcess("--state", str(folder / "state"), "--channels", str(file), *QUICK, *flags)


async def stream(
    address: str,
    channel: str = "yard",
    seconds: float = 6.0,
    *,
    pace: bool = False,
    policy: Policy = Policy.EVERY_FRAME,
) -> list[Verdict]:
    """Send a scene of blobs that cross the picture."""
    source = open_source(SCENE.format(seconds=seconds), pace=pace)
    async with Client(address) as client:
        return [one async for one in client.analyze(source, channel, engines=["blobs"], policy=policy)]


async def until(
    wanted: Callable[[Mapping[str, Event]], bool], client: Client, timeout_s: float = 30.0
) -> dict[str, Event]:
    """Watch from the earliest event on until the events are as wanted."""
    events: dict[str, Event] = {}

    async def look() -> None:
        async with client.watch(offset="earliest") as watch:
            async for news in watch:
                assert isinstance(news, Event)
                known = events.get(news.name)
                assert known is None or known.record < news.record, "each change once, in order"
                events[news.name] = news
                if wanted(events):
                    return

    await asyncio.wait_for(look(), timeout_s)
    return events


def complete(event: Event) -> bool:
    """Tell whether an event and its evidence have come to an end."""
    pieces = (event.snapshot, event.annotated_snapshot, event.clip)
    return event.state is EventState.ENDED and all(one.state is not EvidenceState.PENDING for one in pieces)


def all_complete(count: int) -> Callable[[Mapping[str, Event]], bool]:
    """Tell whether so many events, or more, are there, and all of them complete."""
    return lambda events: len(events) >= count and all(map(complete, events.values()))
