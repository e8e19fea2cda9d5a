"""Finds events, page by page, and the changes after an offset. Reads only.

A page goes on where the last one ended, by the key (start, identity) of its last event: so what comes in meanwhile
neither shifts a page nor shows an event twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, false, func, literal_column, select, true, tuple_

from vedette_server.errors import InvalidError
from vedette_server.store.canonical import decode
from vedette_server.store.changes import Outcome, Stored
from vedette_server.store.tables import HELD, LASTING_S, chain, events, records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from vedette_server.data.event import EventKind, EventState

MOST_PER_PAGE = 1000
# Records that one look for changes passes at most: a watcher of few channels far behind goes on in steps.
WINDOW = 10_000
# Events of which only the channel is looked at, in one go and for one page: then it ends, full or not.
GLANCE = 500
MOST_GLANCES = 20
# An identity of an event, and little more.
_MOST_TOKEN_CHARS = 8192


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
        changes: In the order in which they were kept. Records of retention itself are none of them, and no gap.
        through: Everything up to this number was looked at: where to go on.
        removed: Records of these channels on the way that retention has emptied, and all that were cut off; above 0:
            tell of a gap.
    """

    changes: tuple[Stored, ...]
    through: int
    removed: int = 0


def find(
    connection: Connection, wanted: EventFilter, size: int, token: str, may_see: Callable[[str], bool] | None = None
) -> Page:
    """Give a page of events.

    Args:
        connection: Reads.
        wanted: Which.
        size: At most so many.
        token: Of the page before; empty: the first.
        may_see: Leaves out channels, by their bare names, before anything of their events is unpacked; the page may
            then have fewer events, or none, though it leads on. None: all.

    Raises:
        InvalidError: The size is not 1..1000, or the token is not one of this filter.
    """
    if not 1 <= size <= MOST_PER_PAGE:
        raise InvalidError("INVALID_PAGE_SIZE", f"page size {size}; 1..{MOST_PER_PAGE} are allowed")
    before = _read_token(token, wanted) if token else None
    if may_see is not None:
        return _find_seen(connection, wanted, size, before, may_see)
    rows = _rows(connection, (records.c.number, records.c.content), wanted, before, size + 1)
    found = tuple(_stored(row) for row in rows[:size])
    return Page(found, _token(rows[size - 1], wanted) if len(rows) > size else "")


def _find_seen(
    connection: Connection,
    wanted: EventFilter,
    size: int,
    before: tuple[float, str] | None,
    may_see: Callable[[str], bool],
) -> Page:
    """Give a page of the events that may be seen; only theirs are read whole."""
    seen: list[Any] = []
    keys: Sequence[Any] = ()
    for _number in range(MOST_GLANCES):
        keys = _rows(connection, (events.c.channel, events.c.record), wanted, before, GLANCE + 1)
        seen += [key for key in keys[:GLANCE] if may_see(key.channel)]
        if len(seen) > size or len(keys) <= GLANCE:
            break
        before = (keys[GLANCE - 1].start_s, keys[GLANCE - 1].event_id)
    chosen = select(records.c.number, records.c.content, records.c.event_id)
    rows = connection.execute(chosen.where(records.c.number.in_([key.record for key in seen[:size]])))
    by_number = {row.number: _stored(row) for row in rows}
    found = tuple(by_number[key.record] for key in seen[:size])
    if len(seen) > size:
        return Page(found, _token(seen[size - 1], wanted))
    return Page(found, _encoded(*before, wanted) if before is not None and len(keys) > GLANCE else "")


def _rows(
    connection: Connection, columns: Sequence[Any], wanted: EventFilter, before: tuple[float, str] | None, most: int
) -> Sequence[Any]:
    """Give some columns of the next events, with the key of the page's order."""
    conditions = _conditions(wanted)
    if before is not None:
        conditions.append(tuple_(events.c.start_s, events.c.event_id) < before)
    chosen = select(*columns, events.c.event_id, events.c.start_s)
    if any(column.table is records for column in columns):
        chosen = chosen.join(events, events.c.record == records.c.number)
    newest_first = (events.c.start_s.desc(), events.c.event_id.desc())
    rows: list[Any] = []
    for span in _spans(wanted.start_s):
        if len(rows) < most:
            limited = chosen.where(*conditions, *span).order_by(*newest_first).limit(most - len(rows))
            rows += connection.execute(limited).all()
    return rows


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
    held = select(records).where(wanted, HELD).order_by(records.c.number).limit(limit)
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
        raise InvalidError("INVALID_PAGE_TOKEN", f"event {last.event_id!r} is not there: no page begins behind it")
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
        start_s, event_id, mark = _parts(token)
    except (ValueError, OverflowError, RecursionError, binascii.Error) as error:
        message = "this is no page token; take that of the page before"
        raise InvalidError("INVALID_PAGE_TOKEN", message) from error
    if mark != _mark(wanted):
        message = "the page token belongs to another filter; take that of the page before"
        raise InvalidError("INVALID_PAGE_TOKEN", message)
    return start_s, event_id


def _parts(token: str) -> tuple[float, str, str]:
    """Take a token apart if it has the shape that `_encoded` gave it: nothing else may reach the database."""
    if len(token) > _MOST_TOKEN_CHARS:
        raise ValueError("too long")
    match json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True)):
        case [float(start_s), str(event_id), str(mark)] if math.isfinite(start_s) and "\0" not in event_id:
            event_id.encode()
            return start_s, event_id, mark
    raise ValueError("another shape")


def _mark(wanted: EventFilter) -> str:
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
