"""Events and their evidence on the way to the store: in order, complete, and never a file too many."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_collecting import Yard
from support_evidence import FailingDisk
from support_store import an_event, ended
from vedette_server.data.event import Event, EventKind, EventState, Evidence, EvidenceState
from vedette_server.errors import EvidenceError
from vedette_server.evidence.disk import Disk
from vedette_server.evidence.store import EvidenceStore
from vedette_server.evidence.workers import EvidenceWorkers
from vedette_server.monitor.desk import EventDesk
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.errors import StoreUnavailableError
from vedette_server.store.feed import EventFeed
from vedette_server.store.recovering import named_of, recover
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore
from vedette_server.store.waiting import Thinning
from vedette_server.store.writer import EventWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vedette_server.store.changes import Change, Stored

READY, FAILED, PENDING = EvidenceState.READY, EvidenceState.FAILED, EvidenceState.PENDING


class Gate:
    """A store that takes nothing while it is shut, and notes the order of what it took."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.open = True
        self.taken: list[Change] = []

    def append(self, changes: Sequence[Change]) -> list[Stored]:
        if not self.open:
            raise StoreUnavailableError("BUSY", "shut")
        stored = self.store.append(changes)
        self.taken += changes
        return stored


class Desk:
    """A desk on a real store, of one channel."""

    def __init__(self, folder: Path, capacity: int = 4, most_owed: int = 8192, **yard: Any) -> None:
        self.store = EventStore(f"sqlite:///{folder / 'events.db'}", key_file=folder / "key")
        self.gate = Gate(self.store)
        self.writer = EventWriter(self.gate, capacity=capacity, longest_pause_s=0.05)
        self.feed = EventFeed()
        self.yard = Yard(folder, **yard)
        self.desk = EventDesk(self.writer, self.feed, self.yard.store, most_owed)
        self.yard.collector._parts = replace(self.yard.collector._parts, on_change=self.desk.evidence)

    def take(self, *events: Event) -> None:
        self.desk.take(events, self.yard.collector, lambda _event: True)

    def settle(self) -> None:
        for _ in range(600):
            paid = self.desk.pay()
            if self.writer.flush(0.05) and paid and not self.desk.owed:
                return
        raise AssertionError(f"{self.desk.owed} changes are still owed")

    def events(self) -> list[Event]:
        return [one.event for one in self.store.query(size=1000).events if one.event is not None]

    def close(self) -> None:
        self.writer.close()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def over(event: Event, at_s: float) -> Event:
    return replace(event, state=EventState.ENDED, update_s=at_s, end_s=at_s)


def check_order(taken: Sequence[Change], count: int) -> None:
    """No evidence came before its event, of so many events."""
    begun: set[str] = set()
    for change in taken:
        if isinstance(change, Event):
            begun.add(change.event_id)
        assert change.event_id in begun
    assert len(begun) == count


def check_files(store: EventStore, files: EvidenceStore) -> None:
    """Every file is one that an event tells of, by its hash; and none is missing."""
    ready = {}
    for stored in store.query(size=1000).events:
        assert stored.event is not None
        for one in (stored.event.snapshot, stored.event.annotated, stored.event.clip):
            assert one.state is not PENDING
            if one.state is READY:
                ready[one.path] = one.sha256
    there = {path: hashlib.sha256((files.root / path).read_bytes()).hexdigest() for path in files.paths}
    assert there == ready


def test_what_the_store_had_no_room_for_is_brought_again_and_nothing_stays_open_or_pending(desk: Desk) -> None:
    desk.gate.open = False
    desk.yard.stream(2)
    going = [desk.yard.event(f"e{number}") for number in range(20)]
    desk.take(*going)
    for event in going:
        desk.take(replace(event, update_s=desk.yard.at_s + 1), over(event, desk.yard.at_s + 2))
    desk.yard.stream(4)
    desk.yard.workers.run()
    assert desk.desk.owed > 0
    desk.gate.open = True
    desk.settle()
    events = desk.events()
    assert len(events) == 20
    assert {event.state for event in events} == {EventState.ENDED}
    assert {one.state for event in events for one in (event.snapshot, event.annotated, event.clip)} == {READY}
    check_files(desk.store, desk.yard.store)
    assert desk.feed.length == desk.store.end()[0]


def test_what_is_owed_is_bounded_and_what_is_lost_beyond_it_is_logged_once_and_leaves_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, most_owed=10)
    desk.gate.open = False
    desk.yard.stream(2)
    for number in range(100):
        desk.take(over(desk.yard.event(f"e{number}"), desk.yard.at_s))
    desk.yard.stream(3)
    desk.yard.workers.run()
    assert desk.desk.owed == 10
    assert len(desk.yard.workers.waiting) == 0
    assert caplog.text.count("events are lost") == 1
    desk.gate.open = True
    desk.settle()
    assert 10 <= len(desk.events()) <= 16
    recover(desk.store)
    check_files(desk.store, desk.yard.store)
    desk.take(over(desk.yard.event("after"), desk.yard.at_s))
    desk.settle()
    assert desk.store.get("after").event is not None
    desk.close()


