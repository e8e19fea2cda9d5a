"""Sum up the records of a load test. Pure code: it reads `Records` and gives plain figures.

Latency is the age of an analysed frame at its verdict, from when it was due to be sent.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_client.loadtest.records import ANALYSED, STAGES, TruthCount
from vedette_client.verdicts import SkipReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_client.loadtest.plan import LoadPlan
    from vedette_client.loadtest.records import CameraRecord, Frames, Records, Sample

_CDF_POINTS = 101
_PERCENTS = (50.0, 90.0, 95.0, 99.0)
# The tester is called the bottleneck when one of its processes was this busy, or its sends were this late.
_BUSY_SHARE = 0.85
_LATE_S = 0.1
# Less than this is the noise of any machine.
_OTHERS_CORES = 0.25
_NO_FAULT = frozenset({SkipReason.NO_FRAME.name, SkipReason.NO_MOTION.name})
"""Skips that say nothing about the server: the packet shows no picture of its own, or one in which nothing moves."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread; milliseconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    highest: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the frames.

    Attributes:
        scheduled: Frames that were due.
        sent: Packets that were sent.
        unsent: Frames dropped by the client because the connection was too slow, or held back to the end by credits.
        analysed: Verdicts with an analysis.
        skipped: Other verdicts by reason.
        analysed_fps: Analysed frames per second, to the schedule's end or the last verdict, whichever is later.
        skip_percent: Share of the scheduled frames that were not analysed although they could have been.
    """

    scheduled: int
    sent: int
    unsent: int
    analysed: int
    skipped: dict[str, int]
    analysed_fps: float
    skip_percent: float


@dataclass(frozen=True, slots=True)
class Accounts:
    """Whether client and server counted the same.

    Attributes:
        cameras: How many cameras there were.
        closed: Cameras whose account closes: the server's is the same, and every frame is accounted for.
        problems: What is wrong with the others, by channel.
        connections: How many connections they took in all.
    """

    cameras: int
    closed: int
    problems: dict[str, str]
    connections: int


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly the cameras were served: analysed shares of what each scheduled.

    Attributes:
        shares: One per camera, in their order, 0..1.
        least: Of the least served camera.
        most: Of the most served camera.
        ratio: Most over least; None when one got nothing.
        jain: Jain's index (Jain, Chiu, Hawe 1984): 1 when all are equal.
    """

    shares: list[float]
    least: float
    most: float
    ratio: float | None
    jain: float


@dataclass(frozen=True, slots=True)
class Second:
    """What became of the frames that were due within one second of the schedule.

    Attributes:
        at_s: The second.
        scheduled: Verdicts of frames that were due in it.
        analysed: Of these, analysed.
        p50_ms: Median latency; None without an analysed frame.
        p95_ms: 95th percentile.
    """

    at_s: int
    scheduled: int
    analysed: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Tester:
    """How busy the tester itself was.

    Attributes:
        cpu_cores: CPU seconds per second, of all its processes together.
        busiest_process: CPU share of the busiest one, 0..1.
        late: By how much frames were sent later than they were due.
        machine_busy: Share of the machine's cores that was busy, 0..1.
        others_cores: Cores that neither the tester nor the server used, yet somebody did; None when the server is not
            on this machine.
        bottleneck: Why the figures may be the tester's rather than the server's; empty: they are the server's.
    """

    cpu_cores: float
    busiest_process: float
    late: Spread
    machine_busy: float
    others_cores: float | None
    bottleneck: str

    @property
    def disturbance(self) -> str:
        """Say that others used the machine meanwhile, so that the server had less of it; empty: they did not."""
        if self.others_cores is None or self.others_cores < _OTHERS_CORES:
            return ""
        return f"other processes used {self.others_cores:.2f} cores of this machine meanwhile"


