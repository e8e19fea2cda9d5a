"""An engine's INT8 file against its FP32 one through the whole server: frames per second, in turns (issue 3, point 2).

Both precisions come out of one bundle; the server is told with `--precision` which to run. Each turn starts a server,
sends files on many channels, loses nothing, and ends it; turns alternate, so that a noisy machine hits both alike.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from bench.cameras import Cameras, Plan
from bench.serving import Server
from bench.setting import ENGINES, clip, keep

CLIP = "intel_one-by-one-person-detection.mp4"


def turn(options: argparse.Namespace, precision: str) -> tuple[float, float, int]:
    """Run all channels once: frames per second, CPU milliseconds of the server per frame, detections."""
    flags = ("--engines-dir", str(options.engines), "--engine", options.engine, "--precision", precision)
    with Server(*flags) as server:
        plan = Plan(server.address, clip(CLIP), options.engine, options.channels, packets=options.frames)
        cameras = Cameras(plan)
        cameras.wait_ready()
        before = server.cpu_s
        outcome = cameras.wait()
        used = server.cpu_s - before
    frames = sum(tally.analysed for tally in outcome.tallies)
    skipped = sum(sum(tally.skipped.values()) for tally in outcome.tallies)
    if skipped or not frames:
        raise SystemExit(f"{precision}: {frames} frames analysed, {skipped} skipped; none may be")
    return frames / outcome.wall_s, used / frames * 1e3, sum(tally.boxes for tally in outcome.tallies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=ENGINES / "runners", help="repository of the bundle")
    parser.add_argument("--engine", default="yolox-nano", help="its bundle has an FP32 and an INT8 file")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--frames", type=int, default=100, help="frames per channel and turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    turns = [(turn(options, "fp32"), turn(options, "int8")) for _ in range(options.turns)]
    rates = [int8[0] / fp32[0] for fp32, int8 in turns]
    costs = [int8[1] / fp32[1] for fp32, int8 in turns]
    keep(
        "precision",
        {
            "channels": options.channels,
            "frames a turn": options.channels * options.frames,
            "turns": options.turns,
            "FP32, frames per second, median": statistics.median(fp32[0] for fp32, _ in turns),
            "INT8, frames per second, median": statistics.median(int8[0] for _, int8 in turns),
            "INT8 / FP32, frames per second, median": statistics.median(rates),
            "INT8 / FP32, frames per second, least": min(rates),
            "INT8 / FP32, frames per second, most": max(rates),
            "INT8 / FP32, server CPU per frame, median": statistics.median(costs),
            "FP32, detections": turns[0][0][2],
            "INT8, detections": turns[0][1][2],
        },
    )


if __name__ == "__main__":
    main()
