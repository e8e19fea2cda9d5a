"""Records of a load test, written by hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vedette_client import AnalyzeOptions
from vedette_client.loadtest.circumstances import circumstances
from vedette_client.loadtest.plan import LoadPlan
from vedette_client.loadtest.records import CameraRecord, FrameLog, Records, Sample, TruthCount
from vedette_client.loadtest.report import Report
from vedette_client.loadtest.statistics import summarise
from vedette_client.reach import Reach
from vedette_client.verdicts import EngineResult, SkipReason, Times, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.loadtest.statistics import Summary

STALE = SkipReason.STALE


def load_plan(channels: int = 2, fps: float = 10.0, duration_s: float = 2.0) -> LoadPlan:
    """A plan to a server that is nowhere."""
    return LoadPlan(Reach("127.0.0.1:1"), channels, fps, duration_s, ("synthetic:blobs",), AnalyzeOptions())


def verdict(reason: SkipReason | None = None, batch: int = 2) -> Verdict:
    """A verdict whose stages took 1, 2, ... milliseconds."""
    times = Times(None, None, *(1000 * (stage + 1) for stage in range(8)))
    results = () if reason else (EngineResult("e", "1", batch, False, "b", ()),)
    return Verdict(0, 0, 0, reason, results=results, times=times)


def records(plan: LoadPlan, latencies_ms: Sequence[Sequence[float | None]], **fields) -> Records:
    """Records with these latencies, one row per camera; None: the frame was skipped as STALE."""
    log = FrameLog()
    cameras = []
    for camera, row in zip(plan.cameras(), latencies_ms, strict=True):
        analysed = sum(latency is not None for latency in row)
        skipped = Counter({"STALE": len(row) - analysed} if analysed < len(row) else {})
        truth = TruthCount(analysed, 3 * analysed, analysed, 0, 0)
        cameras.append(
            CameraRecord(
                *(camera.index, camera.channel, camera.source, len(row), len(row), 0, analysed, skipped, 1, True),
                truth=truth,
            )
        )
        for due_s, latency in zip(plan.schedule(camera), row, strict=False):
            log.add_sent(0.001)
            log.add_verdict(
                camera.index, due_s, due_s + (latency or 50) / 1000, verdict(None if latency is not None else STALE)
            )
    samples = [Sample(float(at), 10 + at * 1.5, (100 + at) << 20, 0.9) for at in range(3)]
    given = {"workers": [(0.2, 2.0)], "samples": samples, "cores": 2} | fields
    return Records(log.finish(), cameras, **given)


def summary(latencies_ms: Sequence[Sequence[float | None]], **fields) -> Summary:
    """The figures of such records."""
    plan = load_plan(len(latencies_ms))
    return summarise(plan, records(plan, latencies_ms, **fields))


def report(latencies_ms: Sequence[Sequence[float | None]]) -> Report:
    """A report of such records."""
    plan = load_plan(len(latencies_ms))
    return Report(circumstances("0.1", 7), plan, summarise(plan, records(plan, latencies_ms)))
