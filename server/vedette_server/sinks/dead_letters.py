"""What a sink did not take, kept to be looked at and delivered again: a file of JSON lines.

Each line: `number`, `reason`, `tries`, `dead_time_s` (seconds since the epoch) and `event`, in the canonical form of
the store (`store/canonical.py`). Bounded; when it is full, the oldest tenth goes, counted and logged. In memory is only
where each letter stands. Threads: one writes; any may read.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from vedette_server.sinks.files import PRIVATE, write_pieces
from vedette_server.store.canonical import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vedette_server.data.event import Event
    from vedette_server.sinks.settings import DeadBounds

_log = logging.getLogger(__name__)

# The event's id and the record's number.
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        number: Its record in the chain.
        event: The event as it was then.
        reason: Why it was given up.
        tries: So often it was tried.
        dead_s: When it was given up, seconds since the epoch.
    """

    number: int
    event: Event
    reason: str
    tries: int
    dead_s: float

    @property
    def key(self) -> Key:
        """What tells it from all others: a store that was replaced begins its numbers anew."""
        return self.event.event_id, self.number


class _Place(NamedTuple):
    """Where a letter stands in the file."""

    offset: int
    size: int


class DeadLetters:
    """The file.

    Args:
        path: Where.
        bounds: How much it holds at most.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, bounds: DeadBounds) -> None:
        self._path = path
        self._bounds = bounds
        self._lock = threading.Lock()
        self._places: dict[Key, _Place] = {}
        # Letters that were put through, and still stand in the file.
        self._gone: set[Key] = set()
        self._bytes = self._end = self._lost = 0
        # Whatever a crash has torn is not appended to.
        self._whole = True
        self._look()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def lost(self) -> int:
        """So many had to make room for later ones."""
        return self._lost

    def keys(self) -> list[Key]:
        """Name all, the oldest first."""
        with self._lock:
            return list(self._places)

    def letter(self, key: Key) -> DeadLetter | None:
        """Read one; None: it is not there any more.

        Raises:
            OSError: It cannot be read.
            ValueError: Somebody has changed the file.
        """
        with self._lock:
            place = self._places.get(key)
            if place is None:
                return None
            with self._path.open("rb") as file:
                line = _piece(file, place)
        letter = _letter(line)
        if letter.key != key:
            raise ValueError(f"another letter stands there: {letter.key}")
        return letter

    def letters(self) -> Iterator[DeadLetter]:
        """Read all, the oldest first, one after the other."""
        for key in self.keys():
            letter = self.letter(key)
            if letter is not None:
                yield letter

    def add(self, letter: DeadLetter) -> None:
        """Keep one more; on the disk when it returns. One that is kept already, as after a crash, is not kept twice.

        Raises:
            OSError: It cannot; nothing has changed.
        """
        line = _line(letter)
        with self._lock:
            self._look_again()
            if letter.key in self._places:
                return
            lost = self._too_many(len(line))
            if lost or not self._whole or letter.key in self._gone:
                self._rewrite(lost, line, letter.key)
            else:
                self._append(line, letter.key)
            self._lost += lost
        if lost:
            _log.warning("dead_letters_lost", extra={"file": str(self._path), "letters": lost})

    def remove(self, key: Key) -> None:
        """Forget one; until `settle` only in memory: after a crash it is there again."""
        with self._lock:
            place = self._places.pop(key, None)
            if place is not None:
                self._bytes -= place.size
                self._gone.add(key)

    def settle(self) -> None:
        """Have what was removed gone from the disk, too: the whole file is written anew.

        Raises:
            OSError: It cannot; all are still there.
        """
        with self._lock:
            if self._gone:
                self._look_again()
                self._rewrite(0)

    def _too_many(self, more_bytes: int) -> int:
        """Say how many go for one more; when some have to, a tenth does, so that it is not done each time."""
        count, size = len(self._places) + 1, self._bytes + more_bytes
        if count <= self._bounds.most and size <= self._bounds.most_bytes:
            return 0
        lost = 0
        for place in self._places.values():
            if count - lost <= self._bounds.most * 9 // 10 and size <= self._bounds.most_bytes * 9 // 10:
                break
            size -= place.size
            lost += 1
        return lost

    def _rewrite(self, lost: int, more: bytes = b"", key: Key | None = None) -> None:
        """Write the file anew, without the oldest so many and with one more."""
        kept = list(self._places.items())[lost:]
        sizes: list[int] = []
        write_pieces(self._path, self._lines([place for _key, place in kept], more, sizes))
        names = [name for name, _place in kept] + ([] if key is None else [key])
        self._places, self._end = {}, 0
        for name, size in zip(names, sizes, strict=True):
            self._places[name] = _Place(self._end, size)
            self._end += size
        self._bytes = self._end
        self._gone.clear()
        self._whole = True

    def _lines(self, places: Sequence[_Place], more: bytes, sizes: list[int]) -> Iterator[bytes]:
        """Give the lines of the new file, and note how long each is."""
        if places:
            with self._path.open("rb") as file:
                for place in places:
                    line = _piece(file, place)
                    # A crash may have taken the end of the last.
                    line = line if line.endswith(b"\n") else line + b"\n"
                    sizes.append(len(line))
                    yield line
        if more:
            sizes.append(len(more))
            yield more

    def _append(self, line: bytes, key: Key) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "ab") as file:
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                self._whole = False
                os.truncate(self._path, self._end)
                raise
        self._places[key] = _Place(self._end, len(line))
        self._end += len(line)
        self._bytes += len(line)

    def _look_again(self) -> None:
        """Read the file anew where somebody has taken it away or changed it."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._end:
            _log.warning("dead_letters_changed", extra={"file": str(self._path), "bytes": size, "expected": self._end})
            self._look()

    def _look(self) -> None:
        """Find out which letters are in the file, and where."""
        places: dict[Key, _Place] = {}
        end, whole = 0, True
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    place, end = _Place(end, len(line)), end + len(line)
                    key = self._key(line)
                    whole = whole and key is not None and line.endswith(b"\n")
                    if key is not None and key not in self._gone:
                        places.setdefault(key, place)
        self._places, self._end, self._whole = places, end, whole
        self._bytes = sum(place.size for place in places.values())

    def _key(self, line: bytes) -> Key | None:
        try:
            return _letter(line).key
        except ValueError:
            _log.warning("dead_letter_unreadable", extra={"file": str(self._path), "bytes": len(line)})
            return None


def _piece(file: BinaryIO, place: _Place) -> bytes:
    file.seek(place.offset)
    return file.read(place.size)


def _line(letter: DeadLetter) -> bytes:
    fields = {
        "number": letter.number,
        "reason": letter.reason,
        "tries": letter.tries,
        "dead_time_s": letter.dead_s,
    }
    return json.dumps(fields).encode()[:-1] + b', "event": ' + encode(letter.event) + b"}\n"


def _letter(line: bytes) -> DeadLetter:
    """Read a line.

    Raises:
        ValueError: It is not one.
    """
    try:
        content = json.loads(line)
        event = decode(json.dumps(content["event"]).encode())
        return DeadLetter(int(content["number"]), event, content["reason"], content["tries"], content["dead_time_s"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no dead letter: {error!r}") from error
