"""What can become of a packet."""

from __future__ import annotations

from enum import IntEnum


class SkipReason(IntEnum):
    """Why a packet's picture was not analysed; numbered as in the contract."""

    SUPERSEDED = 1
    STALE = 2
    OVERLOAD = 3
    RATE_LIMIT = 4
    NO_MOTION = 5
    NO_FRAME = 6
    UNDECODABLE = 7
    LOST_REFERENCE = 8
    ENGINE_ERROR = 9
    SESSION_LOST = 10
    DRAINING = 11
