"""Tables of TOML as messages of protobuf, and back: one entry per key, checked by its kind.

Unknown keys, missing ones and wrong types are refused with a message that names the source, the key, the value and what
is allowed. Whether a channel makes sense the server judges. Pure.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf import duration_pb2

from vedette.v1 import media_pb2
from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.message import Message

_LARGEST = 2**63 - 1
_LONGEST_S = 315_576_000_000  # what a Duration can say


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the source in words, and the path of keys in it."""

    source: str
    path: str = ""

    def at(self, key: str) -> Place:
        """Give the place of a key in the table here."""
        return Place(self.source, f"{self.path}.{key}" if self.path else key)

    def item(self, index: int) -> Place:
        """Give the place of an item of the list here."""
        return Place(self.source, f"{self.path}[{index}]")

    def refuse(self, value: object, allowed: str) -> NoReturn:
        """Say that a value cannot be used.

        Raises:
            OptionsError: Always.
        """
        # As TOML has it.
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        raise OptionsError(f"{self.source}: {self.path} is {shown}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a table, and the field that it stands for.

    Attributes:
        key: In the table.
        field: In the message.
        read: Gives the field's value from the key's.
        write: The other way.
        default: What an absent key means; such a value is not written.
        needed: The key must be there.
    """

    key: str
    field: str
    read: Callable[[Any, Place], Any]
    write: Callable[[Any], Any]
    default: Any = None
    needed: bool = False


Entries = tuple[Entry, ...]


def fill(message: Message, entries: Entries, table: Mapping[str, Any], place: Place) -> None:
    """Set a message's fields from a table whose keys are known to be right.

    Raises:
        OptionsError: A value cannot be used, or one is missing.
    """
    for entry in entries:
        if entry.key in table:
            _set(message, entry.field, entry.read(table[entry.key], place.at(entry.key)))
        elif entry.needed:
            where = place.at(entry.key)
            raise OptionsError(f"{where.source}: {where.path} is missing; it is needed")


def table_of(message: Message, entries: Entries) -> dict[str, Any]:
    """Write a message's fields as a table, without what is absent or means nothing else."""
    table: dict[str, Any] = {}
    for entry in entries:
        descriptor = message.DESCRIPTOR.fields_by_name[entry.field]
        if descriptor.has_presence and not message.HasField(entry.field):
            continue
        value = entry.write(getattr(message, entry.field))
        if value is not None and value != entry.default:
            table[entry.key] = value
    return table


def refuse_unknown(table: Any, known: Sequence[str], place: Place) -> dict[str, Any]:
    """Take a value for a table that has no key but these.

    Raises:
        OptionsError: It is none, or has another.
    """
    if not isinstance(table, dict):
        place.refuse(table, "a table")
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise OptionsError(f"{place.source}: unknown key {place.at(key).path}; {hint}allowed: {', '.join(known)}")
    return table


def as_list(value: Any, place: Place) -> list[Any]:
    """Take a value for a list.

    Raises:
        OptionsError: It is none.
    """
    if not isinstance(value, list):
        place.refuse(value, "a list")
    return value


def text(key: str, *, needed: bool = False, default: str = "") -> Entry:
    """Make the entry of a text."""
    return Entry(key, key, as_text, str, default, needed)


def flag(key: str, field: str | None = None, *, default: bool = False, inverted: bool = False) -> Entry:
    """Make the entry of true or false; `inverted`: the field says the opposite."""

    def read(value: Any, place: Place) -> bool:
        if not isinstance(value, bool):
            place.refuse(value, "true, false")
        return value != inverted

    return Entry(key, field or key, read, lambda value: bool(value) != inverted, default)


def whole(key: str, *, needed: bool = False, default: int | None = None) -> Entry:
    """Make the entry of a count."""

    def read(value: Any, place: Place) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
            place.refuse(value, "a whole number, 0 or more")
        return value

    return Entry(key, key, read, int, default, needed)


def number(key: str, *, needed: bool = False, default: float | None = None) -> Entry:
    """Make the entry of a number."""
    return Entry(key, key, as_number, _short, default, needed)


def seconds(key: str, field: str, *, needed: bool = False, default: float | None = None) -> Entry:
    """Make the entry of a length of time, in seconds here and a Duration there."""

    def read(value: Any, place: Place) -> duration_pb2.Duration:
        # How few they may be the server judges: of each key something else.
        if abs(found_s := as_number(value, place)) > _LONGEST_S:
            place.refuse(value, f"seconds, {_LONGEST_S} at most")
        found = duration_pb2.Duration()
        found.FromNanoseconds(round(found_s * 1e9))
        return found

    def write(value: duration_pb2.Duration) -> float:
        return value.seconds + value.nanos / 1e9

    return Entry(key, field, read, write, default, needed)


def word(key: str, kinds: EnumDescriptor, *, zero: str | None = None, default: str | None = None) -> Entry:
    """Make the entry of a word of an enumeration: `every-frame`; `zero` stands for its number 0."""
    numbers = {_word(one.name, kinds): one.number for one in kinds.values if one.number}
    if zero is not None:
        numbers[zero] = 0
    words = {value: name for name, value in numbers.items()}

    def read(value: Any, place: Place) -> int:
        if not isinstance(value, str) or value not in numbers:
            place.refuse(value, ", ".join(numbers))
        return numbers[value]

    return Entry(key, key, read, words.get, default)


def texts(key: str) -> Entry:
    """Make the entry of a list of texts."""

    def read(value: Any, place: Place) -> list[str]:
        return [as_text(one, place.item(index)) for index, one in enumerate(as_list(value, place))]

    return Entry(key, key, read, list, [])


def points(key: str, field: str | None = None) -> Entry:
    """Make the entry of a list of points, `[x, y]` each."""
    return Entry(key, field or key, read_points, write_points, [], needed=True)


def message(key: str, kind: type[Message], entries: Entries, *, repeated: bool = False) -> Entry:
    """Make the entry of a table of its own, or a list of tables."""
    known = [entry.key for entry in entries]

    def read_one(value: Any, place: Place) -> Message:
        made = kind()
        fill(made, entries, refuse_unknown(value, known, place), place)
        return made

    def read(value: Any, place: Place) -> Any:
        if not repeated:
            return read_one(value, place)
        return [read_one(one, place.item(index)) for index, one in enumerate(as_list(value, place))]

    def write(value: Any) -> Any:
        return [table_of(one, entries) for one in value] if repeated else table_of(value, entries)

    return Entry(key, key, read, write, [] if repeated else {})


def as_text(value: Any, place: Place) -> str:
    """Take a value for a text.

    Raises:
        OptionsError: It is none.
    """
    if not isinstance(value, str):
        place.refuse(value, "a text")
    return value


def as_number(value: Any, place: Place) -> float:
    """Take a value for a number.

    Raises:
        OptionsError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        place.refuse(value, "a number")
    if (isinstance(value, int) and abs(value) > _LARGEST) or not math.isfinite(value):
        place.refuse(value, "a number")
    return float(value)


def read_points(value: Any, place: Place) -> list[media_pb2.Point]:
    """Read a list of points.

    Raises:
        OptionsError: It is none.
    """
    found = []
    for index, one in enumerate(as_list(value, place)):
        pair = as_list(one, place.item(index))
        if len(pair) != 2:
            place.item(index).refuse(pair, "a list of 2: x and y")
        x, y = (as_number(edge, place.item(index)) for edge in pair)
        found.append(media_pb2.Point(x=x, y=y))
    return found


def write_points(value: Sequence[media_pb2.Point]) -> list[list[float]]:
    """Write a list of points."""
    return [[_short(one.x), _short(one.y)] for one in value]


def _set(message: Message, name: str, value: Any) -> None:
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, list):
        getattr(message, name).extend(value)
    elif descriptor.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _short(value: float) -> float:
    """Take away what 32 bits added to a number that people wrote in a few digits."""
    return float(f"{value:.7g}")


def _word(name: str, kinds: EnumDescriptor) -> str:
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in kinds.name).lstrip("_")
    return name.removeprefix(f"{prefix}_").lower().replace("_", "-")
