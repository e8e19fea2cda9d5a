"""The store of events: what is kept before anybody is told, in a chain of hashes.

Threads: any thread may call any method; of those that write, one at a time gets through, the others wait. Each write
waits for the disk: from the pipeline, use `writer.EventWriter`. Several processes may read one store; a server has it
alone, as it ends what it finds open. Numbers are in the order of commits, whoever writes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from sqlalchemy import select

from vedette_server.data.event import Acknowledgement, Event
from vedette_server.errors import InvalidError, NotFoundError
from vedette_server.store import querying
from vedette_server.store.appending import MOST_VALUES, Appending, parted
from vedette_server.store.canonical import encode
from vedette_server.store.chain import ChainHead, sign
from vedette_server.store.changes import AcknowledgementChange, Change, Outcome, Stored
from vedette_server.store.database import Database
from vedette_server.store.key_file import load_or_make_key
from vedette_server.store.querying import Changes, EventFilter, Page
from vedette_server.store.retaining import Removal, Retention, step
from vedette_server.store.tables import chain
from vedette_server.store.verifying import Verification, Verifying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from sqlalchemy import Engine

DEFAULT_TIMEOUT_S = 5.0
MOST_NOTE_CHARS = 4096


class EventStore:
    """Keeps events.

    Args:
        url: `sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/NAME`; the schema is made, or brought up to date.
        key_file: The Ed25519 key that signs heads, made when there is none; None: beside the file of SQLite, with
            `.key` added to its name. PostgreSQL needs one to be given, else heads cannot be signed.
        clock: Gives seconds since the epoch.
        timeout_s: How long a lock is waited for.
        alone: Whether it is a server's, which nobody else may open so until this one is closed, or its process is gone.
            Who reads beside it does not say so.

    Raises:
        SettingsError: URL or key file are wrong.
        StoreUnavailableError: It cannot be reached now.
        StoreUnusableError: It is damaged, of a newer version, may not be written, or another server has it.
    """

    def __init__(
        self,
        url: str,
        *,
        key_file: Path | None = None,
        clock: Callable[[], float] = time.time,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        alone: bool = False,
    ) -> None:
        self._clock = clock
        self._database = Database(url, timeout_s, alone=alone)
        path = self._database.path
        if key_file is None and path is not None:
            key_file = path.with_name(path.name + ".key")
        try:
            self._key = None if key_file is None else load_or_make_key(key_file)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for who measures or disturbs it."""
        return self._database.engine

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._database.place

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self._database.close()

    def append(self, changes: Sequence[Change]) -> list[Stored]:
        """Keep changes, in their order, all or none; when this returns they are on the disk.

        The same changes again add nothing: when it raised and the outcome is unknown, call it again.

        Raises:
            InvalidError: One of them cannot be kept; none is.
            StoreUnavailableError: It cannot now; try again later.
            StoreUnusableError: Somebody has to repair it first.
        """
        contents = [check(change) for change in changes]
        if not changes:
            return []
        with self._database.writing() as (connection, end):
            return Appending(connection, end).run(changes, contents)

    def acknowledge(self, event_id: str, user: str, note: str = "", *, token: str = "") -> Stored:
        """Note that somebody has seen an event.

        Again by the same person, with the same token and without another note: nothing changes. Whatever says more
        takes the place of what was said before, which stays in the chain, in its own record; but what nobody's name
        stands at does not take a named person's place: nothing changes, and the event has who it had.

        Args:
            event_id: Which.
            user: Who, as they say; empty: nobody is named.
            note: What is to be remembered.
            token: Name of the token that they had; empty: there are no tokens.

        Raises:
            InvalidError: Too long a note.
            NotFoundError: There is no such event, or it was removed.
        """
        if len(note) > MOST_NOTE_CHARS:
            raise InvalidError("NOTE_TOO_LONG", f"the note has {len(note)} characters; {MOST_NOTE_CHARS} are allowed")
        seen = Acknowledgement(user, self._clock(), note, token)
        stored = self.append([AcknowledgementChange(event_id, seen)])[0]
        if stored.outcome in {Outcome.UNKNOWN, Outcome.REMOVED}:
            raise NotFoundError("EVENT_NOT_FOUND", f"event {event_id!r}: there is none, or it was removed")
        return stored

    def get(self, event_id: str) -> Stored:
        """Give an event as it stands.

        Raises:
            NotFoundError: There is no such event, or it was removed.
        """
        found = self.get_many([event_id])
        if event_id not in found:
            raise NotFoundError("EVENT_NOT_FOUND", f"event {event_id!r}: there is none, or it was removed")
        return found[event_id]

    def get_many(self, event_ids: Sequence[str]) -> dict[str, Stored]:
        """Give the events that there are among these: whose files are to be kept, for who sweeps a folder."""
        found: dict[str, Stored] = {}
        with self._database.reading() as connection:
            for part in parted(event_ids, MOST_VALUES):
                found |= querying.get_many(connection, part)
        return found

    def query(
        self,
        wanted: EventFilter | None = None,
        *,
        size: int = 100,
        token: str = "",
        may_see: Callable[[str], bool] | None = None,
    ) -> Page:
        """Give a page of events, the newest first; `may_see` leaves out channels, see `querying.find`.

        Raises:
            InvalidError: The size is not 1..1000, or the token is not one of this filter.
        """
        with self._database.reading() as connection:
            return querying.find(connection, wanted or EventFilter(), size, token, may_see)

    def changes_after(self, offset: int, channels: Sequence[str] | None = None, limit: int = 100) -> Changes:
        """Give what was kept after an offset, at most `limit`; None where `through` is the end of the chain.

        To go on without gap or double, give `through` as the next offset. Whoever is told by `EventWriter` that
        something was kept and then reads here misses nothing, whichever way the telling went.
        """
        removed = 0
        while True:
            with self._database.reading() as connection:
                found = querying.changes_after(connection, offset, channels, limit)
            removed += found.removed
            if found.changes or found.through == offset:
                return Changes(found.changes, found.through, removed)
            offset = found.through

    def head(self) -> ChainHead:
        """Give the end of the chain, signed, to be kept elsewhere.

        Raises:
            InvalidError: No key was given.
        """
        key = self._signing_key()
        length, head_hash = self.end()
        return sign(key, length, head_hash, int(self._clock() * 1e9))

    def end(self) -> tuple[int, bytes]:
        """Give the number of records and the hash of the last."""
        with self._database.reading() as connection:
            row = connection.execute(select(chain)).one()
            return row.length, bytes(row.hash)

    def verify(
        self,
        head: ChainHead | None = None,
        *,
        public_key: bytes | None = None,
        on_progress: Callable[[int], None] = lambda _records: None,
    ) -> Verification:
        """Check the chain; `public_key`: who must have signed the head, this store's own key when None.

        Raises:
            InvalidError: A head was given and there is no key to check its signature with.
        """
        if head is not None and public_key is None:
            public_key = self._signing_key().public_key().public_bytes_raw()
        return Verifying(self._database, head, public_key or b"", on_progress).run()

    def retain(self, wanted: Retention) -> Iterator[Removal]:
        """Remove what is not to be kept, step by step; after each step, the files that it names may be deleted.

        Whoever does not go on leaves the rest to the next time. A crash between a step and the deletion of its files
        leaves files that no event names: `get_many` tells which.
        """
        while True:
            with self._database.writing() as (connection, end):
                removal = step(connection, end, wanted, self._clock())
            if removal.is_empty:
                return
            yield removal

    def _signing_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            raise InvalidError("KEY_MISSING", f"store {self.place}: no key file was given, so heads cannot be signed")
        return self._key


def check(change: Change) -> bytes | None:
    """Look whether a change can be kept; gives the canonical bytes of an event.

    Raises:
        InvalidError: It cannot.
    """
    return encode(change) if isinstance(change, Event) else None
