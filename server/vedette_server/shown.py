"""Show a value that is refused as it was typed. Pure."""

from __future__ import annotations

import math
import struct

_MOST_CHARS = 80
# So many digits tell a number of single precision from all others.
_MOST_DIGITS = 9


def shown(value: object) -> str:
    """Show a value in a message, no longer than is read.

    What came over the wire in single precision is shown as it was typed: 1.2, and not 1.2000000476837158.
    """
    text = as_typed(value)
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 3] + "..."


def as_typed(value: object) -> str:
    """Show a value in a message, whole: true and false, lists and tables as TOML has them, all else as Python does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"({', '.join(map(as_typed, value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {as_typed(one)}' for key, one in value.items())}}}"
    return repr(_typed(value) if isinstance(value, float) else value)


def _typed(value: float) -> float:
    """Find the shortest number that is this one in single precision; the number itself where it is none of these."""
    if math.isfinite(value) and _single(value) == value:
        for digits in range(6, _MOST_DIGITS + 1):
            short = float(f"{value:.{digits}g}")
            if _single(short) == value:
                return short
    return value


def _single(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.inf