def test_what_is_lost_is_counted_and_what_is_only_brought_again_is_not(tmp_path: Path) -> None:
    for most_owed in (8192, 5):
        folder = tmp_path / str(most_owed)
        folder.mkdir()
        desk = Desk(folder, most_owed=most_owed)
        desk.gate.open = False
        for number in range(80):
            desk.desk.take([ended(f"e{number}")], None, lambda _event: True)
        refused = desk.writer.figures().refused
        for _ in range(30):
            assert not desk.desk.pay()
        assert desk.writer.figures().refused == refused, "that was counted when it first came"
        desk.gate.open = True
        desk.settle()
        kept = len(desk.events())
        assert desk.desk.lost == 80 - kept
        assert (kept == 80) == (most_owed > 80)
        desk.close()


def test_an_event_that_cannot_be_kept_at_all_counts_as_lost(desk: Desk) -> None:
    desk.desk.take([ended("e1", start_s=float("inf")), ended("e2")], None, lambda _event: True)
    desk.settle()
    assert desk.desk.lost == 1
    assert [event.event_id for event in desk.events()] == ["e2"]


def test_no_evidence_reaches_the_store_before_its_event_with_threads_and_a_store_that_fails(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    workers = EvidenceWorkers(threads=3)
    desk.yard.collector._parts = replace(desk.yard.collector._parts, workers=workers)
    desk.yard.stream(2)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.wait(0.005):
            desk.gate.open = not desk.gate.open

    def judge(mine: int) -> None:
        for number in range(15):
            event = desk.yard.event(f"t{mine}-{number}")
            desk.take(event)
            desk.take(over(event, desk.yard.at_s))

    threads = [threading.Thread(target=judge, args=(mine,)) for mine in range(3)]
    flickering = threading.Thread(target=flicker)
    for thread in (*threads, flickering):
        thread.start()
    for thread in threads:
        thread.join(30)
    desk.yard.collector.close()
    stop.set()
    flickering.join(10)
    desk.gate.open = True
    workers.close(10)
    desk.settle()
    check_order(desk.gate.taken, 45)
    check_files(desk.store, desk.yard.store)
    desk.close()


@pytest.mark.parametrize("present", ["none", "removed", "expired", "ready"])
def test_a_file_that_no_event_tells_of_in_the_end_is_removed(desk: Desk, present: str) -> None:
    filed = desk.yard.store.put("yard", "e1", ".jpg", 1.8e9, b"picture")
    change = EvidenceChange("e1", snapshot=Evidence(READY, filed.size_bytes, filed.sha256, path=filed.path))
    if present != "none":
        desk.store.append([ended("e1", channel="yard", snapshot=Evidence(PENDING))])
    if present == "removed":
        list(desk.store.retain(Retention(max_events=0)))
    if present == "expired":
        gone = replace(change.snapshot or Evidence(), state=EvidenceState.EXPIRED)
        desk.store.append([change, EvidenceChange("e1", snapshot=gone)])
    desk.desk.evidence(change)
    desk.settle()
    assert desk.yard.store.paths == ((filed.path,) if present == "ready" else ())


def test_a_file_is_replaced_only_once_its_event_tells_of_the_new_one(desk: Desk) -> None:
    first = desk.yard.store.put("yard", "e1", ".jpg", 1.8e9, b"first")
    second = desk.yard.store.put("yard", "e1", ".1.jpg", 1.8e9, b"second")
    old = Evidence(READY, first.size_bytes, first.sha256, path=first.path)
    new = Evidence(READY, second.size_bytes, second.sha256, path=second.path)
    desk.store.append([an_event("e1", channel="yard", snapshot=old)])
    desk.gate.open = False
    desk.desk.evidence(EvidenceChange("e1", snapshot=new), (first.path,))
    assert set(desk.yard.store.paths) == {first.path, second.path}
    desk.gate.open = True
    desk.settle()
    assert desk.yard.store.paths == (second.path,)


def test_an_event_that_cannot_be_kept_costs_no_other_and_begins_no_evidence(desk: Desk) -> None:
    desk.yard.stream(1)
    bad = desk.yard.event("bad", start_s=float("nan"))
    desk.take(bad, desk.yard.event("good"))
    desk.settle()
    assert [event.event_id for event in desk.events()] == ["good"]
    assert len(desk.yard.workers.waiting) == 2
    assert desk.desk.counts == {EventKind.INSIDE.value: 2}


def test_events_are_counted_once_however_often_they_change(desk: Desk) -> None:
    event = desk.yard.event()
    desk.take(event, event, over(event, desk.yard.at_s), over(desk.yard.event("other"), desk.yard.at_s))
    assert desk.desk.counts == {"inside": 2}


def test_on_a_full_disk_events_say_why_they_have_no_pictures_and_later_ones_have_them(tmp_path: Path) -> None:
    disk = FailingDisk("free")
    desk = Desk(tmp_path, disk=disk)
    desk.yard.stream(2)
    desk.take(over(desk.yard.event("e1"), desk.yard.at_s))
    desk.yard.stream(2)
    desk.yard.workers.run()
    desk.settle()
    (event,) = desk.events()
    assert {event.snapshot.state, event.annotated.state, event.clip.state} == {FAILED}
    assert "disk is full" in event.snapshot.detail
    assert "disk is full" in event.clip.detail
    assert desk.yard.store.trouble
    disk.failing = False
    desk.take(over(desk.yard.event("e2"), desk.yard.at_s))
    desk.yard.stream(2)
    desk.yard.workers.run()
    desk.settle()
    later = desk.store.get("e2").event
    assert later is not None
    assert (later.snapshot.state, later.clip.state) == (READY, READY)
    assert not desk.yard.store.trouble
    desk.close()


class KilledError(BaseException):
    """The process is gone."""


class Fate:
    """Kills at the n-th thing that is done to the disk or the store, before it or behind it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.dead = False

    def step(self) -> None:
        self.at -= 1
        if self.dead or self.at < 0:
            self.dead = True
            raise KilledError

    def around(self, do: Callable[[], Any]) -> Any:
        self.step()
        done = do()
        self.step()
        return done


class MortalDisk(Disk):
    """The real one, in a process that is killed."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def begin(self, path: Path) -> None:
        self._fate.around(lambda: Disk.begin(self, path))

    def write(self, path: Path, data: bytes) -> None:
        self._fate.around(lambda: Disk.write(self, path, data))

    def sync(self, path: Path) -> None:
        self._fate.around(lambda: Disk.sync(self, path))

    def rename(self, source: Path, target: Path) -> None:
        self._fate.around(lambda: Disk.rename(self, source, target))

    def remove(self, path: Path) -> None:
        self._fate.around(lambda: Disk.remove(self, path))

    def free_bytes(self, path: Path) -> int:
        return 1 << 40


class LateWriter:
    """Keeps changes when it is told to, as the writer's thread does at some time."""

    def __init__(self, store: EventStore, fate: Fate) -> None:
        self._store, self._fate = store, fate
        self._waiting: list[tuple[Change, Callable[[Stored], None]]] = []

    def submit(self, change: Change, told: Callable[[Stored], None]) -> Thinning:
        self._waiting.append((change, told))
        return Thinning.QUEUED

    def keep(self, most: int) -> None:
        group, self._waiting = self._waiting[:most], self._waiting[most:]
        if group:
            stored = self._fate.around(lambda: self._store.append([change for change, _ in group]))
            for (_, told), one in zip(group, stored, strict=True):
                told(one)


def live(desk: EventDesk, yard: Yard, writer: LateWriter, steps: Sequence[str]) -> None:
    """Live until killed."""
    going: list[Event] = []
    for number, step in enumerate(steps):
        if step == "begin":
            going.append(yard.event(f"e{number}"))
            desk.take(going[-1:], yard.collector, lambda _event: True)
        elif step == "end" and going:
            better = replace(going.pop(0), peak_score=0.9, peak_sequence=yard.sequence - 1)
            desk.take([over(better, yard.at_s)], yard.collector, lambda _event: True)
        elif step == "work":
            yard.workers.step()
        elif step == "keep":
            writer.keep(3)
        elif step == "stream":
            yard.stream(1.5)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["begin", "end", "work", "work", "keep", "stream"]), min_size=8, max_size=40),
    at=st.integers(0, 120),
)
def test_wherever_a_server_is_killed_nothing_is_left_open_pending_missing_or_too_many(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], at: int
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    url, key = f"sqlite:///{folder / 'events.db'}", folder / "key"
    fate = Fate(10_000)
    with EventStore(url, key_file=key) as store:
        yard = Yard(folder, disk=MortalDisk(fate))
        writer: Any = LateWriter(store, fate)
        desk = EventDesk(writer, EventFeed(), yard.store)
        yard.collector._parts = replace(yard.collector._parts, on_change=desk.evidence)
        yard.stream(2)
        fate.at = at
        try:
            live(desk, yard, writer, ["begin", *steps])
        except KilledError:
            assert fate.dead
    with EventStore(url, key_file=key) as store:
        recover(store)
        files = EvidenceStore(folder / "evidence", min_free_bytes=1)
        files.remove_orphans(named_of(store, files.paths).__contains__)
        assert all(one.event is not None and one.event.state is EventState.ENDED for one in store.query().events)
        check_files(store, files)
        assert not list((files.root / ".incoming").iterdir())
        assert not store.verify().findings
        assert recover(store) == 0


def test_the_disk_that_does_not_let_a_file_go_is_told_and_the_event_is_kept(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    filed = desk.yard.store.put("yard", "e1", ".jpg", 1.8e9, b"picture")

    def stuck(path: str) -> bool:
        raise EvidenceError(f"{path} cannot be removed")

    desk.yard.store.remove = stuck  # type: ignore[method-assign]
    desk.desk.evidence(EvidenceChange("e1", snapshot=Evidence(READY, path=filed.path)))
    desk.settle()
    assert "a file without an event stays" in caplog.text
