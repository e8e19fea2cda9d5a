"""What is left of the store when it is killed, when its disk fails, and what it says of a database that is no good."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import exc, text

from support_store import (
    BEGIN_S,
    DAY_S,
    SHIM,
    Failing,
    InjectedError,
    a_postgres,
    an_event,
    ended,
    ready,
)
from vedette_server.errors import SettingsError
from vedette_server.store.changes import EvidenceChange, Outcome
from vedette_server.store.database import VERSION_TABLE
from vedette_server.store.errors import UNKNOWN, StoreUnavailableError, StoreUnusableError, translating
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore
from vedette_server.store.tables import metadata
from vedette_server.store.writer import EventWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder}/events.db"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_in(tmp_path)


def kill_again_and_again(url: str, folder: Path, times: int) -> None:
    """Kill a process that keeps events, at any moment; look after each time at what it had told."""
    told = folder / "told"
    told.touch()
    with EventStore(url, key_file=folder / "key") as store, a_process(f"nursery({url!r}, {str(told)!r})") as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        store.append([an_event("always")])
        for _time in range(times):
            size = told.stat().st_size
            nursery.stdin.write("\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            wait_until(lambda size=size: told.stat().st_size > size)  # type: ignore[misc]
            time.sleep(random.uniform(0, 0.1))  # any moment will do
            os.kill(child, signal.SIGKILL)
            assert nursery.stdout.readline() == "gone\n"
            check_told(store, told.read_text().splitlines())
        nursery.stdin.close()
        assert nursery.wait(10) == 0


@contextmanager
def a_process(call: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a function of `support_store` in a process of its own."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import support_store; support_store.{call}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, env=os.environ | environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def check_told(store: EventStore, lines: list[str]) -> None:
    """Everything that was told is there, under its number, and no identity is there twice."""
    numbers = [int(line.split()[0]) for line in lines]
    assert len(numbers) == len(set(numbers))
    assert {line.split()[2] for line in lines} <= {Outcome.ADDED.value}
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT number, event_id, content IS NOT NULL FROM vedette_records")).all()
    assert all(held for _number, event_id, held in rows if not event_id), "what retention says of itself stays"
    there = {number: event_id for number, event_id, _held in rows}
    assert sorted(there) == list(range(1, len(there) + 1))
    assert [line for line in lines if there.get(int(line.split()[0])) != line.split()[1]] == []
    begins: set[str] = set()
    offset = 0
    while (found := store.changes_after(offset, limit=1000)).changes:
        for one in found.changes:
            assert one.event is not None
            if one.event == an_event(one.event_id):
                assert one.event_id not in begins
                begins.add(one.event_id)
        offset = found.through
    assert store.verify().findings == ()


def test_what_was_told_is_there_after_kill_9_at_any_point(url: str, tmp_path: Path) -> None:
    kill_again_and_again(url, tmp_path, 20)


@pytest.mark.load
@pytest.mark.timeout(600)
def test_what_was_told_is_there_after_a_hundred_kills(url: str, tmp_path: Path) -> None:
    kill_again_and_again(url, tmp_path, 100)


def test_what_was_told_is_there_after_kill_9_with_postgresql(tmp_path: Path) -> None:
    with a_postgres() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql")
        kill_again_and_again(server.make_database("events"), tmp_path, 3)


def scenario(store: EventStore, mark: str) -> Iterator[Callable[[], object]]:
    """Steps that touch all that writes."""
    yield lambda: store.append([an_event(f"{mark}a"), an_event(f"{mark}b", channel="yard", at_s=5 * DAY_S)])
    yield lambda: store.append([ended(f"{mark}a"), EvidenceChange(f"{mark}a", clip=ready())])
    yield lambda: store.acknowledge(f"{mark}b", "ann")
    yield lambda: list(store.retain(Retention(max_age_s=DAY_S)))


def test_a_failure_at_any_statement_or_commit_leaves_the_store_whole(url: str) -> None:
    with EventStore(url, clock=lambda: BEGIN_S + 9 * DAY_S) as store:
        failing = Failing(store.engine)
        for at in itertools.count(1):
            before, failures = store.end()[0], 0
            failing.arm(at)
            for step in scenario(store, f"{at}-"):
                try:
                    step()
                except InjectedError:
                    failures += 1
                    step()
            failing.arm(0)
            assert store.verify().findings == ()
            assert store.end()[0] == before + 6, "each change once, and what retention did, whatever was seen of it"
            assert [one.event_id for one in store.query(size=1).events] == [max(f"{n}-b" for n in range(1, at + 1))]
            if not failures:
                break
        assert at > 50


@pytest.mark.parametrize("code", [errno.EIO, pytest.param(errno.ENOSPC, marks=pytest.mark.load)])
def test_a_disk_that_fails_at_any_write_or_sync_leaves_the_store_whole(tmp_path: Path, code: int) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no compiler for the library that makes writes fail")
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    with a_process(f"fail_every_call({str(tmp_path)!r}, {code})", LD_PRELOAD=str(library)) as process:
        said, _nothing = process.communicate(timeout=100)
        assert process.returncode == 0
    calls, failed = map(int, said.split())
    assert calls > 50
    assert failed > 20, "the failures are real"


def test_the_migrations_make_what_the_code_knows(url: str) -> None:
    with EventStore(url) as store:
        check_schema(store)
    with a_postgres() as server:
        if server is not None:
            with EventStore(server.make_database("events")) as store:
                check_schema(store)


def check_schema(store: EventStore) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
        inside = connection.dialect.name
        if inside == "sqlite":
            made = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name LIKE 'ix_%'"))
            assert {name for name, sql in made if " WHERE " in sql} == {
                index.name for table in metadata.sorted_tables for index in table.indexes if _is_partial(index)
            }


def _is_partial(index: object) -> bool:
    return index.dialect_options["sqlite"]["where"] is not None  # type: ignore[attr-defined]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(url: str, tmp_path: Path) -> None:
    with EventStore(url) as store:
        store.append([an_event("a")])
    with sqlite3.connect(tmp_path / "events.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreUnusableError, match=r"9999.*newer than 0001") as refused:
        EventStore(url)
    assert refused.value.reason == "NEWER_SCHEMA"


def test_a_locked_store_says_so_in_time_and_goes_on_when_it_is_free(url: str, tmp_path: Path) -> None:
    with EventStore(url, timeout_s=0.05) as store:
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process") as refused:
            store.append([an_event("a")])
        assert refused.value.reason == "LOCKED"
        assert store.query().events == (), "reading goes on"
        other.execute("ROLLBACK")
        other.close()
        assert store.append([an_event("a")])[0].number == 1


def test_a_full_disk_says_so_and_what_was_kept_can_be_read(url: str) -> None:
    with EventStore(url) as store:
        store.append([an_event("a")])
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreUnavailableError, match="full") as refused:
            store.append([an_event("big", detail="x" * 1_000_000)])
        assert refused.value.reason == "FULL"
        assert store.get("a").number == 1
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert store.append([an_event("big", detail="x" * 1_000_000)])[0].number == 2
        assert store.verify().findings == ()


class _PassingError(Exception):
    """What psycopg raises, as far as it is looked at."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("for now")
        self.sqlstate = sqlstate


