"""Checks the chain: every record's digest and hash, every event's row, the end, and a head that was kept elsewhere.

What is missing must be missing by retention: for each record without content, and for what was cut off at the
beginning, a later record must say so (`retaining_notes.py`).

Reads in pieces, each its own transaction: appending and retention go on meanwhile, and no snapshot of the store is
held for long. What comes in after the beginning is looked at only where it may say why something is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from vedette_server.store.canonical import decode, digest
from vedette_server.store.chain import GENESIS, link
from vedette_server.store.retaining_notes import NO_EVENT, decode_note, rows_of
from vedette_server.store.tables import HELD, chain, events, records, row_of
from vedette_server.store.verifying_notes import Told, read_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Row

    from vedette_server.store.chain import ChainHead
    from vedette_server.store.database import Database

PIECE = 1000
MOST_FINDINGS = 1000
# Records of which nothing says why they are empty, of which note is taken.
MOST_UNSAID = 100_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not fit: at which record (0: none alone), in words."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        records: Records checked, those of retention itself among them.
        removed: Those of them whose content is removed: checked by their digest alone.
        base: So many records before them are not kept any more.
        findings: What does not fit, in the order of the chain, at most a thousand; empty: all is well.
    """

    records: int
    removed: int
    base: int
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding | None:
        """The first that does not fit."""
        return self.findings[0] if self.findings else None


