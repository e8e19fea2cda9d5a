"""Keeps a store one server's: who opens it alone holds it until it is closed, or the process is gone.

Two servers that write one chain would each end the events that go on at the other.

SQLite: a lock on a file beside the database, as on the folder of the state; the kernel takes it back from whoever dies.
PostgreSQL: an advisory lock of the very session that writes, so that no transaction outlives the hold that it needs.
A session that is lost, as when the database restarts, is replaced before the next write, unless somebody else has taken
the store in between: then nothing is written here any more.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc, text

from vedette_server.private import FILE_MODE
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError, translating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine, RootTransaction, Row

HELD = "HELD"
ALLOWED = "allowed: a database of its own for each"
# How often it is looked whether another one has left.
_LOOK_S = 0.05
# Any number that nobody else takes, of which `pg_locks` shows the two halves; an advisory lock is one database's.
_KEY = 0x7665646574746502
_LOCK = {"key": _KEY, "high": _KEY >> 32, "low": _KEY & 0xFFFFFFFF}
# Another session of ours is known by its name. One that has nothing to write for long must not be ended for that; the
# setting is PostgreSQL 14's.
_NAME = text("SELECT set_config('application_name', :name, false)")
_STAY = text("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'")
_HOLDER = text(
    """
    SELECT pid, pid = pg_backend_pid() AS own, application_name AS name, host(client_addr) AS address,
        backend_start AS since
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid = :high AND objid = :low AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)
_TRY = text("SELECT pg_try_advisory_lock(:key) AS taken, pg_backend_pid() AS backend")
_STILL_OURS = text(
    """
    SELECT pg_backend_pid() = :backend AND EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = 1 AND classid = :high AND objid = :low
    )
    """
)
_END = text("SELECT pg_terminate_backend(:pid)")