def _sqlite_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("for now")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    "origin",
    [
        *(_sqlite_error(name) for name in ("SQLITE_NOMEM", "SQLITE_INTERRUPT", "SQLITE_NOSUCHTHING")),
        *(_PassingError(state) for state in ("25P02", "55000", "F0000")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [exc.OperationalError, exc.InternalError, exc.DBAPIError])
def test_whatever_a_database_says_that_nobody_foresaw_may_pass(origin: Exception, kind: type[exc.DBAPIError]) -> None:
    with pytest.raises(StoreUnavailableError, match="for now") as raised, translating("here"):
        raise kind("INSERT", {}, origin)
    assert raised.value.reason == UNKNOWN


@pytest.mark.parametrize("name", ["SQLITE_NOMEM", "SQLITE_INTERRUPT"])
def test_no_event_is_lost_while_the_database_fails_for_a_reason_that_nobody_foresaw(url: str, name: str) -> None:
    failing = True
    with EventStore(url) as store:

        @sqlalchemy_event.listens_for(store.engine, "before_cursor_execute")
        def fail(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if failing and statement.startswith("INSERT"):
                raise exc.OperationalError(statement, {}, _sqlite_error(name))

        with EventWriter(store, longest_pause_s=0.05) as writer:
            for number in range(3):
                writer.submit(an_event(f"e{number}"))
            assert not writer.flush(0.3)
            failing = False
            assert writer.flush(20)
            assert (writer.figures().kept, writer.figures().lost) == (3, 0)
        assert store.end()[0] == 3


def test_a_file_that_is_no_database_or_is_damaged_is_said_to_be_so(url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreUnusableError, match=r"events\.db.*not a database"):
        EventStore(url)
    path.unlink()
    with EventStore(url) as store:
        store.append([an_event(f"{n}", detail="x" * 3000) for n in range(50)])
    content = bytearray(path.read_bytes())
    content[4096 * 3 : -4096] = b"\xa5" * (len(content) - 4096 * 4)
    path.write_bytes(content)
    with pytest.raises(StoreUnusableError, match="damaged") as refused, EventStore(url) as store:
        store.append([an_event(f"{n}") for n in range(50)])
        store.query(size=1000)
    assert refused.value.reason == "CORRUPT"


def test_a_file_that_is_taken_away_is_noticed_and_not_made_anew(url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with EventStore(url) as store:
        store.append([an_event("a")])
        path.rename(tmp_path / "away")
        with pytest.raises(StoreUnusableError, match="taken away") as refused:
            store.append([an_event("b")])
        assert refused.value.reason == "GONE"
        assert not path.exists()
        (tmp_path / "away").rename(path)
        assert store.append([an_event("b")])[0].number == 2


def test_a_store_that_may_not_be_written_says_so(url: str, tmp_path: Path) -> None:
    with EventStore(url) as store:
        store.append([an_event("a")])
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        with pytest.raises(StoreUnusableError, match="may not be written") as refused:
            store.append([an_event("b")])
        assert refused.value.reason == "READ_ONLY"
    if os.geteuid() != 0:  # root may write everything
        (tmp_path / "events.db").chmod(0o400)
        with pytest.raises(StoreUnusableError, match="may not be written"):
            EventStore(url)


def test_a_chain_that_was_set_back_takes_no_more_instead_of_forking(url: str) -> None:
    with EventStore(url) as store:
        store.append([an_event("a"), an_event("b")])
        for statement in ("UPDATE vedette_chain SET length = 1", "DROP TABLE vedette_chain"):
            with store.engine.connect() as connection, connection.begin():
                connection.execute(text(statement))
            with pytest.raises(StoreUnusableError, match="tables") as refused:
                store.append([an_event("c")])
            assert refused.value.reason == "CORRUPT"


def test_every_connection_waits_for_the_disk_and_checks_references(url: str) -> None:
    with EventStore(url, timeout_s=2.5) as store, store.engine.connect() as one, store.engine.connect() as other:
        for connection in (one, other):
            asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked]
            assert found == ["wal", 2, 1, 2500]
    with a_postgres() as server:
        if server is not None:
            with EventStore(server.make_database("events")) as store, store.engine.connect() as connection:
                assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
                with pytest.raises(StoreUnavailableError, match=r"absent.*does not exist"):
                    EventStore(server.url("absent"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusableError, match="absent"):
        EventStore(url_in(tmp_path / "absent"))


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://host/name"]
)
def test_a_url_of_no_store_is_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///PATH|names no file"):
        EventStore(url)


def test_a_postgresql_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as refused:
        EventStore("postgresql://ann:secret@127.0.0.1:1/events", timeout_s=1)
    assert refused.value.reason == "UNREACHABLE"
    assert "127.0.0.1:1" in refused.value.message
    assert "secret" not in refused.value.message


def test_a_path_with_special_characters_is_the_file_that_it_names(tmp_path: Path) -> None:
    folder = tmp_path / "a b# ü&"
    folder.mkdir()
    with EventStore(url_in(folder)) as store:
        store.append([an_event("a")])
    assert (folder / "events.db").stat().st_size > 0
