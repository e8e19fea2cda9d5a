"""What became of the looks of second stages, counted per engine. Threads: any."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StageTally:
    """The looks of one engine as a second stage, of all channels.

    Attributes:
        begun: Crops that were handed to the engine.
        done: Results that were attached.
        failed: Crops on which the engine failed, or whose results cannot be read.
        undecodable: Crops that could not be taken from their picture.
        hung: Crops that the engine did not answer in time.
        outlived: Results whose track, stage or channel was gone.
        no_slot: Times that an object stayed due since the engine had no free slot, or too many looks were under way.
        load_failures: Times that the engine could not be loaded.
    """

    begun: int = 0
    done: int = 0
    failed: int = 0
    undecodable: int = 0
    hung: int = 0
    outlived: int = 0
    no_slot: int = 0
    load_failures: int = 0


class Tallies:
    """Counts, and bounds what is under way in all.

    Args:
        most_under_way: Looks of all channels that may be under way at once.
    """

    def __init__(self, most_under_way: int) -> None:
        self._most = most_under_way
        self._lock = threading.Lock()
        self._under_way = 0
        self._tallies: dict[str, StageTally] = {}

    @property
    def under_way(self) -> int:
        """Looks that are under way."""
        return self._under_way

    @property
    def by_engine(self) -> dict[str, StageTally]:
        """What became of all looks so far, by the engine's name."""
        with self._lock:
            return dict(self._tallies)

    def count(self, engine: str, what: str, by: int = 1) -> None:
        """Count one of the attributes of `StageTally`."""
        with self._lock:
            tally = self._tallies.get(engine) or StageTally()
            self._tallies[engine] = replace(tally, **{what: getattr(tally, what) + by})

    def take(self) -> bool:
        """Let one more look be under way, if there may be."""
        with self._lock:
            if self._under_way >= self._most:
                return False
            self._under_way += 1
            return True

    def give(self) -> None:
        """Take note that a look is under way no more."""
        with self._lock:
            self._under_way -= 1
