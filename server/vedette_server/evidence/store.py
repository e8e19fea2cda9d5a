"""The files of evidence: where they lie, how they come to be whole or not at all, and when they go.

```
ROOT/.incoming/...                        what is being written; emptied at start
ROOT/{channel}/{YYYY-MM-DD}/{name}.mp4    by channel and UTC day
```

A file is written under `.incoming`, synced, renamed, and its folder synced: whoever sees its name sees all of it. A
file's modification time is when its first picture was taken: age is judged by it, also after a restart.

Threads: any; one lock guards the books, never a write.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vedette_server.errors import EvidenceError
from vedette_server.evidence.disk import Disk, in_words, is_of_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

INCOMING = ".incoming"
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,96}")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,12}){1,2}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Filed:
    """A file that is kept.

    Attributes:
        path: Relative to the store's folder, with `/`.
        size_bytes: Its length.
        sha256: 64 hexadecimal digits.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is being written: where it is, and where it will be."""

    temporary: Path
    target: Path
    channel: str
    time_s: float


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """A file that is kept, as retention sees it: when its first picture was taken, where it lies, its length."""

    time_s: float
    path: str
    size_bytes: int


@dataclass(slots=True)
class _Book:
    """A file in the books: the channel's folder, its size, when its first picture was taken."""

    folder: str
    size_bytes: int
    time_s: float


def safe_name(name: str) -> str:
    """Turn any name into that of a file: itself where it is plain, else what is plain of it and a hash of all."""
    if _PLAIN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:48]
    # A dot, which no plain name has: two names never meet.
    return f"{plain or '_'}.{digest}"


