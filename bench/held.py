"""Channels that two cores hold with the motion gate and without it: a busy clip and a static scene, YOLOX-nano.

The load tester looks for the most live cameras of 15 fps of which at most 1 % of the frames stay unanalysed (or, where
the gate is on, unlooked at) with 95 % answered within half a second; server and tester share the cores. With and
without the gate in turn, on a server of its own each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.gate import static_clip
from bench.serving import Server
from bench.setting import ROOT, clip, keep, yolox

BUSY = "intel_one-by-one-person-detection.mp4"
MOST = 64
COMMAND = "from vedette_client.cli.main import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each step of the search")
    parser.add_argument("--fps", type=float, default=15.0)
    options = parser.parse_args()
    engines = yolox()
    clips = {"busy": clip(BUSY), "static": static_clip(ROOT / "out" / "bench-static.mp4", 60.0)}
    figures: dict[str, Any] = {"criterion": "1 % unanalysed, p95 500 ms", "fps": options.fps}
    for name, path in clips.items():
        held = {}
        for gate in ("off", "motion"):
            held[gate] = search(engines, path, gate, options.fps, options.seconds)
            print(f"{name}, gate {gate}: {held[gate]}", flush=True)
        figures[name] = held | {"ratio": held["motion"]["channels"] / max(held["off"]["channels"], 1)}
    keep("held", figures)


def search(engines: Path, path: Path, gate: str, fps: float, seconds: float) -> dict[str, Any]:
    """Find how many channels a fresh server holds."""
    with tempfile.TemporaryDirectory() as folder:
        channels, told = Path(folder) / "channels.toml", Path(folder) / "search.json"
        entry = '[[channels]]\nname = "load-{n:04}"\ngate = "{gate}"\ntracking = {{ enabled = true }}\n'
        channels.write_text("".join(entry.format(n=n, gate=gate) for n in range(MOST)), encoding="utf-8")
        flags = ("--engines-dir", str(engines), "--engine", "yolox-nano", "--state", str(Path(folder) / "state"))
        with Server(*flags, "--channels", str(channels)) as server:
            command = [
                *(sys.executable, "-c", COMMAND, "loadtest", "--server", server.address),
                *("--source", str(path), "--engine", "yolox-nano", "--fps", str(fps), "--duration", str(seconds)),
                *("--search", "--channels", "2", "--max-channels", str(MOST), "--json", str(told)),
                *("--server-pid", str(server.pid)),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not told.is_file():
                raise SystemExit(f"the load test failed: {done.stdout}{done.stderr}")
        return summary(json.loads(told.read_text(encoding="utf-8")))


def summary(told: dict[str, Any]) -> dict[str, Any]:
    """Take what matters of a search."""
    steps = told["search"]["steps"]
    held = [step for step in steps if not step["misses"]]
    best = max(held, key=lambda step: step["channels"], default=None)
    return {
        "channels": 0 if best is None else best["channels"],
        "skipped": {} if best is None else best["figures"]["counts"]["skipped"],
        "analysed per second": 0.0 if best is None else best["figures"]["counts"]["analysed_fps"],
        "steps": {str(step["channels"]): step["misses"] for step in steps},
    }


if __name__ == "__main__":
    main()
