"""Several times more live cameras than the box holds: age, fairness and use of what is there (goal 3)."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter

from bench.cameras import Cameras, Outcome, Plan
from bench.serving import Server
from bench.setting import clip, keep, yolox
from bench.stages import Costs, measure

VIDEO = "intel_one-by-one-person-detection.mp4"
STILLS = "intel_store-aisle_mjpeg.avi"
CORES = 2
MAX_WAIT_S = 0.005


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--stills", action="store_true", help="JPEG stills of 480x270 instead of H.264 of 768x432")
    parser.add_argument("--bare-seconds", type=float, default=15.0)
    parser.add_argument("--serve", default="", help="further flags of the server")
    options = parser.parse_args()
    engines, path = yolox(), clip(STILLS if options.stills else VIDEO)
    flags = ["--engines-dir", str(engines), "--engine", "yolox-nano", "--max-wait-ms", str(MAX_WAIT_S * 1e3)]
    with Server(*flags, *options.serve.split()) as server:
        plan = Plan(server.address, path, "yolox-nano", options.channels, options.fps, options.seconds)
        cameras = Cameras(plan)
        cameras.wait_ready()
        before, rss_before = server.cpu_s, server.rss_mib
        outcome = cameras.wait()
        server_cpu, rss_after = server.cpu_s - before, server.rss_mib
    sizes: Counter[int] = sum((tally.batches for tally in outcome.tallies), Counter())
    costs = measure(path, engines, "yolox-nano", sizes.most_common(1)[0][0], CORES, options.bare_seconds)
    figures = summary(outcome, costs, options.seconds)
    figures["server, cores"] = server_cpu / outcome.wall_s
    figures["server memory at the start, MiB"] = rss_before
    figures["server memory at the end, MiB"] = rss_after
    keep("live-stills" if options.stills else "live", figures)


def summary(outcome: Outcome, costs: Costs, seconds: float) -> dict[str, object]:
    """Put the figures of the goal together."""
    tallies = outcome.tallies
    ages = [age for tally in tallies for _, age in tally.ages]
    early = [age for tally in tallies for at, age in tally.ages if at < seconds / 2]
    late = [age for tally in tallies for at, age in tally.ages if at >= seconds / 2]
    batch_s = statistics.median(value for tally in tallies for value in tally.execute_s)
    sent = sum(tally.sent for tally in tallies)
    analysed = sum(tally.analysed for tally in tallies)
    skipped: Counter[str] = sum((tally.skipped for tally in tallies), Counter())
    served = [tally.analysed for tally in tallies]
    tester = outcome.cpu_s / outcome.wall_s
    decoding = costs.decode * sent / seconds
    limit = (CORES - tester - decoding) / (costs.total - costs.decode)
    p95 = percentile(ages, 0.95)
    return {
        "channels": len(tallies),
        "packets sent": sent,
        "analysed": analysed,
        "skipped": dict(skipped),
        "dropped by the cameras themselves": sum(tally.dropped for tally in tallies),
        "accounts close": sent == analysed + sum(skipped.values()),
        "age p50, s": percentile(ages, 0.5),
        "age p95, s": p95,
        "age p95 allowed: max_wait + 3 batch times, s": MAX_WAIT_S + 3 * batch_s,
        "median batch time, s": batch_s,
        "age p95 of the first half, s": percentile(early, 0.95),
        "age p95 of the second half, s": percentile(late, 0.95),
        "most served / least served (goal <= 1.2)": max(served) / max(min(served), 1),
        "analysed per second": analysed / seconds,
        "bare decode, ms": costs.decode * 1e3,
        "bare conversion + run + NMS, ms": (costs.total - costs.decode) * 1e3,
        "bare loop, frames per second": costs.frames_per_second,
        "tester, cores": tester,
        "tester behind its schedule at most, s": max(tally.late_s for tally in tallies),
        "limit, analysed per second": limit,
        "ratio to the limit (goal >= 0.8)": analysed / seconds / limit,
    }


if __name__ == "__main__":
    main()
