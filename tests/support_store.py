"""What tests of the store share: events, a PostgreSQL of their own on loopback, a store that fails where it is told."""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event as sqlalchemy_event

from vedette_server.data.event import Event, EventKind, EventState, Evidence, EvidenceState, TrailPoint
from vedette_server.store.changes import EvidenceChange, Outcome
from vedette_server.store.errors import StoreUnavailableError
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore
from vedette_server.store.waiting import Thinning
from vedette_server.store.writer import EventWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from sqlalchemy import Engine

    from vedette_server.store.changes import Stored

DAY_S = 86400.0
BEGIN_S = 1_790_000_000.0


def an_event(name: str = "e1", *, channel: str = "gate", at_s: float = 0.0, **more: Any) -> Event:
    """An event that began at BEGIN_S + at_s; it goes on unless `state` says otherwise."""
    start_s = BEGIN_S + at_s
    fields: dict[str, Any] = {
        "event_id": name,
        "channel": channel,
        "kind": EventKind.ENTER,
        "rule": "yard",
        "state": EventState.ACTIVE,
        "start_s": start_s,
        "update_s": start_s,
        "label": "person",
        "track_ids": (f"{name}-t",),
        "peak_score": 0.75,
        "box": (0.1, 0.2, 0.3, 0.4),
        "measures": {"dwell_s": 1.5},
        "trail": (TrailPoint(start_s, 0.2, 0.4),),
    }
    return Event(**(fields | more))


def ended(name: str = "e1", *, at_s: float = 0.0, after_s: float = 5.0, **more: Any) -> Event:
    """The same event, over."""
    end_s = BEGIN_S + at_s + after_s
    return an_event(name, at_s=at_s, **({"state": EventState.ENDED, "update_s": end_s, "end_s": end_s} | more))


def ready(size_bytes: int = 100) -> Evidence:
    return Evidence(EvidenceState.READY, size_bytes, "ab" * 32, "video/mp4")


class InjectedError(Exception):
    """A failure that a test asked for."""


class Failing:
    """Makes the n-th step of an engine fail: before a statement or a commit is done, or after it; 0: none."""

    def __init__(self, engine: Engine) -> None:
        self.at = 0
        self.count = 0
        sqlalchemy_event.listen(engine, "before_cursor_execute", self._step)
        sqlalchemy_event.listen(engine, "after_cursor_execute", self._step)
        sqlalchemy_event.listen(engine, "commit", self._step)
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = self._committed  # type: ignore[method-assign]

    def arm(self, at: int) -> None:
        """From now on, the step of this number fails."""
        self.at, self.count = at, 0

    def _committed(self, connection: Any) -> None:
        self._commit(connection)
        self._step()

    def _step(self, *_about: object) -> None:
        self.count += 1
        if self.count == self.at:
            raise InjectedError(f"step {self.count}")


def postgres_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None: there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    places += [Path(on_path).resolve().parent] if on_path else []
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


