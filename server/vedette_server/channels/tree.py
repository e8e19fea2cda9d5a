"""Plain data from tables of TOML or JSON, and back: one key per field, checked by the fields' types.

Unknown keys, missing ones and wrong types are refused with a message that names the source, the key, the value and what
is allowed. Enumerations are words: `every-frame`. Nothing is checked beyond the types. Pure.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Any, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from vedette_server.data.rules import Points
from vedette_server.errors import SettingsError
from vedette_server.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

# Whole numbers beyond it are no counts of anything, and find no room on the wire.
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the source in words, and the path of keys in it."""

    source: str
    path: str = ""

    def at(self, key: str) -> Place:
        """Return the place of a key in the table here."""
        return Place(self.source, f"{self.path}.{key}" if self.path else key)

    def item(self, index: int) -> Place:
        """Return the place of an item of the list here."""
        return Place(self.source, f"{self.path}[{index}]")

    def refuse(self, value: object, allowed: str) -> NoReturn:
        """Say that a value cannot be used.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(f"{self.source}: {self.path} is {shown(value)}; allowed: {allowed}")

    def missing(self, allowed: str) -> NoReturn:
        """Say that a value is needed here.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(f"{self.source}: {self.path} is missing; allowed: {allowed}")


def word_of(member: Enum) -> str:
    """Return the word that stands for a member of an enumeration."""
    return member.value if isinstance(member.value, str) else member.name.lower().replace("_", "-")


def read(kind: Any, value: Any, place: Place, special: Mapping[Any, Callable[[Any, Place], Any]]) -> Any:
    """Read a value of a type.

    Args:
        kind: A type as fields have it.
        value: As TOML or JSON gave it.
        place: Where it stands.
        special: Types that are written in ways of their own, and what reads them.

    Raises:
        SettingsError: It is not of this type.
    """
    if kind in special:
        return special[kind](value, place)
    origin = get_origin(kind)
    if origin in {Union, UnionType}:
        (inner,) = (one for one in get_args(kind) if one is not type(None))
        return read(inner, value, place, special)
    if origin in {tuple, frozenset}:
        return _list(kind, value, place, special)
    if is_dataclass(kind):
        table = as_table(value, place)
        refuse_unknown(table, keys_of(kind), place)
        make = cast("Callable[..., Any]", kind)
        return make(**read_fields(kind, table, place, special))
    if issubclass(kind, Enum):
        return _word(kind, value, place)
    return _SCALARS[kind](value, place)


def read_fields(
    kind: Any,
    table: Mapping[str, Any],
    place: Place,
    special: Mapping[Any, Callable[[Any, Place], Any]],
    skip: Collection[str] = (),
) -> dict[str, Any]:
    """Read a table's keys that are fields of a dataclass; the others are not looked at.

    Raises:
        SettingsError: A value is not of its field's type, or one that is needed is missing.
    """
    found: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in skip:
            continue
        hint = _hints(kind)[field.name]
        if field.name in table:
            found[field.name] = read(hint, table[field.name], place.at(field.name), special)
        elif field.default is MISSING and field.default_factory is MISSING:
            place.at(field.name).missing(_WORDS.get(hint, "a value"))
    return found


def write(value: Any, special: Mapping[Any, Callable[[Any], Any]]) -> Any:
    """Write a value so that `read` gives it back; what is None is left out of tables.

    Args:
        value: A value of a type that `read` knows.
        special: Types that are written in ways of their own.
    """
    if type(value) in special:
        return special[type(value)](value)
    if isinstance(value, Enum):
        return word_of(value)
    if is_dataclass(value):
        return write_fields(value, special)
    if isinstance(value, tuple):
        return [write(one, special) for one in value]
    return sorted(value) if isinstance(value, frozenset) else value


def write_fields(value: Any, special: Mapping[Any, Callable[[Any], Any]], skip: Collection[str] = ()) -> dict[str, Any]:
    """Write a dataclass as a table, all its fields but those to skip."""
    pairs = ((field.name, getattr(value, field.name)) for field in fields(value) if field.name not in skip)
    return {name: write(one, special) for name, one in pairs if one is not None}


def keys_of(kind: Any) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    return tuple(field.name for field in fields(kind))


def as_table(value: Any, place: Place) -> dict[str, Any]:
    """Take a value for a table.

    Raises:
        SettingsError: It is none.
    """
    if not isinstance(value, dict):
        place.refuse(value, "a table")
    return value


def as_list(value: Any, place: Place) -> list[Any]:
    """Take a value for a list.

    Raises:
        SettingsError: It is none.
    """
    if not isinstance(value, list):
        place.refuse(value, "a list")
    return value


def as_text(value: Any, place: Place) -> str:
    """Take a value for a text.

    Raises:
        SettingsError: It is none.
    """
    if not isinstance(value, str):
        place.refuse(value, "a text")
    return value


def refuse_unknown(table: Mapping[str, Any], known: Collection[str], place: Place) -> None:
    """Refuse a table with a key that nobody reads.

    Raises:
        SettingsError: There is one.
    """
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            allowed = f"{hint}allowed: {', '.join(known)}"
            raise SettingsError(f"{place.source}: unknown key {place.at(key).path}; {allowed}")


def _list(kind: Any, value: Any, place: Place, special: Mapping[Any, Callable[[Any, Place], Any]]) -> Any:
    items, args = as_list(value, place), get_args(kind)
    is_open = len(args) == 1 or args[-1] is Ellipsis
    if not is_open and len(items) != len(args):
        place.refuse(value, f"a list of {len(args)}")
    read_items = [read(args[0], item, place.item(index), special) for index, item in enumerate(items)]
    return get_origin(kind)(read_items)


def _word(kind: type[Enum], value: Any, place: Place) -> Enum:
    members = {word_of(member): member for member in kind}
    if not isinstance(value, str) or value not in members:
        place.refuse(value, ", ".join(members))
    return members[value]


def _flag(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        place.refuse(value, "true, false")
    return value


def _whole(value: Any, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        place.refuse(value, "a whole number")
    return value


def _number(value: Any, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        place.refuse(value, "a number")
    return float(value)


def _is_finite(value: float) -> bool:
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


_SCALARS: dict[Any, Callable[[Any, Place], Any]] = {str: as_text, bool: _flag, int: _whole, float: _number}
_WORDS: dict[Any, str] = {str: "a text", bool: "true, false", int: "a whole number", float: "a number"}


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    # Some modules import names of types for the checker only.
    return get_type_hints(kind, localns={"Polygon": Points})
