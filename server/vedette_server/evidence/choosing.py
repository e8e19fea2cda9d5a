"""Which picture of a channel may be shown, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.evidence.pixels import hidden

if TYPE_CHECKING:
    from vedette_server.data.rules import EvidencePolicy, Points, WatchConfig

    # What may be kept and shown, and what is blackened first.
    Allowed = tuple[EvidencePolicy, tuple[Points, ...]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A picture of the ring that may be shown.

    Attributes:
        index: Its packet, by the ring's count.
        wanted: Whether it is the one that was asked for.
        allowed: What may be shown, and what is blackened first.
    """

    index: int
    wanted: bool
    allowed: Allowed


def allowed_by(watch: WatchConfig) -> Allowed:
    """Say what may be kept and shown, and what is blackened first."""
    return watch.evidence, hidden(watch)