@dataclass(frozen=True, slots=True)
class ServerUse:
    """What the server used; known only when it is a process of this machine.

    Attributes:
        cpu_cores: CPU seconds per second.
        cpu_ms_per_frame: CPU milliseconds per analysed frame; None without any.
        rss_first_mib: Resident memory at the start.
        rss_last_mib: At the end.
        rss_most_mib: At the highest.
        over_time: Seconds since the start, CPU seconds per second since the look before, resident MiB.
    """

    cpu_cores: float
    cpu_ms_per_frame: float | None
    rss_first_mib: float
    rss_last_mib: float
    rss_most_mib: float
    over_time: list[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of a load test.

    Attributes:
        counts: What became of the frames.
        latency: Of analysed frames, milliseconds.
        cdf: Latencies in milliseconds and the share of analysed frames that is not slower.
        stages: Time in each stage of the server, milliseconds, of analysed frames.
        batches: How many frames were analysed in batches of which size.
        accounts: Whether they close.
        fairness: How evenly cameras were served.
        truth: How detections compare with the truth of scenes.
        seconds: What became of each whole second's frames.
        tester: How busy the tester was.
        server: What the server used; None when it is not on this machine.
        storms: How often all connections were cut.
    """

    counts: Counts
    latency: Spread | None
    cdf: list[tuple[float, float]]
    stages: dict[str, Spread]
    batches: dict[int, int]
    accounts: Accounts
    fairness: Fairness
    truth: TruthCount
    seconds: list[Second]
    tester: Tester
    server: ServerUse | None
    storms: int


def summarise(plan: LoadPlan, records: Records) -> Summary:
    """Sum up a load test."""
    frames = records.frames
    analysed = frames.reason == ANALYSED
    latency_ms = (frames.done_s - frames.due_s)[analysed] * 1000
    counts = _counts(plan, records.cameras, frames)
    used = server_use(records.samples, counts.analysed)
    truth = TruthCount()
    for camera in records.cameras:
        truth.add(camera.truth)
    return Summary(
        counts=counts,
        latency=spread(latency_ms),
        cdf=cdf(latency_ms),
        stages=_stages(frames, analysed),
        batches=_batches(frames.batch[analysed]),
        accounts=check_accounts(records.cameras),
        fairness=fairness([one.analysed / max(1, one.scheduled) for one in records.cameras]),
        truth=truth,
        seconds=_seconds(plan, frames, analysed),
        tester=_tester(plan, records, used),
        server=used,
        storms=records.storms,
    )


def spread(values_ms: NDArray[np.floating]) -> Spread | None:
    """Say how values are spread; None without any. Percentiles are values that occur: no interpolation."""
    if not len(values_ms):
        return None
    points = np.percentile(values_ms, _PERCENTS, method="inverted_cdf")
    p50, p90, p95, p99 = (float(point) for point in points)
    return Spread(len(values_ms), float(values_ms.mean()), p50, p90, p95, p99, float(values_ms.max()))


def cdf(values_ms: NDArray[np.floating]) -> list[tuple[float, float]]:
    """Give the cumulative distribution as points, rising in both; none without values."""
    if not len(values_ms):
        return []
    shares = np.linspace(0, 1, _CDF_POINTS)
    points = np.percentile(values_ms, shares * 100, method="inverted_cdf")
    return [(float(value), float(share)) for value, share in zip(points, shares, strict=True)]


def fairness(shares: Sequence[float]) -> Fairness:
    """Say how even shares are."""
    least, most = min(shares), max(shares)
    squares = sum(share * share for share in shares)
    jain = sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
    return Fairness(list(shares), least, most, most / least if least else None, jain)


def check_accounts(cameras: Sequence[CameraRecord]) -> Accounts:
    """Say whether every camera's account closes, and what is wrong with those whose does not."""
    problems = {}
    for one in cameras:
        if one.error or not one.agreed:
            problems[one.channel] = one.error or "the server did not close its account"
        elif one.scheduled != one.sent + one.dropped + one.unsent:
            left = f"{one.dropped} dropped and {one.unsent} unsent"
            problems[one.channel] = f"{one.scheduled} scheduled, {one.sent} sent, {left}"
        elif one.sent != one.analysed + one.skipped.total():
            problems[one.channel] = f"{one.sent} sent, {one.analysed} analysed and {one.skipped.total()} skipped"
    return Accounts(len(cameras), len(cameras) - len(problems), problems, sum(one.connections for one in cameras))


def server_use(samples: Sequence[Sample], analysed: int) -> ServerUse | None:
    """Say what the server used between the first and the last look at it."""
    looks = [
        (one.at_s, one.server_cpu_s, one.server_rss_bytes / 2**20)
        for one in samples
        if one.server_cpu_s is not None and one.server_rss_bytes is not None
    ]
    if len(looks) < 2:
        return None
    spent_s, took_s = looks[-1][1] - looks[0][1], looks[-1][0] - looks[0][0]
    over_time = [
        (at_s, (cpu_s - before_cpu_s) / (at_s - before_s), rss)
        for (before_s, before_cpu_s, _), (at_s, cpu_s, rss) in itertools.pairwise(looks)
        if at_s > before_s
    ]
    return ServerUse(
        cpu_cores=spent_s / took_s if took_s else 0.0,
        cpu_ms_per_frame=spent_s / analysed * 1000 if analysed else None,
        rss_first_mib=looks[0][2],
        rss_last_mib=looks[-1][2],
        rss_most_mib=max(rss for _, _, rss in looks),
        over_time=over_time,
    )


def _counts(plan: LoadPlan, cameras: Sequence[CameraRecord], frames: Frames) -> Counts:
    skipped = sum((one.skipped for one in cameras), Counter[str]())
    # A camera that was refused was due to send, too.
    scheduled = plan.frames * plan.channels
    analysed = sum(one.analysed for one in cameras)
    fair = scheduled - sum(skipped[reason] for reason in _NO_FAULT)
    return Counts(
        scheduled=scheduled,
        sent=sum(one.sent for one in cameras),
        unsent=sum(one.dropped + one.unsent for one in cameras),
        analysed=analysed,
        skipped=dict(skipped.most_common()),
        analysed_fps=analysed / max(plan.duration_s, float(frames.done_s.max(initial=0.0))),
        skip_percent=100 * (1 - analysed / fair) if fair > 0 else 0.0,
    )


def _stages(frames: Frames, analysed: NDArray[np.bool_]) -> dict[str, Spread]:
    rows = frames.stages_us[analysed] / 1000
    found = {name: spread(rows[:, column]) for column, name in enumerate((*STAGES, "total"))}
    return {name: one for name, one in found.items() if one is not None}


def _batches(sizes: NDArray[np.uint16]) -> dict[int, int]:
    values, counts = np.unique(sizes, return_counts=True)
    return {int(size): int(count) for size, count in zip(values, counts, strict=True)}


def _seconds(plan: LoadPlan, frames: Frames, analysed: NDArray[np.bool_]) -> list[Second]:
    due = frames.due_s.astype(np.int64)
    latency_ms = (frames.done_s - frames.due_s) * 1000
    found = []
    for at_s in range(max(1, int(plan.duration_s))):
        here = due == at_s
        one = spread(latency_ms[here & analysed])
        p50, p95 = (one.p50, one.p95) if one is not None else (None, None)
        found.append(Second(at_s, int(here.sum()), int((here & analysed).sum()), p50, p95))
    return found


def _tester(plan: LoadPlan, records: Records, server: ServerUse | None) -> Tester:
    shares = [cpu_s / wall_s for cpu_s, wall_s in records.workers if wall_s > 0]
    late = spread(records.frames.late_s.astype(np.float64) * 1000) or Spread(0, 0, 0, 0, 0, 0, 0)
    busiest = max(shares, default=0.0)
    looks = [one.busy_share for one in records.samples[1:]]
    allowed_ms = max(_LATE_S, 1 / plan.fps) * 1000
    why = []
    if busiest > _BUSY_SHARE:
        why.append(f"a sending process used {busiest:.0%} of a core: use --processes")
    if late.p99 > allowed_ms:
        why.append(f"1 % of the sends were over {late.p99:.0f} ms late")
    busy = sum(looks) / len(looks) if looks else 0.0
    others = max(0.0, busy * records.cores - sum(shares) - server.cpu_cores) if server is not None else None
    return Tester(sum(shares), busiest, late, busy, others, "; ".join(why))
