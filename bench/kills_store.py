"""What a killed server has left on the disk, read without any of its code: SQLite, zlib, JSON, SHA-256, no more.

The database is read from a copy, with its write-ahead log: whoever opened the real one would recover it in the
server's place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIECES = ("snapshot", "annotated", "clip")
INCOMING = ".incoming"
# What makes a cause: the same of these under two ids would be one event told twice.
CAUSE = ("channel", "rule", "session", "start_s", "track_ids", "place")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the chain; `content` as JSON gave it. Retention has removed nothing of what is looked at."""

    number: int
    event_id: str
    content: dict[str, Any]
    raw: bytes
    hash: bytes

    @property
    def of_event(self) -> bool:
        """Whether it tells of an event, and not of what retention did."""
        return bool(self.event_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on the disk: the chain, and the number of each event's latest record as the table of events has it."""

    rows: tuple[Row, ...]
    listed: dict[str, int]

    @property
    def latest(self) -> dict[str, dict[str, Any]]:
        """Each event's contents as they stand."""
        return {event_id: self.rows[number - 1].content for event_id, number in self.listed.items()}

    def open(self) -> list[str]:
        """Tell what goes on, or is being written."""
        return sorted(
            event_id
            for event_id, content in self.latest.items()
            if content["state"] == "active" or any(content[piece]["state"] == "pending" for piece in PIECES)
        )


def read(folder: Path) -> Kept:
    """Read the store of a state folder; there may be none yet."""
    with tempfile.TemporaryDirectory() as copied:
        for path in (folder / "events.db", folder / "events.db-wal"):
            if path.exists():
                shutil.copy(path, copied)
        with closing(sqlite3.connect(Path(copied) / "events.db")) as database:
            if not database.execute("select 1 from sqlite_master where name = 'vedette_records'").fetchone():
                return Kept((), {})
            records = database.execute("select number, event_id, content, hash from vedette_records order by number")
            rows = tuple(_row(*record) for record in records)
            listed = dict(database.execute("select event_id, record from vedette_events").fetchall())
    return Kept(rows, listed)


def _row(number: int, event_id: str, packed: bytes, digest: bytes) -> Row:
    raw = zlib.decompress(packed)
    return Row(number, event_id, json.loads(raw), raw, digest)


def check_chain(kept: Kept) -> list[str]:
    """Find what does not fit in the chain: numbers, hashes, what each event's row points to."""
    found = []
    before = bytes(32)
    latest: dict[str, int] = {}
    for expected, row in enumerate(kept.rows, 1):
        before = hashlib.sha256(before + hashlib.sha256(row.raw).digest()).digest()
        if row.of_event:
            latest[row.event_id] = row.number
        named = row.content["event_id"] == row.event_id if row.of_event else "retention" in row.content
        if row.number != expected or row.hash != before or not named:
            found.append(f"record {row.number} does not follow from the one before it")
            before = row.hash
    if latest != kept.listed:
        wrong = {name for name in latest | kept.listed if latest.get(name) != kept.listed.get(name)}
        found.append(f"events are listed with other than their latest records: {sorted(wrong)[:5]}")
    return found


def check_ids(kept: Kept) -> list[str]:
    """Find one id that stands for two causes, and one cause that has two ids."""
    found = []
    cause_of: dict[str, Any] = {}
    id_of: dict[Any, str] = {}
    for row in filter(lambda row: row.of_event, kept.rows):
        content = row.content
        kind = (content["channel"], content["rule"], content["session"], content["kind"], content["start_s"])
        if cause_of.setdefault(row.event_id, kind) != kind:
            found.append(f"event {row.event_id} stands for {cause_of[row.event_id]} and for {kind}")
    for event_id, content in kept.latest.items():
        cause = json.dumps([content[name] for name in CAUSE])
        if id_of.setdefault(cause, event_id) != event_id:
            found.append(f"events {id_of[cause]} and {event_id} have one cause: {cause}")
    return found


class Files:
    """The files of evidence, read once each.

    Args:
        root: Their folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashes: dict[tuple[str, int, int], str] = {}

    def incoming(self) -> int:
        """Count the files that are being written."""
        return sum(1 for _ in self._root.glob(f"{INCOMING}/*"))

    def orphans(self, kept: Kept) -> list[str]:
        """Tell the files that no event's evidence names."""
        named = {one["path"] for one in pieces(kept, "ready")}
        return sorted(path for path in self._there() if path not in named)

    def check(self, kept: Kept) -> tuple[int, list[str]]:
        """Compare the file of each piece that is there with its length and hash; return how many, and what is wrong."""
        ready = list(pieces(kept, "ready"))
        return len(ready), [wrong for one in ready if (wrong := self._wrong(one))]

    def _wrong(self, one: dict[str, Any]) -> str:
        path = self._root / one["path"]
        if not path.is_file():
            return f"{one['path']} is missing"
        stat = path.stat()
        key = (one["path"], stat.st_mtime_ns, stat.st_ctime_ns)
        if key not in self._hashes:
            self._hashes[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        if (stat.st_size, self._hashes[key]) != (one["size_bytes"], one["sha256"]):
            return f"{one['path']} is not what its event says"
        return ""

    def _there(self) -> Iterator[str]:
        for path in self._root.rglob("*"):
            relative = path.relative_to(self._root)
            if path.is_file() and relative.parts[0] != INCOMING:
                yield relative.as_posix()


def pieces(kept: Kept, state: str) -> Iterator[dict[str, Any]]:
    """Give each piece of evidence that is in a state, of events as they stand."""
    for content in kept.latest.values():
        yield from (content[piece] for piece in PIECES if content[piece]["state"] == state)


def missed(numbers: Sequence[int]) -> tuple[int, int]:
    """Count the records that a watcher of all was not shown though it was shown later ones, and those shown again."""
    distinct = set(numbers)
    return (max(distinct) - len(distinct) if distinct else 0), len(numbers) - len(distinct)
