"""What one sink has done so far, for the metrics. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What is counted as it happens; all since the start of the process.

    Attributes:
        delivered: Messages that were taken.
        retried: Tries of messages that had failed before.
        failed: Tries that failed.
        dead: Messages that were given up.
        removed: Records that retention removed from the store before they were looked at: a gap.
    """

    delivered: int = 0
    retried: int = 0
    failed: int = 0
    dead: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class SinkFigures:
    """What a sink has done.

    Attributes:
        delivered: Messages that were taken.
        retried: Tries of messages that had failed before.
        failed: Tries that failed.
        dead: Messages that were given up.
        removed: Records that retention removed from the store before they were looked at: a gap.
        dead_letters: Messages that were given up and are kept.
        dead_letters_lost: Messages that were given up and had to make room for later ones.
        lag: Records of the chain that it has still to look at.
        channels_behind: Channels that a failure holds back.
        failing: Why it fails now; empty: it does not.
    """

    delivered: int
    retried: int
    failed: int
    dead: int
    removed: int
    dead_letters: int
    dead_letters_lost: int
    lag: int
    channels_behind: int
    failing: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of dead letters that were put through again: taken, and kept because they failed again."""

    delivered: int
    kept: int
    reason: str = ""
