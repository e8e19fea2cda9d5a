"""Newer versions of an engine under 16 live channels: what a swap costs, and whether canary shares are exact (3.5)."""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cameras import Cameras, Plan
from bench.serving import Server
from bench.setting import clip, keep, yolox
from vedette_client import Client
from vedette_engines.bundle import load_bundle, write_bundle
from vedette_engines.repository import boxed_root

if TYPE_CHECKING:
    from bench.cameras import Tally
    from vedette_engines.bundle import Bundle

VIDEO = "intel_one-by-one-person-detection.mp4"
NAME = "swapped"
SETTLED_S = 3.0
WAIT_S = 60.0
GOAL = 3.0


def publish(source: Bundle, root: Path, version: str) -> None:
    """Publish an engine under another name and version."""
    manifest = replace(source.manifest, name=NAME, version=version)
    write_bundle(root, manifest, {file.path: source.path_of(file) for file in manifest.files})


def version_at(tally: Tally, moment: float) -> str:
    """Tell which version a channel ran at a moment."""
    return next((version for at, version in reversed(tally.versions) if at <= moment), "")


def swap(server: Server, source: Bundle, root: Path, version: str) -> dict[str, float]:
    """Publish a version while cameras run, wait until it has taken over, and return what was felt of it."""

    def figure(name: str) -> float:
        return server.metrics.get(f'vedette_{name}{{engine="{NAME}"}}', 0.0)

    before = figure("engine_swaps_total")
    publish(source, root, version)
    deadline = time.monotonic() + WAIT_S
    while figure("engine_swaps_total") == before:
        if time.monotonic() > deadline:
            raise SystemExit(f"version {version} did not take over within {WAIT_S:g} s")
        time.sleep(0.2)
    loads = f'vedette_engine_load_seconds{{engine="{NAME}",version="{version}"}}'
    return {
        "batch_s": figure("swap_batch_seconds"),
        "gap_before_s": figure("swap_gap_before_seconds"),
        "gap_s": figure("swap_gap_seconds"),
        "load_s": server.metrics.get(loads, math.nan),
    }


async def steer(address: str, stable: str, trial: str) -> dict[str, float]:
    """Try an older version on 10 and on 20 % of the channels, then go back to it; return when each had settled."""
    moments: dict[str, float] = {}

    async def settle(what: str) -> None:
        await asyncio.sleep(SETTLED_S)
        moments[what] = time.monotonic()

    async with Client(address) as client:
        await client.engines.update_route(NAME, stable=stable)
        await client.engines.update_route(NAME, canary=trial, canary_share=0.1)
        await settle("10 %")
        await client.engines.update_route(NAME, canary_share=0.2)
        await settle("20 %")
        await client.engines.roll_back(NAME, trial)
        await settle("rolled back")
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--engine", choices=("person", "blobs", "yolox-nano"), default="yolox-nano")
    parser.add_argument("--serve", default="", help="further flags of the server")
    options = parser.parse_args()
    folder = yolox() if options.engine == "yolox-nano" else boxed_root()
    source = load_bundle(folder / options.engine / "1")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        publish(source, root, "1")
        flags = ["--engines-dir", name, "--engine", NAME, "--watch-interval-s", "0.5", "--metrics-port", "0"]
        with Server(*flags, *options.serve.split()) as server:
            measure(server, source, root, options)


def measure(server: Server, source: Bundle, root: Path, options: argparse.Namespace) -> None:
    """Run the cameras, swap, steer, and keep the figures."""
    # The cameras go on until everything was done; their schedule is cut off by nothing but its end.
    seconds = 5.0 + options.swaps * 7.0 + 3 * SETTLED_S + 5.0
    plan = Plan(server.address, clip(VIDEO), NAME, options.channels, options.fps, seconds)
    cameras = Cameras(plan)
    cameras.wait_ready()
    time.sleep(5.0)
    versions = [str(number) for number in range(2, options.swaps + 2)]
    swaps = []
    for version in versions:
        swaps.append(swap(server, source, root, version))
        time.sleep(1.0)
    last, before = versions[-1], str(options.swaps)
    moments = asyncio.run(steer(server.address, last, before))
    outcome = cameras.wait()
    tallies = outcome.tallies
    sent = sum(tally.sent for tally in tallies)
    verdicts = sum(tally.analysed + sum(tally.skipped.values()) for tally in tallies)
    on = {
        share: {index for index, tally in enumerate(tallies) if version_at(tally, moments[share]) == before}
        for share in moments
    }
    ratios = [one["gap_s"] / one["batch_s"] for one in swaps]
    wanted = {share: math.floor(part * len(tallies) + 0.5) for share, part in (("10 %", 0.1), ("20 %", 0.2))}
    figures: dict[str, object] = {
        "engine": options.engine,
        "channels": len(tallies),
        "frames per second of each": options.fps,
        "packets sent": sent,
        "verdicts": verdicts,
        "verdicts lost (goal 0)": sent - verdicts,
        "skipped": sum(sum(tally.skipped.values()) for tally in tallies),
        "batch time before, ms": [round(one["batch_s"] * 1e3, 2) for one in swaps],
        "longest gap before, ms": [round(one["gap_before_s"] * 1e3, 2) for one in swaps],
        "longest gap around the swap, ms": [round(one["gap_s"] * 1e3, 2) for one in swaps],
        "gap around / batch time (goal <= 3)": [round(ratio, 2) for ratio in ratios],
        "gap around / gap before": [round(one["gap_s"] / one["gap_before_s"], 2) for one in swaps],
        "swaps within the goal": f"{sum(ratio <= GOAL for ratio in ratios)} of {len(ratios)}",
        "time to load, s": [round(one["load_s"], 3) for one in swaps],
        "channels on the canary at 10 %, wanted": [len(on["10 %"]), wanted["10 %"]],
        "channels on the canary at 20 %, wanted": [len(on["20 %"]), wanted["20 %"]],
        "those of 10 % are among those of 20 %": on["10 %"] <= on["20 %"],
        "channels back on the version before": [len(on["rolled back"]), len(tallies)],
    }
    keep("swap", figures)


if __name__ == "__main__":
    main()
