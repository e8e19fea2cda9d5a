"""Publishing when things go wrong: a full disk, an interruption, several publishers at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support_bundles import toy_bundle, toy_manifest, toy_model
from vedette_engines.bundle import load_bundle, write_bundle
from vedette_engines.collecting import DRAFT_AGE_S, collect_garbage
from vedette_engines.errors import BundleError
from vedette_engines.history import read_history
from vedette_engines.repository import EngineRepository

TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_publishes_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = toy_bundle(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync" if call == "fsync" else "pathlib.Path.rename", full)
    with pytest.raises(BundleError, match=r"toy/2: cannot be written: .*No space left on device"):
        toy_bundle(tmp_path, version="2")
    monkeypatch.undo()

    assert sorted(path.name for path in tmp_path.glob(".publish-*")) == []
    assert EngineRepository([tmp_path]).resolve("toy") == before
    assert toy_bundle(tmp_path, version="2").version == "2"


def test_a_source_that_vanishes_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be written: .*No such file"):
        write_bundle(tmp_path, toy_manifest(), {"model.onnx": tmp_path / "gone.onnx"})

    assert EngineRepository([tmp_path]).list() == ()
    assert list(tmp_path.glob(".*")) == []


def test_a_publication_that_is_killed_leaves_a_draft_that_nobody_sees_and_that_goes_later(tmp_path: Path) -> None:
    before = toy_bundle(tmp_path)
    # Reading from a pipe that nobody writes to stops the publisher in mid-copy.
    os.mkfifo(tmp_path / "pipe")
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from support_bundles import toy_manifest
from vedette_engines.bundle import write_bundle
write_bundle(Path({str(tmp_path)!r}), toy_manifest(version="2"), {{"model.onnx": Path({str(tmp_path / "pipe")!r})}})
"""
    publisher = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".publish-*/toy/2/model.onnx")):
            assert publisher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        publisher.send_signal(signal.SIGKILL)
        publisher.wait()

    assert EngineRepository([tmp_path]).resolve("toy") == before
    assert len(list(tmp_path.glob(".publish-*"))) == 1
    assert toy_bundle(tmp_path, version="2").version == "2"
    assert collect_garbage(tmp_path) == ()
    (removed,) = collect_garbage(tmp_path, now_s=time.time() + DRAFT_AGE_S + 60)
    assert removed.reason == "a publication that was not finished"
    assert list(tmp_path.glob(".publish-*")) == []


def publish(root: str, who: str) -> str:
    """Publish the toy with the publisher's name in it; tell what came of it."""
    try:
        toy_bundle(Path(root), provenance={"who": who})
    except BundleError as error:
        return str(error)
    return ""


def assert_one_won(root: Path, results: list[str]) -> None:
    assert results.count("") == 1
    assert all("exists already in" in result for result in results if result)
    winner = load_bundle(root / "toy" / "1").manifest.provenance["who"]
    assert winner == str(results.index(""))
    assert [event.action for event in read_history(root, "toy")[0]] == ["publish"]
    assert list(root.glob(".*")) == []


def test_of_several_threads_that_publish_one_version_one_wins_whole(tmp_path: Path) -> None:
    results = [""] * 6
    start = threading.Barrier(len(results))

    def run(number: int) -> None:
        start.wait()
        results[number] = publish(str(tmp_path), str(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert_one_won(tmp_path, results)


def test_of_several_processes_that_publish_one_version_one_wins_whole(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn").Pool(3) as pool:
        results = pool.starmap(publish, [(str(tmp_path), str(number)) for number in range(6)], chunksize=1)

    assert_one_won(tmp_path, results)


def test_what_is_altered_by_hand_is_refused_by_name_and_the_version_before_is_served(tmp_path: Path) -> None:
    toy_bundle(tmp_path)
    altered = {
        "2": ("model.onnx", toy_model().SerializeToString() + b"\0", "model.onnx has"),
        "3": ("engine.toml", b"name = ", "engine.toml"),
        "4": ("engine.toml", b"", "engine.toml"),
    }
    for version, (file, content, _) in altered.items():
        (toy_bundle(tmp_path, version=version).path / file).write_bytes(content)

    listed = {entry.version: entry for entry in EngineRepository([tmp_path]).list()}

    for version, (_, _, reason) in altered.items():
        assert listed[version].bundle is None
        assert reason in listed[version].reason or str(tmp_path) in listed[version].reason
    assert EngineRepository([tmp_path]).resolve("toy").version == "1"