class EvidenceStore:
    """Keeps files of evidence in one folder.

    Args:
        root: The folder, made if it is missing.
        min_free_bytes: Less room than this on its disk counts as full: the rest is for the events themselves.
        disk: What does the work.
        on_state: Told in words what is wrong whenever that changes; empty: all is well again.

    Raises:
        EvidenceError: The folder cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        min_free_bytes: int = 256 << 20,
        disk: Disk | None = None,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._root = root.resolve()
        self._min_free_bytes = min_free_bytes
        self._disk = disk or Disk()
        self._on_state = on_state
        self._trouble = ""
        self._lock = threading.Lock()
        self._books: dict[str, _Book] = {}
        self._named: dict[tuple[str, str], set[str]] = {}
        # By channel's folder: the books of a year are not counted through at each look.
        self._sums: dict[str, int] = {}
        self._numbers = itertools.count()
        try:
            self._disk.make_folder(self._root / INCOMING)
            for left in (self._root / INCOMING).iterdir():
                self._disk.remove(left)
            self._scan()
        except OSError as error:
            raise EvidenceError(f"evidence cannot be kept in {root}: {error}") from error

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    @property
    def disk(self) -> Disk:
        """What does the work."""
        return self._disk

    @property
    def trouble(self) -> str:
        """Why nothing can be kept just now, in words; empty: all is well."""
        return self._trouble

    def total_bytes(self, channel: str | None = None) -> int:
        """Tell how much is kept of one channel, or of all."""
        folder = None if channel is None else safe_name(channel)
        with self._lock:
            return sum(self._sums.values()) if folder is None else self._sums.get(folder, 0)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that are kept."""
        with self._lock:
            return tuple(self._books)

    def held_apart(self, folders: Collection[str]) -> dict[str, list[Held]]:
        """Return all files, the oldest first, by the channel's folder; those of some folders are left out."""
        with self._lock:
            # Mostly there are none: then the books of a year are not looked through.
            apart = self._sums.keys() - folders
            books = tuple(self._books.items()) if apart else ()
        found: dict[str, list[Held]] = {}
        for path, book in books:
            if book.folder in apart:
                found.setdefault(book.folder, []).append(Held(book.time_s, path, book.size_bytes))
        return {folder: sorted(held) for folder, held in found.items()}

    def path_of(self, channel: str, name: str, suffix: str, time_s: float) -> Path:
        """Tell where a file lies, or would; any names are allowed.

        Args:
            channel: The channel's bare name.
            name: Id of the event, or what else the file is called by.
            suffix: `.mp4`, `.jpg`, `.boxes.jpg` or the like.
            time_s: When its first picture was taken, seconds since the epoch.

        Raises:
            EvidenceError: The suffix is none, or the time is outside what dates can say.
        """
        if not _SUFFIX.fullmatch(suffix):
            raise EvidenceError(f"suffix is {suffix!r}; allowed are one or two of a dot and a-z, 0-9")
        return self._root / safe_name(channel) / day_of(time_s) / (safe_name(name) + suffix)

    def find(self, path: str) -> Path:
        """Return a file that is kept, by the path that it was filed under.

        Raises:
            EvidenceError: There is none: it was never kept, or it was removed.
        """
        if path not in self._books:
            raise EvidenceError(f"no evidence is kept as {path!r}")
        return self._root / path

    def begin(self, channel: str, name: str, suffix: str, time_s: float) -> Draft:
        """Begin to write a file; whoever calls commits or discards it.

        Raises:
            EvidenceError: The disk is full, or does not take a file.
        """
        target = self.path_of(channel, name, suffix, time_s)
        number = f"{os.getpid()}-{next(self._numbers)}"
        temporary = self._root / INCOMING / f"{number}{suffix}"
        try:
            if self._disk.free_bytes(self._root) < self._min_free_bytes:
                raise self._failed(f"the disk is full: {self._min_free_bytes} bytes of it have to stay free")
            self._disk.begin(temporary)
        except OSError as error:
            self._drop(temporary)
            raise self._failed(f"{target.name} cannot be begun: {in_words(error)}") from error
        return Draft(temporary, target, channel, time_s)

    def commit(self, draft: Draft) -> Filed:
        """Make a written file visible, for ever or not at all; an older one of its name is replaced.

        Raises:
            EvidenceError: The disk failed; nothing is left of the file.
        """
        target = draft.target
        path = target.relative_to(self._root).as_posix()
        try:
            with draft.temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = draft.temporary.stat().st_size
            os.utime(draft.temporary, (draft.time_s, draft.time_s))
            self._disk.sync(draft.temporary)
            self._disk.make_folder(target.parent)
            self._disk.rename(draft.temporary, target)
            self._disk.sync(target.parent)
            self._disk.sync(target.parent.parent)
        except OSError as error:
            self._drop(draft.temporary)
            # Renamed, but not known to be on the disk: a file that nobody was told of would stay.
            self._drop(target)
            with self._lock:
                self._forget(path)
            raise self._failed(f"{target.name} cannot be kept: {in_words(error)}") from error
        with self._lock:
            self._note(path, _Book(safe_name(draft.channel), size, draft.time_s))
        self._say("")
        return Filed(path, size, digest)

    def discard(self, draft: Draft) -> None:
        """Remove what was written of a file that is not wanted, or could not be completed."""
        self._drop(draft.temporary)

    def put(self, channel: str, name: str, suffix: str, time_s: float, data: bytes) -> Filed:
        """Keep a file whose bytes are there.

        Raises:
            EvidenceError: The disk is full or fails.
        """
        draft = self.begin(channel, name, suffix, time_s)
        try:
            self._disk.write(draft.temporary, data)
        except OSError as error:
            self.discard(draft)
            raise self._failed(f"{draft.target.name} cannot be written: {in_words(error)}") from error
        return self.commit(draft)

    def report(self, error: EvidenceError) -> None:
        """Take note of why somebody else could not write a file, where that is the disk's fault."""
        if is_of_disk(error):
            self._say(str(error))

    def remove(self, path: str) -> bool:
        """Remove one file; tell whether it was there.

        Raises:
            EvidenceError: The disk does not let it go.
        """
        with self._lock:
            book = self._books.get(path)
        if book is None:
            return False
        try:
            self._disk.remove(self._root / path)
        except OSError as error:
            raise self._failed(f"{path} cannot be removed: {in_words(error)}") from error
        with self._lock:
            return self._forget(path)

    def remove_of(self, channel: str, name: str) -> int:
        """Remove all files that were filed under a plain name, such as an event's; return how many there were.

        Raises:
            EvidenceError: The disk does not let one go.
        """
        with self._lock:
            paths = tuple(self._named.get((safe_name(channel), name), ()))
        return sum(self.remove(path) for path in paths)

    def remove_orphans(self, known: Callable[[str], bool]) -> list[str]:
        """Remove files that nobody knows, as a crash between a rename and a commit leaves them; call it at start.

        Args:
            known: Tells whether a path belongs to an event or to a recording.
        """
        with self._lock:
            paths = sorted(self._books)
        return [path for path in paths if not known(path) and self.remove(path)]

    def _scan(self) -> None:
        """Read the books from the folder."""
        for path in self._root.glob("*/*/*"):
            folder, day, _ = path.relative_to(self._root).parts
            if folder == INCOMING or not _DAY.fullmatch(day) or path.suffix == ".jsonl" or not path.is_file():
                continue
            stat = path.stat()
            self._note(path.relative_to(self._root).as_posix(), _Book(folder, stat.st_size, stat.st_mtime))

    def _note(self, path: str, book: _Book) -> None:
        self._forget(path)
        self._books[path] = book
        self._sums[book.folder] = self._sums.get(book.folder, 0) + book.size_bytes
        self._named.setdefault((book.folder, _stem(path)), set()).add(path)

    def _forget(self, path: str) -> bool:
        book = self._books.pop(path, None)
        if book is None:
            return False
        left = self._sums.get(book.folder, 0) - book.size_bytes
        if left:
            self._sums[book.folder] = left
        else:
            # Of files without content there may be more.
            self._sums.pop(book.folder, None)
        key = book.folder, _stem(path)
        paths = self._named.get(key, set())
        paths.discard(path)
        if not paths:
            self._named.pop(key, None)
        return True

    def _drop(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except OSError:
            # The disk is in trouble already, and that is being told; what is left is removed at the next start.
            return

    def _failed(self, trouble: str) -> EvidenceError:
        self._say(trouble)
        return EvidenceError(trouble)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_state(trouble)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def day_of(time_s: float) -> str:
    """Return the UTC day of a time as `YYYY-MM-DD`.

    Raises:
        EvidenceError: The time is outside what dates can say.
    """
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError) as error:
        raise EvidenceError(f"{time_s} s since the epoch is no date: {error}") from error
