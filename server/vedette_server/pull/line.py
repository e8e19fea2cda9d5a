"""One connection of a pulled camera to its session: a client inside the process.

It does what a client over gRPC does, and nothing else: it sends packets within its credits, takes the verdicts and
acknowledges them at once, since nothing can get lost on the way to here, and hears how the session ended.

Threads: the camera's thread sends and waits; lanes and decoders bring news, and take the verdicts out while they are at
it, which is cheaper than waking somebody; the event loop may finish it. One lock orders news and the leaving:
credits that were told to a line that has left would be lost to the next one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from vedette_server.errors import DisplacedError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet
    from vedette_server.session.accounts import AccountSnapshot
    from vedette_server.session.outgoing import Flow
    from vedette_server.session.seams import Attachment
    from vedette_server.session.session import Session

_VERDICTS_AT_ONCE = 256
_LOOK_S = 0.25


class Line:
    """A pulled camera's connection; a `Listener`.

    Args:
        session: Its session; to be attached with this as its listener.

    Attributes:
        session: Its session.
        closing: The closing account, once everything was told; None before.
        verdicts: How many were taken.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.closing: AccountSnapshot | None = None
        self.verdicts = 0
        self._changed = threading.Condition()
        self._left = False
        self._error: RefusedError | None = None
        self._next_sequence = 0
        self._sent_bytes = 0
        # How far it may send; None: as far as it likes.
        self._through: tuple[int, int] | None = None

    def attached(self, attachment: Attachment) -> None:
        """Take note of how the session was found; called once, before anything is sent."""
        with self._changed:
            self._next_sequence = attachment.next_sequence
            self._allow(attachment.flow)

    # -- Listener -------------------------------------------------------------------------------

    def news(self) -> None:
        """Take out what the session has to tell, and acknowledge it."""
        more = True
        with self._changed:
            while more and not self._left:
                news = self.session.outgoing(_VERDICTS_AT_ONCE)
                if news.verdicts:
                    self.verdicts += len(news.verdicts)
                    self.session.acknowledge(news.verdicts[-1][0])
                self._allow(news.flow)
                self.closing = news.closing or self.closing
                self._error = news.error or self._error
                more = len(news.verdicts) == _VERDICTS_AT_ONCE
            self._changed.notify_all()

    def displaced(self) -> None:
        """Take note that another connection has the session now."""
        with self._changed:
            self._left = True
            self._error = DisplacedError("TAKEN_OVER", f"another connection resumed {self.session.identity.name}")
            self._changed.notify_all()

    # -- the camera's thread --------------------------------------------------------------------

    def send(self, packet: Packet, dropped: int = 0) -> None:
        """Give the packet its number and hand it in.

        Args:
            packet: The packet.
            dropped: How many before it were left out.

        Raises:
            RefusedError: The session has ended, or bears no more; the line is to be left then.
        """
        self.check()
        packet.sequence = self._next_sequence
        packet.received_s, packet.received_wall_ns = time.monotonic(), time.time_ns()
        size = len(packet.data)
        self.session.receive(packet, dropped)
        self._next_sequence += 1
        self._sent_bytes += size

    def wait_for_room(self, size_bytes: int, interrupted: threading.Event) -> bool:
        """Wait until a packet may be sent; return whether it may: False when interrupted.

        Raises:
            RefusedError: The session has ended.
        """
        with self._changed:
            while not interrupted.is_set():
                self.check()
                if self.has_room(size_bytes):
                    return True
                self._changed.wait(_LOOK_S)
        return False

    def wait_until_over(self, timeout_s: float, interrupted: threading.Event | None = None) -> bool:
        """Wait until the session has told its last; return whether it has."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self.over and (left_s := deadline - time.monotonic()) > 0:
                if interrupted is not None and interrupted.is_set():
                    break
                self._changed.wait(min(left_s, _LOOK_S))
            return self.over

    @property
    def left(self) -> bool:
        """Whether it has hung up."""
        return self._left

    @property
    def next_sequence(self) -> int:
        """The number of the next packet."""
        return self._next_sequence

    def check(self) -> None:
        """See to it that packets are still taken.

        Raises:
            RefusedError: The session has ended; this is why.
        """
        if self.over:
            raise self._error or UnavailableError(
                "SESSION_ENDED", f"the session ended: {self.session.end_reason or 'without a reason'}"
            )

    @property
    def over(self) -> bool:
        """Whether nothing more will be told: the session has ended, or another connection has it."""
        return self.closing is not None or self._error is not None

    # -- any thread -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Say that everything was sent."""
        self.session.finish()

    def leave(self) -> None:
        """Hang up; the session is kept for a while. May be called twice."""
        with self._changed:
            self._left = True
            self.session.detach(self)
            self._changed.notify_all()

    def has_room(self, size_bytes: int) -> bool:
        """Whether the credits allow a packet of this size now."""
        if self._through is None:
            return True
        sequence, through_bytes = self._through
        return self._next_sequence <= sequence and self._sent_bytes + size_bytes <= through_bytes

    def _allow(self, flow: Flow | None) -> None:
        """Take note of credits; they are absolute, so that what was told first may come last."""
        if flow is None or flow.send_through_sequence is None or flow.send_through_bytes is None:
            return
        sequence, through_bytes = self._through or (-1, -1)
        self._through = max(sequence, flow.send_through_sequence), max(through_bytes, flow.send_through_bytes)
