"""What retention says of itself in the chain, gathered for who checks it: what was emptied, what was cut off."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from sqlalchemy import select

from vedette_server.store.retaining_notes import NO_EVENT, decode_note
from vedette_server.store.tables import records

if TYPE_CHECKING:
    from vedette_server.store.database import Database
    from vedette_server.store.retaining_notes import RetentionNote

_PIECE = 1000


class Told:
    """What retention says that it removed."""

    def __init__(self) -> None:
        # Rows of numbers without a gap between: ends are behind the last.
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._cuts: set[tuple[int, str]] = set()

    def add(self, number: int, note: RetentionNote) -> None:
        """Take note of what the record of this number says; of what came only later it can say nothing."""
        if 0 < note.cut < number:
            self._cuts.add((note.cut, note.cut_hash))
        for first, last in note.emptied:
            if 0 < first <= last < number:
                self._add(first, last + 1)

    def says_emptied(self, number: int) -> bool:
        """Tell whether a record's content is said to be removed."""
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number < self._ends[at]

    def says_cut(self, number: int, last_hash: bytes) -> bool:
        """Tell whether the records up to one are said to be cut off, and the last of them had this hash."""
        return (number, last_hash.hex()) in self._cuts

    def _add(self, first: int, end: int) -> None:
        # Those that it touches become one with it: what is old is removed altogether, so few are left.
        low, high = bisect_left(self._ends, first), bisect_right(self._firsts, end)
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high], self._ends[low:high] = [first], [end]


def read_notes(database: Database, told: Told, after: int, last: int) -> None:
    """Gather what the records of retention behind a number say, to the last; what is none of them says nothing."""
    chosen = select(records.c.number, records.c.content).where(
        records.c.event_id == NO_EVENT, records.c.content.is_not(None)
    )
    chosen = chosen.order_by(records.c.number).limit(_PIECE)
    while after < last:
        with database.reading() as connection:
            rows = connection.execute(chosen.where(records.c.number > after, records.c.number <= last)).all()
        for row in rows:
            try:
                told.add(row.number, decode_note(bytes(row.content)))
            except ValueError:
                # Whoever goes through the chain finds it.
                continue
        if not rows:
            return
        after = rows[-1].number
