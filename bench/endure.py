"""Half an hour of 16 monitored channels: memory, threads and file handles of the server stay flat.

Scenes of blobs with rules on every channel, an event every few seconds each, evidence and retention at work: the store
and the files reach their limits within the first minutes, so that what is removed keeps pace with what comes. A watcher
and a file of JSON lines follow.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.serving import Server
from bench.setting import keep
from vedette_client import Client, Event, Policy
from vedette_client.sources import open_source

SCENE = "synthetic:blobs?seed={seed}&fps={fps}&width=320&height=180&count=4&gop=20"
CHANNEL = """
[[channels]]
name = "cam-{n:02}"
recording = {{ enabled = {recorded} }}
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
kind = "dwell"
zone = "left"
at_least_s = 1
[[channels.rules]]
name = "over"
kind = "cross"
line = "middle"
"""
LIMITS = ("--store-max-events", "30", "--evidence-max-bytes", str(2 << 20), "--store-retain-interval-s", "5")
LOOK_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "channels.toml").write_text(
            "".join(CHANNEL.format(n=n, recorded=str(n < 4).lower()) for n in range(options.channels)), encoding="utf-8"
        )
        (root / "sinks.toml").write_text(f'[[sinks]]\nname = "log"\nkind = "jsonl"\npath = "{root}/events.jsonl"\n')
        flags = ("--state", str(root / "state"), "--channels", str(root / "channels.toml"), "--engine", "blobs")
        with Server(*flags, "--sinks", str(root / "sinks.toml"), *LIMITS) as server:
            looks, told = asyncio.run(run(server, root, options.channels, options.fps, options.minutes * 60))
    keep("endure", summary(looks, told, options))


async def run(
    server: Server, root: Path, channels: int, fps: float, seconds: float
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Stream, watch, and look at the process every few seconds."""
    process = psutil.Process(server.pid)
    told = {"verdicts": 0, "changes": 0}
    looks: list[dict[str, float]] = []
    async with Client(server.address) as client:
        tasks = [asyncio.create_task(stream(client, n, fps, told)) for n in range(channels)]
        tasks.append(asyncio.create_task(watch(client, told)))
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            await asyncio.sleep(LOOK_S)
            looks.append(await asyncio.to_thread(look, process, root, time.monotonic() - began))
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    raise SystemExit(f"a camera or the watcher failed: {task.exception()}")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return looks, told


async def stream(client: Client, n: int, fps: float, told: dict[str, int]) -> None:
    """Send one camera's scene in real time, without an end."""
    source = open_source(SCENE.format(seed=n + 1, fps=f"{fps:g}"), pace=True)
    async for _ in client.analyze(source, f"cam-{n:02}", engines=["blobs"], policy=Policy.LIVE):
        told["verdicts"] += 1


async def watch(client: Client, told: dict[str, int]) -> None:
    """Count changes of events."""
    async with client.watch() as news:
        async for one in news:
            told["changes"] += isinstance(one, Event)


def look(process: psutil.Process, root: Path, at_s: float) -> dict[str, float]:
    """Note what the server holds."""
    state = root / "state"
    return {
        "at_s": at_s,
        "rss_mib": process.memory_info().rss / 2**20,
        "handles": process.num_fds(),
        "threads": process.num_threads(),
        "cpu_s": sum(process.cpu_times()[:2]),
        "files": sum(1 for _ in (state / "evidence").rglob("*.*")),
        "evidence_mib": sum(_size(path) for path in (state / "evidence").rglob("*.*")) / 2**20,
        "store_mib": sum(_size(path) for path in state.glob("events.db*")) / 2**20,
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def summary(looks: list[dict[str, float]], told: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """Compare the second third with the last: by then all limits were reached."""
    third = len(looks) // 3
    second, last = looks[third : 2 * third], looks[2 * third :]
    figures: dict[str, Any] = {"channels": options.channels, "minutes": options.minutes, "fps": options.fps, **told}
    for key in ("rss_mib", "handles", "threads", "files", "evidence_mib", "store_mib"):
        before, after = (statistics.mean(one[key] for one in part) for part in (second, last))
        figures[key] = {
            "second third": before,
            "last third": after,
            "last / second": after / max(before, 1e-9),
            "least, most": [min(one[key] for one in part) for part in (second, last)]
            + [max(one[key] for one in looks)],
        }
    figures["server, cores"] = (looks[-1]["cpu_s"] - looks[0]["cpu_s"]) / (looks[-1]["at_s"] - looks[0]["at_s"])
    figures["memory over time, MiB"] = [[round(one["at_s"]), round(one["rss_mib"], 1)] for one in looks[::12]]
    return figures


if __name__ == "__main__":
    main()
