"""Removes what is older, or more, than is to be kept; what goes on is never removed.

An event that is removed loses its row and the content of its records; their numbers, digests, hashes and identities
stay, so that the chain still verifies and the same cause does not give the event again: some 0.3 kB each. Only when
there are more such bare records than `max_bare_records` at the beginning of the chain are they cut off: an identity
that is cut off could come back, and a head from before can no longer be checked.

Each step adds a record of its own to the chain, which says what it emptied or cut off (`retaining_notes.py`): what is
missing without one was taken away by somebody else.

Works in steps of a bounded number of events, each a transaction, so that appending goes on in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, insert, select, update

from vedette_server.data.event import EvidenceState
from vedette_server.store.appending import Appending, parted
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.querying import get_many
from vedette_server.store.retaining_notes import RetentionNote, Why, encode_note, rows_of
from vedette_server.store.tables import FOREVER_S, HELD, chain, events, records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from vedette_server.data.event import Evidence
    from vedette_server.store.changes import Stored

# Events that one step removes at most: some ten milliseconds in which nothing else is kept.
STEP = 200
# Bare records that are cut off at once at most; the next time goes on.
MOST_CUT = 100_000


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept; None: without a limit.

    Attributes:
        max_age_s: Events that were over longer ago are removed.
        max_events: Of a channel's events, the oldest beyond so many are removed.
        max_bytes: Of a channel's evidence, the oldest beyond so many bytes expires; the events stay.
        channels: Of these channels only; None: of all.
        apart: But not of these.
        max_bare_records: So many records are kept at the beginning of the chain of which no event's content is left.
    """

    max_age_s: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None
    max_bare_records: int = 10_000_000
    channels: tuple[str, ...] | None = None
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, after it was committed: whose files may be deleted now.

    Attributes:
        removed: (channel, event_id) of events that are gone, all files with them.
        expired: Events whose files are expired, as they stand now; for who tells watchers, too.
    """

    removed: tuple[tuple[str, str], ...] = ()
    expired: tuple[Stored, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to do."""
        return not self.removed and not self.expired


def step(connection: Connection, end: Row[Any], wanted: Retention, now_s: float) -> Removal:
    """Do the next step; an empty one: all is done."""
    why, removed = Why.AGE, _aged(connection, wanted, now_s)
    if not removed:
        why, removed = Why.NUMBER, _beyond_count(connection, wanted)
    if removed:
        emptied = _remove(connection, [event_id for _channel, event_id in removed])
        Appending(connection, end).note(encode_note(RetentionNote(why, now_s, rows_of(emptied))))
        return Removal(removed=tuple(removed))
    if expiring := _beyond_bytes(connection, wanted):
        return Removal(expired=tuple(Appending(connection, end).run(expiring)))
    _cut(connection, end, wanted.max_bare_records, now_s)
    return Removal()


