"""Who knows what to be done: the order that streams, events and the host put operations in.

Vector clocks (Lamport 1978; Mattern 1989): each stream counts its operations, and knows of each other stream up to
which operation it has waited. An operation comes after another when the place it stands at knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class MisuseError(AssertionError):
    """The device was used in a way that would be a bug on real hardware."""


class Operation(NamedTuple):
    """One operation: its stream, and its place in it, from 1."""

    stream: int
    place: int


@dataclass(slots=True)
class Knowledge:
    """Up to which operation of each stream everything is known to be done before what follows."""

    counts: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Knowledge:
        """Keep what is known now."""
        return Knowledge(dict(self.counts))

    def learn(self, other: Knowledge) -> None:
        """Know all that the other knows, too."""
        for stream, count in other.counts.items():
            self.counts[stream] = max(self.counts.get(stream, 0), count)

    def note(self, operation: Operation) -> None:
        """Know an operation."""
        self.counts[operation.stream] = max(self.counts.get(operation.stream, 0), operation.place)

    def knows(self, operation: Operation) -> bool:
        """Tell whether an operation is known to be done."""
        return self.counts.get(operation.stream, 0) >= operation.place


class _Access(NamedTuple):
    start: int
    end: int
    writes: bool
    operation: Operation
    label: str


class Ledger:
    """Every access to one piece of memory that a later one may have to come after.

    Args:
        what: How messages call the memory.
        size_bytes: Its length.
        written: It holds something meaningful from the start, as the host's memory does.
    """

    def __init__(self, what: str, size_bytes: int, *, written: bool) -> None:
        self.what = what
        self._size_bytes = size_bytes
        self._accesses: list[_Access] = []
        self._written: list[tuple[int, int]] = [(0, size_bytes)] if written else []

    def access(
        self, label: str, start: int, size: int, operation: Operation, known: Knowledge, *, writes: bool
    ) -> None:
        """Note an access, after checking that it comes after all it has to come after.

        Raises:
            MisuseError: It leaves the memory, reads what nothing has written, or has no order to another access.
        """
        end = start + size
        if start < 0 or end > self._size_bytes:
            raise MisuseError(f"{label} takes bytes {start}..{end} of {self.what}, which has {self._size_bytes}")
        for other in self._accesses:
            if (
                other.start < end
                and start < other.end
                and (writes or other.writes)
                # What works in place comes after itself.
                and other.operation != operation
                and not known.knows(other.operation)
            ):
                how, other_how = ("writes" if kind else "reads" for kind in (writes, other.writes))
                raise MisuseError(
                    f"{label} {how} {self.what} beside {other.label}, which {other_how} it: "
                    "no stream, event or host wait puts them in order"
                )
        if writes:
            self._accesses = [a for a in self._accesses if not (start <= a.start and a.end <= end)]
            self._written = _joined([*self._written, (start, end)])
        elif not any(low <= start and end <= high for low, high in self._written):
            raise MisuseError(f"{label} reads bytes {start}..{end} of {self.what}, which nothing has written")
        self._accesses.append(_Access(start, end, writes, operation, label))

    def unfinished(self, known: Knowledge) -> str:
        """Name an access that is not known to be done; empty: there is none."""
        return next((access.label for access in self._accesses if not known.knows(access.operation)), "")

    def forget(self, known: Knowledge) -> None:
        """Drop what is known to be done: nothing has to come after it any more."""
        self._accesses = [access for access in self._accesses if not known.knows(access.operation)]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
