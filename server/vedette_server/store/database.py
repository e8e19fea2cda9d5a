"""Opens the database of the store: connections that keep what they promise, and the schema that the code knows.

SQLite: one file in write-ahead mode, `synchronous=FULL` (a commit is on the disk when it returns), one writer at a
time that waits for `timeout_s`. PostgreSQL: `synchronous_commit=on`, the same patience for locks. A server
opens it alone, see `holding`; who only reads need not.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, NullPool, create_engine, event, exc, make_url, select, text

from vedette_server.errors import SettingsError
from vedette_server.store.errors import StoreUnusableError, translating
from vedette_server.store.holding import FileHold, SessionHold
from vedette_server.store.tables import chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, Row

VERSION_TABLE = "vedette_schema"
_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number that nobody else takes: two processes must not make the schema at once.
_ADVISORY_LOCK = 0x7665646574746501


class Database:
    """The connections to one store.

    Args:
        url: `sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/NAME`.
        timeout_s: How long a lock or an answer is waited for.
        alone: Whether nobody else may open it so meanwhile.

    Raises:
        SettingsError: The URL is wrong, or its driver is not installed.
        StoreUnavailableError: It cannot be reached now.
        StoreUnusableError: It is damaged, of a newer version, may not be written, or is not to be had alone.
    """

    def __init__(self, url: str, timeout_s: float, *, alone: bool = False) -> None:
        parsed = _parse(url)
        self.place = parsed.render_as_string(hide_password=True)
        self.path = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        self.engine = _postgres(parsed, timeout_s) if self.path is None else _sqlite(self.path, timeout_s)
        self._identity: tuple[int, int] | None = None
        self._file: FileHold | None = None
        self._session: SessionHold | None = None
        try:
            if alone:
                # Before the schema is touched, which may be in use.
                self._hold(parsed, timeout_s)
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self.engine.dispose()
        for hold in (self._file, self._session):
            if hold is not None:
                hold.close()

    @contextmanager
    def reading(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """Give a connection that sees one state of the store; `unhurried`: a question may take long."""
        options: dict[str, Any] = {}
        if self.path is None:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._transaction(**options) as connection:
            if self.path is None and unhurried:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            yield connection

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, Row[Any]]]:
        """Give the only connection that writes, and the chain's row, locked; then what it wrote is on the disk."""
        self._check_there()
        with self._writing() as connection:
            yield connection, connection.execute(select(chain).with_for_update()).one()
        # A file that was taken away meanwhile has taken the commit with it.
        self._check_there()

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Connection]:
        with translating(self.place), self.engine.connect() as connection:
            connection.execution_options(**options)
            with connection.begin():
                yield connection

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._transaction(vedette_writes=True) if self._session is None else self._session.writing()

    def _hold(self, url: URL, timeout_s: float) -> None:
        if self.path is not None:
            self._file = FileHold(self.path)
        else:
            self._session = SessionHold(_postgres_alone(url, timeout_s), self.place, timeout_s)

    def _prepare(self) -> None:
        if self.path is not None:
            _make_private(self.path)
        with self._writing() as connection:
            if self.path is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
            migrate(connection, self.place)
        if self.path is not None:
            self._identity = _identity(self.path)

    def _check_there(self) -> None:
        if self.path is None or self._identity is None or _identity(self.path) == self._identity:
            return
        raise StoreUnusableError(
            "GONE", f"store {self.place}: its file was taken away or replaced; put it back, or start the server anew"
        )


def migrate(connection: Connection, place: str, target: str = "head") -> None:
    """Bring the schema to what the code knows, in the transaction at hand.

    Raises:
        StoreUnusableError: The schema is of a newer version than the code.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    scripts = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if present is not None and present not in {one.revision for one in scripts.walk_revisions()}:
        raise StoreUnusableError(
            "NEWER_SCHEMA",
            f"store {place}: its schema is {present}, newer than {scripts.get_current_head()}, the newest that this "
            "server knows; use the server that wrote it, or a newer one",
        )
    if present != scripts.get_current_head():
        command.upgrade(config, target)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise SettingsError(f"store: {error}; sqlite:///PATH and postgresql://... are allowed") from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise SettingsError(f"store: {parsed.drivername}; sqlite:///PATH and postgresql://... are allowed")
    if "sqlite" in parsed.drivername and (not parsed.database or parsed.database == ":memory:"):
        raise SettingsError(f"store: {url} names no file; events are kept in one")
    return parsed


def _make_private(path: Path) -> None:
    """Make the file, if there is none, so that only its owner reads it; SQLite's other files get the same rights."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except PermissionError as error:
        raise StoreUnusableError("READ_ONLY", f"store {path}: it may not be written ({error.strerror})") from error
    except OSError as error:
        raise StoreUnusableError("GONE", f"store {path}: it cannot be made ({error.strerror})") from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sqlite(path: Path, timeout_s: float) -> Engine:
    # mode=rw: a file that is taken away while the server runs is missed, not made anew and empty.
    target = URL.create("sqlite", database=f"file:{_quoted(path)}", query={"mode": "rw", "uri": "true"})
    engine = create_engine(target, connect_args={"timeout": timeout_s}, pool_timeout=timeout_s)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: it does so too late, and without the writer's lock.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        writes = connection.get_execution_options().get("vedette_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _quoted(path: Path) -> str:
    """Give a path as a URI of SQLite takes it (https://sqlite.org/uri.html)."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _postgres(url: URL, timeout_s: float) -> Engine:
    return _postgres_engine(url, timeout_s, "", pool_pre_ping=True, pool_timeout=timeout_s)


def _postgres_alone(url: URL, timeout_s: float) -> Engine:
    """Make what gives a session that is nobody else's, and that the database ends when its host has been gone 30 s."""
    gone = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000"
    return _postgres_engine(url, timeout_s, gone, poolclass=NullPool)


def _postgres_engine(url: URL, timeout_s: float, more: str, **pool: Any) -> Engine:
    patience_ms = int(timeout_s * 1000)
    settings = f"-c lock_timeout={patience_ms} -c synchronous_commit=on -c statement_timeout={patience_ms * 6} {more}"
    arguments = {
        "connect_timeout": max(2, round(timeout_s)),
        "tcp_user_timeout": patience_ms * 2,  # of a host that does not answer any more
        # Of one that has taken the question and is gone then; libpq's own patience is the system's, two hours.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "options": settings,
        "application_name": "vedette",
    }
    try:
        return create_engine(url, connect_args=arguments, **pool)
    except ModuleNotFoundError as error:
        raise SettingsError("store: PostgreSQL needs its driver: pip install 'vedette[postgres]'") from error
