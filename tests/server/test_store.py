"""What the store keeps, finds again and refuses, in SQLite and in PostgreSQL."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, update

from support_store import BEGIN_S, a_postgres, an_event, ended, ready, store_of
from vedette_server.data.event import EventKind, EventState, Evidence, EvidenceState
from vedette_server.errors import InvalidError, NotFoundError
from vedette_server.store import querying
from vedette_server.store.changes import EvidenceChange, Outcome
from vedette_server.store.querying import EventFilter
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore
from vedette_server.store.tables import chain, events, records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support_store import Postgres
    from vedette_server.data.event import Event
    from vedette_server.store.changes import Stored


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres | None]:
    with a_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with store_of(request.param, request, tmp_path) as opened:
        yield opened


def listed(store: EventStore, wanted: EventFilter, size: int = 100) -> list[str]:
    """Identities of all pages."""
    found, token = [], ""
    while True:
        page = store.query(wanted, size=size, token=token)
        found += [one.event_id for one in page.events]
        token = page.next_token
        if not token:
            return found


def test_what_was_kept_is_found_again_as_it_was(store: EventStore) -> None:
    event = an_event("ü", sequence=2**64 - 1, detail='"☃"\n', clip=Evidence(EvidenceState.PENDING))
    stored = store.append([event])
    assert [(one.outcome, one.number) for one in stored] == [(Outcome.ADDED, 1)]
    assert store.get("ü").event == event


def test_changes_of_many_channels_are_numbered_in_their_order_without_gaps(store: EventStore) -> None:
    first = store.append([an_event("a"), an_event("b", channel="yard"), ended("a")])
    second = store.append([an_event("c"), an_event("c")])
    assert [one.number for one in first] == [1, 2, 3]
    assert [(one.outcome, one.number) for one in second] == [(Outcome.ADDED, 4), (Outcome.SAME, 4)]
    assert store.get("a").event == ended("a")


def test_the_same_change_again_adds_nothing(store: EventStore) -> None:
    store.append([an_event("a")])
    head = store.end()
    assert [one.outcome for one in store.append([an_event("a")])] == [Outcome.SAME]
    assert store.end() == head


def test_a_replay_of_an_event_does_not_take_it_back(store: EventStore) -> None:
    later = an_event("a", update_s=BEGIN_S + 9)
    store.append([an_event("a"), later])
    assert store.append([an_event("a")])[0].outcome is Outcome.STALE
    store.append([ended("a", after_s=10)])
    assert [one.outcome for one in store.append([an_event("a"), later])] == [Outcome.STALE] * 2
    assert store.get("a").event == ended("a", after_s=10)


def test_what_the_rules_say_later_keeps_evidence_and_acknowledgement(store: EventStore) -> None:
    store.append([an_event("a", clip=Evidence(EvidenceState.PENDING))])
    store.append([EvidenceChange("a", clip=ready())])
    store.acknowledge("a", "ann", "seen")
    store.append([ended("a", clip=Evidence(EvidenceState.PENDING))])
    event = kept(store, "a")
    assert event.state is EventState.ENDED
    assert event.clip == ready()
    assert event.acknowledgement is not None
    assert (event.acknowledgement.user, event.acknowledgement.note) == ("ann", "seen")


def kept(store: EventStore, event_id: str) -> Event:
    event = store.get(event_id).event
    assert event is not None
    return event


def test_evidence_of_an_event_that_is_not_there_is_said_to_be_of_none(store: EventStore) -> None:
    assert store.append([EvidenceChange("nobody", clip=ready())])[0].outcome is Outcome.UNKNOWN


def test_acknowledging_again_changes_nothing_unless_it_says_more(store: EventStore) -> None:
    store.append([an_event("a")])
    assert store.acknowledge("a", "ann", "first", token="desk").outcome is Outcome.ADDED
    assert store.acknowledge("a", "ann", "first", token="desk").outcome is Outcome.SAME
    assert store.acknowledge("a", "ann", token="desk").outcome is Outcome.SAME
    assert store.acknowledge("a", "ann", "second", token="desk").outcome is Outcome.ADDED
    assert store.acknowledge("a", "ann", "second", token="other desk").outcome is Outcome.ADDED, "another's token"
    assert store.acknowledge("a", "bob").number == 5
    told = [one.event.acknowledgement for one in store.changes_after(1).changes if one.event is not None]
    assert [(one.user, one.note, one.token) for one in told if one is not None] == [
        ("ann", "first", "desk"),
        ("ann", "second", "desk"),
        ("ann", "second", "other desk"),
        ("bob", "", ""),
    ], "what was said before stays in the chain"
    with pytest.raises(NotFoundError, match="'b'"):
        store.acknowledge("b", "ann")
    with pytest.raises(InvalidError, match="4096"):
        store.acknowledge("a", "ann", "x" * 4097)


def test_an_unnamed_acknowledgement_takes_no_named_ones_place(store: EventStore) -> None:
    store.append([an_event("a")])
    assert store.acknowledge("a", "", "first").outcome is Outcome.ADDED
    assert store.acknowledge("a", "", "second").outcome is Outcome.ADDED, "nobody's may replace nobody's"
    assert store.acknowledge("a", "", "").outcome is Outcome.SAME
    assert store.acknowledge("a", "ann", "hers").outcome is Outcome.ADDED
    for note in ("", "third"):
        kept = store.acknowledge("a", "", note)
        assert (kept.outcome, kept.number) == (Outcome.SAME, 4)
        assert kept.event is not None
        assert kept.event.acknowledgement is not None
        assert (kept.event.acknowledgement.user, kept.event.acknowledgement.note) == ("ann", "hers")


def test_one_change_that_cannot_be_kept_costs_its_whole_group_and_says_why(store: EventStore) -> None:
    for bad in (an_event(measures={"speed": float("nan")}), an_event(rule="a\0b"), an_event(detail="\ud800")):
        with pytest.raises(InvalidError, match="'e1'"):
            store.append([an_event("good"), bad])
    assert store.end()[0] == 0


def test_events_are_chosen_by_all_that_is_set(store: EventStore) -> None:
    store.append(
        [
            ended("a", at_s=0, channel="gate", kind=EventKind.ENTER, rule="r1", label="person"),
            ended("b", at_s=10, channel="yard", kind=EventKind.LEAVE, rule="r2", label="car"),
            an_event("c", at_s=20, channel="yard", kind=EventKind.ENTER, rule="r1", label="car"),
        ]
    )
    store.acknowledge("b", "ann")
    for wanted, expected in (
        (EventFilter(), "cba"),
        (EventFilter(channels=("yard",)), "cb"),
        (EventFilter(channels=()), ""),
        (EventFilter(channels=("yard", "gate"), rules=("r1",)), "ca"),
        (EventFilter(kinds=(EventKind.LEAVE, EventKind.CROSS)), "b"),
        (EventFilter(states=(EventState.ACTIVE,)), "c"),
        (EventFilter(states=(EventState.ENDED,)), "ba"),
        (EventFilter(states=(EventState.ACTIVE, EventState.ENDED)), "cba"),
        (EventFilter(labels=("car",), unacknowledged=True), "c"),
        (EventFilter(end_s=BEGIN_S + 20), "ba"),
        (EventFilter(start_s=BEGIN_S + 5), "cba"),
        (EventFilter(start_s=BEGIN_S + 5.5), "cb"),
        (EventFilter(start_s=BEGIN_S + 15.5), "c"),
    ):
        assert "".join(listed(store, wanted)) == expected, wanted


def test_events_that_lasted_for_long_are_found_by_any_time_within(store: EventStore) -> None:
    day_s = 86400.0
    store.append([an_event("goes on"), ended("day", at_s=1, after_s=day_s), ended("short", at_s=2)])
    store.append([ended("later", at_s=day_s / 2)])
    noon = EventFilter(start_s=BEGIN_S + day_s / 2)
    assert listed(store, noon, size=1) == listed(store, noon) == ["later", "day", "goes on"]
    assert listed(store, EventFilter(start_s=BEGIN_S + 2 * day_s)) == ["goes on"]


def test_what_comes_in_between_two_pages_does_not_shift_them(store: EventStore) -> None:
    store.append([an_event(f"{number}", at_s=number // 2) for number in range(6)])
    first = store.query(size=4)
    store.append([an_event("new", at_s=100), ended("1", at_s=0)])
    second = store.query(size=4, token=first.next_token)
    assert [one.event_id for one in (*first.events, *second.events)] == list("543210")
    assert second.next_token == ""


def test_a_page_token_of_another_filter_or_of_nobody_is_refused(store: EventStore) -> None:
    store.append([an_event("a"), an_event("b")])
    token = store.query(size=1).next_token
    mark = json.loads(base64.urlsafe_b64decode(token))[2]
    for wanted, size, given in (
        (EventFilter(rules=("x",)), 1, token),
        (EventFilter(), 1, "nonsense"),
        (EventFilter(), 1, token + "!"),
        (EventFilter(), 1, encoded("[" * 5000)),
        (EventFilter(), 1, "W1tb" * 100_000),
        *((EventFilter(), 1, encoded(json.dumps(one))) for one in wrong_keys(mark)),
    ):
        for may_see in (None, bool):
            with pytest.raises(InvalidError) as refused:
                store.query(wanted, size=size, token=given, may_see=may_see)
            assert refused.value.reason == "INVALID_PAGE_TOKEN"
    for size in (0, 1001):
        with pytest.raises(InvalidError) as refused:
            store.query(size=size)
        assert refused.value.reason == "INVALID_PAGE_SIZE"


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def wrong_keys(mark: str) -> list[object]:
    """What is JSON, and has the right mark, but is no key of an event."""
    keys: list[object] = [{}, [], [1.0, "a"], [1.0, "a", mark, 0], [[1.0], "a", mark], [True, "a", mark]]
    keys += [["1", "a", mark], [10**400, "a", mark], [float("nan"), "a", mark], [1.0, "a\0b", mark]]
    return [*keys, [1.0, "\ud800", mark], [1.0, 7, mark]]


def test_of_channels_that_may_not_be_seen_nothing_is_unpacked(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([an_event(f"e{n:02}", channel="gate" if n % 10 == 0 else "yard", at_s=n) for n in range(40)])
    unpacked: list[bytes] = []
    real = querying.decode
    monkeypatch.setattr(querying, "decode", lambda content: (unpacked.append(content), real(content))[1])
    page = store.query(size=3, may_see=lambda channel: channel == "gate")
    assert [one.event_id for one in page.events] == ["e30", "e20", "e10"]
    rest = store.query(size=3, token=page.next_token, may_see=lambda channel: channel == "gate")
    assert ([one.event_id for one in rest.events], rest.next_token) == (["e00"], "")
    assert len(unpacked) == 4


def test_whoever_goes_on_from_the_last_offset_sees_each_change_once(store: EventStore) -> None:
    store.append([an_event("a"), an_event("b", channel="yard"), ended("a"), an_event("c")])
    seen, offset = [], 0
    while (found := store.changes_after(offset, limit=3)).changes:
        seen += [one.number for one in found.changes]
        offset = found.through
    assert seen == [1, 2, 3, 4]
    yard = store.changes_after(0, ["yard"])
    assert ([one.event_id for one in yard.changes], yard.through, yard.removed) == (["b"], 4, 0)
    assert store.changes_after(4).through == 4
    first = store.changes_after(0, limit=1).changes[0].event
    assert first == an_event("a"), "a change is told as it was then"


def test_a_second_store_on_the_same_database_goes_on_in_the_same_chain(store: EventStore, tmp_path: Path) -> None:
    url = store.engine.url if store.engine.dialect.name == "postgresql" else f"sqlite:///{tmp_path}/events.db"
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    store.append([an_event("a")])
    with EventStore(text, key_file=tmp_path / "key") as other:
        assert other.append([an_event("b")])[0].number == 2
        assert store.append([an_event("c")])[0].number == 3
        assert other.verify(store.head()).findings == ()


def test_several_writers_share_one_chain_without_gaps(store: EventStore) -> None:
    told: list[Stored] = []

    def write(name: str) -> None:
        for number in range(15):
            told.extend(store.append([an_event(f"{name}{number}"), ended(f"{name}{number}")]))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.number for one in told) == list(range(1, 91))
    assert store.verify(store.head()).findings == ()


def test_retention_removes_what_is_too_old_too_many_or_too_large(store: EventStore) -> None:
    for number in range(6):
        store.append([ended(f"e{number}", at_s=10 * number, clip=ready(100))])
    store.append([an_event("goes on", at_s=-1000)])
    head = store.head()
    steps = list(store.retain(Retention(max_age_s=80.0, max_events=4, max_bytes=250, max_bare_records=10)))
    assert [removed for step in steps for removed in step.removed] == [("gate", f"e{number}") for number in (0, 1, 2)]
    assert [one.event_id for step in steps for one in step.expired] == ["e3"]
    assert store.append([ended("e0")])[0].outcome is Outcome.REMOVED
    assert set(store.get_many(["e0", "e3", "nobody"])) == {"e3"}
    found = store.verify(head)
    assert (found.records, found.removed, found.findings) == (10, 3, ()), "two steps, which say so"
    assert list(store.retain(Retention(max_bare_records=1))) == []
    assert (store.verify().base, store.verify().findings) == (3, ())
    length = store.end()[0]
    assert list(store.retain(Retention(max_bare_records=0))) == []
    assert store.end()[0] == length, "what is done already is not said again"


def test_what_retention_says_of_itself_is_passed_over(store: EventStore) -> None:
    for number in range(3):
        store.append([ended(f"e{number}", at_s=number), ended(f"y{number}", channel="yard", at_s=number)])
        list(store.retain(Retention(max_events=1)))
    store.append([an_event("last")])
    assert [one.event_id for one in store.query().events] == ["y2", "e2", "last"]
    for channels, kept, removed in ((None, ["e2", "y2", "last"], 4), (["gate"], ["e2", "last"], 2), ([""], [], 0)):
        found = store.changes_after(0, channels)
        assert ([one.event_id for one in found.changes], found.removed) == (kept, removed)
        assert found.through == store.end()[0]
    one_by_one, offset = [], 0
    while (found := store.changes_after(offset, limit=1)).changes:
        one_by_one += [one.event_id for one in found.changes]
        offset = found.through
    assert one_by_one == ["e2", "y2", "last"]
    assert store.append([EvidenceChange("", clip=ready())])[0].event is None
    with pytest.raises(NotFoundError):
        store.get("")


def test_what_was_emptied_or_cut_off_by_hand_is_told(store: EventStore) -> None:
    for number in range(10):
        store.append([ended(f"e{number}", at_s=number)])
    list(store.retain(Retention(max_events=8)))
    head = store.head()
    assert store.verify(head).findings == ()
    with store.engine.begin() as connection:
        connection.execute(delete(events).where(events.c.event_id.in_(["e4", "e5"])))
        connection.execute(update(records).where(records.c.event_id.in_(["e4", "e5"])).values(content=None))
    assert [(one.number, one.text) for one in store.verify(head).findings] == [
        (5, "the content of records 5..6 is missing, and no record says that it was removed")
    ]
    with store.engine.begin() as connection:
        last = connection.execute(select(records.c.hash).where(records.c.number == 6)).scalar_one()
        connection.execute(delete(events).where(events.c.record <= 6))
        connection.execute(delete(records).where(records.c.number <= 6))
        connection.execute(update(chain).values(base_length=6, base_hash=last))
    assert [one.text for one in store.verify(head).findings] == [
        "the first 6 records are cut off, and no record says so"
    ]
