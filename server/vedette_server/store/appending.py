"""Adds changes to the chain, in a transaction that the caller has begun and that holds the chain's lock.

A few statements for a whole group, however many changes are in it: so one commit, which waits for the disk, is
shared by all channels.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import bindparam, insert, select, update

from vedette_server.store.canonical import decode, digest, encode
from vedette_server.store.chain import link
from vedette_server.store.changes import Change, Outcome, Stored, merge
from vedette_server.store.retaining_notes import NO_EVENT
from vedette_server.store.tables import chain, events, records, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Row

    from vedette_server.data.event import Event

_Value = TypeVar("_Value")
# Values in one statement: PostgreSQL takes 65535, SQLite 32766.
MOST_VALUES = 1000


class Appending:
    """Adds one group of changes.

    Args:
        connection: In a transaction.
        end: The chain's row, locked.
    """

    def __init__(self, connection: Connection, end: Row[Any]) -> None:
        self._connection = connection
        self._length: int = end.length
        self._hash: bytes = bytes(end.hash)
        self._present: dict[str, tuple[int, Event]] = {}
        self._contents: dict[str, bytes] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._removed: set[str] = set()
        self._new_records: list[dict[str, Any]] = []

    def run(self, changes: Sequence[Change], contents: Sequence[bytes | None] = ()) -> list[Stored]:
        """Add what is new, and tell what became of each, in their order; `contents`: canonical bytes, if known."""
        identities = list(dict.fromkeys(change.event_id for change in changes))
        for part in parted(identities):
            self._read(part)
        before = dict(self._rows)
        stored = [self._add(change, content) for change, content in zip_longest(changes, contents)]
        if self._new_records:
            self._write(before)
        return stored

    def _read(self, identities: Sequence[str]) -> None:
        joined = select(records.c.content, *events.c).join(records, records.c.number == events.c.record)
        for row in self._connection.execute(joined.where(events.c.event_id.in_(identities))):
            content = bytes(row.content)
            self._contents[row.event_id] = content
            self._present[row.event_id] = (row.record, decode(content))
            self._rows[row.event_id] = {column.name: getattr(row, column.name) for column in events.c}
        if missing := [one for one in identities if one not in self._present]:
            were_there = select(records.c.event_id).where(records.c.event_id.in_(missing)).distinct()
            self._removed.update(self._connection.execute(were_there).scalars())

    def _add(self, change: Change, known: bytes | None) -> Stored:
        event_id = change.event_id
        if event_id in self._removed:
            return Stored(Outcome.REMOVED, event_id)
        number, present = self._present.get(event_id, (0, None))
        merged = merge(present, change)
        if isinstance(merged, Outcome):
            return Stored(merged, event_id, number, present)
        content = known if known is not None and merged is change else encode(merged)
        if content == self._contents.get(event_id):
            return Stored(Outcome.SAME, event_id, number, present)
        return self._link(merged, content)

    def note(self, content: bytes) -> int:
        """Add a record that belongs to no event, and give its number."""
        self._extend(NO_EVENT, NO_EVENT, content)
        self._write({})
        return self._length

    def _extend(self, event_id: str, channel: str, content: bytes) -> None:
        content_digest = digest(content)
        self._length += 1
        self._hash = link(self._hash, content_digest)
        identity = {"event_id": event_id, "channel": channel}
        end = {"number": self._length, "content": content, "digest": content_digest, "hash": self._hash}
        self._new_records.append(identity | end)

    def _link(self, event: Event, content: bytes) -> Stored:
        self._extend(event.event_id, event.channel, content)
        self._present[event.event_id] = (self._length, event)
        self._contents[event.event_id] = content
        self._rows[event.event_id] = row_of(event, self._length)
        return Stored(Outcome.ADDED, event.event_id, self._length, event)

    def _write(self, before: dict[str, dict[str, Any]]) -> None:
        self._connection.execute(insert(records), self._new_records)
        fresh = [row for event_id, row in self._rows.items() if event_id not in before]
        if fresh:
            self._connection.execute(insert(events), fresh)
        for names, rows in self._changed(before):
            statement = update(events).where(events.c.event_id == bindparam("of_event"))
            self._connection.execute(statement.values({name: bindparam(name) for name in names}), rows)
        self._connection.execute(update(chain).values(length=self._length, hash=self._hash))

    def _changed(self, before: dict[str, dict[str, Any]]) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
        """Give the rows to change, by the columns that do: an index is touched only where its columns are named."""
        alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for event_id, old in before.items():
            new = self._rows[event_id]
            names = tuple(name for name, value in new.items() if value != old[name])
            if names:
                alike[names].append({name: new[name] for name in names} | {"of_event": event_id})
        yield from alike.items()


def parted(values: Sequence[_Value], most: int = MOST_VALUES) -> Iterator[Sequence[_Value]]:
    """Cut values into parts that one statement bears."""
    return (values[start : start + most] for start in range(0, len(values), most))
