"""Live cameras with and without a trace, in turns: frames per second, CPU, size per frame; the trace is looked over.

The engine is one of near-zero cost and the cameras send more than the box holds, so that the trace has as many frames
to tell of as there can be, and whatever it takes is missing elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.cameras import Cameras, Outcome, Plan
from bench.serving import Server
from bench.setting import ROOT, clip, keep, yolox
from bench.timeline import draw

CLIP = "intel_one-by-one-person-detection.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--fps", type=float, default=40.0, help="of each camera")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=6, help="each two turns, with and without a trace")
    parser.add_argument("--engine", default="blobs", help="or yolox-nano, person")
    parser.add_argument("--gz", action="store_true", help="compress the trace")
    parser.add_argument("--picture", type=Path, help="draw half a second of the trace")
    parser.add_argument("--keep-trace", type=Path, help="copy the trace to here")
    options = parser.parse_args()
    flags = ["--engine", options.engine, "--lanes", "2", "--max-batch", "4"]
    if options.engine == "yolox-nano":
        flags += ["--engines-dir", str(yolox())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("trace.json.gz" if options.gz else "trace.json")
        with Server(*flags) as bare, Server(*flags, "--trace", str(path)) as traced:
            rounds = []
            for number in range(options.rounds):
                # Who comes first takes turns, too: a machine that slows down favours nobody.
                turns = [(bare, False), (traced, True)] if number % 2 == 0 else [(traced, True), (bare, False)]
                rounds.append({kind: _turn(server, options) for server, kind in turns})
        figures = _figures(rounds) | _look_over(path, [found[True][0] for found in rounds])
        if options.picture:
            from vedette_server.tracing.reading import read

            trace = read(path)
            first_s = min(one.whole.start for one in trace.frames) / 1e6
            draw(trace, first_s + options.seconds / 2, 0.5, options.picture)
        if options.keep_trace:
            options.keep_trace.write_bytes(path.read_bytes())
    keep("trace-gz" if options.gz else "trace", {"engine": options.engine, "channels": options.channels} | figures)


def _turn(server: Server, options: argparse.Namespace) -> tuple[Outcome, float]:
    """Return what the cameras saw, and the server's CPU seconds."""
    plan = Plan(server.address, clip(CLIP), options.engine, options.channels, options.fps, options.seconds)
    cameras = Cameras(plan)
    cameras.wait_ready()
    before = server.cpu_s
    outcome = cameras.wait()
    return outcome, server.cpu_s - before


def _analysed(outcome: Outcome) -> int:
    return sum(tally.analysed for tally in outcome.tallies)


def _judged(outcome: Outcome) -> int:
    return sum(tally.analysed + sum(tally.skipped.values()) for tally in outcome.tallies)


def _figures(rounds: list[dict[bool, tuple[Outcome, float]]]) -> dict[str, Any]:
    rates = [{kind: _analysed(outcome) / outcome.wall_s for kind, (outcome, _) in found.items()} for found in rounds]
    # Of every packet: under overload all are decoded, and what share of them is analysed differs from turn to turn.
    costs = [{kind: cpu_s / _judged(outcome) for kind, (outcome, cpu_s) in found.items()} for found in rounds]
    ratios = [rate[True] / rate[False] for rate in rates]
    return {
        "frames per second without": statistics.median(rate[False] for rate in rates),
        "frames per second with": statistics.median(rate[True] for rate in rates),
        "ratio of frames per second, median (goal >= 0.95)": statistics.median(ratios),
        "ratio, all rounds": [round(ratio, 3) for ratio in ratios],
        "server, CPU ms per packet without": statistics.median(cost[False] for cost in costs) * 1e3,
        "server, CPU ms per packet with": statistics.median(cost[True] for cost in costs) * 1e3,
        "ratio of CPU per packet, median": statistics.median(cost[True] / cost[False] for cost in costs),
        "ratio of CPU per packet, all rounds": [round(cost[True] / cost[False], 3) for cost in costs],
    }


def _look_over(path: Path, outcomes: list[Outcome]) -> dict[str, Any]:
    """Read the trace, and hold it against what the cameras were told."""
    from vedette_server.tracing.reading import faults, read

    trace = read(path)
    passed = list(trace.frames)
    analysed = [one for one in passed if one.outcome == "ANALYSED"]
    told = [tally for outcome in outcomes for tally in outcome.tallies]
    ran_s = sum(sum(tally.execute_s) for tally in told)
    wrong = faults(trace)
    drops = [args["in all"] for _, name, _, args in trace.instants if name == "records dropped"]
    return {
        "trace": str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name,
        "complete": trace.complete,
        "faults": wrong[:5] or 0,
        "records dropped": drops[-1] if drops else 0,
        "packets in the trace": len(passed),
        "packets judged": sum(_judged(outcome) for outcome in outcomes),
        "analysed in the trace": len(analysed),
        "analysed, as the cameras were told": sum(tally.analysed for tally in told),
        "time in the engine, trace / verdicts": sum(one.stages["execute"] for one in analysed) / 1e6 / ran_s,
        "bytes per packet": path.stat().st_size / len(passed),
        "bytes per analysed frame": path.stat().st_size / len(analysed),
    }


if __name__ == "__main__":
    main()
