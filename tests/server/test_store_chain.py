"""The chain: it holds whatever is done through the store, and tells what was done to it otherwise."""

from __future__ import annotations

import hashlib
import json
import stat
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update
from sqlalchemy import event as sqlalchemy_event

from support_store import BEGIN_S, DAY_S, an_event, ended, ready
from vedette_server.data.event import Acknowledgement, EventState, Evidence, EvidenceState, SeenObject
from vedette_server.errors import InvalidError, SettingsError
from vedette_server.store import verifying
from vedette_server.store.appending import Appending
from vedette_server.store.canonical import decode, digest, encode
from vedette_server.store.chain import imported, link
from vedette_server.store.changes import AcknowledgementChange, EvidenceChange, Outcome
from vedette_server.store.key_file import load_or_make_key
from vedette_server.store.querying import EventFilter
from vedette_server.store.retaining import Retention
from vedette_server.store.retaining_notes import RetentionNote, Why, decode_note, encode_note, rows_of
from vedette_server.store.store import EventStore
from vedette_server.store.tables import chain, events, records
from vedette_server.store.verifying_notes import Told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Executable


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with a_store(str(tmp_path)) as opened:
        yield opened


def a_store(folder: str, name: str = "events.db") -> EventStore:
    return EventStore(f"sqlite:///{folder}/{name}", clock=lambda: BEGIN_S + 100 * DAY_S)


def tamper(store: EventStore, *statements: Executable) -> None:
    with store.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for statement in statements:
            connection.execute(statement)


def some(store: EventStore, count: int = 6) -> None:
    for number in range(count):
        store.append([an_event(f"e{number}", at_s=number), ended(f"e{number}", at_s=number)])


def notes(store: EventStore) -> int:
    """How many records there are of retention itself."""
    with store.engine.connect() as connection:
        return connection.execute(select(func.count()).where(records.c.event_id == "")).scalar_one()


IDENTITIES = st.sampled_from(["a", "b", "c", "d"])
STATES = st.sampled_from([Evidence(), Evidence(EvidenceState.PENDING), ready(7), Evidence(EvidenceState.FAILED)])
CHANGES = st.one_of(
    st.builds(an_event, IDENTITIES, update_s=st.integers(0, 9).map(lambda s: BEGIN_S + s), clip=STATES),
    st.builds(ended, IDENTITIES, after_s=st.integers(0, 9), clip=STATES),
    st.builds(EvidenceChange, IDENTITIES, snapshot=st.none() | STATES, clip=STATES),
    st.builds(
        AcknowledgementChange, IDENTITIES, st.builds(Acknowledgement, st.sampled_from(["ann", "bob"]), st.just(1.0))
    ),
)
STEPS = st.lists(
    st.lists(CHANGES, min_size=1, max_size=4)
    | st.builds(Retention, st.none(), st.integers(0, 3), st.none() | st.integers(0, 20), st.sampled_from([0, 5, 999])),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_whatever_is_done_the_chain_verifies_and_the_same_again_adds_nothing(
    steps: list[list[object] | Retention],
) -> None:
    with TemporaryDirectory() as folder, a_store(folder) as store:
        seen = 0
        for step in steps:
            head = store.head()
            if isinstance(step, Retention):
                list(store.retain(step))
            else:
                numbers = [one.number for one in store.append(step) if one.outcome is Outcome.ADDED]  # type: ignore[arg-type]
                assert numbers == list(range(seen + 1, seen + len(numbers) + 1))
                last = store.append(step[-1:])[0]  # type: ignore[arg-type]
                assert last.outcome is not Outcome.ADDED
            seen = store.end()[0]
            found = store.verify(head)
            cut = [one for one in found.findings if "nothing is kept" not in one.text]
            assert cut == []
            changed = store.changes_after(0, limit=1000)
            assert changed.through == seen
            assert len(changed.changes) + changed.removed == seen - notes(store)
            latest = {one.event_id: one for one in changed.changes}
            pages = store.query(size=1000).events
            assert {one.event_id: one for one in pages} == latest


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9000)), max_size=12), st.integers(1, 5), st.integers(0, 9000)
)
def test_pages_of_any_size_give_each_event_once_the_newest_first(
    spans: list[tuple[int, int]], size: int, from_s: int
) -> None:
    made = [ended(f"{n:02}", at_s=1000 * at, after_s=lasts) for n, (at, lasts) in enumerate(spans)]
    wanted = EventFilter(start_s=BEGIN_S + from_s)
    with TemporaryDirectory() as folder, a_store(folder) as store:
        store.append(made)
        found, token = [], ""
        while True:
            page = store.query(wanted, size=size, token=token)
            found += [one.event_id for one in page.events]
            token = page.next_token
            if not token:
                break
            assert len(page.events) == size
    newest = sorted(made, key=lambda event: (event.start_s, event.event_id), reverse=True)
    assert found == [one.event_id for one in newest if (one.end_s or 0.0) >= BEGIN_S + from_s]


