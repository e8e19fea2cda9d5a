"""The tables of the store. Core and no ORM: records are only added, rows are replaced whole, nothing is navigated.

`vedette_records` is the chain: it is never changed but for `content`, which retention takes out (how, says
`retaining.py`); a record without `event_id` and `channel` says what retention did, and keeps its content.
`vedette_events` has what is asked for of each event as it stands now; its content is that of its latest record.
`vedette_chain` is one row: the end of the chain, which every writer locks, and the beginning of what is kept of it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    and_,
    false,
    literal_column,
    true,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

    from vedette_server.data.event import Event

# No record is longer: whoever rewrote one must not make a reader fill its memory.
_MOST_BYTES = 16 << 20
# Trails repeat themselves: a third of the bytes at a tenth of a millisecond.
_LEVEL = 1


class Packed(TypeDecorator[bytes]):
    """Bytes that lie compressed in the database (zlib, RFC 1950) and are themselves everywhere else.

    What is not compressed data, since somebody has rewritten it, comes as it lies there: the chain will say so.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Compress."""
        return None if value is None else zlib.compress(value, _LEVEL)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Decompress."""
        if value is None:
            return None
        # SQLite keeps whatever type it is given.
        raw = str(value).encode("utf-8", "surrogatepass") if isinstance(value, str | int | float) else bytes(value)
        try:
            return zlib.decompressobj().decompress(raw, _MOST_BYTES)
        except zlib.error:
            return raw


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

records = Table(
    "vedette_records",
    metadata,
    # To SQLite only this name of the type makes it the key by which rows lie in the file.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("content", Packed),
    Column("digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
# By it an event's records are found when it is removed, and an identity that was there before.
Index("ix_vedette_records_event", records.c.event_id, records.c.number)
# Where what is kept of events begins, however many emptied records, and those of retention itself, lie before it.
# Written out, since as a parameter the index would not be used.
HELD = and_(records.c.content.is_not(None), records.c.event_id != literal_column("''"))
Index("ix_vedette_records_held", records.c.number, sqlite_where=HELD, postgresql_where=HELD)

events = Table(
    "vedette_events",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("record", BigInteger, ForeignKey(records.c.number), nullable=False, unique=True),
    Column("channel", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("acknowledged", Boolean, nullable=False),
    Column("start_s", Double, nullable=False),
    Column("until_s", Double, nullable=False),
    Column("lasting", Boolean, nullable=False),
    Column("evidence_bytes", BigInteger, nullable=False),
)
# Every page is read in the order of (start_s, event_id), backwards, within what one of these holds together.
Index("ix_vedette_events_start", events.c.start_s, events.c.event_id)
Index("ix_vedette_events_channel", events.c.channel, events.c.start_s, events.c.event_id)
Index("ix_vedette_events_rule", events.c.rule, events.c.start_s, events.c.event_id)
Index("ix_vedette_events_kind", events.c.kind, events.c.start_s, events.c.event_id)
Index("ix_vedette_events_label", events.c.label, events.c.start_s, events.c.event_id)
# What is rare when the desk does its work: each of these holds only the events that are asked for.
for _name, _condition in (
    ("open", events.c.acknowledged == false()),
    ("active", events.c.state == "active"),
    ("lasting", events.c.lasting == true()),
):
    Index(
        f"ix_vedette_events_{_name}",
        events.c.start_s,
        events.c.event_id,
        sqlite_where=_condition,
        postgresql_where=_condition,
    )
_WITH_FILES = events.c.evidence_bytes > 0
Index(
    "ix_vedette_events_files",
    events.c.channel,
    events.c.start_s,
    sqlite_where=_WITH_FILES,
    postgresql_where=_WITH_FILES,
)

chain = Table(
    "vedette_chain",
    metadata,
    Column("id", BigInteger, CheckConstraint("id = 1", name="one"), primary_key=True, autoincrement=False),
    Column("length", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("base_length", BigInteger, nullable=False),
    Column("base_hash", LargeBinary, nullable=False),
)

# `until_s` of an event that goes on: beyond all times.
FOREVER_S = 9e18
# Events that last for longer, or go on, are looked for apart: so those that were going on at some time are found
# without walking through all that began before.
LASTING_S = 3600.0


def row_of(event: Event, number: int) -> dict[str, object]:
    """Give an event's row."""
    until_s = FOREVER_S if event.end_s is None else event.end_s
    pieces = (event.snapshot, event.annotated, event.clip)
    return {
        "event_id": event.event_id,
        "record": number,
        "channel": event.channel,
        "rule": event.rule,
        "kind": event.kind.value,
        "state": event.state.value,
        "label": event.label,
        "acknowledged": event.acknowledgement is not None,
        "start_s": float(event.start_s),
        "until_s": float(until_s),
        "lasting": until_s - event.start_s > LASTING_S,
        "evidence_bytes": sum(one.size_bytes for one in pieces if one.state == "ready"),
    }
