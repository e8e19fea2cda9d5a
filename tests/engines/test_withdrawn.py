"""Versions that are withdrawn, restored and rolled back from, and the history of it."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from support_bundles import toy_bundle
from vedette_engines import history
from vedette_engines.cli_import import next_version
from vedette_engines.errors import BundleError, EngineNotFoundError
from vedette_engines.history import HISTORY_NAME, read_history
from vedette_engines.locking import locked
from vedette_engines.repository import EngineRepository
from vedette_engines.rollback import roll_back
from vedette_engines.withdrawn import WITHDRAWN_NAME, restore, withdraw, withdrawal_reasons, withdrawn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three versions of one engine."""
    for version in ("1", "2", "10"):
        toy_bundle(tmp_path, version=version)
    return tmp_path


def told(root: Path) -> list[tuple[str, str, str]]:
    return [(event.action, event.version, event.detail) for event in read_history(root, "toy")[0]]


def test_a_withdrawn_version_is_given_to_those_only_who_name_it(root: Path) -> None:
    repository = EngineRepository([root])
    assert repository.resolve("toy").version == "10"

    withdraw(root, "toy", "10", "sees ghosts")

    assert repository.resolve("toy").version == "2"
    assert repository.resolve("toy", "10").version == "10"
    assert {entry.version: entry.withdrawn for entry in repository.list()} == {"10": True, "2": False, "1": False}
    assert withdrawn(root, "toy") == {"10"}
    assert withdrawal_reasons(root, "toy") == {"10": "sees ghosts"}

    restore(root, "toy", "10")

    assert repository.resolve("toy").version == "10"
    assert withdrawn(root, "toy") == frozenset()


def test_when_all_versions_are_withdrawn_it_is_told(root: Path) -> None:
    for version in ("1", "2", "10"):
        withdraw(root, "toy", version)

    with pytest.raises(EngineNotFoundError, match=r"all versions of engine 'toy' are withdrawn \(10, 2, 1\)"):
        EngineRepository([root]).resolve("toy")


def test_a_version_that_is_not_there_cannot_be_withdrawn_or_restored(root: Path) -> None:
    for change in (withdraw, restore):
        with pytest.raises(EngineNotFoundError, match=r"no version '3' in .*; there are: 1, 10, 2"):
            change(root, "toy", "3")
        with pytest.raises(EngineNotFoundError, match="there are: none"):
            change(root, "other", "3")


def test_withdrawing_twice_keeps_the_first_reason_and_tells_the_history_once(root: Path) -> None:
    withdraw(root, "toy", "2", "first")
    withdraw(root, "toy", "2", "second")
    restore(root, "toy", "2")
    restore(root, "toy", "2")

    assert told(root)[3:] == [("withdraw", "2", "first"), ("restore", "2", "")]