def _scope(wanted: Retention) -> list[ColumnElement[bool]]:
    """Give the conditions that choose the channels."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.channels is not None:
        conditions.append(events.c.channel.in_(wanted.channels))
    if wanted.apart:
        conditions.append(events.c.channel.not_in(wanted.apart))
    return conditions


def _aged(connection: Connection, wanted: Retention, now_s: float) -> list[tuple[str, str]]:
    if wanted.max_age_s is None:
        return []
    # What began later cannot be over for so long: the index by start bounds the look.
    edge_s = now_s - wanted.max_age_s
    aged = and_(events.c.start_s < edge_s, events.c.until_s < edge_s, *_scope(wanted))
    return _oldest(connection, aged, STEP)


def _beyond_count(connection: Connection, wanted: Retention) -> list[tuple[str, str]]:
    if wanted.max_events is None:
        return []
    counts = select(events.c.channel, func.count().label("count")).where(*_scope(wanted)).group_by(events.c.channel)
    for row in connection.execute(counts.having(func.count() > wanted.max_events)).all():
        channel, count = row
        over = and_(events.c.channel == channel, events.c.until_s < FOREVER_S)
        if found := _oldest(connection, over, min(STEP, count - wanted.max_events)):
            return found
    return []


def _oldest(connection: Connection, condition: ColumnElement[bool], most: int) -> list[tuple[str, str]]:
    chosen = select(events.c.channel, events.c.event_id).where(condition)
    rows = connection.execute(chosen.order_by(events.c.start_s, events.c.event_id).limit(most))
    return [(row.channel, row.event_id) for row in rows]


def _remove(connection: Connection, event_ids: list[str]) -> list[int]:
    """Remove events; give the numbers of the records that lost their content, ascending."""
    connection.execute(delete(events).where(events.c.event_id.in_(event_ids)))
    theirs = and_(records.c.event_id.in_(event_ids), records.c.content.is_not(None))
    numbers = list(connection.execute(select(records.c.number).where(theirs).order_by(records.c.number)).scalars())
    for part in parted(numbers):
        _empty(connection, part)
    return numbers


def _empty(connection: Connection, numbers: Sequence[int]) -> None:
    """Take the contents out of records, so that their room is free for others.

    SQLite gives back what a page has left over, and joins pages, only when rows go: those that merely become shorter
    would hold up to a page each. So there they are taken out and laid anew.
    """
    chosen = records.c.number.in_(numbers)
    if connection.dialect.name != "sqlite":
        connection.execute(update(records).where(chosen).values(content=None))
        return
    stays = [column for column in records.c if column is not records.c.content]
    bare = connection.execute(select(*stays).where(chosen).order_by(records.c.number)).mappings().all()
    # Where somebody has let an event's row point to another's record, retention must go on nevertheless.
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    connection.execute(delete(records).where(chosen))
    connection.execute(insert(records), [dict(row) for row in bare])


def _beyond_bytes(connection: Connection, wanted: Retention) -> list[EvidenceChange]:
    """Give the oldest files of the first channel that has too many bytes of them."""
    if wanted.max_bytes is None:
        return []
    held = func.sum(events.c.evidence_bytes)
    sums = select(events.c.channel, held).where(events.c.evidence_bytes > 0, *_scope(wanted)).group_by(events.c.channel)
    for channel, total in connection.execute(sums.having(held > wanted.max_bytes)).all():
        return _expiring(connection, channel, int(total) - wanted.max_bytes)
    return []


def _expiring(connection: Connection, channel: str, too_many_bytes: int) -> list[EvidenceChange]:
    chosen = select(events.c.event_id, events.c.evidence_bytes)
    of_channel = and_(events.c.channel == channel, events.c.evidence_bytes > 0)
    rows = connection.execute(chosen.where(of_channel).order_by(events.c.start_s).limit(STEP))
    chosen_ids: list[str] = []
    for event_id, size_bytes in rows:
        if too_many_bytes > 0:
            chosen_ids.append(event_id)
            too_many_bytes -= size_bytes
    held = get_many(connection, chosen_ids)
    present = [(event_id, held[event_id].event) for event_id in chosen_ids]
    return [
        EvidenceChange(event_id, _expired(event.snapshot), _expired(event.clip), _expired(event.annotated))
        for event_id, event in present
        if event is not None
    ]


def _expired(one: Evidence) -> Evidence | None:
    """Give what becomes of a piece: what was ready expires, its hash stays."""
    return replace(one, state=EvidenceState.EXPIRED) if one.state is EvidenceState.READY else None


def _cut(connection: Connection, end: Row[Any], kept: int, now_s: float) -> None:
    """Cut off the bare records at the beginning that are more than may be kept, to a tenth below; few at once."""
    first_held = select(func.min(records.c.number)).where(HELD)
    bare_through = (connection.execute(first_held).scalar_one() or end.length + 1) - 1
    if bare_through - end.base_length <= kept:
        return
    through = bare_through - kept * 9 // 10
    bare = select(records.c.number).where(records.c.number <= through, records.c.content.is_(None))
    if connection.execute(bare.order_by(records.c.number).limit(1)).first() is None:
        # Nothing but retention's own records: cutting them off would add another each time.
        return
    cut = min(through, end.base_length + MOST_CUT)
    base = bytes(connection.execute(select(records.c.hash).where(records.c.number == cut)).scalar_one())
    Appending(connection, end).note(encode_note(RetentionNote(Why.BARE, now_s, cut=cut, cut_hash=base.hex())))
    connection.execute(delete(records).where(records.c.number <= cut))
    connection.execute(update(chain).values(base_length=cut, base_hash=base))