class FileHold:
    """Holds a file of SQLite.

    Args:
        path: The database, which need not be there yet.

    Raises:
        StoreUnusableError: Another server holds it, or it cannot be held.
    """

    def __init__(self, path: Path) -> None:
        # One file has one lock, by whichever link it is found. The database itself is no place for it: whoever closes
        # it drops SQLite's own locks (https://sqlite.org/howtocorrupt.html, section 2.2).
        real = Path(os.path.realpath(path))
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(real.with_name(f"{real.name}.lock"), flags, FILE_MODE)
        except OSError as error:
            reason = "READ_ONLY" if isinstance(error, PermissionError) else "GONE"
            raise StoreUnusableError(reason, f"store {path}: its lock cannot be made ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if not isinstance(error, BlockingIOError):
                raise StoreUnusableError("GONE", f"store {path}: it cannot be locked ({error.strerror})") from error
            raise StoreUnusableError(HELD, f"store {path} is used by another server; {ALLOWED}") from error

    def close(self) -> None:
        """Leave it to others; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class SessionHold:
    """Holds a database of PostgreSQL, with the only session that writes it.

    Threads: any; one at a time writes.

    Args:
        engine: Makes the session, and keeps none itself; closed with the hold.
        place: Which database, for people, without a password.
        timeout_s: How long it is waited for another server that ends, and for another thread.

    Raises:
        StoreUnavailableError: The database cannot be reached now.
        StoreUnusableError: Another server holds it.
    """

    def __init__(self, engine: Engine, place: str, timeout_s: float) -> None:
        self._engine = engine
        self._place = place
        self._timeout_s = timeout_s
        self._name = f"vedette {uuid.uuid4().hex}"
        self._turn = threading.Lock()
        self._closed = False
        # Why nothing is written any more.
        self._lost = ""
        self._backend = 0
        with translating(place):
            # One that was killed just now may still be there.
            self._connection: Connection | None = self._take(timeout_s)

    def close(self) -> None:
        """Leave it to others; may be called twice. Who writes just now leaves it when that is done."""
        self._closed = True
        if self._turn.acquire(timeout=self._timeout_s):
            self._leave()
            self._turn.release()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the session in a transaction, which is committed at the end, and which nobody else's can meet.

        Raises:
            StoreUnavailableError: It cannot be used now.
            StoreUnusableError: Another server has it.
        """
        with translating(self._place):
            if not self._turn.acquire(timeout=self._timeout_s):
                raise StoreUnavailableError("LOCKED", f"store {self._place}: another thread writes for long")
            try:
                with self._begun() as transaction:
                    yield transaction.connection
            finally:
                if self._closed:
                    self._leave()
                self._turn.release()

    def _begun(self) -> RootTransaction:
        if self._closed:
            raise StoreUnavailableError("UNREACHABLE", f"store {self._place}: it is closed")
        if transaction := self._gone_on():
            return transaction
        self._connection = self._retaken()
        transaction = self._begin(self._connection)
        if transaction is None:
            raise self._shared()
        return transaction

    def _gone_on(self) -> RootTransaction | None:
        """Begin a transaction in the session that there is; None: there is none that holds the store (any more)."""
        if self._connection is None:
            return None
        try:
            if transaction := self._begin(self._connection):
                return transaction
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        self._leave()
        return None

    def _begin(self, connection: Connection) -> RootTransaction | None:
        transaction = connection.begin()
        ours = False
        try:
            ours = bool(connection.execute(_STILL_OURS, _LOCK | {"backend": self._backend}).scalar_one())
        finally:
            if not ours:
                transaction.rollback()
        return transaction if ours else None

    def _retaken(self) -> Connection:
        if self._lost:
            raise StoreUnusableError(HELD, self._lost)
        try:
            return self._take(0.0)
        except StoreUnusableError as error:
            # For good: whoever has it has ended what went on here, and must find it free when it starts anew.
            self._lost = f"{error}. It was lost with its connection: stop the other server, or start this one anew"
            raise StoreUnusableError(HELD, self._lost) from error

    def _take(self, patience_s: float) -> Connection:
        connection = self._engine.connect()
        try:
            with connection.begin():
                connection.execute(_NAME, {"name": self._name})
                connection.execute(_STAY)
            self._wait(connection, patience_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _wait(self, connection: Connection, patience_s: float) -> None:
        began_s = time.monotonic()
        while holder := self._try(connection):
            past_s = time.monotonic() - began_s
            if holder.name != self._name and past_s >= patience_s:
                raise StoreUnusableError(HELD, f"store {self._place} is used by {_words(holder)}; {ALLOWED}")
            if past_s >= self._timeout_s:
                raise StoreUnavailableError("LOCKED", f"store {self._place}: the session before has not ended yet")
            time.sleep(_LOOK_S)

    def _try(self, connection: Connection) -> Row[Any] | None:
        """Take it if it is free; return who else has it."""
        while True:
            with connection.begin():
                holder = connection.execute(_HOLDER, _LOCK).one_or_none()
                if holder is None:
                    tried = connection.execute(_TRY, _LOCK).one()
                    if tried.taken:
                        self._backend = tried.backend
                        return None
                elif holder.own:
                    raise self._shared()
                elif holder.name == self._name:
                    # The connection was cut, and the database has not noticed.
                    connection.execute(_END, {"pid": holder.pid})
            if holder is not None:
                return holder

    def _leave(self) -> None:
        if self._connection is not None:
            # Nothing is pooled: this ends the session, and with it the hold.
            self._connection.close()
            self._connection = None

    def _shared(self) -> StoreUnusableError:
        return StoreUnusableError(
            HELD,
            f"store {self._place} is reached through sessions that others use, too, as of a connection pooler in "
            "transaction mode; allowed: PostgreSQL itself, or a pooler in session mode",
        )


def _words(holder: Row[Any]) -> str:
    if holder.since is None:
        return "another server"
    return f"another server, from {holder.address or 'its own machine'} since {holder.since:%Y-%m-%d %H:%M:%S%z}"
