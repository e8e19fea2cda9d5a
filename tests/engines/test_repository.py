from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from support_bundles import toy_bundle
from vedette_engines.errors import BundleError, EngineNotFoundError
from vedette_engines.repository import EngineRepository, boxed_root, version_key

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.bundle import Bundle


def spoil(bundle: Bundle) -> None:
    """Change a file after it was published."""
    (bundle.path / "model.onnx").write_bytes(b"spoilt")


def test_versions_are_ordered_as_people_read_them() -> None:
    ordered = ["beta", "0.9", "1.0.dev3", "1.0a1", "1.0rc2", "1.0rc10", "1.0", "1.0.post1", "1.0.1", "1.9", "1.10", "9"]
    ordered += ["10", "2026.11.21"]
    shuffled = random.Random(1).sample(ordered, len(ordered))

    assert sorted(shuffled, key=version_key) == ordered


def test_the_newest_version_is_served_when_none_is_named(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        toy_bundle(tmp_path, version=version)

    repository = EngineRepository([tmp_path])

    assert repository.resolve("toy").version == "10"
    assert repository.resolve("toy", "9").version == "9"
    assert [entry.version for entry in repository.list()] == ["10", "9", "2"]


def test_what_is_published_later_is_found(tmp_path: Path) -> None:
    repository = EngineRepository([tmp_path / "missing", tmp_path])
    assert list(repository.list()) == []

    toy_bundle(tmp_path)

    assert repository.resolve("toy").version == "1"


def test_an_unknown_name_or_version_is_told_with_what_there_is(tmp_path: Path) -> None:
    toy_bundle(tmp_path, "toy", "1")
    toy_bundle(tmp_path, "toy", "2")
    toy_bundle(tmp_path, "other", "1")
    repository = EngineRepository([tmp_path])

    with pytest.raises(EngineNotFoundError, match="no engine is named 'tay'; there are: other, toy"):
        repository.resolve("tay")
    with pytest.raises(EngineNotFoundError, match="engine 'toy' has no version '3'; there are: 2, 1"):
        repository.resolve("toy", "3")
    with pytest.raises(EngineNotFoundError, match="there are: none"):
        EngineRepository([]).resolve("toy")


def test_a_bad_bundle_is_listed_with_its_reason_and_hides_no_good_one(tmp_path: Path) -> None:
    toy_bundle(tmp_path, "good")
    toy_bundle(tmp_path, version="1")
    spoil(toy_bundle(tmp_path, version="2"))
    repository = EngineRepository([tmp_path])

    listed = {(entry.name, entry.version): entry for entry in repository.list()}

    assert listed["toy", "2"].bundle is None
    assert "bytes, but engine.toml says" in listed["toy", "2"].reason
    assert listed["good", "1"].bundle is not None
    assert repository.resolve("toy").version == "1"
    with pytest.raises(BundleError, match="bytes, but"):
        repository.resolve("toy", "2")


def test_an_earlier_root_wins_unless_its_bundle_is_bad(tmp_path: Path) -> None:
    mine = toy_bundle(tmp_path / "mine")
    toy_bundle(tmp_path / "boxed")
    repository = EngineRepository([tmp_path / "mine", tmp_path / "boxed"])

    assert [entry.path for entry in repository.list()] == [mine.path]
    assert repository.resolve("toy").path == mine.path

    spoil(mine)

    assert [bool(entry.bundle) for entry in repository.list()] == [False, True]
    assert repository.resolve("toy").path == tmp_path / "boxed" / "toy" / "1"


def test_a_draft_that_is_being_written_is_not_seen(tmp_path: Path) -> None:
    toy_bundle(tmp_path / ".publish-x")

    assert list(EngineRepository([tmp_path, tmp_path / ".publish-x" / "toy"]).list()) == []


def test_the_box_has_its_engines_and_they_are_good() -> None:
    listed = EngineRepository([boxed_root()]).list()

    assert [(entry.name, entry.reason) for entry in listed] == [("blobs", ""), ("person", "")]


def test_a_bundle_that_is_spoilt_after_it_was_served_is_refused_and_one_that_is_mended_is_served(
    tmp_path: Path,
) -> None:
    bundle = toy_bundle(tmp_path)
    good = (bundle.path / "model.onnx").read_bytes()
    repository = EngineRepository([tmp_path])
    assert repository.resolve("toy") == repository.resolve("toy") == bundle

    spoil(bundle)
    with pytest.raises(BundleError, match="bytes, but"):
        repository.resolve("toy")

    (bundle.path / "model.onnx").write_bytes(good)
    assert repository.resolve("toy") == bundle


def test_an_unchanged_bundle_is_not_read_again(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    repository = EngineRepository([tmp_path])

    assert repository.resolve("toy") is repository.resolve("toy")
    assert repository.resolve("toy") == bundle