def test_the_canonical_bytes_are_json_that_anybody_can_hash() -> None:
    event = an_event("ü", clip=ready(), acknowledgement=Acknowledgement("ann", 3, "note"), end_s=7)
    content = encode(event)
    plain = json.loads(content)
    again = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert content == again
    assert (plain["v"], plain["event_id"], plain["end_s"], plain["kind"]) == (1, "ü", 7.0, "enter")
    assert decode(content) == event
    assert encode(replace(event, measures={"dwell_s": 1.5})) == content
    drawn = replace(event, objects=(SeenObject((0.1, 0.1, 0.2, 0.2), "person", 0.9),))
    assert encode(drawn) == content, "what is drawn into a picture is kept with the picture"
    assert digest(content) == hashlib.sha256(content).digest()
    assert link(b"\1" * 32, b"\2" * 32) == hashlib.sha256(b"\1" * 32 + b"\2" * 32).digest()


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"v":2}', b"\xff"])
def test_what_is_no_event_is_not_read_as_one(damage: bytes) -> None:
    with pytest.raises(ValueError):
        decode(damage)


LAST = select(func.max(records.c.number)).scalar_subquery()
FORGED = encode(replace(ended("e1", at_s=1), label="nobody"))


@pytest.mark.parametrize(
    ("statements", "number", "words"),
    [
        ([update(records).where(records.c.number == 4).values(content=FORGED)], 4, "another digest"),
        ([update(records).where(records.c.number == 4).values(content=FORGED, digest=digest(FORGED))], 4, "follow"),
        ([update(records).where(records.c.number == 5).values(hash=bytes(32))], 5, "follow"),
        ([update(records).where(records.c.number == 3).values(channel="yard")], 3, "yard"),
        ([delete(records).where(records.c.number == 3)], 3, "3..3 are missing"),
        ([delete(events).where(events.c.event_id == "e2")], 6, "not listed"),
        ([update(events).where(events.c.event_id == "e2").values(acknowledged=True)], 6, "acknowledged"),
        ([update(events).where(events.c.event_id == "e2").values(record=5)], 5, "listed with another"),
        ([update(records).where(records.c.number == 5).values(content=None)], 5, "no record says that it was removed"),
        ([update(chain).values(base_hash=bytes([1]) * 32)], 0, "does not begin"),
        ([update(records).where(records.c.number == 6).values(content=None)], 5, "not listed"),
        ([update(chain).values(hash=bytes(32))], 12, "another hash than its last"),
        (
            [delete(events).where(events.c.event_id == "e5"), delete(records).where(records.c.number == 12)],
            11,
            "not listed",
        ),
    ],
)
def test_what_was_done_behind_the_back_of_the_store_is_told(
    store: EventStore, statements: list[Executable], number: int, words: str
) -> None:
    some(store)
    assert store.verify().first is None
    tamper(store, *statements)
    first = store.verify().first
    assert first is not None
    assert first.number == number
    assert words in first.text


def test_a_store_that_was_written_anew_is_detected_against_an_exported_head(store: EventStore, tmp_path: Path) -> None:
    some(store)
    head = imported(store.head().exported())
    store.append([an_event("later")])
    assert store.verify(head).findings == ()
    (tmp_path / "new.db.key").write_bytes((tmp_path / "events.db.key").read_bytes())
    (tmp_path / "new.db.key").chmod(0o600)
    with a_store(str(tmp_path), "new.db") as forged:
        some(forged, 5)
        shorter = forged.verify(head).first
        forged.append([an_event("other"), ended("other"), an_event("more")])
        assert forged.verify().findings == (), "in itself it is sound"
        rewritten = forged.verify(head).first
    assert shorter is not None
    assert "were taken away" in shorter.text
    assert rewritten is not None
    assert (rewritten.number, "written anew" in rewritten.text) == (12, True)


def test_the_signature_of_a_head_is_over_what_the_contract_states(store: EventStore) -> None:
    some(store, 1)
    head = store.head()
    text = f"vedette-chain-head-v1\n2\n{store.end()[1].hex()}\n{head.sign_time_ns}".encode()
    assert head.signed_text == text
    assert head.is_signed_by(head.public_key)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for forged in (replace(head, length=1), replace(head, hash=bytes(32)), replace(head, sign_time_ns=1)):
        assert not forged.is_signed_by(head.public_key)
        finding = store.verify(forged).first
        assert finding is not None
        assert "not signed" in finding.text
    assert not head.is_signed_by(other)
    assert not replace(head, public_key=other).is_signed_by(head.public_key)
    assert not head.is_signed_by(b"short")


