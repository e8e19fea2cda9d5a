"""Recordings of channels that are not there any more: what they said last holds, and nothing but recordings goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_evidence import EPOCH_S, FailingDisk, store_in
from support_store import DAY_S
from vedette_server.data.channel import RetentionConfig
from vedette_server.evidence.left import LIMITS_NAME, forget_limits, note_limits, noted_limits, trim
from vedette_server.evidence.recording import INDEX_NAME, RecordingIndex, Segment
from vedette_server.evidence.store import safe_name

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.evidence.store import EvidenceStore

SAID = RetentionConfig(3600.0, 5, 1 << 20)


def record(store: EvidenceStore, age_days: float, channel: str = "gate", size: int = 10) -> str:
    """File a recording, and write it down as a recorder does."""
    first_s = EPOCH_S - age_days * DAY_S
    filed = store.put(channel, f"recording-{round(first_s * 1000)}", ".mp4", first_s, bytes(size))
    segment = Segment(filed.path, first_s, first_s + 60, filed.size_bytes, filed.sha256, (first_s,))
    RecordingIndex(store, channel).add(segment)
    return filed.path


def trim_all(store: EvidenceStore, max_age_s: float | None = None, max_bytes: int | None = None) -> None:
    for held in store.held_apart(()).values():
        trim(store, held, RetentionConfig(max_age_s, None, max_bytes), EPOCH_S, lambda: False)


@settings(max_examples=40, deadline=None)
@given(
    ages=st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True),
    events=st.integers(0, 3),
    max_days=st.none() | st.integers(0, 40),
    max_bytes=st.none() | st.integers(0, 110),
)
def test_the_oldest_recordings_go_and_no_more_than_must_and_never_what_is_of_events(
    ages: list[int],
    events: int,
    max_days: int | None,
    max_bytes: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = store_in(tmp_path_factory.mktemp("left"))
    of_events = {store.put("gate", f"e{n}", ".mp4", EPOCH_S - 99 * DAY_S, bytes(10)).path for n in range(events)}
    paths = {age: record(store, age) for age in ages}
    trim_all(store, None if max_days is None else (max_days + 0.5) * DAY_S, max_bytes)
    wanted = [age for age in sorted(ages) if max_days is None or age <= max_days]
    if max_bytes is not None:
        wanted = wanted[: max(max_bytes // 10 - events, 0)]
    assert set(store.paths) == of_events | {paths[age] for age in wanted}
    on_disk = {path.relative_to(store.root).as_posix() for path in store.root.glob("*/*/*.mp4")}
    assert on_disk == set(store.paths)
    days = {paths[age].rpartition("/")[0] for age in wanted}
    assert {path.parent.relative_to(store.root).as_posix() for path in store.root.rglob(INDEX_NAME)} == days


def test_age_is_that_of_the_first_picture_also_after_a_restart(tmp_path: Path) -> None:
    record(store_in(tmp_path), 10)
    store = store_in(tmp_path)
    trim_all(store, 11 * DAY_S)
    assert len(store.paths) == 1
    trim_all(store, 9 * DAY_S)
    assert store.paths == ()


def test_what_is_only_called_like_a_recording_or_lies_elsewhere_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "recording-1.mp4").write_bytes(b"somebody's")
    root = store_in(tmp_path).root
    (root / "linked").mkdir()
    (root / "linked" / "2020-01-01").symlink_to(outside)
    (root / "all").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "2020-01-01").mkdir(parents=True)
    (tmp_path / "other" / "2020-01-01" / "recording-2.mp4").write_bytes(b"somebody's")
    plain = root / "gate" / "2020-01-01"
    plain.mkdir(parents=True)
    for name in ("recording-of-me.mp4", "recording-1.jpg", "notes.txt"):
        (plain / name).write_bytes(b"mine")
    (root / "gate" / "recording-1.mp4").write_bytes(b"mine")
    (root / "gate" / "holidays").mkdir()
    (root / "gate" / "holidays" / "recording-1.mp4").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    store = store_in(tmp_path)
    assert {"linked/2020-01-01/recording-1.mp4", "all/2020-01-01/recording-2.mp4"} < set(store.paths)
    trim_all(store, 0.0, 0)
    assert sorted(tmp_path.rglob("*")) == before
    assert (outside / "recording-1.mp4").exists()
    assert (tmp_path / "other" / "2020-01-01" / "recording-2.mp4").exists()


def test_one_that_the_disk_does_not_let_go_costs_no_other_and_a_stop_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk("remove")
    store = store_in(tmp_path, disk)
    first, _second = record(store, 5), record(store, 4)
    (held,) = store.held_apart(()).values()
    trim(store, held, RetentionConfig(DAY_S), EPOCH_S, lambda: True)
    assert len(store.paths) == 2
    remove = disk.remove

    def stuck(path: Path) -> None:
        if path.as_posix().endswith((first, INDEX_NAME)):
            raise OSError(5, "injected")
        remove(path)

    monkeypatch.setattr(disk, "remove", stuck)
    trim(store, held, RetentionConfig(DAY_S), EPOCH_S, lambda: False)
    assert store.paths == (first,)


def test_the_line_of_a_recording_that_came_meanwhile_stays(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    record(store, 5)
    (held,) = store.held_apart(()).values()
    came: list[str] = []

    def look() -> bool:
        came.append(record(store, 5 - 1 / 24))
        return False

    trim(store, held, RetentionConfig(DAY_S), EPOCH_S, look)
    (left,) = RecordingIndex(store, "gate").segments
    assert (left.path, len(left.sha256)) == (came[0], 64), "as it was written down, not as it was read again"


def test_files_without_content_go_too(tmp_path: Path) -> None:
    for day in ("2020-01-01", "2020-01-02"):
        path = store_in(tmp_path).root / "gate" / day / "recording-1.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    store = store_in(tmp_path)
    trim_all(store, 0.0)
    assert store.paths == ()


@pytest.mark.parametrize("channel", ["gate", "hall.2", "x" * 128])
def test_what_a_channel_said_last_is_known_after_a_restart_until_it_says_nothing(tmp_path: Path, channel: str) -> None:
    store = store_in(tmp_path)
    note_limits(store, channel, RetentionConfig(1.0))
    note_limits(store, channel, SAID)
    note_limits(store, channel, SAID)
    again = store_in(tmp_path)
    assert noted_limits(again, ()) == {channel: SAID}
    assert noted_limits(again, (channel,)) == {}, "it is there, and says for itself"
    assert again.paths == ()
    (note,) = again.root.rglob(LIMITS_NAME)
    assert note.stat().st_mode & 0o777 == 0o600
    forget_limits(again, channel)
    assert noted_limits(again, ()) == {}
    assert not list((again.root / ".incoming").iterdir())


def test_a_channel_that_says_nothing_leaves_no_trace(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    note_limits(store, "gate", RetentionConfig())
    assert [path.name for path in store.root.iterdir()] == [".incoming"]


GARBAGE = [
    b"",
    b"[]",
    b"{}",
    json.dumps({"channel": "yard", "max_age_s": 1}).encode(),
    json.dumps({"channel": "gate", "max_age_s": 0}).encode(),
    json.dumps({"channel": "gate", "max_age_s": "1"}).encode(),
    json.dumps({"channel": "gate", "max_bytes": 1.5}).encode(),
    json.dumps({"channel": "gate", "more": 1}).encode(),
    json.dumps({"channel": 7}).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", GARBAGE)
def test_a_note_that_is_none_is_told_and_does_not_hold(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path)
    (store.root / "gate").mkdir()
    (store.root / "gate" / LIMITS_NAME).write_bytes(data)
    note_limits(store, "hall.2", SAID)
    assert noted_limits(store, ()) == {"hall.2": SAID}
    assert "cannot be read" in caplog.text
    note_limits(store, "gate", SAID)
    assert noted_limits(store, ())["gate"] == SAID, "the channel itself writes it anew"


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_disk_that_takes_no_note_is_told_and_harms_nothing(
    tmp_path: Path, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk(step)
    store = store_in(tmp_path, disk)
    note_limits(store, "gate", SAID)
    assert "could not be noted" in caplog.text
    assert noted_limits(store, ()) == {}
    disk.failing = False
    note_limits(store, "gate", SAID)
    assert noted_limits(store, ()) == {"gate": SAID}


def test_those_of_a_folder_that_is_looked_after_are_left_out(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    path = record(store, 1, "hall.2")
    record(store, 1)
    assert [one.path for one in store.held_apart({"gate"})[safe_name("hall.2")]] == [path]
    assert store.held_apart({"gate", safe_name("hall.2")}) == {}
