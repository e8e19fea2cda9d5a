"""The objects of one channel that one stage looks at: whose turn it is, and what was said of them. Pure.

Threads: the cascade's lock is held around every call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vedette_server.cascade.reading import StageResult
    from vedette_server.cascade.stage import Look
    from vedette_server.data.verdict import EngineLabel

# After a failure an object is looked at again after so long, twice as long each further time, up to the most.
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
_MOST_DOUBLINGS = 6
# Intervals below it count as this where lateness is weighed.
_SHORTEST_S = 0.1


@dataclass(slots=True, eq=False)
class Subject:
    """One object.

    Attributes:
        track_id: Its track.
        first_s: Since when it could have been looked at; capture time, as all times here.
        begun_s: When the latest look began.
        look: The look that is under way.
        result: What was said of it last.
        failures: Looks in a row that brought nothing.
    """

    track_id: str
    first_s: float
    begun_s: float = -math.inf
    look: Look | None = None
    result: StageResult | None = None
    failures: int = 0

    def due_s(self, refresh_s: float, runs: EngineLabel | None) -> float:
        """Tell from when on it is to be looked at.

        Args:
            refresh_s: How long a result is good for.
            runs: The version that would look: what another one said is out of date. None: not known.
        """
        if self.failures:
            doubled = math.ldexp(FIRST_RETRY_S, min(self.failures - 1, _MOST_DOUBLINGS))
            return self.begun_s + min(doubled, LONGEST_RETRY_S)
        if self.result is not None and runs is not None and self.result.engine.version != runs.version:
            return -math.inf
        return self.begun_s + refresh_s

    def is_due(self, time_s: float, refresh_s: float, runs: EngineLabel | None) -> bool:
        """Tell whether it is to be looked at; a clock that ran back makes it so, too."""
        return self.look is None and (time_s >= self.due_s(refresh_s, runs) or time_s < self.begun_s)

    def urgency(self, clearness: float, time_s: float, refresh_s: float) -> tuple[bool, float]:
        """Tell how much it is its turn: those never seen first, then the clear ones, and the longer due the more."""
        since_s = self.first_s if math.isinf(self.begun_s) else self.begun_s + refresh_s
        late = max(time_s - since_s, 0.0) / max(refresh_s, _SHORTEST_S)
        return self.result is None and not self.failures, clearness * (1.0 + late)


class Subjects:
    """All objects of one stage of one channel."""

    def __init__(self) -> None:
        self._by_track: dict[str, Subject] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_track)

    def __iter__(self) -> Iterator[Subject]:
        """Go through them, those met first first."""
        return iter(self._by_track.values())

    def find(self, track_id: str) -> Subject | None:
        """Return an object, if it is known."""
        return self._by_track.get(track_id)

    def meet(self, track_id: str, time_s: float) -> Subject:
        """Return an object, as a new one if it is not known."""
        found = self._by_track.get(track_id)
        if found is None:
            found = self._by_track[track_id] = Subject(track_id, time_s)
        return found

    def forget(self, track_ids: Iterable[str]) -> None:
        """Forget objects; a look that is under way is for nobody then."""
        for track_id in track_ids:
            self._by_track.pop(track_id, None)

    def holds(self, subject: Subject) -> bool:
        """Tell whether an object is still one of these."""
        return self._by_track.get(subject.track_id) is subject
