"""What of the news of channels is shown by `vedette watch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.events_data import EventFilter


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the news is shown.

    Attributes:
        channels: Of these; empty: of all.
        events: Events.
        results: Results.
        found_only: Only results in which something was found.
        filter: Which events.
        since: Offset to go on behind; empty: from now on.
        count: End after so many; None: never.
        json: For programs.
    """

    channels: Sequence[str]
    events: bool
    results: bool
    found_only: bool
    filter: EventFilter | None
    since: str
    count: int | None
    json: bool
