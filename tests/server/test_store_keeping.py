"""What is not to be kept any more goes, with its files; a channel's own word goes first, and recordings go first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from support_evidence import FailingDisk
from support_store import BEGIN_S, DAY_S, an_event, ended
from vedette_server.data.channel import RetentionConfig
from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.evidence.left import LIMITS_NAME, note_limits, noted_limits
from vedette_server.evidence.recording import RecordingIndex, Segment
from vedette_server.evidence.store import EvidenceStore
from vedette_server.store import recovering
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.errors import StoreUnavailableError
from vedette_server.store.keeping import StoreKeeper
from vedette_server.store.recovering import named_of, recover
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette_server.store.changes import Stored
    from vedette_server.store.querying import Page
    from vedette_server.store.retaining import Removal, Retention

NOW_S = BEGIN_S + 10 * DAY_S


class Site:
    """A store with files, and who keeps them within limits."""

    def __init__(self, folder: Path) -> None:
        self.disk = FailingDisk("remove")
        self.disk.failing = False
        self.store = EventStore(f"sqlite:///{folder / 'events.db'}", key_file=folder / "key", clock=lambda: NOW_S)
        self.files = EvidenceStore(folder / "evidence", min_free_bytes=1, disk=self.disk)
        self.wanted = RetentionConfig(None, None, None)
        self.own: dict[str, RetentionConfig] = {}
        self.indexes: dict[str, RecordingIndex] = {}
        self.told: list[Stored] = []
        self.strangers: set[str] = set()
        self.keeper = self.open(0.01)

    def open(self, interval_s: float) -> StoreKeeper:
        return StoreKeeper(
            self.store,
            self.files,
            self.wanted,
            lambda: self.own,
            lambda: self.indexes,
            self.told.append,
            interval_s,
            clock=lambda: NOW_S,
            strangers=self.strangers,
        )

    def event(self, name: str, channel: str, day: float, size: int = 100) -> str:
        """Keep an event with its picture."""
        filed = self.files.put(channel, name, ".jpg", BEGIN_S + day * DAY_S, b"x" * size)
        picture = Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, "image/jpeg", path=filed.path)
        self.store.append([ended(name, channel=channel, at_s=day * DAY_S), EvidenceChange(name, snapshot=picture)])
        return filed.path

    def record(self, channel: str, day: float, size: int = 100) -> str:
        index = self.indexes.setdefault(channel, RecordingIndex(self.files, channel))
        first_s = BEGIN_S + day * DAY_S
        filed = self.files.put(channel, f"recording-{round(first_s * 1000)}", ".mp4", first_s, b"x" * size)
        index.add(Segment(filed.path, first_s, first_s + 60, filed.size_bytes, filed.sha256, (first_s,)))
        return filed.path

    def say(self, channel: str, said: RetentionConfig) -> None:
        """Have a channel that is there say something for itself."""
        self.own[channel] = said
        note_limits(self.files, channel, said)

    def restart(self, *known: str) -> None:
        """Open the files anew, with these channels only."""
        self.files = EvidenceStore(self.files.root, min_free_bytes=1, disk=self.disk)
        self.own = {name: said for name, said in self.own.items() if name in known}
        self.indexes = {name: RecordingIndex(self.files, name) for name in known}

    def look(self, wanted: RetentionConfig) -> None:
        self.wanted = wanted
        self.open(1).look()

    @property
    def names(self) -> list[str]:
        return sorted(one.event_id for one in self.store.query(size=1000).events)

    def on_disk(self) -> set[str]:
        root = self.files.root
        return {path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.suffix in {".jpg", ".mp4"}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    yield opened
    assert not opened.store.verify().findings, "whatever was removed, the chain verifies"
    opened.keeper.close()
    opened.store.close()


def test_what_a_channel_says_for_itself_goes_before_the_settings_and_what_it_does_not_say_is_theirs(site: Site) -> None:
    for day in (1, 5, 9):
        for channel in ("gate", "yard", "hall"):
            site.event(f"{channel}{day}", channel, day)
    site.own = {"yard": RetentionConfig(8 * DAY_S, None, None), "hall": RetentionConfig(None, 1, None)}
    site.look(RetentionConfig(3 * DAY_S, 2, None))
    assert site.names == ["gate9", "hall9", "yard5", "yard9"]
    assert site.on_disk() == set(site.files.paths)
    assert {path.rpartition("/")[2].partition(".")[0] for path in site.files.paths} == set(site.names)


def test_of_too_many_bytes_recordings_go_first_the_oldest_before_the_others(site: Site) -> None:
    event = site.event("e1", "gate", 1)
    recordings = [site.record("gate", day) for day in (2, 3, 4)]
    site.look(RetentionConfig(None, None, 250))
    assert site.on_disk() == {event, recordings[2]}
    assert [segment.path for segment in site.indexes["gate"].segments] == [recordings[2]]
    assert not site.told
    site.look(RetentionConfig(None, None, 100))
    assert site.on_disk() == {event}
    site.look(RetentionConfig(None, None, 99))
    assert site.on_disk() == set()
    assert site.names == ["e1"], "the event stays"


def test_who_follows_is_told_of_files_that_are_gone_after_they_are(site: Site) -> None:
    for number in range(3):
        site.event(f"e{number}", "gate", number)
    length = site.store.end()[0]
    site.look(RetentionConfig(None, None, 150))
    assert [stored.event_id for stored in site.told] == ["e0", "e1"]
    assert all(stored.number > length for stored in site.told)
    for stored in site.told:
        assert stored.event is not None
        assert stored.event.snapshot.state is EvidenceState.EXPIRED
        assert not site.on_disk() & {stored.event.snapshot.path}
    changes = site.store.changes_after(length).changes
    assert [one.event_id for one in changes] == ["e0", "e1"]


def test_what_goes_on_is_not_removed_but_old_recordings_are(site: Site) -> None:
    site.store.append([an_event("going", channel="gate")])
    old, young = site.record("gate", 1), site.record("gate", 9.5)
    site.look(RetentionConfig(DAY_S, 1, None))
    assert site.names == ["going"]
    assert site.on_disk() == {young}
    assert not site.indexes["gate"].knows(old)


def test_of_a_channel_that_is_deleted_recordings_go_as_the_server_says_also_after_a_restart(site: Site) -> None:
    event = site.event("e1", "hall.2", 1)
    old, young = site.record("hall.2", 1), site.record("hall.2", 9.5)
    lives = site.record("gate", 1)
    site.say("gate", RetentionConfig(20 * DAY_S))
    site.restart("gate")
    site.look(RetentionConfig(None, None, None))
    assert site.on_disk() == {event, old, young, lives}
    site.look(RetentionConfig(None, None, 200))
    assert site.on_disk() == {event, young, lives}
    site.look(RetentionConfig(None, None, 100))
    assert site.on_disk() == {event, lives}, "the events' own go by their events"
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == {lives}


@pytest.mark.parametrize("restarts", [False, True])
def test_what_a_channel_said_last_holds_on_when_it_is_deleted_until_nothing_of_it_is_left(
    site: Site, *, restarts: bool
) -> None:
    kept, gone = [site.record("gate", day) for day in (5, 9)], site.record("yard", 9)
    event = site.event("e1", "gate", 3)
    site.say("gate", RetentionConfig(8 * DAY_S))
    site.say("yard", RetentionConfig(None, None, 50))
    if restarts:
        site.restart()
    site.own, site.indexes = {}, {}
    site.look(RetentionConfig(DAY_S / 2, None, 1000))
    assert gone not in site.on_disk(), "the server's bytes are more, its days fewer"
    assert site.on_disk() == {event, *kept}
    assert site.names == ["e1"]
    site.look(RetentionConfig(None, None, 250))
    assert site.on_disk() == {event, kept[1]}, "what it did not say is the server's, as that is now"
    site.say("gate", RetentionConfig(1.0))
    del site.own["gate"]
    for _ in range(2):
        site.look(RetentionConfig())
    assert site.on_disk() == set()
    assert site.names == []
    assert not list(site.files.root.rglob("*.json*")), "no note stays, and no index"


def test_a_channel_that_is_made_again_just_when_it_is_forgotten_keeps_its_note(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.say("gate", RetentionConfig(5 * DAY_S))
    site.own = {}
    query = site.store.query

    def made_again(*asked: Any, **more: Any) -> Page:
        site.say("gate", RetentionConfig(7 * DAY_S))
        return query(*asked, **more)

    monkeypatch.setattr(site.store, "query", made_again)
    site.look(RetentionConfig())
    assert noted_limits(site.files, ()) == {"gate": RetentionConfig(7 * DAY_S)}


@pytest.mark.parametrize("why", ["unread", "unmounted"])
def test_where_it_cannot_be_read_what_a_deleted_channel_said_nothing_of_it_goes_but_what_is_known_does(
    site: Site, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.event("e1", "gate", 1)
    site.record("gate", 1)
    site.say("gate", RetentionConfig(300 * DAY_S))
    site.own, site.indexes = {"yard": RetentionConfig(), "hall": RetentionConfig(2 * DAY_S)}, {}
    for number, channel in enumerate(("yard", "hall"), 2):
        site.event(f"e{number}", channel, 1)
    note = site.files.root / "gate" / LIMITS_NAME
    hindrance = note.with_name("kept")
    if why == "unread":
        note.rename(hindrance)
        # Reading it fails, as it does when a process has too many files open.
        note.mkdir()
    else:
        site.files.root.rename(site.files.root.with_name("elsewhere"))
        site.files.root.mkdir()
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.names == ["e1"]
    assert len([path for path in site.files.paths if path.startswith("gate/")]) == 2
    assert "limits of deleted channels cannot be read" in caplog.text
    if why == "unread":
        note.rmdir()
        hindrance.rename(note)
        site.look(RetentionConfig(DAY_S, None, None))
        assert (site.names, len(site.on_disk())) == (["e1"], 2), "it said 300 days"


def test_in_folders_that_may_be_another_stores_nothing_goes_of_channels_that_are_not_there(site: Site) -> None:
    strange, ours = site.record("gate", 1), site.record("yard", 1)
    site.say("gate", RetentionConfig(1.0))
    site.restart()
    site.strangers = {"gate"}
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == {strange}
    assert ours not in site.files.paths
    assert noted_limits(site.files, ()) == {"gate": RetentionConfig(1.0)}


def test_recordings_of_a_channel_that_is_there_but_not_recorded_go_as_it_says(site: Site) -> None:
    paths = [site.record("gate", day) for day in (1, 5, 9.9)]
    site.indexes = {}
    site.own = {"gate": RetentionConfig(6 * DAY_S)}
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == set(paths[1:])


def test_a_store_that_does_not_answer_does_not_let_recordings_fill_the_disk(site: Site) -> None:
    site.record("gate", 1)
    site.record("deleted", 1)
    del site.indexes["deleted"]

    def broken(_wanted: Retention) -> Iterator[Removal]:
        raise StoreUnavailableError("BUSY", "no")

    site.store.retain = broken  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == set()


def test_a_file_that_the_disk_does_not_let_go_is_tried_again_and_costs_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = site.record("gate", 1), site.record("gate", 2)
    remove = site.disk.remove

    def stuck(path: Path) -> None:
        if path.as_posix().endswith(first):
            raise OSError(5, "injected")
        remove(path)

    monkeypatch.setattr(site.disk, "remove", stuck)
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == {first}
    assert site.indexes["gate"].knows(first)
    assert not site.indexes["gate"].knows(second)
    monkeypatch.undo()
    site.look(RetentionConfig(DAY_S, None, None))
    assert site.on_disk() == set()


def test_it_looks_every_so_often_goes_on_after_a_failure_and_closes_twice(site: Site) -> None:
    looked = threading.Semaphore(0)

    def channels() -> dict[str, RetentionConfig]:
        looked.release()
        raise RuntimeError("no")

    keeper = StoreKeeper(site.store, site.files, site.wanted, channels, dict, site.told.append, 0.001)
    keeper.close()
    keeper = StoreKeeper(site.store, site.files, site.wanted, channels, dict, site.told.append, 0.001)
    keeper.start()
    assert looked.acquire(timeout=10)
    assert looked.acquire(timeout=10)
    keeper.close()
    keeper.close()


def test_without_files_events_are_kept_within_limits_all_the_same(site: Site) -> None:
    site.store.append([ended("e1"), ended("e2", at_s=5)])
    wanted = RetentionConfig(None, 1, 1)
    StoreKeeper(site.store, None, wanted, dict, lambda: site.indexes, site.told.append, 1).look()
    assert site.names == ["e2"]


def test_a_crash_in_a_flood_leaves_no_clip_pending_however_many_records_came_behind_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "_RECENT", 100)
    pending = Evidence(EvidenceState.PENDING, media_type="video/mp4")
    site.store.append([ended(f"p{n}", at_s=n, clip=pending) for n in range(5)])
    site.store.append([ended(f"f{n}", at_s=10 + n / 1000) for n in range(300)])
    assert recover(site.store) == 5
    assert all(one.event is not None and one.event.clip.state is EvidenceState.FAILED for one in pages(site, "p"))


def pages(site: Site, first: str) -> list[Stored]:
    return list(site.store.get_many([f"{first}{n}" for n in range(5)]).values())


def test_hundreds_that_go_on_are_all_ended_and_the_files_of_many_are_looked_up_at_once(site: Site) -> None:
    site.store.append([an_event(f"a{n}", at_s=n) for n in range(700)])
    paths = [site.event(f"e{n}", "gate", 1 + n / 1000) for n in range(20)]
    assert recover(site.store) == 700
    assert named_of(site.store, [*paths, "gate/2026-01-01/none.jpg"]) == set(paths)
    assert named_of(site.store, []) == set()
