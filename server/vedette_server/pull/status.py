"""Where a server-pulled camera stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class PullState(IntEnum):
    """Where a server-pulled camera stands; numbered as in the contract."""

    CONNECTING = 1
    STREAMING = 2
    WAITING = 3
    FINISHED = 4


@dataclass(frozen=True, slots=True)
class PullStatus:
    """Where one stands, and why.

    Attributes:
        state: Where it stands.
        detail: Why it failed last, in words and without a password; empty when it never did since it was last well.
    """

    state: PullState
    detail: str = ""
