"""What a session has to tell its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.verdict import Verdict
    from vedette_server.errors import RefusedError
    from vedette_server.session.accounts import AccountSnapshot


@dataclass(slots=True)
class Flow:
    """Credits and wishes; None or False where nothing is to be said.

    Attributes:
        send_through_sequence: EVERY_FRAME: packets through this one may be sent.
        send_through_bytes: EVERY_FRAME: so many bytes in all on this connection.
        rate_hint_fps: Frames per second that the server can use.
        keyframe_request: A keyframe would help.
        settled_through_sequence: Every packet through this one has its verdict.
    """

    send_through_sequence: int | None = None
    send_through_bytes: int | None = None
    rate_hint_fps: float | None = None
    keyframe_request: bool = False
    settled_through_sequence: int | None = None


@dataclass(slots=True)
class Outgoing:
    """One round of news for the client.

    Attributes:
        verdicts: With their indexes, in order.
        flow: None when nothing changed.
        closing: The closing account, once everything was told.
        error: What ends the call; everything else goes first.
    """

    verdicts: list[tuple[int, Verdict]] = field(default_factory=list)
    flow: Flow | None = None
    closing: AccountSnapshot | None = None
    error: RefusedError | None = None