def test_an_exported_head_is_read_as_it_was_and_nonsense_is_refused(store: EventStore) -> None:
    head = replace(store.head(), sign_time_ns=1_790_000_000_123_456_789)
    text = head.exported()
    assert json.loads(text)["signTime"] == "2026-09-21T14:13:20.123456789Z"
    assert imported(text) == head
    without_length = {name: value for name, value in json.loads(text).items() if name != "length"}
    assert imported(json.dumps(without_length)).length == 0
    for bad in ("", "[]", "{}", text.replace("Z", "+01:00"), text.replace("00", "0", 1), text.replace('"0"', '"-1"')):
        with pytest.raises(InvalidError):
            imported(bad)


def test_the_key_is_made_for_its_owner_alone_and_stays_the_same(store: EventStore, tmp_path: Path) -> None:
    key = tmp_path / "events.db.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "events.db").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    with a_store(str(tmp_path)) as again:
        assert again.head().public_key == store.head().public_key


def test_a_key_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    load_or_make_key(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="0600"):
        load_or_make_key(path)
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(SettingsError, match="not a private key"):
        load_or_make_key(path)
    elliptic = generate_private_key(SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(elliptic.private_bytes(*form))
    with pytest.raises(SettingsError, match="Ed25519"):
        load_or_make_key(path)
    with pytest.raises(SettingsError, match="No such file"):
        load_or_make_key(tmp_path / "absent" / "key")


def test_events_that_are_over_for_too_long_go_and_the_chain_still_verifies(store: EventStore) -> None:
    some(store)
    store.append([an_event("goes on")])
    head = store.head()
    store.append([ended("young", at_s=99 * DAY_S)])
    steps = list(store.retain(Retention(max_age_s=50 * DAY_S)))
    assert [removed for step in steps for removed in step.removed] == [("gate", f"e{n}") for n in range(6)]
    found = store.verify(head)
    assert (found.records, found.removed, found.findings) == (15, 12, ())
    assert {one.event_id for one in store.query().events} == {"goes on", "young"}
    gap = store.changes_after(3)
    assert ([one.event_id for one in gap.changes], gap.removed) == (["goes on", "young"], 9)


def test_an_event_that_was_removed_does_not_come_back(store: EventStore) -> None:
    some(store, 2)
    list(store.retain(Retention(max_events=0)))
    late = EvidenceChange("e1", clip=ready())
    assert [one.outcome for one in store.append([ended("e0"), an_event("e1"), late])] == [Outcome.REMOVED] * 3
    assert store.end()[0] == 5, "four, and what retention did"


def test_of_each_channel_the_newest_events_are_kept(store: EventStore) -> None:
    for channel, count in (("a", 5), ("b", 2), ("c", 450)):
        store.append([ended(f"{channel}{n:03}", channel=channel, at_s=n) for n in range(count)])
    store.append([an_event("a-old", channel="a", at_s=-9)])
    list(store.retain(Retention(max_events=3)))
    left = sorted(one.event_id for one in store.query(size=1000).events)
    assert left == ["a-old", "a003", "a004", "b000", "b001", "c447", "c448", "c449"]


def test_the_oldest_files_beyond_the_bytes_expire_and_the_events_stay(store: EventStore) -> None:
    for n in range(4):
        store.append([ended(f"e{n}", at_s=n), EvidenceChange(f"e{n}", snapshot=ready(10), clip=ready(90))])
    store.append([ended("other", channel="yard", clip=ready(500))])
    steps = list(store.retain(Retention(max_bytes=210)))
    expired = [one for step in steps for one in step.expired if one.event_id != "other"]
    assert [one.event_id for one in expired] == ["e0", "e1"]
    event = store.get("e0").event
    assert event is not None
    assert event.clip == replace(ready(90), state=EvidenceState.EXPIRED), "its hash stays"
    assert store.append([EvidenceChange("e0", clip=ready(90))])[0].outcome is Outcome.SAME, "and it stays expired"
    assert list(store.retain(Retention(max_bytes=210))) == []
    assert store.verify().findings == ()


def test_bare_records_are_cut_off_when_there_are_too_many_and_what_is_left_verifies(store: EventStore) -> None:
    some(store, 30)
    before = store.head()
    store.append([an_event("goes on", state=EventState.ACTIVE)])
    list(store.retain(Retention(max_events=0, max_bare_records=40)))
    found = store.verify(store.head())
    assert (found.base, found.records, found.findings) == (24, 39, ()), "of the two steps each has a record"
    assert store.verify(before).findings == ()
    gap = store.changes_after(0)
    assert (gap.through, gap.removed) == (63, 60)
    assert store.append([ended("e29")])[0].outcome is Outcome.REMOVED
    assert store.append([an_event("next")])[0].number == 64


THIRD = update(records).where(records.c.number == 3)
E0 = encode(ended("e0"))


def retain(store: EventStore, most: int) -> None:
    list(store.retain(Retention(max_events=most)))


@pytest.mark.parametrize(
    ("statement", "number", "words"),
    [
        (delete(records).where(records.c.number == 3), 1, "of records 1..2 is missing"),
        (THIRD.values(content=None), 1, "of records 1..3 is missing"),
        (THIRD.values(content=b"{}"), 3, "what it says of retention was changed"),
        (THIRD.values(content=b"{}"), 1, "no record says"),
        (THIRD.values(event_id="x"), 1, "no record says"),
        (THIRD.values(channel="x"), 3, "belongs to no event"),
        (update(records).where(records.c.number == 2).values(content=E0), 2, "a later record says"),
        (update(chain).values(base_length=2), 2, "the first 2 records are cut off, and no record says so"),
    ],
)
def test_what_does_not_fit_what_retention_says_of_itself_is_told(
    store: EventStore, statement: Executable, number: int, words: str
) -> None:
    store.append([an_event("e0"), ended("e0")])
    list(store.retain(Retention(max_events=0)))
    store.append([an_event("e1")])
    assert store.verify().findings == ()
    tamper(store, statement)
    found = store.verify().findings
    assert (number, True) in [(one.number, words in one.text) for one in found], found


@pytest.mark.parametrize(
    "note",
    [
        RetentionNote(Why.AGE, 1.0, emptied=((2, 99),)),
        RetentionNote(Why.AGE, 1.0, emptied=((2, 3),)),
        RetentionNote(Why.BARE, 1.0, cut=3, cut_hash="00" * 32),
    ],
)
def test_retention_cannot_have_removed_what_came_after_it(store: EventStore, note: RetentionNote) -> None:
    store.append([an_event("e0"), an_event("e1")])
    with store._database.writing() as (connection, end):
        assert Appending(connection, end).note(encode_note(note)) == 3
    (found,) = store.verify().findings
    assert (found.number, "came only later" in found.text) == (3, True)


@given(st.lists(st.lists(st.integers(1, 40), max_size=12, unique=True), max_size=8))
def test_what_was_told_to_be_emptied_is_known_by_number(steps: list[list[int]]) -> None:
    told = Told()
    for numbers in steps:
        note = RetentionNote(Why.AGE, 1.0, rows_of(sorted(numbers)))
        assert decode_note(encode_note(note)) == note
        told.add(50, note)
    for number in range(45):
        assert told.says_emptied(number) == any(number in numbers for numbers in steps)


def test_a_check_that_goes_on_while_retention_works_accuses_nobody(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "PIECE", 4)
    for number in range(10):
        # The latest records are those of the oldest events: they go while the first are looked at.
        store.append([an_event(f"e{number}", at_s=-number), ended(f"e{number}", at_s=-number)])
    left = iter(range(8, 2, -2))
    found = store.verify(on_progress=lambda _number: retain(store, next(left, 2)))
    assert found.findings == ()
    assert found.removed > 0
    assert found.records == 20, "what came in since is not counted"


@contextmanager
def plans(store: EventStore) -> Iterator[list[str]]:
    """Gather how SQLite answers each question that is asked meanwhile."""
    found: list[str] = []

    def asked(connection: object, cursor: object, statement: str, values: object, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[attr-defined]
            found.extend(row[3] for row in rows)

    sqlalchemy_event.listen(store.engine, "before_cursor_execute", asked)
    yield found
    sqlalchemy_event.remove(store.engine, "before_cursor_execute", asked)


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(),
        EventFilter(channels=("gate",)),
        EventFilter(rules=("yard",)),
        EventFilter(labels=("person",)),
        EventFilter(states=(EventState.ACTIVE,)),
        EventFilter(unacknowledged=True),
        EventFilter(start_s=BEGIN_S + 3, end_s=BEGIN_S + 9),
        EventFilter(channels=("gate",), start_s=BEGIN_S + 3, unacknowledged=True),
    ],
    ids=lambda wanted: ",".join(name for name in wanted.__slots__ if getattr(wanted, name)),
)
def test_no_page_is_sorted_or_read_from_a_whole_table(store: EventStore, wanted: EventFilter) -> None:
    some(store, 20)
    with plans(store) as found:
        token = store.query(wanted, size=2).next_token
        if token:
            store.query(wanted, size=2, token=token)
    assert found
    assert [line for line in found if "TEMP B-TREE" in line or ("SCAN" in line and "INDEX" not in line)] == []
