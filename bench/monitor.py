"""Events of enter, leave, cross and dwell on walkers with a truth by algebra: precision, recall, IDF1, HOTA (issue 5).

The truth, what it leaves out, and by which margins, stand in `tests/support_walkers_truth.py`; how events are held
against it in `tests/support_walkers_judged.py`. Fed are the truth's own boxes, of squares and of people, and what the
engine `blobs` finds in painted squares that went through H.264 at 640x360. All of the tracker and of the rules is as
it is by default. TrackEval gives IDF1 and HOTA, where it is: see `bench/tracking.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.monitor_blobs import detect, paint, through_h264
from bench.setting import ROOT, keep
from bench.tracking import quality

sys.path.insert(0, str(ROOT / "tests"))
from support_walkers import evenly, skipped
from support_walkers_judged import AWAY, KINDS, LATE_S, Verdict, Watcher, verdict_on, watch_of
from support_walkers_truth import AFTER_S, DWELL_S, LENGTH_S, NEAR, Stage, stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support_walkers import Sample
    from vedette_server.post.detections import Detections

FPS = 15.0
LENGTH = LENGTH_S + AFTER_S
SAMPLINGS = ("15 fps", "15 fps, 20 % skipped", "5 fps")
GOALS = {
    ("truth", "15 fps"): 0.98,
    ("truth", "15 fps, 20 % skipped"): 0.98,
    ("blobs", "15 fps"): 0.95,
    ("blobs", "15 fps, 20 % skipped"): 0.90,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--wrong", action="store_true", help="print what was missed, and what was told of nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, Any] = {"seeds": [*seeds], "how": HOW, "TrackEval": _trackeval()}
    stages = {cast: {seed: stage(seed, cast) for seed in seeds} for cast in ("squares", "people")}
    began = time.perf_counter()
    seen = {seed: _blobs(scene) for seed, scene in stages["squares"].items()}
    print(f"  painted and detected in {time.perf_counter() - began:.0f} s", flush=True)
    for name, cast, detections in (
        ("truth", "squares", None),
        ("truth", "people", None),
        ("blobs", "squares", seen),
    ):
        for sampling in SAMPLINGS:
            judged = {
                seed: _judge(scene, sampling, None if detections is None else detections[seed])
                for seed, scene in stages[cast].items()
            }
            told = _summary(judged, GOALS.get((name, sampling)))
            what = "the truth's own boxes" if name == "truth" else "blobs"
            figures[f"{what}, {cast}, {sampling}"] = told
            if options.wrong:
                _say_wrong(f"{name} {cast} {sampling}", judged)
    keep("monitor", figures)


HOW = (
    f"{LENGTH_S:g} s with 18 walkers per seed. An event is right where kind, place and direction are, where it began "
    f"within {LATE_S:g} s of when it may be told to have happened, and {AWAY:g} picture widths at most from where the "
    f"walker was. A dwell is {DWELL_S:g} s. Nobody halts, appears or vanishes nearer to an edge than {NEAR:g} widths."
)


def _trackeval() -> str:
    try:
        return importlib.metadata.version("trackeval")
    except importlib.metadata.PackageNotFoundError:
        return "not here: IDF1 and HOTA are left out; see the top of bench/tracking.py"


def _times(scene: Stage, sampling: str) -> list[int]:
    """Choose frames of those at 15 per second."""
    every = evenly(FPS, LENGTH)
    if sampling == "5 fps":
        return [*range(0, len(every), 3)]
    if sampling == "15 fps":
        return [*range(len(every))]
    kept = set(skipped(FPS, 0.2, scene.seed, LENGTH))
    return [index for index, time_s in enumerate(every) if time_s in kept]


Found = tuple["list[Detections]", tuple[str, ...]]


def _blobs(scene: Stage) -> Found:
    return detect(through_h264(paint(scene, evenly(FPS, LENGTH)), FPS))


def _judge(scene: Stage, sampling: str, found: Found | None) -> tuple[Verdict, dict[str, float]]:
    """Let the tracker and the judge watch a scene: what was told, and how well it was tracked."""
    rows, every = _times(scene, sampling), evenly(FPS, LENGTH)
    labels = scene.labels if found is None else found[1]
    detected: Sequence[Detections] | None = None if found is None else [found[0][row] for row in rows]
    samples: list[Sample] = list(scene.samples([every[row] for row in rows], detected))
    watcher = Watcher(labels, watch_of(scene))
    identities = [watcher.follow(sample) for sample in samples]
    tracked: dict[str, float] = {}
    if not _trackeval().startswith("not"):
        given = iter(identities)
        tracked = quality(lambda _detections, _time_s: next(given), samples)
    return verdict_on(scene, watcher.all_events()), tracked


def _summary(judged: dict[int, tuple[Verdict, dict[str, float]]], goal: float | None) -> dict[str, Any]:
    sums: dict[str, Counter[str]] = {"hits": Counter(), "missed": Counter(), "false": Counter()}
    for verdict, _ in judged.values():
        for name, counts in verdict.counts().items():
            sums[name] += counts
    told: dict[str, Any] = {}
    least = 1.0
    for kind in KINDS:
        hits, missed, false = (sums[name][kind] for name in ("hits", "missed", "false"))
        precision, recall = hits / max(hits + false, 1), hits / max(hits + missed, 1)
        least = min(least, precision, recall)
        told[kind] = {"happened": hits + missed, "precision": round(precision, 4), "recall": round(recall, 4)}
    if goal is not None:
        told |= {"goal": goal, "goal is met": least >= goal}
    crossings = {seed: _crossings(verdict) for seed, (verdict, _) in judged.items()}
    told["crossings per seed: happened, told, told of nothing"] = crossings
    told["seeds whose crossings are exact"] = sum(
        happened == told_of and not false for happened, told_of, false in crossings.values()
    )
    tracked = [one for _, one in judged.values() if one]
    return told | {
        key: round(statistics.mean(one[key] for one in tracked), 4) for key in (tracked[0] if tracked else {})
    }


def _crossings(verdict: Verdict) -> tuple[int, int, int]:
    counts = verdict.counts()
    hits, missed, false = (counts[name]["cross"] for name in ("hits", "missed", "false"))
    return hits + missed, hits + false, false


def _say_wrong(name: str, judged: dict[int, tuple[Verdict, dict[str, float]]]) -> None:
    for seed, (verdict, _) in judged.items():
        for one in verdict.missed:
            print(f"  {name}, seed {seed}, missed: {one}")
        for event in verdict.false:
            print(f"  {name}, seed {seed}, of nothing: {event.kind} {event.place} {event.label} at {event.start_s:.2f}")


if __name__ == "__main__":
    main()
