"""The job that takes an event's pictures: cancelled at any moment it files nothing; it tells once, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support_evidence import LIMITS, FailingDisk, ring_of, source, store_in
from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.evidence import picturing
from vedette_server.evidence.drawing import Drawing
from vedette_server.evidence.showing import kept_under
from vedette_server.evidence.snapshot_job import SnapshotJob, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vedette_server.data.rules import Points
    from vedette_server.evidence.ring import PacketRing
    from vedette_server.evidence.store import EvidenceStore


class NotingDisk(FailingDisk):
    """Calls somebody before the n-th thing is done with it."""

    def __init__(self) -> None:
        super().__init__("none")
        self.at, self.call = 0, lambda: None

    def when(self, at: int, call: Callable[[], object]) -> None:
        self.at, self.call = at, lambda: (call(), None)[1]

    def _may_fail(self, step: str, path: Path) -> None:
        self.at -= 1
        if self.at == 0:
            self.call()


@dataclass
class Job:
    """A job over one group of pictures that is decoded in several steps."""

    folder: Path
    index: int | None = 8
    disk: NotingDisk = field(default_factory=NotingDisk)
    hidden: tuple[Points, ...] = ()
    told: list[Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ring: PacketRing = ring_of(*source("h264"))
        self.store: EvidenceStore = store_in(self.folder, self.disk)
        wanted = Wanted("gate", "e1", self.index, Drawing(), self.hidden, 0)
        self.job = SnapshotJob(self.ring, self.store, wanted, LIMITS, lambda *pieces: self.told.extend(pieces))

    def run(self) -> None:
        for _ in range(50):
            if self.job.step() is None:
                return
        raise AssertionError("it goes on for ever")

    @property
    def states(self) -> list[EvidenceState]:
        return [one.state for one in self.told]


LEFT: Points = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))
RIGHT: Points = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0))
READY, FAILED = [EvidenceState.READY] * 2, [EvidenceState.FAILED] * 2


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturing, "_BATCH", 4)


@pytest.mark.parametrize("areas", [(), (LEFT,), (LEFT, RIGHT)])
def test_it_keeps_with_each_picture_what_was_blackened_in_it(tmp_path: Path, areas: tuple[Points, ...]) -> None:
    job = Job(tmp_path, hidden=areas)
    job.run()
    assert [one.policy for one in job.told] == [kept_under(areas)] * 2
    assert (kept_under(areas) == "original") == (not areas)


def test_it_files_two_pictures_and_tells_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert job.job.step() == 0.0, "a bounded number of packets at a time"
    job.run()
    job.job.cancel("too late")
    job.job.abort()
    assert not job.job.forgo()
    assert job.states == READY
    assert set(job.job.filed) == set(job.store.paths) == {one.path for one in job.told}


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("held", [True, False])
def test_cancelled_between_steps_it_files_nothing_and_says_why(tmp_path: Path, steps: int, held: bool) -> None:
    job = Job(tmp_path)
    for _ in range(steps):
        assert job.job.step() == 0.0
    job.job.cancel("the masks were changed")
    if not held:
        job.ring.clear()
    job.run()
    assert job.states == FAILED
    assert job.told[0].detail == "the masks were changed"
    assert job.store.paths == ()


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("how", ["cancel", "forgo"])
def test_cancelled_while_it_files_it_leaves_no_file(tmp_path: Path, at: int, how: str) -> None:
    job = Job(tmp_path)
    job.disk.when(at, job.job.forgo if how == "forgo" else lambda: job.job.cancel("the masks were changed"))
    job.run()
    assert job.disk.at <= 0, "it was called"
    assert job.states == (FAILED if how == "cancel" else [])
    assert job.store.paths == ()
    assert list(job.store.root.rglob("*.jpg")) == []
    assert job.job.filed == ()


def test_of_a_packet_that_is_not_held_it_says_so(tmp_path: Path) -> None:
    job = Job(tmp_path, index=None)
    job.run()
    assert job.states == FAILED
    assert "not held" in job.told[0].detail


def test_given_up_it_says_so_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.job.step()
    job.job.abort()
    job.job.abort()
    assert job.states == FAILED
    assert "the server stopped" in job.told[0].detail
