"""Read the settings that are texts with parts: `NAME=NUMBER` and the like."""

from __future__ import annotations

import math


def read_weight(text: str) -> tuple[str, float]:
    """Read a weight: `NAME=NUMBER`, above 0.

    Raises:
        ValueError: It is something else.
    """
    name, equals, number = text.partition("=")
    weight = float(number)
    if not (name and equals and 0 < weight < math.inf):
        raise ValueError(text)
    return name, weight


def read_provider_option(text: str) -> tuple[str, str, str]:
    """Read an option of a provider: `PROVIDER.KEY=VALUE`.

    Raises:
        ValueError: It is something else.
    """
    where, equals, value = text.partition("=")
    provider, _, key = where.rpartition(".")
    if not (provider and key and equals):
        raise ValueError(text)
    return provider, key, value