def _other_user() -> list[str]:
    """What a command begins with so that it does not run as root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


class Postgres:
    """A server of PostgreSQL on loopback, in a temporary folder; started and stopped at will."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        self._call("initdb", "--username=vedette", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D", self._data)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def url(self, name: str) -> str:
        return f"postgresql://vedette@127.0.0.1:{self.port}/{name}"

    def make_database(self, name: str) -> str:
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "vedette", name)
        return self.url(name)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self._folder / "log")
        self._call("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def _call(self, name: str, *arguments: str) -> None:
        command = [*_other_user(), str(self._binaries / name), *arguments]
        # A file and no pipe: what pg_ctl leaves running would hold a pipe open.
        with (self._folder.parent / f"{self._folder.name}.out").open("ab") as output:
            subprocess.run(
                command,
                check=True,
                cwd="/",
                stdout=output,
                stderr=output,
                env={**os.environ, "LC_ALL": "C"},
                timeout=60,
            )


@contextmanager
def a_postgres() -> Iterator[Postgres | None]:
    """A running server of PostgreSQL; None where it is not installed."""
    binaries = postgres_binaries()
    if binaries is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vedette-pg-") as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "pg"
        folder.mkdir()
        server = Postgres(binaries, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


_databases = itertools.count()


def store_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> EventStore:
    """Open an empty store, `sqlite` in a folder or `postgresql` at the server of the fixture `postgres`, or skip."""
    import pytest  # noqa: PLC0415 - whoever is killed needs none

    url = f"sqlite:///{folder}/events.db"
    if kind == "postgresql":
        server: Postgres | None = request.getfixturevalue("postgres")
        if server is None:
            pytest.skip("PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql")
        url = server.make_database(f"events{next(_databases)}")
    return EventStore(url, key_file=folder / "key", clock=lambda: BEGIN_S + 100)


def append_until_killed(url: str, told: str) -> None:
    """Keep events for ever, and write down each number and identity once its commit has returned."""
    descriptor = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(stored: Stored) -> None:
        os.write(descriptor, f"{stored.number} {stored.event_id} {stored.outcome}\n".encode())

    with EventStore(url, key_file=Path(told).with_name("key")) as store, EventWriter(store) as writer:
        for number in itertools.count():
            name = f"{os.getpid()}-{number}"
            for change in (an_event(name), EvidenceChange(name, clip=ready()), ended(name)):
                while writer.submit(change, tell) is Thinning.REFUSED:
                    writer.flush(1)
            if number % 7 == 0:
                store.acknowledge("always", f"user {number}")
            if number % 40 == 0:
                list(store.retain(Retention(max_events=100)))


def nursery(url: str, told: str) -> None:
    """For each line of input, fork a process that keeps events until it is killed; say its number, then its end."""
    for _line in sys.stdin:
        child = os.fork()
        if child == 0:
            append_until_killed(url, told)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


def have_alone(url: str, key_file: str) -> None:
    """Open a store as a server does, say so, and keep it until killed."""
    with EventStore(url, key_file=Path(key_file), alone=True) as store:
        print(store.append([an_event("theirs")])[0].number, flush=True)
        sys.stdin.read()


# Makes the n-th call that changes a file of the store fail, once, in the process that it is loaded into.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static long count, at; static int code;
void vedette_fail(long n, int error) { count = 0; at = n; code = error; }
long vedette_count(void) { return count; }
static int fails(int fd) {
    char link[64], path[512]; ssize_t length;
    if (!at) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, ".db") || strstr(path, "-shm") || ++count != at) return 0;
    errno = code;
    return 1;
}
#define REAL(name) ((typeof(&name)) dlsym(RTLD_NEXT, #name))
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return fails(fd) ? -1 : REAL(pwrite64)(fd, b, n, o); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return fails(fd) ? -1 : REAL(pwrite)(fd, b, n, o); }
ssize_t write(int fd, const void *b, size_t n) { return fails(fd) ? -1 : REAL(write)(fd, b, n); }
int fsync(int fd) { return fails(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd) ? -1 : REAL(fdatasync)(fd); }
int ftruncate64(int fd, off64_t n) { return fails(fd) ? -1 : REAL(ftruncate64)(fd, n); }
int ftruncate(int fd, off_t n) { return fails(fd) ? -1 : REAL(ftruncate)(fd, n); }
"""


def fail_every_call(folder: str, code: int) -> None:
    """Run a scenario with the n-th write or sync failing, for every n; prints how many there were. Needs the shim."""
    shim = ctypes.CDLL(None)
    shim.vedette_fail.argtypes = [ctypes.c_long, ctypes.c_int]
    at = failures = calls = 0
    while calls >= at:
        with EventStore(f"sqlite:///{folder}/{at}.db", clock=lambda: BEGIN_S + 9 * DAY_S) as store:
            # What is committed goes into the file itself now and then, so that those writes fail, too.
            sqlalchemy_event.listen(store.engine, "connect", _checkpoint_early)
            store.engine.dispose()
            for _time in range(10):
                at += 1
                before = store.end()[0]
                shim.vedette_fail(at, code)
                failures += _scenario(store, f"{at}-")
                calls = shim.vedette_count()
                shim.vedette_fail(0, 0)
                assert store.verify().findings == ()
                assert store.end()[0] == before + 7, "each change once, and what retention did, whatever was seen of it"
    print(at, failures)


def _checkpoint_early(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA wal_autocheckpoint=64").close()


def _scenario(store: EventStore, mark: str) -> int:
    """Keep some events, each step again while it fails; gives how many times it did."""
    failures = 0
    steps: list[Callable[[], object]] = [
        lambda: store.append([an_event(f"{mark}a"), an_event(f"{mark}b", at_s=8.5 * DAY_S)]),
        lambda: store.append([ended(f"{mark}a"), EvidenceChange(f"{mark}a", clip=ready())]),
        lambda: store.acknowledge(f"{mark}b", "ann"),
        lambda: list(store.retain(Retention(max_age_s=DAY_S))),
        lambda: store.append([an_event(f"{mark}big", detail="x" * 3_000)]),
    ]
    for step in steps:
        while True:
            try:
                step()
                break
            except StoreUnavailableError as error:
                assert error.reason in {"IO_ERROR", "FULL"}, error
                failures += 1
                assert failures < 10
    assert [one.outcome for one in store.append([ended(f"{mark}a")])] == [Outcome.REMOVED]
    return failures
