"""Read the values of the command line's options; what is wrong gets one line that names the option.

Imports nothing but the standard library.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SIZE = re.compile(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})")
_BATCHES = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3}):([1-9]\d{0,3})")
_MEMORY = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)


def choice(option: str, value: str, allowed: Sequence[str]) -> str:
    """Take one of some words."""
    if value not in allowed:
        raise ImportInputError(f"{option} is {value!r}; allowed is {' or '.join(allowed)}")
    return value


def whole(option: str, value: str, low: int, high: int) -> int:
    """Take a whole number within bounds."""
    if not re.fullmatch(r"[+-]?\d{1,12}", value) or not low <= int(value) <= high:
        raise ImportInputError(f"{option} is {value!r}; allowed is a whole number from {low} to {high}")
    return int(value)


def number(option: str, value: str) -> float:
    """Take a number, or a fraction like `1/255`."""
    try:
        return float(Fraction(value.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ImportInputError(f"{option} is {value!r}; allowed is a number or a fraction like 1/255") from None


def share(option: str, value: str) -> float:
    """Take a number from 0 to 1."""
    result = number(option, value)
    if not 0 <= result <= 1:
        raise ImportInputError(f"{option} is {value!r}; allowed is 0 to 1")
    return result


def triple(option: str, value: str) -> tuple[float, float, float]:
    """Take three numbers, or one that holds for all channels."""
    parts = value.split(",")
    if len(parts) not in {1, 3}:
        raise ImportInputError(f"{option} is {value!r}; allowed is one number, or three separated by commas")
    numbers = [number(option, part) for part in parts]
    return (numbers[0], numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def size(option: str, value: str) -> tuple[int, int]:
    """Take a width and a height in pixels, `WxH`."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ImportInputError(f"{option} is {value!r}; allowed is WIDTHxHEIGHT in pixels, like 640x480")
    return int(match[1]), int(match[2])


def batches(option: str, value: str) -> tuple[int, int, int]:
    """Take the smallest, best and largest batch of a profile."""
    match = _BATCHES.fullmatch(value)
    if match is None or not int(match[1]) <= int(match[2]) <= int(match[3]):
        raise ImportInputError(f"{option} is {value!r}; allowed is MIN:OPT:MAX with rising batches, like 1:8:32")
    return int(match[1]), int(match[2]), int(match[3])


def memory(option: str, value: str) -> int:
    """Take a number of bytes, like 1000, 512MiB or 2GB."""
    match = _MEMORY.fullmatch(value.strip())
    if match is None:
        raise ImportInputError(f"{option} is {value!r}; allowed is a size like 512MiB or 2GB")
    power = " KMGT".index((match[2] or " ").upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def labels(path: Path) -> tuple[str, ...]:
    """Read a file of class names, one a line, the first for class 0."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImportInputError(f"--labels {path}: cannot be read as text: {error}") from error
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise ImportInputError(f"--labels {path}: line {names.index('') + 1} is empty; allowed is one name on each")
    return names
