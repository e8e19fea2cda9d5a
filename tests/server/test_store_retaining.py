"""What retention leaves of a record is small and whole, in SQLite and in PostgreSQL: its room comes free."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from support_store import BEGIN_S, a_postgres, an_event, ended, ready, store_of
from vedette_server.data.event import TrailPoint
from vedette_server.store import retaining
from vedette_server.store.appending import MOST_VALUES
from vedette_server.store.changes import EvidenceChange, Outcome
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore
from vedette_server.store.tables import events, records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support_store import Postgres
    from vedette_server.data.event import Event

# SQLite's own choice: a bare record that kept its page would hold up to so much.
PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres | None]:
    with a_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with store_of(request.param, request, tmp_path) as opened:
        yield opened


def walked(name: str, channel: str, numbers: random.Random) -> Event:
    """An event with a trail that does not become small by packing, as real ones do not."""
    trail = tuple(TrailPoint(BEGIN_S + step / 15, numbers.random(), numbers.random()) for step in range(40))
    return an_event(name, channel=channel, trail=trail)


def keep(store: EventStore, numbers: random.Random, count: int, *channels: str) -> None:
    """Keep events of channels in turns, each in three records."""
    begun = [walked(f"{numbers.getrandbits(128):032x}", channels[n % len(channels)], numbers) for n in range(count)]
    store.append(begun)
    store.append([EvidenceChange(one.event_id, clip=ready()) for one in begun])
    store.append([ended(one.event_id, channel=one.channel, trail=one.trail) for one in begun])


def used_bytes(store: EventStore) -> int:
    """How much of SQLite's file holds something, the rest is free for what comes."""
    with store.engine.connect() as connection:
        pages, free = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "freelist_count")
        )
    return (pages - free) * PAGE_BYTES


def rows(store: EventStore) -> dict[int, tuple[object, ...]]:
    """What must stay of each record."""
    stays = (records.c.number, records.c.event_id, records.c.channel, records.c.digest, records.c.hash)
    with store.engine.connect() as connection:
        return {row.number: tuple(row) for row in connection.execute(select(*stays))}


def bare(store: EventStore) -> int:
    with store.engine.connect() as connection:
        return connection.execute(select(func.count()).where(records.c.content.is_(None))).scalar_one()


def test_a_record_without_its_content_leaves_its_room_to_others(tmp_path: Path) -> None:
    numbers = random.Random(1)
    with EventStore(f"sqlite:///{tmp_path}/events.db") as store:
        # One channel keeps all, so that what stays and what goes lie beside each other.
        goes = Retention(max_events=5, apart=("stays",))
        for _time in range(8):
            keep(store, numbers, 60, "a", "b", "stays", "c")
            list(store.retain(goes))
        before, held_before = bare(store), used_bytes(store)
        for _time in range(8):
            keep(store, numbers, 60, "a", "b", "c")
            list(store.retain(goes))
        assert bare(store) - before == 8 * 60 * 3
        assert (used_bytes(store) - held_before) / (bare(store) - before) < 600, "much less than a page each"
        assert store.verify().findings == ()


def test_all_but_the_content_stays_as_it_was_however_many_records_an_event_has(store: EventStore) -> None:
    event = an_event("long")
    store.append([replace(event, update_s=BEGIN_S + n / 100) for n in range(MOST_VALUES + 300)])
    store.append([an_event("goes on"), replace(event, update_s=BEGIN_S + 50), ended("long", after_s=60)])
    head, before = store.head(), rows(store)
    assert len(list(store.retain(Retention(max_events=1)))) == 1
    after = rows(store)
    note = store.end()[0]
    assert {number: row for number, row in after.items() if number != note} == before
    assert bare(store) == MOST_VALUES + 302
    found = store.verify(head)
    assert (found.removed, found.findings) == (MOST_VALUES + 302, ())
    assert store.append([ended("long")])[0].outcome is Outcome.REMOVED
    assert [one.event_id for one in store.changes_after(0).changes] == ["goes on"]


def test_retention_goes_on_where_an_event_was_made_to_point_to_the_record_of_another(store: EventStore) -> None:
    store.append([an_event("e0"), ended("e0"), ended("e1", at_s=1), an_event("e2", at_s=2)])
    with store.engine.begin() as connection:
        connection.execute(update(events).where(events.c.event_id == "e2").values(record=1))
    list(store.retain(Retention(max_events=1)))
    assert bare(store) == 3
    assert [one.number for one in store.verify().findings] == [4], "and it is told"


def test_what_is_cut_off_at_once_is_bounded_and_the_next_time_goes_on(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaining, "MOST_CUT", 10)
    store.append([ended(f"e{n}", at_s=n) for n in range(30)])
    store.append([an_event("goes on", at_s=40)])
    list(store.retain(Retention(max_events=1)))
    bases = []
    for _time in range(4):
        head = store.head()
        list(store.retain(Retention(max_bare_records=5)))
        found = store.verify(head)
        assert found.findings == ()
        bases.append(found.base)
    assert bases == [10, 20, 26, 26], "30 stand at the beginning; of 5, a tenth goes beside what is too many"
