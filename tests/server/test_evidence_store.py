"""The files of evidence: whole or not at all, named safely, and gone when they are old."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_evidence import EPOCH_S, FailingDisk, Steps, ring_of, source, store_in, whole_clip, writer
from vedette_server.data.event import EvidenceState
from vedette_server.errors import EvidenceError
from vedette_server.evidence.store import EvidenceStore, safe_name

DAY_S = 86400.0


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_a_file_lies_by_channel_and_day_and_is_found_by_its_path(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filed = store.put("gate", "e1", ".jpg", EPOCH_S, b"picture")
    assert filed.path == "gate/2027-01-15/e1.jpg"
    assert (filed.size_bytes, filed.sha256) == (7, hashlib.sha256(b"picture").hexdigest())
    assert store.find(filed.path).read_bytes() == b"picture"
    assert files(store.root) == [filed.path]


def test_nobody_but_the_owner_may_look_at_what_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = store_in(tmp_path / "above")
        filed = store.put("gate", "e1", ".jpg", EPOCH_S, b"picture")
        index = store.find(filed.path).with_name("recording.jsonl")
        store.disk.append(index, b"line")
        store.disk.write(index.with_name("new"), b"whole")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "above", *(tmp_path / "above").rglob("*"))}
    assert len(modes) == 8
    assert {path: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


HOSTILE = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "",
    ".",
    "a\0b",
    "é" * 300,
    ".incoming",
    "CON:",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_inside_the_store(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filed = store.put(name, name, ".mp4", EPOCH_S, b"x")
    assert store.find(filed.path).resolve().is_relative_to(store.root)
    assert len(Path(filed.path).parts) == 3
    assert len(files(tmp_path)) == 1
    assert store.total_bytes(name) == 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120), st.text(max_size=120))
def test_two_names_are_never_one_file(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)
    assert "/" not in safe_name(one)
    assert not safe_name(one).startswith(".")
    assert 0 < len(safe_name(one).encode()) < 200


def test_what_is_no_suffix_and_what_is_no_date_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for suffix in ("mp4", "/../x", ".mp4/..", ".", ""):
        with pytest.raises(EvidenceError, match="suffix"):
            store.begin("gate", "e", suffix, EPOCH_S)
    for time_s in (1e18, float("nan"), float("inf")):
        with pytest.raises(EvidenceError, match="no date"):
            store.begin("gate", "e", ".mp4", time_s)


def test_a_path_that_was_never_filed_is_not_found(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (tmp_path / "secret").write_bytes(b"x")
    for path in ("../secret", "gate/2027-01-15/e1.jpg", "", "/etc/passwd"):
        with pytest.raises(EvidenceError, match="no evidence"):
            store.find(path)


@pytest.mark.parametrize("step", ["free", "begin", "mux", "sync-file", "rename", "sync-folder"])
def test_a_full_disk_fails_the_clip_is_told_and_leaves_no_file(step: str, tmp_path: Path) -> None:
    told: list[str] = []
    disk = FailingDisk(step)
    store = EvidenceStore(tmp_path, min_free_bytes=1, disk=disk, on_state=told.append)
    made = whole_clip(store, *source("h264-b"))
    assert made.evidence.state is EvidenceState.FAILED
    assert made.evidence.detail
    assert files(tmp_path) == []
    assert store.total_bytes() == 0
    assert store.trouble
    # As soon as there is room again, clips are kept again, and that is told.
    disk.failing = False
    assert whole_clip(store, *source("h264-b")).evidence.state is EvidenceState.READY
    assert store.trouble == ""
    assert [bool(words) for words in told] == [True, False]


@pytest.mark.parametrize("step", ["free", "begin", "write", "sync-file", "rename", "sync-folder"])
def test_a_full_disk_fails_a_snapshot_and_leaves_no_file(step: str, tmp_path: Path) -> None:
    store = store_in(tmp_path, FailingDisk(step))
    with pytest.raises(EvidenceError):
        store.put("gate", "e1", ".jpg", EPOCH_S, b"picture")
    assert files(tmp_path) == []


def test_trouble_is_told_when_it_begins_and_when_it_is_over(tmp_path: Path) -> None:
    told: list[str] = []
    disk = FailingDisk("write", errno.EIO)
    store = EvidenceStore(tmp_path, min_free_bytes=1, disk=disk, on_state=told.append)
    for _ in range(2):
        with pytest.raises(EvidenceError):
            store.put("gate", "e1", ".jpg", EPOCH_S, b"x")
    disk.failing = False
    store.put("gate", "e1", ".jpg", EPOCH_S, b"x")
    assert [bool(words) for words in told] == [True, False]
    assert "e1.jpg" in told[0]


def test_a_failed_replacement_is_not_taken_for_the_file_that_it_replaced(tmp_path: Path) -> None:
    disk = FailingDisk("sync-folder")
    disk.failing = False
    store = store_in(tmp_path, disk)
    filed = store.put("gate", "e1", ".jpg", EPOCH_S, b"old")
    disk.failing = True
    with pytest.raises(EvidenceError):
        store.put("gate", "e1", ".jpg", EPOCH_S, b"new")
    with pytest.raises(EvidenceError):
        store.find(filed.path)
    assert store.total_bytes() == 0


def test_a_store_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_bytes(b"a file")
    with pytest.raises(EvidenceError, match="cannot be kept"):
        store_in(tmp_path)


CRASH = """
import os, sys
from pathlib import Path
from support_evidence import FailingDisk, source, store_in, whole_clip
class Dying(FailingDisk):
    def _may_fail(self, step, path):
        if step == self.step:
            os._exit(9)
whole_clip(store_in(Path(sys.argv[1]), Dying(sys.argv[2])), *source("h264"))
"""


@pytest.mark.parametrize(("step", "left"), [("sync-file", 0), ("rename", 0), ("sync-folder", 1)])
def test_a_crash_at_any_point_leaves_a_whole_file_or_none(step: str, left: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    code = [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path), step]
    assert subprocess.run(code, env=environment, check=False, timeout=60).returncode == 9
    store = store_in(tmp_path)
    assert len(files(store.root)) == left
    # Nobody was told of what is left: it belongs to no event.
    assert len(store.remove_orphans(lambda _: False)) == left
    assert files(store.root) == []


def test_what_was_being_written_is_gone_after_a_restart_and_the_rest_is_in_the_books(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    kept = store.put("gate", "e1", ".jpg", EPOCH_S, b"12345")
    job = writer(ring_of(*source("h264")), store, steps, EPOCH_S, event_id="e2")
    job.step()
    assert len(files(store.root)) == 2
    again = store_in(tmp_path)
    assert files(again.root) == [kept.path]
    assert (again.total_bytes("gate"), again.total_bytes("yard"), again.total_bytes()) == (5, 0, 5)
    job.abort()


def test_orphans_alone_are_removed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    one, two = (store.put("gate", name, ".jpg", EPOCH_S, b"x").path for name in ("e1", "e2"))
    assert store.remove_orphans(lambda path: path == one) == [two]
    assert files(store.root) == [one]
