"""The threads that evidence is written on."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from support_evidence import EPOCH_S, LIMITS, read_file, ring_of, source, store_in
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.clip import Clip, ClipLimits, ClipWriter
from vedette_server.evidence.workers import EvidenceWorkers

if TYPE_CHECKING:
    from pathlib import Path


class Counted:
    """A job of some steps."""

    def __init__(self, steps: int, *, broken: bool = False) -> None:
        self.left, self.broken = steps, broken
        self.done, self.aborted = threading.Event(), threading.Event()
        self.niceness: int | None = None

    def step(self) -> float | None:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        if self.broken:
            self.done.set()
            raise RuntimeError("broken")
        self.left -= 1
        if self.left > 0:
            return 0.0
        self.done.set()
        return None

    def abort(self) -> None:
        self.aborted.set()


def test_jobs_are_stepped_to_their_ends_at_low_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    workers = EvidenceWorkers(threads=2)
    jobs = [Counted(5) for _ in range(20)]
    for job in jobs:
        workers.submit(job)
    assert all(job.done.wait(30) for job in jobs)
    workers.close()
    assert all(job.niceness == max(before, 10) for job in jobs)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    assert workers.jobs == 0


def test_a_job_that_breaks_its_promise_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    workers = EvidenceWorkers()
    broken, sound = Counted(1, broken=True), Counted(3)
    workers.submit(broken)
    workers.submit(sound)
    assert sound.done.wait(30)
    workers.close()
    assert "given up" in caplog.text


class Endless(Counted):
    def step(self) -> float | None:
        self.done.set()
        return 3600.0


def test_too_many_jobs_are_refused_and_those_left_at_the_end_are_aborted() -> None:
    workers = EvidenceWorkers(max_jobs=1)
    job = Endless(1)
    workers.submit(job)
    assert job.done.wait(30)
    with pytest.raises(EvidenceError, match="at most"):
        workers.submit(Counted(1))
    workers.close()
    workers.close()
    assert job.aborted.is_set()
    with pytest.raises(EvidenceError, match="stops"):
        workers.submit(Counted(1))


def test_lasting_jobs_take_no_place_of_the_others_and_are_aborted_at_the_end() -> None:
    workers = EvidenceWorkers(max_jobs=1)
    lasting, short = [Endless(1) for _ in range(5)], Counted(2)
    for job in lasting:
        workers.submit(job, lasting=True)
    assert all(job.done.wait(30) for job in lasting)
    assert workers.jobs == 0
    workers.submit(short)
    assert short.done.wait(30)
    ended = Counted(1)
    workers.submit(ended, lasting=True)
    assert ended.done.wait(30)
    last = Endless(1)
    workers.submit(last)
    with pytest.raises(EvidenceError, match="at most"):
        workers.submit(Counted(1))
    workers.close()
    assert all(job.aborted.is_set() for job in (*lasting, last))
    assert workers.jobs == 0
    with pytest.raises(EvidenceError, match="stops"):
        workers.submit(Counted(1), lasting=True)


def test_many_clips_are_written_while_packets_come(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264-b")
    ring = ring_of(fmt, packets[:12])
    made: list[Clip] = []
    told = threading.Semaphore(0)

    def done(clip: Clip) -> None:
        made.append(clip)
        told.release()

    workers = EvidenceWorkers(threads=2)
    for number in range(8):
        job = ClipWriter(
            ring, store, "gate", f"e{number}", EPOCH_S, EvidencePolicy.ORIGINAL, (), LIMITS, ClipLimits(), done
        )
        workers.submit(job)
    for packet in packets[12:]:
        ring.feed(packet)
    ring.close()
    assert all(told.acquire(timeout=30) for _ in range(8))
    workers.close()
    assert {len(read_file(store.find(clip.path)).digests) for clip in made} == {30}
    assert len({clip.evidence.sha256 for clip in made}) == 1
