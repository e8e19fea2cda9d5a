"""A store is one server's at a time: refused to a second one, free when the first is gone, whatever way it went."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import StaticPool, create_engine, text

from support_store import Postgres, a_postgres, an_event, ended
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError
from vedette_server.store.holding import FileHold, SessionHold
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

_names = itertools.count()
SHORT_S = 0.3


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with a_postgres() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql")
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database(f"held{next(_names)}")


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.make_database(f"held{next(_names)}")


@pytest.fixture
def desk(database: str) -> Iterator[Engine]:
    """What looks at the database from outside of any store."""
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


def alone(url: str, folder: Path, timeout_s: float = SHORT_S) -> EventStore:
    """Open a store as a server does whose folder of the state is another for each."""
    return EventStore(url, key_file=folder / "key", timeout_s=timeout_s, alone=True)


def holders(desk: Engine) -> dict[int, str]:
    """The sessions that hold this database, with their names."""
    held = """
        SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND datname = current_database()
    """
    with desk.connect() as connection:
        return {row.pid: row.application_name for row in connection.execute(text(held))}


def cut(desk: Engine) -> None:
    """End the session that holds, as a restart of the database does."""
    [pid] = holders(desk)
    with desk.connect() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid}).scalar_one()
    wait_until(lambda: pid not in holders(desk))


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_second_server_is_refused_with_what_is_allowed_until_the_first_has_closed(url: str, tmp_path: Path) -> None:
    with alone(url, tmp_path) as store:
        store.append([an_event("a")])
        with pytest.raises(StoreUnusableError, match=r"events.db|held\d+ ") as refused:
            alone(url, tmp_path)
        assert refused.value.reason == "HELD"
        assert "is used by another server" in str(refused.value)
        assert "allowed: a database of its own for each" in str(refused.value)
        assert store.append([an_event("b")])[0].number == 2, "the first one goes on"
    with alone(url, tmp_path) as store:
        assert store.append([an_event("c")])[0].number == 3


def test_who_only_reads_opens_it_beside_a_server(url: str, tmp_path: Path) -> None:
    with alone(url, tmp_path) as store:
        store.append([an_event("a"), ended("a")])
        with EventStore(url, key_file=tmp_path / "key") as reader:
            assert reader.get("a").event == ended("a")
            assert reader.verify(store.head()).findings == ()


def test_a_server_that_was_killed_does_not_keep_its_successor_from_starting(url: str, tmp_path: Path) -> None:
    call = f"support_store.have_alone({url!r}, {str(tmp_path / 'key')!r})"
    code = f"import sys; sys.path[:0] = {sys.path!r}; import support_store; {call}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "1\n"
        with pytest.raises(StoreUnusableError, match="used by another server"):
            alone(url, tmp_path)
        process.kill()
        process.wait(10)
    with alone(url, tmp_path, timeout_s=5.0) as store:
        assert store.append([an_event("mine")])[0].number == 2


def test_of_many_that_open_it_at_once_one_gets_it(url: str, tmp_path: Path) -> None:
    EventStore(url, key_file=tmp_path / "key").close()
    start = threading.Barrier(6)

    def attempt(_number: int) -> EventStore | StoreUnusableError:
        start.wait(10)
        try:
            return alone(url, tmp_path)
        except StoreUnusableError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(attempt, range(6)))
    got = [one for one in found if isinstance(one, EventStore)]
    refused = [one.reason for one in found if isinstance(one, StoreUnusableError)]
    for store in got:
        store.close()
    assert (len(got), refused) == (1, ["HELD"] * 5)


def test_threads_of_the_server_that_has_it_take_turns(url: str, tmp_path: Path) -> None:
    with alone(url, tmp_path, timeout_s=10.0) as store, ThreadPoolExecutor(4) as pool:
        told = [one for each in pool.map(lambda n: store.append([an_event(f"{n}")]), range(40)) for one in each]
        assert sorted(one.number for one in told) == list(range(1, 41))
        assert store.verify().findings == ()


def test_a_write_that_fails_midway_keeps_nothing_and_keeps_the_hold(database: str, tmp_path: Path) -> None:
    with alone(database, tmp_path) as store:
        with pytest.raises(ZeroDivisionError), store._database.writing() as (connection, _end):
            connection.execute(text("UPDATE vedette_chain SET length = 7"))
            _ = 1 / 0
        with pytest.raises(StoreUnusableError):
            alone(database, tmp_path)
        assert store.append([an_event("a")])[0].number == 1


def test_another_name_of_the_same_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "events.db")
    with alone(f"sqlite:///{tmp_path}/events.db", tmp_path):
        with pytest.raises(StoreUnusableError, match=r"link\.db is used by another server"):
            alone(f"sqlite:///{tmp_path}/link.db", tmp_path)
        alone(f"sqlite:///{tmp_path}/other.db", tmp_path).close()


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusableError, match=r"absent/events\.db: its lock cannot be made") as refused:
        FileHold(tmp_path / "absent" / "events.db")
    assert refused.value.reason == "GONE"


def test_a_file_that_is_no_place_is_named_as_one_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "events.db").symlink_to(tmp_path / "events.db")
    with pytest.raises(StoreUnusableError, match=r"events\.db: it cannot be made \(Too many levels") as refused:
        alone(f"sqlite:///{tmp_path}/events.db", tmp_path)
    assert refused.value.reason == "GONE"


def test_a_host_that_took_a_question_and_is_gone_is_not_waited_for_until_the_next_day(
    database: str, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store:
        for kind in (store._database.reading, store._database._writing):
            with kind() as connection:
                descriptor = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
                with socket.socket(fileno=os.dup(descriptor)) as reached:
                    asked = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                    idle_s, interval_s, count = (reached.getsockopt(socket.IPPROTO_TCP, one) for one in asked)
            assert idle_s + interval_s * count <= 30


def test_another_database_of_the_same_postgresql_is_another_store(
    database: str, postgres: Postgres, tmp_path: Path
) -> None:
    with alone(database, tmp_path), alone(postgres.make_database(f"held{next(_names)}"), tmp_path) as other:
        assert other.append([an_event("a")])[0].number == 1


def test_a_connection_that_was_lost_is_made_anew_with_its_hold_before_the_next_write(
    database: str, desk: Engine, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store:
        store.append([an_event("a")])
        for number in (2, 3):
            cut(desk)
            assert store.append([an_event(f"{number}")])[0].number == number, "without a word"
            with pytest.raises(StoreUnusableError, match=r"another server, from 127\.0\.0\.1 since 2"):
                alone(database, tmp_path)


def test_after_a_restart_of_the_database_the_server_has_it_again(
    database: str, postgres: Postgres, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store:
        postgres.stop()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            store.append([an_event("a")])
        postgres.start()
        assert store.append([an_event("a")])[0].number == 1
        with pytest.raises(StoreUnusableError, match="used by another server"):
            alone(database, tmp_path)


def test_a_connection_that_is_lost_within_a_write_keeps_nothing_of_it(
    database: str, desk: Engine, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store:
        with pytest.raises(StoreUnavailableError), store._database.writing() as (connection, _end):
            connection.execute(text("UPDATE vedette_chain SET length = 7"))
            cut(desk)
        with alone(database, tmp_path) as other:
            assert other.append([an_event("a")])[0].number == 1
        assert store.append([an_event("b")])[0].number == 2, "nobody has it, and this one never saw the other"


def test_what_another_took_meanwhile_is_not_written_any_more_even_when_it_has_gone(
    database: str, desk: Engine, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store:
        store.append([an_event("a")])
        cut(desk)
        with alone(database, tmp_path) as other:
            for _time in range(2):
                with pytest.raises(StoreUnusableError, match="lost with its connection: stop the other") as refused:
                    store.append([an_event("b")])
                assert refused.value.reason == "HELD"
            assert store.get("a").number == 1, "reading goes on"
            assert other.append([an_event("c")])[0].number == 2
        # The other one may be starting anew just now, and must find it free.
        with pytest.raises(StoreUnusableError, match="stop the other"):
            store.append([an_event("b")])
        with alone(database, tmp_path) as again:
            assert [one.event_id for one in again.query().events] == ["c", "a"]


def test_its_own_session_that_the_database_still_keeps_is_ended_and_does_not_count_as_another(
    database: str, desk: Engine, tmp_path: Path
) -> None:
    with alone(database, tmp_path) as store, desk.connect() as remains:
        remains.execute(text("SELECT 1"))
        [name] = holders(desk).values()
        key = "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
        number = remains.execute(text(key)).scalar_one()
        cut(desk)
        # As left behind by a network that was cut: of the same name, holding.
        remains.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name})
        remains.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
        remains.commit()
        [left] = holders(desk)
        assert store.append([an_event("a")])[0].number == 1
        [present] = holders(desk)
        assert present != left
        remains.invalidate()


def test_a_store_that_is_closed_takes_it_from_nobody(database: str, desk: Engine, tmp_path: Path) -> None:
    store = alone(database, tmp_path)
    store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.append([an_event("a")])
    store.close()
    wait_until(lambda: not holders(desk))


def test_a_store_that_is_closed_within_a_write_is_left_when_that_is_done(
    database: str, desk: Engine, tmp_path: Path
) -> None:
    store = alone(database, tmp_path)
    with store._database.writing():
        store.close()
        assert len(holders(desk)) == 1
    wait_until(lambda: not holders(desk))


def test_a_session_that_others_use_too_is_refused(database: str) -> None:
    # What a connection pooler in transaction mode gives to two servers.
    pooler = create_engine(database.replace("postgresql:", "postgresql+psycopg:"), poolclass=StaticPool)
    first = SessionHold(pooler, "events", SHORT_S)
    with pytest.raises(StoreUnusableError, match="pooler in transaction mode; allowed: PostgreSQL itself"):
        SessionHold(pooler, "events", SHORT_S)
    first.close()
    pooler.dispose()
