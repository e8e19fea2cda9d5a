"""What one watcher gets of the results: those it wants, as many as it reads, and how many it missed.

Event loop only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.v1 import watch_pb2

DEFAULT_ROOM = 256
# Channels whose pace is remembered; beyond, all begin anew.
_MOST_PACED = 16_384


@dataclass(frozen=True, slots=True)
class ResultWish:
    """Which results somebody wants.

    Attributes:
        channels: Bare names; None: all that `may_see` lets pass.
        may_see: Tells of a bare name whether its results may be seen.
        found_only: Only those in which something was found.
        interval_s: At least so far apart, per channel; 0: all.
    """

    channels: frozenset[str] | None
    may_see: Callable[[str], bool]
    found_only: bool = False
    interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Missed:
    """Results that had to make room.

    Attributes:
        channel: Of which channel; empty: of several.
        results: How many; 0: unknown.
    """

    channel: str
    results: int


class ResultQueue:
    """Results that wait for one watcher; when it is full the oldest go, since what is new matters.

    Args:
        wish: Which it wants.
        wake: Called when there is something to read.
        room: So many wait at most.
    """

    def __init__(self, wish: ResultWish, wake: Callable[[], None], room: int = DEFAULT_ROOM) -> None:
        self.wish = wish
        self._wake = wake
        self._room = room
        self._waiting: deque[tuple[int, str, watch_pb2.ChannelResult]] = deque()
        self._due_s: dict[str, float] = {}
        self._missed: dict[str, int] = {}
        self._missed_unknown = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def wants(self, channel: str, found: bool, now_s: float) -> bool:
        """Tell whether it takes a result now, and take note of the time when it does."""
        if (self.wish.found_only and not found) or not self.wish.may_see(channel):
            return False
        if not self.wish.interval_s:
            return True
        due_s = self._due_s.get(channel, now_s)
        if now_s < due_s:
            return False
        if len(self._due_s) > _MOST_PACED:
            self._due_s.clear()
        # From when it was due, so that the pace is right on average; but what was not used is not saved up.
        self._due_s[channel] = max(due_s, now_s - self.wish.interval_s) + self.wish.interval_s
        return True

    def put(self, position: int, channel: str, result: watch_pb2.ChannelResult) -> None:
        """Take a result; it is shared with others and never changed."""
        if len(self._waiting) >= self._room:
            self._drop(self._waiting.popleft()[1])
        self._waiting.append((position, channel, result))
        self._wake()

    def lose(self) -> None:
        """Take note that results were lost before anybody knew whose."""
        self._missed_unknown = True
        self._wake()

    def take_missed(self) -> Missed | None:
        """Give what was missed before the next result; None: nothing."""
        if not self._missed and not self._missed_unknown:
            return None
        channels = tuple(self._missed)
        count = 0 if self._missed_unknown else sum(self._missed.values())
        single = len(channels) == 1 and not self._missed_unknown
        self._missed, self._missed_unknown = {}, False
        return Missed(channels[0] if single else "", count)

    def take(self) -> tuple[int, watch_pb2.ChannelResult] | None:
        """Give the next result and its position; None: there is none."""
        if not self._waiting:
            return None
        position, _channel, result = self._waiting.popleft()
        return position, result

    def next_position(self) -> int | None:
        """Give the position of the next result; None: there is none."""
        return self._waiting[0][0] if self._waiting else None

    def _drop(self, channel: str) -> None:
        self.dropped += 1
        # Names only tell whether it was one channel or several.
        name = channel if channel in self._missed or not self._missed else ""
        self._missed[name] = self._missed.get(name, 0) + 1
