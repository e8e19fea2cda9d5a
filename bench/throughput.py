"""Many files at once, nothing skipped: frames per second against the bare stages (goal 2)."""

from __future__ import annotations

import argparse
from collections import Counter

from bench.cameras import Cameras, Plan
from bench.serving import Server
from bench.setting import clip, keep, yolox
from bench.stages import measure

CLIP = "intel_one-by-one-person-detection.mp4"
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--frames", type=int, default=150, help="frames per channel")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement of the bare stages")
    parser.add_argument("--serve", default="", help="further flags of the server")
    options = parser.parse_args()
    engines, path = yolox(), clip(CLIP)
    with Server("--engines-dir", str(engines), "--engine", "yolox-nano", *options.serve.split()) as server:
        cameras = Cameras(Plan(server.address, path, "yolox-nano", options.channels, packets=options.frames))
        cameras.wait_ready()
        before = server.cpu_s
        outcome = cameras.wait()
        server_cpu = server.cpu_s - before
    sizes: Counter[int] = sum((tally.batches for tally in outcome.tallies), Counter())
    batch = sizes.most_common(1)[0][0]
    costs = measure(path, engines, "yolox-nano", batch, CORES, options.seconds)
    frames = sum(tally.analysed for tally in outcome.tallies)
    rate = frames / outcome.wall_s
    tester = outcome.cpu_s / outcome.wall_s
    limit = (CORES - tester) / costs.total
    keep(
        "throughput",
        {
            "channels": options.channels,
            "frames analysed": frames,
            "frames skipped": sum(sum(tally.skipped.values()) for tally in outcome.tallies),
            "batch sizes": dict(sizes),
            "frames per second": rate,
            "tester, cores": tester,
            "bare decode, ms": costs.decode * 1e3,
            "bare letterbox, ms": costs.letterbox * 1e3,
            "bare run, ms": costs.run * 1e3,
            "bare NMS, ms": costs.nms * 1e3,
            "bare sum, CPU ms per frame": costs.total * 1e3,
            "server, CPU ms per frame": server_cpu / frames * 1e3,
            "limit, frames per second": limit,
            "ratio to the limit (goal >= 0.85)": rate / limit,
            "server CPU / bare sum (goal <= 1.15)": server_cpu / frames / costs.total,
        },
    )


if __name__ == "__main__":
    main()
