"""What retention did, as a record of the chain: which records were emptied, or cut off at the beginning, why and when.

Such a record belongs to no event: its identity and its channel are empty, which no event's are. Its content is
canonical like an event's (`canonical.py`): the JSON object `{"v": 1, "retention": {...}}` with the fields of
`RetentionNote`. So what is missing without such a record was not removed by retention.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from vedette_server.store.canonical import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

# Stands in a record where an event's would stand; no event may have it.
NO_EVENT = ""


class Why(StrEnum):
    """Why something was removed.

    Attributes:
        AGE: The events were over for too long.
        NUMBER: The channel had too many.
        BARE: Too many records without content stood at the beginning of the chain.
    """

    AGE = "age"
    NUMBER = "number"
    BARE = "bare"


@dataclass(frozen=True, slots=True)
class RetentionNote:
    """One step of retention.

    Attributes:
        why: Why.
        time_s: When, seconds since the epoch.
        emptied: First and last number of each row of records whose contents were removed, ascending.
        cut: Records up to this number were cut off; 0: none.
        cut_hash: Hash of that record, 64 hexadecimal digits; empty: none.
    """

    why: Why
    time_s: float
    emptied: tuple[tuple[int, int], ...] = ()
    cut: int = 0
    cut_hash: str = ""


_FIELDS = {one.name for one in fields(RetentionNote)}


def encode_note(note: RetentionNote) -> bytes:
    """Give a note's canonical bytes."""
    content = {"v": VERSION, "retention": asdict(note) | {"why": note.why.value, "time_s": float(note.time_s)}}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode_note(content: bytes) -> RetentionNote:
    """Read what `encode_note` gave.

    Raises:
        ValueError: It is no such note.
    """
    try:
        given = json.loads(content)
        said = given["retention"]
        if given["v"] != VERSION or set(said) != _FIELDS:
            raise ValueError("no note of retention of this version")
        emptied = tuple((int(first), int(last)) for first, last in said["emptied"])
        return RetentionNote(Why(said["why"]), float(said["time_s"]), emptied, int(said["cut"]), str(said["cut_hash"]))
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no note of retention: {error!r}") from error


def rows_of(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Put ascending numbers together to rows without a gap: the first and the last of each."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)
