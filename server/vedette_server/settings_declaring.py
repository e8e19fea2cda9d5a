"""How an option is declared; see `settings.py`."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(
    default: Any,
    help: str,  # noqa: A002 - the word that every command line library uses
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str = "",
    flag_unit: str = "",
    env: tuple[str, ...] = (),
    separator: str = ",",
) -> Any:
    """Declare one option of a section.

    Args:
        default: Its value when nobody says otherwise.
        help: What it does, in one sentence.
        unit: Unit of the value.
        low: Lowest value allowed.
        high: Highest value allowed.
        choices: The only values allowed.
        flag: Its flag on the command line; empty: `--KEY`.
        flag_unit: Unit in which the flag takes it, where that is not `unit`: ms for s.
        env: Further names of its environment variable.
        separator: What separates the items of a list in the environment.
    """
    words = {"help": help, "unit": unit, "flag": flag, "flag_unit": flag_unit, "env": env, "separator": separator}
    return field(default=default, metadata={**words, "low": low, "high": high, "choices": choices})
