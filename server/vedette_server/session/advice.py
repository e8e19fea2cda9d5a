"""What a session tells its client besides verdicts: credits, wishes, and what is settled.

Pure code: the session's lock is held around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy
from vedette_server.session.outgoing import Flow

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.session.books import Books
    from vedette_server.session.intake import Intake


class Advice:
    """Puts the messages of flow together, and knows when there is something to say.

    Args:
        intake: Has the credits.
        books: Know what is settled, and what rate is useful.

    Attributes:
        keyframe_request: A keyframe would help; until it was told.
        due: Something changed that the client must hear of now.
    """

    def __init__(self, intake: Intake, books: Books) -> None:
        self.keyframe_request = False
        self.due = False
        self._intake = intake
        self._books = books
        self._settled_told: int | None = None

    def restart(self) -> None:
        """Forget what an earlier connection was told; a hint that stands is told again."""
        self._settled_told = None
        self.due |= self._books.hint.fps is not None

    def flow(self, config: ChannelConfig, now: float) -> Flow | None:
        """Return what is new in credits and wishes, or None when nothing is."""
        flow = Flow(keyframe_request=self.keyframe_request)
        changed = self.keyframe_request or self.due
        self.keyframe_request = self.due = False
        if config.omit_skips and self._books.all_sent:
            settled = flow.settled_through_sequence = self._books.account.settled_through
            changed |= settled != self._settled_told
            self._settled_told = settled
        if config.policy is DeliveryPolicy.EVERY_FRAME:
            # A flow message without credits would lift the limit: where there is one, they are told again.
            granted = self._intake.credits.tell() if changed else self._intake.credits.to_tell()
            if granted is not None:
                flow.send_through_sequence = granted.send_through_sequence
                flow.send_through_bytes = granted.send_through_bytes
                changed = True
        else:
            changed |= self._books.hint.judge(now)
            # As with credits: a flow message without the hint would take it back.
            flow.rate_hint_fps = self._books.hint.fps
        return flow if changed else None
