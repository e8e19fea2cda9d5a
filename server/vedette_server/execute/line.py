"""What the server knows of one engine: its route, its channels, and how a swap went.

Plain state; `execute/engines.py` holds its lock around every change.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.execute.pulse import Pulse
from vedette_server.execute.routing import Roster

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_server.data.engine import Route
    from vedette_server.execute.sampling import FrameSampler
    from vedette_server.execute.shadow import Shadow


@dataclass(frozen=True, slots=True)
class Swap:
    """A version that took the place of another.

    Attributes:
        old: The one before.
        new: The one that took over.
        began_s: When it began to load, monotonic seconds.
        moved_s: When all channels had gone over.
    """

    old: str
    new: str
    began_s: float
    moved_s: float


@dataclass(slots=True, eq=False)
class Line:
    """One engine with all its versions.

    Attributes:
        route: Which version channels get.
        roster: The channels that the route holds for.
        chosen: Those that run the canary.
        withdrawn: Versions that were rolled back from.
        held: Channels that cannot go over to the version that is meant for them, and why.
        refused: The version that was seen last and could not be taken over.
        retry_s: When it is tried again, monotonic seconds.
        reported: Bad versions that were reported, with the reasons.
        pulse: When batches ran.
        swap: The latest swap, until it was reported.
        shadow: The comparison that is on.
        samplers: Who takes frames.
        changing: Held by whoever changes the route, also while versions load.
    """

    route: Route
    roster: Roster = field(default_factory=Roster)
    chosen: frozenset[str] = frozenset()
    withdrawn: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    refused: Bundle | None = None
    retry_s: float = 0.0
    reported: set[tuple[str, str]] = field(default_factory=set)
    pulse: Pulse = field(default_factory=Pulse)
    swap: Swap | None = None
    shadow: Shadow | None = None
    samplers: list[FrameSampler] = field(default_factory=list)
    changing: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.route.name

    @property
    def trial(self) -> bool:
        """Whether a version is on trial: then no newer one takes over by itself."""
        return bool(self.route.canary or self.route.shadow)
