"""The writer: what waits, what is thinned, what happens while the store fails, and that nobody is told too early."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_store import BEGIN_S, a_postgres, an_event, ended, ready
from vedette_server.data.event import Event, EventState
from vedette_server.errors import InvalidError
from vedette_server.store.changes import EvidenceChange, Outcome, Stored
from vedette_server.store.errors import UNKNOWN, StoreUnavailableError, StoreUnusableError
from vedette_server.store.store import EventStore
from vedette_server.store.waiting import Thinning, Waiting
from vedette_server.store.writer import EventWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_server.store.changes import Change


def updated(name: str = "e1", after_s: float = 1.0) -> Event:
    return an_event(name, update_s=BEGIN_S + after_s)


class Gate:
    """A store that keeps nothing before it is opened, and fails as it is told."""

    def __init__(self, errors: Sequence[Exception] = ()) -> None:
        self.kept: list[Change] = []
        self.groups: list[int] = []
        self.errors = list(errors)
        self.open = threading.Event()
        self.entered = threading.Event()

    def append(self, changes: Sequence[Change]) -> list[Stored]:
        self.entered.set()
        assert self.open.wait(20)
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(len(changes))
        first = len(self.kept) + 1
        self.kept += changes
        return [Stored(Outcome.ADDED, one.event_id, first + n) for n, one in enumerate(changes)]


def busy(gate: Gate, writer: EventWriter) -> None:
    """Bring the writer to where it waits for the store with one change in hand."""
    assert writer.submit(an_event("first")) is Thinning.QUEUED
    assert gate.entered.wait(20)


def test_what_comes_while_a_commit_waits_goes_into_one_group() -> None:
    gate = Gate()
    with EventWriter(gate, group=10) as writer:
        busy(gate, writer)
        for number in range(12):
            writer.submit(an_event(f"{number}"))
        gate.open.set()
        assert writer.flush(20)
    assert gate.groups == [1, 10, 2]


def test_nobody_is_told_before_the_commit_and_everybody_in_the_order_of_the_numbers() -> None:
    gate, told = Gate(), []
    with EventWriter(gate) as writer:
        for number in range(5):
            writer.submit(an_event(f"{number}"), lambda stored: told.append(stored.number))
        assert gate.entered.wait(20)
        assert told == []
        gate.open.set()
        assert writer.flush(20)
    assert told == [1, 2, 3, 4, 5]


def test_of_a_lasting_event_one_update_waits_at_most_and_its_begin_and_end_are_kept() -> None:
    gate, told = Gate(), []
    with EventWriter(gate) as writer:
        busy(gate, writer)
        results = [
            writer.submit(change, lambda stored: told.append(stored.number))
            for change in (an_event("a"), updated("a", 1), updated("a", 2), updated("a", 3), ended("a"))
        ]
        gate.open.set()
        assert writer.flush(20)
        figures = writer.figures()
    assert results == [Thinning.QUEUED, Thinning.QUEUED, *[Thinning.COALESCED] * 3]
    assert gate.kept[1:] == [an_event("a"), ended("a")]
    assert told == [2, 3, 3, 3, 3], "who brought an update is told of the change that replaced it"
    assert (figures.kept, figures.coalesced, figures.thinned, figures.refused) == (3, 3, 0, 0)


def test_a_full_queue_thins_updates_first_and_refuses_what_it_may_not_thin() -> None:
    gate, told = Gate(), []
    with EventWriter(gate, capacity=4) as writer:
        busy(gate, writer)
        assert writer.submit(an_event("a")) is Thinning.QUEUED
        assert writer.submit(updated("a"), told.append) is Thinning.QUEUED
        assert writer.submit(an_event("b")) is Thinning.QUEUED
        assert writer.submit(updated("b")) is Thinning.THINNED
        assert told == []
        assert writer.submit(an_event("c")) is Thinning.QUEUED, "the update of a makes room"
        assert told == [Stored(Outcome.THINNED, "a")]
        assert writer.submit(ended("a")) is Thinning.REFUSED
        gate.open.set()
        assert writer.flush(20)
        assert writer.submit(ended("a")) is Thinning.QUEUED, "brought again later"
    assert [one.event_id for one in gate.kept] == ["first", "a", "b", "c", "a"]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("ubex")), max_size=40))
def test_begins_and_ends_that_were_taken_are_never_lost(capacity: int, brought: list[tuple[str, str]]) -> None:
    waiting, promised, taken = Waiting(capacity), [], []
    begun: set[str] = set()
    for number, (name, what) in enumerate(brought):
        change: Change
        if what == "x":
            taken += [entry.change for entry in waiting.take(2)]
            continue
        change = {
            "b": an_event(name, update_s=BEGIN_S + number),
            "u": an_event(name, update_s=BEGIN_S + number),
            "e": ended(name, after_s=number),
        }.get(what) or EvidenceChange(name)
        result, evicted = waiting.put(change, None)
        assert len(waiting) <= capacity
        assert evicted is None or (isinstance(evicted.change, Event) and evicted.change.state is EventState.ACTIVE)
        accepted = result in {Thinning.QUEUED, Thinning.COALESCED}
        if accepted and (what == "e" or name not in begun):
            promised.append(change)
        if accepted:
            (begun.discard if what == "e" else begun.add)(name)
    taken += [entry.change for entry in waiting.take(100)]
    assert len(waiting) == 0
    for name in "abcd":
        times = [one.update_s for one in taken if isinstance(one, Event) and one.event_id == name]
        assert times == sorted(times), "in its order"
    assert [one for one in promised if one not in taken] == []


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("FULL", "the disk is full"), StoreUnusableError("READ_ONLY", "no rights")]
)
def test_a_store_that_fails_for_a_while_costs_nothing(error: Exception) -> None:
    gate, told = Gate([error] * 3), []
    gate.open.set()
    with EventWriter(gate, longest_pause_s=0.05) as writer:
        for number in range(4):
            writer.submit(an_event(f"{number}"), lambda stored: told.append(stored.event_id))
        assert writer.flush(20)
        figures = writer.figures()
    assert told == ["0", "1", "2", "3"]
    assert (figures.failures, figures.failing, figures.lost) == (3, "", 0)


def test_while_the_store_fails_its_reason_can_be_read_and_closing_says_what_is_lost() -> None:
    gate = Gate([StoreUnavailableError("FULL", "the disk is full")] * 1000)
    gate.open.set()
    writer = EventWriter(gate)
    writer.submit(an_event("a"))
    writer.submit(an_event("b"))
    assert not writer.flush(0.02)
    assert writer.close(timeout_s=0.2) == 2
    assert "full" in writer.figures().failing
    assert writer.submit(an_event("c")) is Thinning.REFUSED
    assert writer.close() == 2


def test_a_change_that_a_fault_of_ours_stops_costs_no_other() -> None:
    class Faulty(Gate):
        def append(self, changes: Sequence[Change]) -> list[Stored]:
            if any(one.event_id == "bad" for one in changes):
                raise ZeroDivisionError
            return super().append(changes)

    gate, told = Faulty(), []
    gate.open.set()
    with EventWriter(gate) as writer:
        for name in ("a", "bad", "b"):
            writer.submit(an_event(name), lambda stored: told.append((stored.event_id, stored.outcome)))
        assert writer.flush(20)
        assert writer.figures().lost == 1
    assert told == [("a", Outcome.ADDED), ("bad", Outcome.FAILED), ("b", Outcome.ADDED)]


@pytest.mark.parametrize("error", [StoreUnavailableError(UNKNOWN, "out of memory"), MemoryError()])
def test_a_fault_that_nobody_foresaw_and_that_passes_costs_nothing(error: Exception) -> None:
    # More than one change has strikes: a whole group, and each of it by itself, again and again.
    gate, told = Gate([error] * 25), []
    with EventWriter(gate, longest_pause_s=0.05) as writer:
        for number in range(4):
            writer.submit(an_event(f"{number}"), lambda stored: told.append(stored.event_id))
        gate.open.set()
        assert writer.flush(20)
        figures = writer.figures()
    assert sorted(told) == ["0", "1", "2", "3"]
    assert (figures.kept, figures.lost, figures.failing) == (4, 0, "")


class Poisoned(Gate):
    """Keeps no group with what is bad in it, for a reason that nobody foresaw."""

    def append(self, changes: Sequence[Change]) -> list[Stored]:
        if any(one.event_id.startswith("bad") for one in changes):
            self.entered.set()
            raise StoreUnavailableError(UNKNOWN, "no idea")
        return super().append(changes)


def test_what_fails_by_itself_while_others_are_kept_is_given_up_with_what_is_told_of_it() -> None:
    gate, told = Poisoned(), []
    gate.open.set()
    with EventWriter(gate, longest_pause_s=0.05) as writer:
        for number in range(20):
            for name in (f"good{number}", "bad") if number == 5 else (f"good{number}",):
                writer.submit(an_event(name), lambda stored: told.append((stored.event_id, stored.outcome)))
            writer.flush(0.06)
        assert writer.flush(20)
        figures = writer.figures()
    assert [one for one in told if one[1] is Outcome.FAILED] == [("bad", Outcome.FAILED)]
    assert (figures.kept, figures.lost, figures.failing) == (20, 1, "")


def test_what_fails_while_nothing_else_comes_is_not_given_up_and_keeps_its_order() -> None:
    gate = Poisoned()
    gate.open.set()
    writer = EventWriter(gate, longest_pause_s=0.01)
    writer.submit(an_event("bad"))
    writer.submit(EvidenceChange("bad"))
    assert not writer.flush(0.3), "it may be the store"
    assert writer.figures().lost == 0
    assert "no idea" in writer.figures().failing
    assert writer.close(0.1) == 2


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    faults=st.lists(st.sampled_from(["", "", UNKNOWN, "LOCKED"]), max_size=30),
)
def test_however_a_store_fails_that_works_in_the_end_each_events_changes_are_kept_in_order(
    names: list[str], faults: list[str]
) -> None:
    class Flickering(Gate):
        def append(self, changes: Sequence[Change]) -> list[Stored]:
            if faults and (fault := faults.pop()):
                raise StoreUnavailableError(fault, "for now")
            return super().append(changes)

    gate, told = Flickering(), []
    gate.open.set()
    with EventWriter(gate, group=3, longest_pause_s=0.0) as writer:
        for number, name in enumerate(names):
            writer.submit(ended(name, after_s=number), lambda stored: told.append(stored.outcome))
        assert writer.flush(20)
        lost = writer.figures().lost
    assert len(gate.kept) == len(names) - lost
    assert len(told) == len(names)
    for name in "abc":
        times = [one.update_s for one in gate.kept if isinstance(one, Event) and one.event_id == name]
        assert times == sorted(times)


def test_a_retry_that_is_refused_is_not_counted_again() -> None:
    gate = Gate()
    with EventWriter(gate, capacity=1) as writer:
        busy(gate, writer)
        assert writer.submit(ended("a")) is Thinning.REFUSED
        for _ in range(5):
            assert writer.submit(ended("a"), again=True) is Thinning.REFUSED
        assert writer.figures().refused == 1
        gate.open.set()


def test_a_listener_that_fails_does_not_stop_the_writer(caplog: pytest.LogCaptureFixture) -> None:
    gate, told = Gate(), []
    gate.open.set()
    with EventWriter(gate) as writer:
        writer.submit(an_event("a"), lambda _stored: 1 / 0)
        writer.submit(an_event("b"), told.append)
        assert writer.flush(20)
    assert [one.event_id for one in told] == ["b"]
    assert "event_listener_failed" in caplog.text


def test_what_cannot_be_kept_is_refused_where_it_is_submitted() -> None:
    with EventWriter(Gate()) as writer, pytest.raises(InvalidError, match="finite"):
        writer.submit(an_event(start_s=float("inf")))


def test_the_writer_keeps_events_of_many_threads_in_a_real_store(tmp_path: Path) -> None:
    told: list[Stored] = []
    with EventStore(f"sqlite:///{tmp_path}/events.db") as store:
        with EventWriter(store) as writer:

            def camera(channel: str) -> None:
                for number in range(10):
                    name = f"{channel}-{number}"
                    for change in (
                        an_event(name, channel=channel),
                        EvidenceChange(name, clip=ready()),
                        ended(name, channel=channel),
                    ):
                        assert writer.submit(change, told.append) is Thinning.QUEUED

            threads = [threading.Thread(target=camera, args=(f"c{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [one.number for one in told] == list(range(1, 121))
        assert store.verify().findings == ()
        assert len(store.query(size=1000).events) == 40


def test_a_postgresql_that_goes_away_and_comes_back_loses_nothing() -> None:
    with a_postgres() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql")
        told: list[int] = []
        with EventStore(server.make_database("events"), timeout_s=1) as store:
            with EventWriter(store, longest_pause_s=0.2) as writer:
                writer.submit(an_event("before"), lambda stored: told.append(stored.number))
                assert writer.flush(20)
                server.stop()
                with pytest.raises(StoreUnavailableError, match=r"cannot be reached|connection"):
                    store.query()
                writer.submit(an_event("meanwhile"), lambda stored: told.append(stored.number))
                assert not writer.flush(0.1)
                server.start()
                assert writer.flush(30)
                assert writer.figures().failures >= 1
            assert told == [1, 2]
            assert store.verify().findings == ()
