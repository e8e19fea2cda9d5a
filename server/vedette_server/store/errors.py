"""The errors of the store, one class per reaction, and the one border where a database's errors become ours.

```
VedetteError
├── UnavailableError
│   └── StoreUnavailableError   try again later: LOCKED, FULL, UNREACHABLE, IO_ERROR, UNKNOWN
└── StoreUnusableError          somebody has to repair it: NEWER_SCHEMA, CORRUPT, READ_ONLY, GONE, REFUSED, HELD
```

A wrong URL or key file is a `SettingsError`, as the process does not start with it.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import exc

from vedette_server.errors import UnavailableError, VedetteError

if TYPE_CHECKING:
    from collections.abc import Iterator


class StoreUnavailableError(UnavailableError):
    """The store cannot be used now; nothing of what was asked for was done, or its outcome is unknown."""


class StoreUnusableError(VedetteError):
    """The store cannot be used until somebody repairs it.

    Args:
        reason: UPPER_SNAKE, stable, for programs.
        message: For people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# The reason of what nobody foresaw: it may pass, or it may be what was to be kept.
UNKNOWN = "UNKNOWN"
# What a code begins with, our reason, whether it may pass by itself, what to do.
_Codes = tuple[tuple[str, str, bool, str], ...]
# https://sqlite.org/rescode.html
_SQLITE: _Codes = (
    ("SQLITE_BUSY", "LOCKED", True, "another process holds it; is it opened elsewhere?"),
    ("SQLITE_LOCKED", "LOCKED", True, "another connection holds it"),
    ("SQLITE_FULL", "FULL", True, "the disk is full; make room"),
    ("SQLITE_READONLY", "READ_ONLY", False, "it may not be written; check its rights and those of its folder"),
    ("SQLITE_PERM", "READ_ONLY", False, "it may not be opened; check its rights"),
    ("SQLITE_CORRUPT", "CORRUPT", False, "the file is damaged; restore a backup"),
    ("SQLITE_NOTADB", "CORRUPT", False, "the file is not a database of SQLite"),
    ("SQLITE_CANTOPEN", "GONE", False, "it cannot be opened; check that the file is there and may be written"),
    ("SQLITE_PROTOCOL", "LOCKED", True, "other processes open it at the same time"),
    ("SQLITE_CONSTRAINT", "CORRUPT", False, "its tables contradict each other; check it, or restore a backup"),
    ("SQLITE_ERROR", "CORRUPT", False, "its tables are not what they should be; restore a backup"),
    ("SQLITE_IOERR", "IO_ERROR", True, "reading or writing the file failed"),
)
# What an SQLSTATE of PostgreSQL begins with (PostgreSQL manual, appendix A).
_POSTGRES: _Codes = (
    ("53100", "FULL", True, "the database's disk is full; make room"),
    ("53", "UNREACHABLE", True, "the database has no resources for it"),
    ("55P03", "LOCKED", True, "another process holds it"),
    ("57014", "LOCKED", True, "it took too long"),
    ("40", "LOCKED", True, "another transaction was in the way"),
    ("08", "UNREACHABLE", True, "the connection was lost"),
    ("57P", "UNREACHABLE", True, "the database is shutting down or starting"),
    ("25006", "READ_ONLY", False, "the database takes no writes"),
    ("42501", "READ_ONLY", False, "the user may not do it"),
    ("23", "CORRUPT", False, "its tables contradict each other; check it, or restore a backup"),
    ("42", "CORRUPT", False, "its tables are not what they should be; restore a backup"),
    ("28", "REFUSED", False, "user or password are wrong"),
    ("3D", "REFUSED", False, "there is no such database"),
    ("XX", "CORRUPT", False, "the database is damaged"),
    ("58", "IO_ERROR", True, "the database failed to read or write"),
)


@contextmanager
def translating(place: str) -> Iterator[None]:
    """Turn what a database raises within into an error of the store; `place` says which, without passwords.

    Raises:
        StoreUnavailableError: It may pass.
        StoreUnusableError: It does not pass by itself.
    """
    try:
        yield
    except exc.DBAPIError as error:
        _raise(place, error, error.orig)
    except sqlite3.Error as error:  # while a connection is set up
        _raise(place, error, error)
    except exc.TimeoutError as error:
        raise StoreUnavailableError("LOCKED", f"store {place}: all its connections are taken") from error


def _raise(place: str, error: Exception, origin: BaseException | None) -> NoReturn:
    if isinstance(origin, sqlite3.Error):
        code, table = str(getattr(origin, "sqlite_errorname", "")), _SQLITE
    else:
        code, table = str(getattr(origin, "sqlstate", None) or ""), _POSTGRES
    for start, reason, passes, advice in table:
        if code.startswith(start):
            message = f"store {place}: {advice} ({_first_line(origin)})"
            if passes:
                raise StoreUnavailableError(reason, message) from error
            raise StoreUnusableError(reason, message) from error
    if isinstance(error, exc.OperationalError | exc.InterfaceError) and not code:
        # What libpq says of a connection that it did not get carries no code, whatever the cause; its words do.
        raise StoreUnavailableError(
            "UNREACHABLE", f"store {place}: it cannot be reached ({_first_line(origin)})"
        ) from error
    # Out of memory, interrupted, in a state that another statement left behind: whatever it is, nothing is lost by it.
    raise StoreUnavailableError(UNKNOWN, f"store {place}: it failed ({code or '-'}: {_first_line(origin)})") from error


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