def test_a_mark_in_an_earlier_root_holds_for_a_later_one(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    toy_bundle(other, version="10")
    withdraw(root, "toy", "10")

    assert EngineRepository([root, other]).resolve("toy").version == "2"


def test_marks_that_somebody_spoilt_are_not_guessed_at(root: Path) -> None:
    toy_bundle(root, "other")
    repository = EngineRepository([root])
    for text in ("{", "[]", '{"withdrawn": ["10"]}', '{"marks": {}}'):
        (root / "toy" / WITHDRAWN_NAME).write_text(text)

        with pytest.raises(BundleError, match=r"withdrawn\.json: cannot be read: .*mend it, or remove it"):
            repository.resolve("toy")
        with pytest.raises(BundleError, match="cannot be read"):
            withdraw(root, "toy", "1")
        assert repository.resolve("toy", "10").version == "10"
        assert repository.resolve("other").version == "1"
        assert {entry.name: entry.withdrawn for entry in repository.list()} == {"toy": True, "other": False}
    (root / "toy" / WITHDRAWN_NAME).unlink()
    assert repository.resolve("toy").version == "10"


def test_two_writers_lose_no_mark(root: Path) -> None:
    versions = [str(number) for number in range(20, 36)]
    for version in versions:
        (root / "toy" / version).mkdir()
        (root / "toy" / version / "engine.toml").touch()
    start = threading.Barrier(4)

    def run(part: int) -> None:
        start.wait()
        for version in versions[part::4]:
            withdraw(root, "toy", version)

    threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert withdrawn(root, "toy") == set(versions)
    assert [path.name for path in (root / "toy").glob(f"{WITHDRAWN_NAME}-*")] == []
    assert sorted(version for action, version, _ in told(root) if action == "withdraw") == versions


def test_a_writer_that_waits_too_long_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette_engines.locking._WAIT_S", 0.05)

    with locked(root / "toy"), pytest.raises(BundleError, match=r"another writer has held \.lock"):
        withdraw(root, "toy", "1")
    withdraw(root, "toy", "1")


def test_a_full_disk_leaves_the_old_marks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw(root, "toy", "1")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        withdraw(root, "toy", "2")

    assert withdrawn(root, "toy") == {"1"}
    assert [path.name for path in (root / "toy").glob(f"{WITHDRAWN_NAME}-*")] == []


def test_rolling_back_goes_one_version_at_a_time(root: Path) -> None:
    assert roll_back(root, "toy") == ("10", "2")
    assert roll_back(root, "toy") == ("2", "1")
    with pytest.raises(EngineNotFoundError, match=r"nothing to go back to: one version is usable .* \(1\)"):
        roll_back(root, "toy")

    assert EngineRepository([root]).resolve("toy").version == "1"
    assert told(root)[3:] == [("rollback", "10", "rolled back to 2"), ("rollback", "2", "rolled back to 1")]


def test_rolling_back_to_a_version_withdraws_all_that_are_newer(root: Path) -> None:
    assert roll_back(root, "toy", "1") == ("10", "1")

    assert withdrawn(root, "toy") == {"10", "2"}
    assert EngineRepository([root]).resolve("toy").version == "1"


def test_rolling_back_passes_over_what_is_bad_and_withdraws_it_too(root: Path) -> None:
    (root / "toy" / "2" / "model.onnx").write_bytes(b"spoilt")
    toy_bundle(root, version="11")
    (root / "toy" / "11" / "model.onnx").write_bytes(b"spoilt")

    assert roll_back(root, "toy") == ("10", "1")

    assert withdrawn(root, "toy") == {"11", "10", "2"}


def test_rolling_back_to_what_cannot_be_is_refused_with_the_reason(root: Path) -> None:
    (root / "toy" / "1" / "model.onnx").write_bytes(b"spoilt")
    withdraw(root, "toy", "2")

    for version, reason in {"2": "restore toy@2", "1": "it is bad", "3": "there are: 10, 2, 1"}.items():
        with pytest.raises(EngineNotFoundError, match=reason):
            roll_back(root, "toy", version)
    with pytest.raises(EngineNotFoundError, match="is at '10' already"):
        roll_back(root, "toy", "10")
    with pytest.raises(EngineNotFoundError, match="nothing to go back to"):
        roll_back(root, "toy")
    with pytest.raises(EngineNotFoundError, match="no engine is named 'tay'"):
        roll_back(root, "tay")
    assert withdrawn(root, "toy") == {"2"}


def test_the_history_tells_who_did_what_and_names_no_machine(root: Path) -> None:
    events, damaged = read_history(root, "toy")

    assert [(event.action, event.version) for event in events] == [
        ("publish", "1"),
        ("publish", "2"),
        ("publish", "10"),
    ]
    assert all(event.tool.startswith("vedette") and event.time.endswith("+00:00") for event in events)
    assert damaged == 0
    fields = json.loads((root / "toy" / HISTORY_NAME).read_text().splitlines()[0])
    assert sorted(fields) == ["action", "detail", "time", "tool", "user", "version"]


def test_a_history_that_is_damaged_is_read_as_far_as_it_goes_and_fails_nothing(root: Path) -> None:
    path = root / "toy" / HISTORY_NAME
    path.write_bytes(path.read_bytes() + b'{"action": "pub\n[1]\n{"unknown": 1}\n\xff\n')

    toy_bundle(root, version="11")

    events, damaged = read_history(root, "toy")
    assert [event.version for event in events] == ["1", "2", "10", "11"]
    assert damaged == 4


def test_a_history_that_cannot_be_written_fails_no_publication(root: Path) -> None:
    (root / "toy" / HISTORY_NAME).unlink()
    (root / "toy" / HISTORY_NAME).mkdir()

    assert toy_bundle(root, version="11").version == "11"
    assert read_history(root, "toy") == ((), 0)


def test_lines_of_several_writers_do_not_mix(root: Path) -> None:
    def run(part: int) -> None:
        for number in range(25):
            history.record(root, "toy", history.PUBLISH, f"{part}.{number}", "x" * 300)

    threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events, damaged = read_history(root, "toy")
    assert (len(events), damaged) == (103, 0)


def test_a_number_never_comes_back_with_another_engine(root: Path) -> None:
    withdraw(root, "toy", "10", "wrong")
    for path in (root / "toy" / "10").iterdir():
        path.unlink()
    (root / "toy" / "10").rmdir()

    assert next_version(root, "toy") == "11"
    with pytest.raises(BundleError, match="toy 10 was withdrawn and removed; choose a new version"):
        toy_bundle(root, version="10")
    (root / "toy" / WITHDRAWN_NAME).unlink()
    assert next_version(root, "toy") == "11", "the history remembers it, too"
