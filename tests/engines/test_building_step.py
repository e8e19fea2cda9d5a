"""Steps of a build: done once for the same inputs, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette_engines.building.step import Step, StepCache
from vedette_engines.errors import BuildError, ImportRefusedError

if TYPE_CHECKING:
    from pathlib import Path


class Work:
    """A step's work that counts how often it is done."""

    def __init__(self, text: str = "made") -> None:
        self.text = text
        self.count = 0

    def __call__(self, folder: Path, say: Any) -> dict[str, Any]:
        self.count += 1
        (folder / "result.txt").write_text(self.text)
        say(f"wrote {self.text}")
        return {"length": len(self.text)}


def quiet(line: str) -> None:
    """Say nothing."""


def test_a_step_is_done_once_for_the_same_inputs(tmp_path: Path) -> None:
    work, told = Work(), []
    first = StepCache(tmp_path).run(Step("make", {"a": 1}, work), told.append)
    second = StepCache(tmp_path).run(Step("make", {"a": 1}, work), told.append)
    assert work.count == 1
    assert (first.reused, second.reused) == (False, True)
    assert (second.folder / "result.txt").read_text() == "made"
    assert second.figures == first.figures == {"length": 4}
    assert told == ["wrote made", "wrote made"]


@pytest.mark.parametrize(("name", "inputs"), [("make", {"a": 2}), ("make", {"a": 1, "b": 0}), ("bake", {"a": 1})])
def test_other_inputs_or_another_name_are_another_step(tmp_path: Path, name: str, inputs: dict[str, int]) -> None:
    work = Work()
    StepCache(tmp_path).run(Step("make", {"a": 1}, work), quiet)
    assert not StepCache(tmp_path).run(Step(name, inputs, work), quiet).reused
    assert work.count == 2


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers()), max_size=5))
def test_the_order_of_inputs_does_not_matter(inputs: dict[str, Any]) -> None:
    turned = dict(reversed(inputs.items()))
    assert Step("make", inputs, Work()).key == Step("make", turned, Work()).key


@pytest.mark.parametrize("harm", ["changed", "missing", "no record", "half a record"])
def test_a_step_whose_files_are_not_what_they_were_is_done_again(tmp_path: Path, harm: str) -> None:
    work = Work()
    step = Step("make", {"a": 1}, work)
    folder = StepCache(tmp_path).run(step, quiet).folder
    if harm == "changed":
        (folder / "result.txt").write_text("altered")
    elif harm == "missing":
        (folder / "result.txt").unlink()
    elif harm == "no record":
        (folder / "step.json").unlink()
    else:
        (folder / "step.json").write_text((folder / "step.json").read_text()[:20])
    again = StepCache(tmp_path).run(step, quiet)
    assert (again.reused, work.count) == (False, 2)
    assert (again.folder / "result.txt").read_text() == "made"


def test_a_step_that_fails_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path, say: Any) -> dict[str, Any]:
        (folder / "half.txt").write_text("half")
        raise ImportRefusedError("no")

    with pytest.raises(ImportRefusedError):
        StepCache(tmp_path).run(Step("make", {}, fail), quiet)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert StepCache(tmp_path).run(Step("make", {}, Work()), quiet).figures == {"length": 4}


def test_what_a_killed_build_left_of_a_step_is_removed_when_it_is_done_again(tmp_path: Path) -> None:
    left: list[Path] = []

    def killed(folder: Path, say: Any) -> dict[str, Any]:
        left.append(shutil.copytree(folder, folder.with_name(f"{folder.name}x")))
        return {}

    StepCache(tmp_path).run(Step("make", {}, killed), quiet)
    (tmp_path / f"make-{Step('make', {}, killed).key[:24]}/step.json").unlink()
    StepCache(tmp_path).run(Step("make", {}, Work()), quiet)
    assert not left[0].exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="file"):
        StepCache(tmp_path / "file").run(Step("make", {}, Work()), quiet)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path, say: Any) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(BuildError, match="No space left"):
        StepCache(tmp_path).run(Step("make", {}, fill), quiet)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_two_builds_do_not_do_the_same_step_twice(tmp_path: Path) -> None:
    work = Work()
    # The lock belongs to the open file, so that threads stand for processes.
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(StepCache(tmp_path).run, Step("make", {}, work), quiet) for _ in range(4)]
        results = [entry.result(30) for entry in done]
    assert work.count == 1
    assert sorted(result.reused for result in results) == [False, True, True, True]


def test_figures_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    def work(folder: Path, say: Any) -> dict[str, Any]:
        return {"accuracy": float("nan")}

    with pytest.raises(ValueError, match="JSON"):
        StepCache(tmp_path).run(Step("make", {}, work), quiet)


def test_the_record_tells_inputs_and_hashes(tmp_path: Path) -> None:
    result = StepCache(tmp_path).run(Step("make", {"a": 1}, Work()), quiet)
    record = json.loads((result.folder / "step.json").read_text())
    assert record["inputs"] == {"a": 1}
    assert set(record["files"]) == {"result.txt"}
    shutil.rmtree(result.folder)


def test_progress_is_told_and_not_kept(tmp_path: Path) -> None:
    def work(folder: Path, say: Any) -> dict[str, Any]:
        say("calibrating, ranges: 4 of 16 frames")
        say("found 4 of 16 layers to be sensitive: a, b")
        return {}

    told: list[str] = []
    result = StepCache(tmp_path).run(Step("make", {}, work), told.append)
    assert len(told) == 2
    assert result.lines == ("found 4 of 16 layers to be sensitive: a, b",)


def test_what_no_build_has_used_for_long_is_forgotten(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    old, new = (cache.run(Step("make", {"a": number}, Work()), quiet) for number in (1, 2))
    long_ago = time.time() - 40 * 86_400
    os.utime(old.folder / "step.json", (long_ago, long_ago))
    os.utime(new.folder / "step.json", (long_ago, long_ago))
    assert cache.run(Step("make", {"a": 2}, Work()), quiet).reused
    assert cache.forget() == 1
    assert not old.folder.exists()
    assert new.folder.exists()
