"""Read a TOML table key by key, refusing what nobody asked for; and write one.

Knows nothing of engines. Every error names the key with its path, the value, and what is allowed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from vedette_engines.errors import ManifestError

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping
    from enum import StrEnum

_E = TypeVar("_E", bound="StrEnum")


class Table:
    """One table of a document, consumed key by key.

    Args:
        path: The table's name for messages; empty for the document.
        values: What stands in it.
    """

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        self._path = path
        self._values = values
        self._asked: list[str] = []

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        self._ask(key)
        return key in self._values

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """Read a string that is not empty and matches the pattern."""
        value = self._get(key, None)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, value, "a string that is not empty")
        if pattern is not None and not pattern.fullmatch(value):
            raise self._wrong(key, value, pattern.pattern)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings; a missing key is an empty list."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, value, "a list of strings that are not empty")
        return tuple(value)

    def all_texts(self) -> dict[str, str]:
        """Read the whole table as free strings by name."""
        for key, value in self._values.items():
            if not isinstance(value, str):
                raise self._wrong(key, value, "a string")
        return dict(self._values)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Read an integer within its limits."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, value, f"an integer, {low}..{high}")
        return value

    def integer_or(self, key: str, word: str, low: int, high: int) -> int | None:
        """Read an integer within its limits, or the word, which means None."""
        if self._get(key, word) == word:
            return None
        value = self._values[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, value, f"{word!r} or an integer, {low}..{high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Read a number within its limits."""
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, value, f"a number, {low:g}..{high:g}")
        return float(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, kind: type[_E], default: _E | None = None) -> _E:
        """Read one of an enumeration's words."""
        value = self._get(key, default)
        try:
            return kind(value)
        except ValueError:
            raise self._wrong(key, value, ", ".join(kind)) from None

    def table(self, key: str, *, optional: bool = False) -> Table:
        """Read a table; an optional one that is missing is empty."""
        value = self._get(key, {} if optional else None)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table")
        return Table(self._name(key), value)

    def tables(self, key: str, *, optional: bool = False) -> list[Table]:
        """Read an array of tables; an optional one that is missing is empty."""
        value = self._get(key, [] if optional else None)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, value, f"tables, each headed [[{self._name(key)}]]")
        return [Table(f"{self._name(key)}[{index}]", item) for index, item in enumerate(value)]

    def refuse_rest(self) -> None:
        """Refuse the keys that nobody asked for.

        Raises:
            ManifestError: There are some.
        """
        for key in self._values:
            if key not in self._asked:
                raise ManifestError(f"{self._name(key)} is unknown; allowed: {', '.join(sorted(set(self._asked)))}")

    def _ask(self, key: str) -> None:
        self._asked.append(key)

    def _get(self, key: str, default: object) -> Any:
        self._ask(key)
        value = self._values.get(key, default)
        if value is None:
            raise ManifestError(f"{self._name(key)} is missing")
        return value

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _wrong(self, key: str, value: object, allowed: str) -> ManifestError:
        return ManifestError(f"{self._name(key)} is {value!r}; allowed: {allowed}")


def write_toml(document: Mapping[str, object]) -> str:
    """Write strings, numbers, lists of strings, tables and arrays of tables as TOML; deeper tables stand in a line."""
    plain = [f"{key} = {_value(value)}" for key, value in document.items() if not _is_table(value)]
    blocks = ["\n".join(plain)]
    for key, value in document.items():
        if isinstance(value, dict):
            blocks.append("\n".join([f"[{key}]", *(f"{_key(name)} = {_value(item)}" for name, item in value.items())]))
        elif isinstance(value, list) and _is_table(value):
            blocks += ["\n".join([f"[[{key}]]", *(f"{k} = {_value(v)}" for k, v in entry.items())]) for entry in value]
    return "\n\n".join(blocks) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _string(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
        case dict():
            return f"{{ {', '.join(f'{_key(name)} = {_value(item)}' for name, item in value.items())} }}"
    raise TypeError(f"cannot write {type(value).__name__} as TOML")


def _string(text: str) -> str:
    """Write a TOML basic string, whose escapes are JSON's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
