"""What the parts of camera health find, as plain data, and the levels that they learn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.data.event import EventKind


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that is seen now.

    Attributes:
        kind: Which.
        detail: In words, for a person.
        measures: What was measured, by name.
        patience_s: It has to last so long at least, whatever the configuration says.
        since_s: When it began, where that is known; None: now.
    """

    kind: EventKind
    detail: str
    measures: Mapping[str, float] = field(default_factory=dict)
    patience_s: float = 0.0
    since_s: float | None = None


class Level:
    """What is usual of a figure: a quantile of its values of the last minutes.

    Args:
        most: So many values are remembered.
        least: With fewer, nothing is usual yet.
        quantile: 0.5 is the median.
    """

    def __init__(self, most: int, least: int, quantile: float = 0.5) -> None:
        self._values: deque[float] = deque(maxlen=most)
        self._least = least
        self._quantile = quantile
        self._level: float | None = None
        self._stale = 0

    @property
    def known(self) -> float | None:
        """The usual value; None while too little was seen."""
        if len(self._values) < self._least:
            return None
        # A quantile of hundreds of values moves slowly: it need not be taken for each.
        if self._level is None or self._stale >= max(len(self._values) // 20, 1):
            self._level, self._stale = float(np.quantile(np.array(self._values), self._quantile)), 0
        return self._level

    def learn(self, value: float) -> None:
        """Take a healthy value."""
        self._values.append(value)
        self._stale += 1

    def forget(self) -> None:
        """Begin anew."""
        self._values.clear()
        self._level = None
