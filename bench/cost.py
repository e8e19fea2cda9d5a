"""What monitoring costs: tracking and rules per frame against bare stages, the store's events per second against fsync.

All is measured in turns in the same run, so that the ratios hold where the machine is not quiet; times are medians, of
one thread. Rules are those of `bench monitor`: enter, leave and dwell of three zones, crossings of two lines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from bench.setting import ASSETS, ROOT, keep, yolox
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.opening import open_engine
from vedette_server.data.event import Event, EventKind, EventState, TrailPoint
from vedette_server.monitor.base import Scene
from vedette_server.monitor.judge import RuleJudge
from vedette_server.monitor.tracking import ChannelTracker
from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.letterbox import Letterbox
from vedette_server.store.store import EventStore
from vedette_server.store.writer import EventWriter

sys.path.insert(0, str(ROOT / "tests"))
from support_walkers import ASPECT, LABELS, Faults, Walk, Walker, evenly
from support_walkers_judged import watch_of
from support_walkers_truth import stage

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 20.0
FSYNCS, GROUPED = 200, 4000
_PAGE = b"x" * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="on the disk that the store is to be on")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    figures: dict[str, Any] = {}
    for count in (0, 1, 10, 50):
        figures[f"{count} objects"] = frame_cost(count)
    options.folder.mkdir(parents=True, exist_ok=True)
    figures["store"] = store_rate(options.folder)
    keep("cost", figures)


def frame_cost(count: int) -> dict[str, Any]:
    """Follow and judge so many objects, most of them on their way: microseconds per frame, and what they are to."""
    watch = watch_of(stage(0, walkers=0, meetings=0))
    tracker, judge = ChannelTracker(prefix="cost"), RuleJudge("cost", watch)
    stages = {"letterbox of 640x360 to 416x416": _letterbox()} | _engine()
    spent: dict[str, list[float]] = {name: [] for name in ("tracking", "rules", *stages)}
    events = seen = 0
    for sequence, sample in enumerate(_crowd(count).sample(evenly(15, SECONDS)), 1):
        began = time.perf_counter()
        tracked = tracker.update(sample.detections, LABELS, sample.time_s, ASPECT)
        between = time.perf_counter()
        scene = Scene(sample.time_s, "cost", sequence, ASPECT, tracked.tracks, tracked.ended, "cost@1")
        events += len(judge.step(scene).events)
        spent["rules"].append(time.perf_counter() - between)
        spent["tracking"].append(between - began)
        seen += len(tracked.tracks)
        for name, run in stages.items():
            began = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - began)
    us = {name: statistics.median(times[15:]) * 1e6 for name, times in spent.items()}
    both = us["tracking"] + us["rules"]
    told: dict[str, Any] = {f"us, {name}": round(value, 1) for name, value in us.items()}
    told |= {"us, tracking and rules": round(both, 1), "tracks, mean": round(seen / len(spent["rules"]), 1)}
    told |= {f"tracking and rules / {name}": round(both / us[name], 3) for name in stages}
    return told | {"rules": len(watch.rules), "changes of events": events}


def _crowd(count: int) -> Walk:
    """Let so many go to and fro all the time: with faults of a detector, but no false alarms."""
    rng = np.random.default_rng(count)
    walkers = [
        Walker(-9.0, (x, y), (0.0, 0.0), height=0.2 if count < 20 else 0.1, sway=(0.15, 0.08))
        for x, y in rng.uniform((0.2, 0.3), (0.8, 0.95), (count, 2)).tolist()
    ]
    return Walk(walkers, faults=Faults(missed=0.05, false_alarms=0.0))


def _letterbox() -> Callable[[], None]:
    picture = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    fit = Letterbox(416, 416)
    slot = np.empty((416, 416, 3), np.uint8)
    return lambda: video_frame_into(frame, slot, fit)


def _engine() -> dict[str, Callable[[], object]]:
    """Give one frame's run of YOLOX-nano, where its file is, and of `blobs`, the cheapest there is: one thread each."""
    there = (ASSETS / "models" / "yolox_nano_416.onnx").exists()
    repository = EngineRepository([yolox(), boxed_root()] if there else [boxed_root()])
    runs: dict[str, Callable[[], object]] = {}
    for name in ("blobs", "yolox-nano") if there else ("blobs",):
        bundle = repository.resolve(name)
        lane = open_engine(bundle, RunnerSettings(intra_op_threads=1)).open_lane()
        slot = np.full((bundle.manifest.input.height, bundle.manifest.input.width, 3), 114, np.uint8)
        runs[f"FP32 run of {name}"] = lambda lane=lane, slot=slot: lane.run([slot])  # type: ignore[misc]
    return runs


def store_rate(folder: Path) -> dict[str, Any]:
    """Keep events one by one and through the writer, with bare writes and fsyncs of one page in turns."""
    bare: list[float] = []
    alone: list[float] = []
    grouped: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place)
        with EventStore(f"sqlite:///{path / 'events.db'}") as store:
            for turn in range(5):
                bare.append(_bare(path / "bare"))
                began = time.perf_counter()
                for index in range(FSYNCS):
                    store.append([_event(f"alone-{turn}-{index}", index)])
                alone.append(FSYNCS / (time.perf_counter() - began))
                grouped.append(_through_writer(store, turn))
    fsyncs, one_by_one, many = (statistics.median(rates) for rates in (bare, alone, grouped))
    return {
        "bare: a page written and fsynced, per second": round(fsyncs),
        "events kept one by one, per second": round(one_by_one),
        "one by one / bare": round(one_by_one / fsyncs, 3),
        "events through the writer, per second": round(many),
        "through the writer / bare": round(many / fsyncs, 3),
        "an event": "with a trail of 60 points, as it begins",
        "store": "SQLite, WAL, synchronous=FULL",
    }


def _bare(path: Path) -> float:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began = time.perf_counter()
        for _ in range(FSYNCS):
            os.write(file, _PAGE)
            os.fsync(file)
        return FSYNCS / (time.perf_counter() - began)
    finally:
        os.close(file)


def _through_writer(store: EventStore, turn: int) -> float:
    events = [_event(f"grouped-{turn}-{index}", index) for index in range(GROUPED)]
    with EventWriter(store) as writer:
        began = time.perf_counter()
        for event in events:
            writer.submit(event)
        if not writer.flush(120.0):
            raise SystemExit("the writer did not get done in two minutes")
        took = time.perf_counter() - began
        kept = writer.figures().kept
    if kept != GROUPED:
        raise SystemExit(f"{kept} of {GROUPED} events were kept")
    return GROUPED / took


def _event(name: str, index: int) -> Event:
    start_s = 1_790_000_000.0 + index
    trail = tuple(TrailPoint(start_s + point / 15, 0.2 + point / 100, 0.4) for point in range(60))
    return Event(
        name,
        f"channel-{index % 16}",
        EventKind.ENTER,
        "yard",
        EventState.ACTIVE,
        start_s,
        start_s,
        label="person",
        track_ids=(f"{name}-t",),
        peak_score=0.75,
        box=(0.1, 0.2, 0.3, 0.4),
        trail=trail,
    )


if __name__ == "__main__":
    main()
