"""Cameras to measure with: one process that sends a clip on many channels and counts what comes back.

Live cameras follow an open-loop schedule: a frame's age is counted from when it should have been sent, so
that a server that stalls its senders is not flattered. Run with `cameras(...)`, in a process of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


START_WITHIN_S = 1.0


@dataclass(slots=True)
class Plan:
    """What the cameras do.

    Attributes:
        address: The server.
        clip: What each sends; from its start, again and again.
        engine: The engine.
        channels: How many cameras.
        fps: Frames per second and camera of a live schedule; None: EVERY_FRAME as fast as it goes.
        seconds: Length of a live schedule.
        packets: Packets per camera where there is no schedule; 0: the whole clip.
        codec_data: Packets to send instead of the clip's, with their format.
        min_score: Lowest score of interest.
    """

    address: str
    clip: Path | None
    engine: str
    channels: int
    fps: float | None = None
    seconds: float = 0.0
    packets: int = 0
    min_score: float | None = 0.3
    payload: Any = None


@dataclass(slots=True)
class Tally:
    """What one camera saw.

    Attributes:
        sent: Packets sent.
        analysed: Verdicts with an analysis.
        skipped: Other verdicts by reason.
        ages: Scheduled moment of the verdict's packet since the start, and age at its verdict, seconds.
        dropped: Packets that the client itself dropped because the connection was full.
        batches: How often which batch size.
        boxes: Detections.
        late_s: By how much the sender was behind its own schedule at the worst.
        versions: The versions of the engine that ran, each with the monotonic moment of its first verdict in a row.
    """

    sent: int = 0
    dropped: int = 0
    analysed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    ages: list[tuple[float, float]] = field(default_factory=list)
    batches: Counter[int] = field(default_factory=Counter)
    execute_s: list[float] = field(default_factory=list)
    boxes: int = 0
    late_s: float = 0.0
    versions: list[tuple[float, str]] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What all cameras saw, in how many seconds, at what CPU time of theirs."""

    tallies: list[Tally]
    wall_s: float
    cpu_s: float


class Cameras:
    """Runs a plan in a process of its own; `wait` returns its outcome."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(plan, theirs))
        self._process.start()

    def wait_ready(self) -> None:
        """Return when all channels are accepted and sending begins."""
        self._receive()

    def wait(self) -> Outcome:
        """Return the outcome."""
        outcome: Outcome = self._receive()
        self._process.join()
        return outcome

    def _receive(self) -> Any:
        while not self._ours.poll(1.0):
            if not self._process.is_alive():
                raise SystemExit("the cameras died")
        return self._ours.recv()


def _run(plan: Plan, pipe: Any) -> None:
    asyncio.run(_cameras(plan, pipe))


async def _cameras(plan: Plan, pipe: Any) -> None:
    from vedette_client import Client, Policy

    fmt, packets = plan.payload or _load(plan.clip)
    if plan.packets:
        packets = packets[: plan.packets]
    policy = Policy.EVERY_FRAME if plan.fps is None else Policy.LIVE
    tallies = [Tally() for _ in range(plan.channels)]
    async with Client(plan.address) as client:
        streams = [
            await client.open(f"cam-{index:03}", fmt, engines=[plan.engine], policy=policy, min_score=plan.min_score)
            for index in range(plan.channels)
        ]
        pipe.send("ready")
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(
            *(_camera(stream, packets, fmt, plan, index, began, tallies[index]) for index, stream in enumerate(streams))
        )
        pipe.send(Outcome(tallies, time.monotonic() - began, time.process_time() - cpu))


def _load(clip: Path | None) -> Any:
    from vedette_client.sources import open_source

    source = open_source(str(clip), pace=False)
    fmt = source.open()
    packets = list(source.packets())
    source.close()
    return fmt, packets


async def _camera(
    stream: Any, packets: list[Any], fmt: Any, plan: Plan, index: int, began: float, tally: Tally
) -> None:
    reader = asyncio.create_task(_read(stream, tally, began))
    if plan.fps is None:
        for packet in packets:
            await stream.send(replace(packet, truth=time.monotonic()))
            tally.sent += 1
    else:
        await _paced(stream, packets, fmt, plan, index, began, tally)
    await stream.finish()
    await reader


async def _paced(stream: Any, packets: list[Any], fmt: Any, plan: Plan, index: int, began: float, tally: Tally) -> None:
    assert plan.fps is not None
    # Cameras start when they like: their groups of pictures do not march in step.
    phase = index / plan.channels * START_WITHIN_S
    step = Fraction(1) / Fraction(plan.fps) / fmt.time_base
    for number in range(int(plan.seconds * plan.fps)):
        at = began + phase + number / plan.fps
        delay = at - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        tally.late_s = max(tally.late_s, time.monotonic() - at)
        packet = packets[number % len(packets)]
        pts = int(number * step)
        tally.dropped += await stream.send(replace(packet, pts=pts, dts=pts, duration=None, truth=at))
        tally.sent += 1


async def _read(stream: Any, tally: Tally, began: float) -> None:
    while verdicts := await stream.read():
        now = time.monotonic()
        for verdict in verdicts:
            at = verdict.packet.truth
            if verdict.analysed:
                tally.analysed += 1
                tally.ages.append((at - began, now - at))
                result = verdict.results[0]
                tally.batches[result.batch_size] += 1
                if not tally.versions or tally.versions[-1][1] != result.version:
                    tally.versions.append((now, result.version))
                tally.execute_s.append(verdict.times.execute_us / 1e6)
                tally.boxes += len(result.detections)
            else:
                tally.skipped[verdict.reason.name] += 1
