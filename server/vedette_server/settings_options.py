"""Read the declarations of `settings.py`: what options there are, and whether a value is allowed.

One reader for text (environment, flags) and one for TOML values; both end in the same checks, so that a
value is allowed or refused alike wherever it came from.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vedette_server.errors import SettingsError
from vedette_server.settings import Settings
from vedette_server.shown import as_typed

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_FLAG_SCALES = {"": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as its declaration has it.

    Attributes:
        section: Name of its section.
        key: Its name within the section.
        default: Its value when nobody says otherwise.
        kind: Type of the value, or of one item of a list.
        is_list: Whether it holds several values.
        is_optional: Whether it may be nothing.
        words: Words allowed beside the values: `auto`, `off`.
        help: What it does.
        unit: Unit of the value.
        low: Lowest value allowed; None: no bound.
        high: Highest value allowed; None: no bound.
        choices: The only values allowed; empty: any.
        flag: Its flag on the command line.
        flag_unit: Unit in which the flag takes it, where that is not `unit`.
        variables: Its environment variables.
        separator: What separates items in the environment.
    """

    section: str
    key: str
    default: Any
    kind: type[Any]
    is_list: bool
    is_optional: bool
    words: tuple[str, ...]
    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    flag: str
    flag_unit: str
    variables: tuple[str, ...]
    separator: str

    @property
    def name(self) -> str:
        """Section and key, as messages have them."""
        return f"{self.section}.{self.key}"

    def allowed(self, unit: str = "", scale: float = 1.0) -> str:
        """Say in words which values are allowed."""
        if self.choices:
            return ", ".join(self.choices)
        noun = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}[self.kind]
        text = f"a list, each {noun}" if self.is_list else noun
        text += _bounds(self.low, self.high, scale)
        if unit or self.unit:
            text += f" ({unit or self.unit})"
        return " or ".join([text, *self.words])

    def from_text(self, text: str, source: str) -> Any:
        """Read the value of an environment variable.

        Raises:
            SettingsError: It is not allowed.
        """
        if not self.is_list:
            return self._checked(text, source, self._parsed)
        return tuple(self._checked(item.strip(), source, self._parsed) for item in text.split(self.separator))

    def from_flag(self, value: object, source: str) -> Any:
        """Read what a flag gave: text, a list of texts, or a value of the option's own kind.

        Raises:
            SettingsError: It is not allowed.
        """
        if self.is_list and isinstance(value, list | tuple):
            return tuple(self._checked(item, source, self._parsed) for item in value)
        if isinstance(value, str):
            return self._checked(value, source, self._parsed_flag)
        return self.from_toml(value, source)

    def from_toml(self, value: object, source: str, base: Path | None = None) -> Any:
        """Take a value of a TOML file; relative paths are relative to ``base``.

        Raises:
            SettingsError: It is not allowed.
        """
        take = functools.partial(self._taken, base=base)
        if not self.is_list:
            return self._checked(value, source, take)
        if not isinstance(value, list):
            raise self._refusal(value, source)
        return tuple(self._checked(item, source, take) for item in value)

    def _checked(self, raw: Any, source: str, read: typing.Callable[[Any], Any]) -> Any:
        try:
            value = read(raw)
        except (ValueError, TypeError):
            value = None
            is_allowed = False
        else:
            is_allowed = self._allows(value)
        if not is_allowed:
            in_flag_unit = read == self._parsed_flag and self.flag_unit
            raise self._refusal(raw, source, self.flag_unit if in_flag_unit else "")
        return value

    def _refusal(self, value: object, source: str, unit: str = "") -> SettingsError:
        allowed = self.allowed(unit, _FLAG_SCALES[unit])
        return SettingsError(f"{source}: {self.name} is {as_typed(value)}; allowed: {allowed}")

    def _allows(self, value: Any) -> bool:
        if value is None:
            return self.is_optional
        if value in self.words and isinstance(value, str):
            return True
        if isinstance(value, int | float):
            above = self.low is None or value >= self.low
            return math.isfinite(value) and above and (self.high is None or value <= self.high)
        return value in self.choices if self.choices else bool(str(value))

    def _parsed_flag(self, text: str) -> Any:
        value = self._parsed(text)
        scale = _FLAG_SCALES[self.flag_unit]
        return value * scale if scale != 1.0 and isinstance(value, float) else value

    def _parsed(self, text: str) -> Any:
        if text in self.words:
            return text
        if self.is_optional and not text:
            return None
        if self.kind is bool:
            return _bool(text)
        if self.kind is Path:
            return _path(text)
        return self.kind(text)

    def _taken(self, value: Any, base: Path | None) -> Any:
        if isinstance(value, str) and (value in self.words or (self.is_optional and not value)):
            return value or None
        if self.kind is Path and isinstance(value, str | Path):
            path = _path(value)
            return path if base is None else base / path
        if self.kind is float and type(value) is int:
            return float(value)
        if type(value) is not self.kind:
            raise TypeError
        return value


@functools.cache
def options() -> tuple[Option, ...]:
    """List every option, section by section, in the order of declaration."""
    sections = typing.get_type_hints(Settings)
    return tuple(
        _option(section, field, typing.get_type_hints(kind)[field.name])
        for section, kind in sections.items()
        for field in dataclasses.fields(kind)
    )


def _option(section: str, field: dataclasses.Field[Any], hint: Any) -> Option:
    words: tuple[str, ...] = ()
    is_list = typing.get_origin(hint) is tuple
    parts = typing.get_args(hint) or (hint,)
    for part in parts:
        if typing.get_origin(part) is Literal:
            words += typing.get_args(part)
    told = dict(field.metadata)
    variable = f"VEDETTE_{section}_{field.name}".upper()
    flag = told.pop("flag") or f"--{field.name}".replace("_", "-")
    return Option(
        section=section,
        key=field.name,
        default=field.default,
        kind=parts[0],
        is_list=is_list,
        is_optional=type(None) in parts,
        words=words,
        flag=flag,
        variables=(variable, *told.pop("env")),
        **told,
    )


def _bounds(low: float | None, high: float | None, scale: float) -> str:
    if low is None:
        return ""
    low_text = f"{low / scale:.12g}"
    return f", at least {low_text}" if high is None else f", {low_text} to {high / scale:.12g}"


def _bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError


def _path(text: str | Path) -> Path:
    if not str(text):
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise ValueError from error
