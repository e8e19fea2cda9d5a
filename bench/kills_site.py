"""A monitoring server that is started to be killed, who watches it, and what they agree on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_client import Client, ClientError, Event, Gap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bench.kills_store import Kept

CAMERAS = ("gate", "yard", "dock")
SCENE = "synthetic:blobs?seed={seed}&fps=20&seconds={seconds:.2f}&width=320&height=180&count=5&gop=10"
ZONES = """
[channels.zones]
left = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
middle = [[0.3, 0.2], [0.7, 0.2], [0.7, 0.8], [0.3, 0.8]]"""
LINE = "[channels.lines]\nacross = [[0.5, 0], [0.5, 1]]"
RULES = (
    {"name": "in", "kind": "enter", "zone": "left"},
    {"name": "out", "kind": "leave", "zone": "left"},
    {"name": "stay", "kind": "inside", "zone": "middle"},
    {"name": "over", "kind": "cross", "line": "across"},
    {"name": "loiter", "kind": "dwell", "zone": "left", "at_least_s": 0.5},
    {"name": "many", "kind": "occupancy", "zone": "middle", "at_least": 2},
)
QUICK = (
    *("--engine", "blobs", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0", "--resume-window-s", "1"),
    *("--evidence-pre-s", "0.4", "--evidence-post-s", "0.2"),
)
START_S = 120.0


class Killed:
    """A server on a state folder, started to be killed.

    Args:
        state: The folder.
        channels: The file of channels.
        log: Its output is added here.
    """

    def __init__(self, state: Path, channels: Path, log: Path) -> None:
        flags = ("--port", "0", "--metrics-port", "off", "--state", str(state), "--channels", str(channels), *QUICK)
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            command = [sys.executable, "-m", "vedette_server", *flags]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        """What it has printed."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode()

    async def serving(self) -> str:
        """Wait until it serves, and return its address."""
        await until(lambda: "serving on" in self.output or self.process.poll() is not None, START_S, 0.02)
        for line in self.output.splitlines():
            if "serving on" in line:
                return line.rpartition(" ")[2]
        raise SystemExit(f"the server did not start: {self.output}")

    async def opening(self) -> None:
        """Wait until it has opened the database."""
        held = Path(f"/proc/{self.process.pid}/fd")

        def opened() -> bool:
            with contextlib.suppress(OSError):
                return any("events.db" in str(one.readlink()) for one in held.iterdir())
            return False

        await until(opened, START_S, 0.001)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class Watcher:
    """Watches all channels over all restarts, each time from where it stood.

    Attributes:
        seen: Every change that it was shown.
        gaps: What it was told is missing.
        offset: Where it stands.
        told: Set when it is shown a change.
    """

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.gaps: list[Gap] = []
        self.offset = "earliest"
        self.told = asyncio.Event()

    async def look(self, address: str) -> None:
        """Watch until the server is gone."""
        async with Client(address) as client, client.watch(offset=self.offset) as watch:
            with contextlib.suppress(ClientError):
                async for news in watch:
                    self.offset = watch.offset
                    if isinstance(news, Gap):
                        self.gaps.append(news)
                    elif isinstance(news, Event):
                        self.seen.append(news)
                        self.told.set()


def site() -> str:
    """Write the file of channels."""
    parts = []
    for name in CAMERAS:
        rules = [
            "[[channels.rules]]\n" + "\n".join(f"{key} = {value!r}" for key, value in rule.items()) for rule in RULES
        ]
        parts += [f'[[channels]]\nname = "{name}"', ZONES, LINE, *rules]
    return "\n".join(parts) + "\n"


def different(event: Event, kept: Kept) -> list[str]:
    """Compare a change that was shown with the record of its number."""
    if not 0 < event.record <= len(kept.rows):
        return [f"{event.name} was shown at record {event.record}; there are {len(kept.rows)}"]
    content = kept.rows[event.record - 1].content
    shown = (event.snapshot, event.annotated_snapshot, event.clip)
    theirs = [content[piece] for piece in ("snapshot", "annotated", "clip")]
    same = (
        all(getattr(event, name) == content[name] for name in ("event_id", "channel", "rule", "label"))
        and (event.kind.word, event.state.word) == (content["kind"], content["state"])
        and list(event.track_ids) == content["track_ids"]
        and abs(event.start_time_ns / 1e9 - content["start_s"]) < 1e-5
        and (event.end_time_ns is None) == (content["end_s"] is None)
        and [(one.state.word, one.sha256, one.size_bytes) for one in shown]
        == [(one["state"], one["sha256"], one["size_bytes"]) for one in theirs]
    )
    return [] if same else [f"{event.name} was shown otherwise than record {event.record} has it"]


def kind_of(piece: dict[str, Any]) -> str:
    return str(piece["media_type"]).partition("/")[0] or "none"


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return 0, 0


async def until(holds: Callable[[], bool], limit_s: float, pause_s: float) -> None:
    """Wait until something holds, or for so long."""
    end_s = time.monotonic() + limit_s
    while not holds() and time.monotonic() < end_s:
        await asyncio.sleep(pause_s)


async def whole_watch(client: Client, length: int) -> AsyncIterator[Event]:
    """Give every change up to a record's number."""
    async with asyncio.timeout(120), client.watch(offset="earliest") as watch:
        async for news in watch:
            if isinstance(news, Event):
                yield news
                if news.record >= length:
                    return