class Verifying:
    """One check of a store.

    Args:
        database: The store's.
        head: The chain must contain it; None: only the chain itself is checked.
        public_key: Who must have signed the head.
        on_progress: Called with the number of records checked, now and then.
    """

    def __init__(
        self, database: Database, head: ChainHead | None, public_key: bytes, on_progress: Callable[[int], None]
    ) -> None:
        self._database = database
        self._head = head
        self._public_key = public_key
        self._on_progress = on_progress
        self._findings: list[Finding] = []
        self._removed = 0
        self._told = Told()
        self._unsaid: list[int] = []

    def run(self) -> Verification:
        """Check all that there is now."""
        with self._database.reading() as connection:
            end = connection.execute(select(chain)).one()
        read_notes(self._database, self._told, 0, end.length)
        self._check_head(end)
        self._check_base(end)
        self._check_links(bytes(end.base_hash), end.base_length, end.length, bytes(end.hash))
        self._check_unsaid(end)
        self._check_latest()
        self._check_emptied()
        findings = tuple(sorted(self._findings, key=lambda finding: finding.number))
        return Verification(end.length - end.base_length, self._removed, end.base_length, findings)

    def _check_links(self, before: bytes, after: int, last: int, last_hash: bytes) -> None:
        """Go through the records behind one, whose hash is `before`, to the last."""
        expected = after + 1
        for row in self._rows(after, last):
            if row.number != expected:
                self._find(expected, f"records {expected}..{row.number - 1} are missing")
            self._check(row, before)
            before, expected = bytes(row.hash), row.number + 1
        if expected <= last:
            self._find(expected, f"records {expected}..{last} are missing at the end")
        elif before != last_hash:
            self._find(last, "the chain's end has another hash than its last record")

    def _check_unsaid(self, end: Row[Any]) -> None:
        """Tell what is empty and nothing says why; retention may have gone on since: that says so behind the end."""
        if self._unsaid:
            with self._database.reading() as connection:
                now = connection.execute(select(chain)).one()
            read_notes(self._database, self._told, end.length, now.length)
        for first, last in rows_of(number for number in self._unsaid if not self._told.says_emptied(number)):
            which = f"the content of records {first}..{last}" if last > first else "its content"
            self._find(first, f"{which} is missing, and no record says that it was removed")

    def _rows(self, after: int, last: int) -> Iterator[Row[Any]]:
        joined = select(records, *(column.label(f"now_{column.name}") for column in events.c))
        joined = joined.outerjoin(events, events.c.record == records.c.number).order_by(records.c.number).limit(PIECE)
        while after < last:
            with self._database.reading() as connection:
                within = (records.c.number > after, records.c.number <= last)
                rows = connection.execute(joined.where(*within)).all()
            if not rows:
                return
            yield from rows
            after = rows[-1].number
            self._on_progress(after)

    def _check(self, row: Row[Any], before: bytes) -> None:
        if link(before, bytes(row.digest)) != bytes(row.hash):
            self._find(row.number, "its hash does not follow from the record before it and its digest")
        if self._head is not None and self._head.length == row.number and self._head.hash != bytes(row.hash):
            self._find(row.number, "its hash is not that of the head: the chain was written anew")
        if row.content is None:
            self._removed += 1
            if not self._told.says_emptied(row.number) and len(self._unsaid) < MOST_UNSAID:
                self._unsaid.append(row.number)
            return
        if self._told.says_emptied(row.number):
            self._find(row.number, "its content is there, though a later record says that it was removed")
        if digest(bytes(row.content)) != bytes(row.digest):
            what = f"the content of event {row.event_id}" if row.event_id else "what it says of retention"
            self._find(row.number, f"{what} was changed: it has another digest")
        elif row.event_id == NO_EVENT:
            self._check_note(row)
        else:
            self._check_content(row)

    def _check_note(self, row: Row[Any]) -> None:
        """Look whether a record of retention is one: it was read before, on its own."""
        try:
            note = decode_note(bytes(row.content))
        except ValueError as error:
            self._find(row.number, f"its content cannot be read: {error}")
            return
        if row.channel:
            self._find(row.number, f"it belongs to no event, and stands under channel {row.channel}")
        if note.cut >= row.number or any(last >= row.number for _first, last in note.emptied):
            self._find(row.number, "it says that retention removed what came only later")

    def _check_content(self, row: Row[Any]) -> None:
        try:
            event = decode(bytes(row.content))
        except ValueError as error:
            self._find(row.number, f"its content cannot be read: {error}")
            return
        if (event.event_id, event.channel) != (row.event_id, row.channel):
            self._find(row.number, f"it stands under event {row.event_id} and channel {row.channel}, not its own")
        if row.now_event_id is None:
            return
        now = {column.name: getattr(row, f"now_{column.name}") for column in events.c}
        wrong = [name for name, value in row_of(event, row.number).items() if now[name] != value]
        if wrong:
            self._find(row.number, f"event {row.event_id} is listed with another {', '.join(wrong)} than was kept")

    def _check_head(self, end: Row[Any]) -> None:
        head = self._head
        if head is None:
            return
        if not head.is_signed_by(self._public_key):
            self._find(0, "the head is not signed with the key of this store")
        if head.length > end.length:
            self._find(0, f"the head tells of {head.length} records; the chain has {end.length}: some were taken away")
        elif head.length < end.base_length:
            self._find(0, f"the head tells of {head.length} records; of the first {end.base_length} nothing is kept")
        elif head.length == end.base_length and head.hash != bytes(end.base_hash):
            self._find(head.length, "the head has another hash than the beginning of what is kept")

    def _check_base(self, end: Row[Any]) -> None:
        """Look whether retention says that it has cut off what is missing at the beginning."""
        if end.base_length == 0 and bytes(end.base_hash) != GENESIS:
            self._find(0, "the chain does not begin with 32 zero bytes, though nothing was cut off")
        elif end.base_length and not self._told.says_cut(end.base_length, bytes(end.base_hash)):
            self._find(end.base_length, f"the first {end.base_length} records are cut off, and no record says so")

    def _check_latest(self) -> None:
        """Look whether every event whose contents are there is listed, with its latest record."""
        latest = select(records.c.event_id, func.max(records.c.number).label("number"))
        latest_of = latest.where(HELD).group_by(records.c.event_id).subquery()
        joined = latest_of.outerjoin(events, events.c.record == latest_of.c.number)
        lost = select(latest_of).select_from(joined).where(events.c.event_id.is_(None))
        with self._database.reading(unhurried=True) as connection:
            for row in connection.execute(lost.order_by(latest_of.c.number).limit(MOST_FINDINGS)):
                self._find(row.number, f"it is the latest of event {row.event_id}, which is not listed with it")

    def _check_emptied(self) -> None:
        """Look whether a record is said to be emptied though its event was not removed; others were told already."""
        emptied = select(records.c.number, records.c.event_id).join(events, events.c.event_id == records.c.event_id)
        emptied = emptied.where(records.c.content.is_(None)).order_by(records.c.number).limit(MOST_FINDINGS)
        with self._database.reading(unhurried=True) as connection:
            for row in connection.execute(emptied):
                if self._told.says_emptied(row.number):
                    self._find(row.number, f"the content of event {row.event_id} is missing, though it was not removed")

    def _find(self, number: int, text: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(Finding(number, text))
