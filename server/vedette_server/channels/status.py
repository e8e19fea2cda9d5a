"""Where a channel stands: what the parts that run it tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.event import EventKind
    from vedette_server.pull.status import PullState


@dataclass(frozen=True, slots=True)
class ChannelStatusView:
    """Where a channel stands.

    Attributes:
        connected: A stream is connected.
        session: `channels/{channel}/sessions/{session}` of the latest session; empty: none.
        frame_time_s: When its latest picture was taken, seconds since the epoch; None: there is none.
        pull: Where its source stands; None: it has none.
        detail: Why the source failed last, in words.
        faults: Kinds of camera faults that go on.
    """

    connected: bool = False
    session: str = ""
    frame_time_s: float | None = None
    pull: PullState | None = None
    detail: str = ""
    faults: tuple[EventKind, ...] = ()
