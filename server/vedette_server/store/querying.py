"""Finds events, page by page, and the changes after an offset. Reads only.

A page goes on where the last one ended, by the key (start, identity) of its last event: so what comes in meanwhile
neither shifts a page nor shows an event twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, false, func, literal_column, select, true, tuple_

from vedette_server.errors import InvalidError
from vedette_server.store.canonical import decode
from vedette_server.store.changes import Outcome, Stored
from vedette_server.store.tables import LASTING_S, chain, events, records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from vedette_server.data.event import EventKind, EventState

MOST_PER_PAGE = 1000
# Records that one look for changes passes at most: a watcher of few channels far behind goes on in steps.
WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Chooses events; all that is set must hold. The contract's EventFilter, with channels.

    Attributes:
        channels: Bare names; None: all.
        start_s: Those that were going on at or after this time, seconds since the epoch.
        end_s: Those that began before this time.
        rules: Names; empty: all.
        kinds: Empty: all.
        states: Empty: all.
        labels: Empty: all.
        unacknowledged: Only those that nobody has acknowledged.
    """

    channels: tuple[str, ...] | None = None
    start_s: float | None = None
    end_s: float | None = None
    rules: tuple[str, ...] = ()
    kinds: tuple[EventKind, ...] = ()
    states: tuple[EventState, ...] = ()
    labels: tuple[str, ...] = ()
    unacknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Events, the newest first, and where the next page begins; empty: there is none."""

    events: tuple[Stored, ...]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What was kept after an offset.

    Attributes:
        changes: In the order in which they were kept.
        through: Everything up to this number was looked at: where to go on.
        removed: Records of these channels on the way that retention has emptied, and all that were cut off; above 0:
            tell of a gap.
    """

    changes: tuple[Stored, ...]
    through: int
    removed: int = 0


def find(connection: Connection, wanted: EventFilter, size: int, token: str) -> Page:
    """Give a page of events.

    Raises:
        InvalidError: The size is not 1..1000, or the token is not one of this filter.
    """
    if not 1 <= size <= MOST_PER_PAGE:
        raise InvalidError("PAGE_SIZE", f"page size {size}; 1..{MOST_PER_PAGE} are allowed")
    before = _read_token(token, wanted) if token else None
    conditions = _conditions(wanted)
    if before is not None:
        conditions.append(tuple_(events.c.start_s, events.c.event_id) < before)
    rows: list[Any] = []
    for span in _spans(wanted.start_s):
        if len(rows) <= size:
            rows += _rows(connection, [*conditions, *span], size + 1 - len(rows))
    found = tuple(_stored(row) for row in rows[:size])
    return Page(found, _token(rows[size - 1], wanted) if len(rows) > size else "")


def _rows(connection: Connection, conditions: list[ColumnElement[bool]], most: int) -> Sequence[Any]:
    newest_first = (events.c.start_s.desc(), events.c.event_id.desc())
    joined = select(records.c.number, records.c.content, events.c.event_id, events.c.start_s).join(
        events, events.c.record == records.c.number
    )
    return connection.execute(joined.where(*conditions).order_by(*newest_first).limit(most)).all()


def _spans(start_s: float | None) -> list[list[ColumnElement[bool]]]:
    """Give conditions that together mean "going on at or after", one after the other in the order of the page.

    Short events began at most LASTING_S before, so an index by start finds them; the others have an index of their own.
    """
    if start_s is None:
        return [[]]
    edge_s = start_s - LASTING_S
    goes_on = events.c.until_s >= start_s
    return [
        [events.c.start_s >= edge_s, goes_on],
        [events.c.lasting == true(), events.c.start_s < edge_s, goes_on],
    ]


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    chosen = (
        (events.c.rule, wanted.rules),
        (events.c.kind, [one.value for one in wanted.kinds]),
        (events.c.label, wanted.labels),
    )
    conditions: list[ColumnElement[bool]] = [_one_of(column, values) for column, values in chosen if values]
    if wanted.channels is not None:
        conditions.append(_one_of(events.c.channel, wanted.channels))
    if len(set(wanted.states)) == 1:
        conditions.append(_is_state(wanted.states[0]))
    if wanted.end_s is not None:
        conditions.append(events.c.start_s < wanted.end_s)
    if wanted.unacknowledged:
        conditions.append(events.c.acknowledged == false())
    return conditions


def _one_of(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    # With one value an index gives the order of the page, too.
    condition: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return condition


def _is_state(state: EventState) -> ColumnElement[bool]:
    # Written out, as in the partial index: as a parameter, the index would not be used.
    return events.c.state == literal_column(f"'{state.value}'")


def get_many(connection: Connection, event_ids: Sequence[str]) -> dict[str, Stored]:
    """Give the events that there are, by identity; at most `appending.MOST_VALUES` can be asked for."""
    joined = select(records.c.number, records.c.content, events.c.event_id).join(
        events, events.c.record == records.c.number
    )
    rows = connection.execute(joined.where(events.c.event_id.in_(event_ids)))
    return {row.event_id: _stored(row) for row in rows}


def changes_after(connection: Connection, offset: int, channels: Sequence[str] | None, limit: int) -> Changes:
    """Give the next changes; none of them: `through` is the end of the chain, or of the window."""
    end = connection.execute(select(chain)).one()
    if offset >= end.length:
        return Changes((), offset)
    first = max(offset, end.base_length)
    last = min(first + WINDOW, end.length)
    within = and_(records.c.number > first, records.c.number <= last)
    wanted = within if channels is None else and_(within, records.c.channel.in_(channels))
    held = select(records).where(wanted, records.c.content.is_not(None)).order_by(records.c.number).limit(limit)
    found = tuple(_stored(row) for row in connection.execute(held))
    through = found[-1].number if len(found) == limit else last
    bare = select(func.count()).select_from(records)
    bare = bare.where(records.c.number > first, records.c.number <= through, records.c.content.is_(None))
    if channels is not None:
        bare = bare.where(records.c.channel.in_(channels))
    removed = connection.execute(bare).scalar_one() + first - offset
    return Changes(found, through, removed)


def token_after(last: Stored, wanted: EventFilter) -> str:
    """Give the token of the page behind an event of this filter, for who shows only some events of a page."""
    if last.event is None:
        raise InvalidError("PAGE_TOKEN", f"event {last.event_id!r} is not there: no page begins behind it")
    return _encoded(float(last.event.start_s), last.event_id, wanted)


def _stored(row: Any) -> Stored:
    return Stored(Outcome.SAME, row.event_id, row.number, decode(bytes(row.content)))


def _token(row: Any, wanted: EventFilter) -> str:
    return _encoded(row.start_s, row.event_id, wanted)


def _encoded(start_s: float, event_id: str, wanted: EventFilter) -> str:
    key = json.dumps([start_s, event_id, _mark(wanted)])
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_token(token: str, wanted: EventFilter) -> tuple[float, str]:
    try:
        start_s, event_id, mark = json.loads(base64.urlsafe_b64decode(token.encode()))
        key = float(start_s), str(event_id)
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidError("PAGE_TOKEN", "this is no page token; take that of the page before") from error
    if mark != _mark(wanted):
        raise InvalidError("PAGE_TOKEN", "the page token belongs to another filter; take that of the page before")
    return key


def _mark(wanted: EventFilter) -> str:
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
