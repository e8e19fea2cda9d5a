"""What the benchmark of kills looks at finds what is wrong: a check that cannot fail proves nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from bench.kills_store import Files, check_chain, check_ids, missed, read

from support_store import an_event, ended
from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = b"a picture"
PLACE = "gate/2026-11-21/e1.jpg"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with three records of two events, one of them with a picture."""
    file = tmp_path / "evidence" / PLACE
    file.parent.mkdir(parents=True)
    file.write_bytes(PICTURE)
    kept = Evidence(EvidenceState.READY, len(PICTURE), hashlib.sha256(PICTURE).hexdigest(), "image/jpeg", path=PLACE)
    with EventStore(f"sqlite:///{tmp_path / 'events.db'}", key_file=tmp_path / "key") as store:
        store.append([an_event("e1"), ended("e2", at_s=9.0)])
        store.append([ended("e1", snapshot=kept)])
    return tmp_path


def change(state: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(state / "events.db")) as database, database:
        database.execute(statement, values)


def test_a_sound_folder_has_nothing_wrong(state: Path) -> None:
    kept = read(state)
    files = Files(state / "evidence")
    assert [row.number for row in kept.rows] == [1, 2, 3]
    assert kept.listed == {"e1": 3, "e2": 2}
    assert check_chain(kept) == check_ids(kept) == kept.open() == files.orphans(kept) == []
    assert files.check(kept) == (1, [])


def test_a_folder_without_a_store_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path).rows == ()


def test_a_record_that_was_changed_or_lost_is_found(state: Path) -> None:
    content = json.loads(read(state).rows[1].raw) | {"label": "cat"}
    change(
        state, "update vedette_records set content = ? where number = 2", zlib.compress(json.dumps(content).encode())
    )
    assert any("record 2" in one for one in check_chain(read(state)))


def test_an_event_that_is_listed_with_an_older_record_is_found(state: Path) -> None:
    change(state, "update vedette_events set record = 1 where event_id = 'e1'")
    assert any("e1" in one for one in check_chain(read(state)))
    assert read(state).open() == ["e1"]


def test_one_cause_with_two_ids_is_found(tmp_path: Path) -> None:
    with EventStore(f"sqlite:///{tmp_path / 'events.db'}", key_file=tmp_path / "key") as store:
        store.append([ended("e1", track_ids=("t",)), ended("e2", track_ids=("t",))])
    assert len(check_ids(read(tmp_path))) == 1


@pytest.mark.parametrize("wrong", [b"another p", b"shorter"])
def test_a_file_that_is_not_what_its_event_says_is_found(state: Path, wrong: bytes) -> None:
    files, kept = Files(state / "evidence"), read(state)
    assert files.check(kept)[1] == []
    (state / "evidence" / PLACE).write_bytes(wrong)
    assert files.check(kept)[1] == [f"{PLACE} is not what its event says"]
    (state / "evidence" / PLACE).unlink()
    assert files.check(kept)[1] == [f"{PLACE} is missing"]


def test_a_file_that_no_event_names_is_an_orphan_though_it_is_called_by_one(state: Path) -> None:
    (state / "evidence" / PLACE.replace("jpg", "mp4")).write_bytes(b"a clip")
    (state / "evidence" / ".incoming").mkdir()
    (state / "evidence" / ".incoming" / "1.mp4").write_bytes(b"half")
    files = Files(state / "evidence")
    assert files.orphans(read(state)) == [PLACE.replace("jpg", "mp4")]
    assert files.incoming() == 1


@pytest.mark.parametrize(
    ("numbers", "wrong"), [([], (0, 0)), ([1, 2, 3], (0, 0)), ([1, 3], (1, 0)), ([2, 3], (1, 0)), ([1, 2, 2], (0, 1))]
)
def test_gaps_and_doubles_are_counted(numbers: list[int], wrong: tuple[int, int]) -> None:
    assert missed(numbers) == wrong
