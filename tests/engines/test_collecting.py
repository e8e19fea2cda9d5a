"""What garbage collection removes, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest

from support_bundles import toy_bundle
from vedette_engines.collecting import DRAFT_AGE_S, collect_garbage
from vedette_engines.errors import BundleError, EngineNotFoundError, ImportInputError
from vedette_engines.history import read_history
from vedette_engines.repository import EngineRepository
from vedette_engines.withdrawn import withdraw, withdrawn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version in ("1", "2", "3", "4"):
        toy_bundle(tmp_path, version=version)
    return tmp_path


def versions(root: Path) -> list[str]:
    return [entry.version for entry in EngineRepository([root]).list("toy")]


def hidden(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob(".*"))


def test_the_newest_versions_stay_and_the_rest_is_told_with_its_size(root: Path) -> None:
    size = sum(path.stat().st_size for path in (root / "toy" / "1").iterdir())

    removed = collect_garbage(root, keep=2)

    assert versions(root) == ["4", "3"]
    assert [(entry.path.name, entry.reason) for entry in removed] == [
        ("2", "older than the newest 2"),
        ("1", "older than the newest 2"),
    ]
    assert removed[1].size_bytes == size
    assert hidden(root) == []
    assert [(event.action, event.version) for event in read_history(root, "toy")[0][4:]] == [("gc", "2"), ("gc", "1")]
    assert collect_garbage(root, keep=2) == ()


def test_a_dry_run_tells_the_same_and_removes_nothing(root: Path) -> None:
    told = collect_garbage(root, keep=1, dry_run=True)

    assert versions(root) == ["4", "3", "2", "1"]
    assert collect_garbage(root, keep=1) == told


def test_what_is_needed_stays(root: Path) -> None:
    collect_garbage(root, keep=1, needed=[("toy", "1"), ("other", "2")])

    assert versions(root) == ["4", "1"]


def test_withdrawn_and_bad_versions_do_not_count_and_go_only_when_asked_for(root: Path) -> None:
    withdraw(root, "toy", "4")
    (root / "toy" / "3" / "model.onnx").write_bytes(b"spoilt")

    collect_garbage(root, keep=1)
    assert versions(root) == ["4", "3", "2"]

    reasons = [entry.reason for entry in collect_garbage(root, keep=1, bad=True, withdrawn=True)]
    assert versions(root) == ["2"]
    assert reasons[0] == "withdrawn"
    assert reasons[1].startswith("bad: ")
    assert withdrawn(root, "toy") == {"4"}, "the mark keeps the number from coming back"


def test_nothing_that_is_no_bundle_is_touched(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "notes" / "read.me").write_text("mine")
    (root / "toy" / "scratch").mkdir()
    elsewhere = root / "elsewhere"
    shutil.move(root / "toy" / "1", elsewhere)
    (root / "toy" / "1").symlink_to(elsewhere)

    collect_garbage(root, keep=1, bad=True)

    assert (root / "notes" / "read.me").read_text() == "mine"
    assert (root / "toy" / "scratch").is_dir()
    assert (elsewhere / "engine.toml").is_file()
    assert (root / "toy" / "1").is_symlink()


def test_drafts_of_dead_writers_go_and_those_of_living_ones_stay(root: Path) -> None:
    old, living, trash = root / ".publish-old", root / ".publish-living", root / ".gc-old"
    for draft in (old, living, trash):
        (draft / "toy" / "5").mkdir(parents=True)
        (draft / "toy" / "5" / "model.onnx").write_bytes(b"x" * 100)
    past = time.time() - DRAFT_AGE_S - 60
    for path in (*old.rglob("*"), old, *trash.rglob("*"), trash, living / "toy", living):
        os.utime(path, (past, past))

    removed = collect_garbage(root, keep=9)

    assert [(entry.path.name, entry.size_bytes) for entry in removed] == [(".publish-old", 100), (".gc-old", 100)]
    assert hidden(root) == [".publish-living"]


def test_keeping_none_is_refused(root: Path) -> None:
    with pytest.raises(ImportInputError, match="--keep is 0; allowed is 1 and more"):
        collect_garbage(root, keep=0)


def test_a_root_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert collect_garbage(tmp_path / "nothing") == ()


def test_a_version_that_cannot_be_removed_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)

    with pytest.raises(BundleError, match=r"toy/3: cannot be removed: .*No space left"):
        collect_garbage(root, keep=1)
    assert versions(root) == ["4", "3", "2", "1"]


def read_until(done: threading.Event, repository: EngineRepository, failures: list[str]) -> None:
    """Look for every version again and again; that one is gone as a whole is all that may happen."""
    vanished = ("No such file", "there is no engine.toml", "is missing")
    while not done.is_set():
        for number in range(12):
            try:
                repository.resolve("toy", str(number))
            except EngineNotFoundError:
                continue
            except BundleError as error:
                # It was found, and gone before it was read.
                failures += [] if any(word in str(error) for word in vanished) else [str(error)]


def test_two_collectors_and_a_reader_get_in_nobodys_way(tmp_path: Path) -> None:
    for number in range(12):
        toy_bundle(tmp_path, version=str(number))
    failures: list[str] = []
    done = threading.Event()

    def collect() -> None:
        try:
            collect_garbage(tmp_path, keep=1)
        except BundleError as error:
            failures.append(str(error))

    reader = threading.Thread(target=read_until, args=(done, EngineRepository([tmp_path]), failures))
    collectors = [threading.Thread(target=collect) for _ in range(2)]
    for thread in (reader, *collectors):
        thread.start()
    for thread in collectors:
        thread.join()
    done.set()
    reader.join()

    assert failures == []
    assert versions(tmp_path) == ["11"]
    assert hidden(tmp_path) == []
    gone = [event.version for event in read_history(tmp_path, "toy")[0] if event.action == "gc"]
    assert sorted(gone, key=int) == [str(number) for number in range(11)]
