"""What a session lets in: the next sequence, within the credits.

Credits are counted under either policy, and enforced under EVERY_FRAME. A client that is switched to it in
mid-stream goes on for a while with what it sends, since it does not know yet: credits are enforced from its
first acknowledgement of a verdict that was sent together with them or later. Until then there is no bound
to what is on its way, and what finds no room in the inbox is shed, as it would have been before.

Pure code: the session's lock is held around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy
from vedette_server.errors import InvalidError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.packet import Packet
    from vedette_server.session.credits import CreditWindow
    from vedette_server.session.inbox import Inbox, Taken


class Intake:
    """Checks and queues the packets of one session.

    Args:
        inbox: Where packets wait for a decoder.
        open_credits: Builds a credit window from the next sequence and the packets and bytes that wait.
        policy: The channel's delivery policy.
        rejoin_limit: A client that lost the server's state may start at any packet up to this one;
            None: it starts at 0.

    Attributes:
        closed: The client has sent all that it will.
        high_water: One above the highest sequence received.
    """

    def __init__(
        self,
        inbox: Inbox,
        open_credits: Callable[[int, int, int], CreditWindow],
        policy: DeliveryPolicy,
        rejoin_limit: int | None,
    ) -> None:
        self.closed = False
        self.high_water = 0
        self.inbox = inbox
        self._open_credits = open_credits
        self._policy = policy
        self._rejoin_limit = rejoin_limit
        self._expected = 0
        # The index of the first verdict that tells, when acknowledged, that the client knows its credits.
        self._enforced_from: int | None = None
        self._gap = False
        if rejoin_limit is not None:
            inbox.expect_again()
        self.credits = self._new_credits()

    @property
    def next_sequence(self) -> int:
        """The next packet that is wanted for the first time."""
        return self.high_water if self._rejoin_limit is None else self._rejoin_limit

    @property
    def rejoining(self) -> bool:
        """Whether the client must start again at a keyframe of its choice."""
        return self._rejoin_limit is not None

    def reconnect(self) -> None:
        """Start the credits of a new connection."""
        if self._expected < self.high_water and not self.closed:
            # The cut came in mid-replay: the decoder has only part of it, and the rest would be a hole.
            self._rejoin_limit = self.high_water
            self._gap = True
        self._expected = self.high_water
        self._enforced_from = None
        self.credits = self._new_credits()

    def reopen(self) -> None:
        """Take packets again after the end, from a keyframe at or before the next packet."""
        self.closed = False
        self._rejoin_limit = self.high_water

    def set_policy(self, policy: DeliveryPolicy, next_verdict_index: int) -> bool:
        """Change the delivery policy from the next packet on; return whether it is another one.

        Args:
            policy: The new one.
            next_verdict_index: The first verdict that is not sent before the new credits are.
        """
        if policy is self._policy:
            return False
        self._policy = policy
        self._enforced_from = next_verdict_index
        self.inbox.set_policy(policy)
        return True

    def acknowledged(self, through_index: int) -> None:
        """Take note of an acknowledgement: it may show that the client knows its credits."""
        if self._enforced_from is not None and through_index >= self._enforced_from:
            self._enforced_from = None

    def refuse(self) -> None:
        """Take note that a checked packet is not queued: those after it may refer to it."""
        self._gap = True

    def check(self, packet: Packet) -> None:
        """Check a packet's place in the stream; one that was received before is marked ``decode_only``.

        Raises:
            InvalidError: It is not the next packet.
            UnavailableError: The stream had ended, and its decoder is gone; a client that reconnects with more
                packets than were received gets a new one.
        """
        if self.closed:
            raise UnavailableError(
                "INPUT_CLOSED", f"packet {packet.sequence} came after the end of the stream; reconnect to go on"
            )
        if self._rejoin_limit is not None and packet.sequence <= self._rejoin_limit:
            self._rejoin_limit = None
            self._expected = packet.sequence
        if packet.sequence != self._expected:
            raise InvalidError(
                "SEQUENCE_OUT_OF_ORDER", f"sequence is {packet.sequence}; the next one must be {self._expected}"
            )
        self._expected += 1
        if packet.sequence < self.high_water:
            packet.decode_only = True
        else:
            self.high_water = self._expected

    def put(self, packet: Packet, size_bytes: int) -> None:
        """Queue a checked packet.

        Raises:
            LimitError: It goes beyond the credits, or a live flood beyond all bounds.
        """
        every_frame = self._policy is DeliveryPolicy.EVERY_FRAME
        knows = self._enforced_from is None
        if packet.decode_only and not (every_frame and knows) and not self.inbox.takes_again(size_bytes):
            # A live camera has better things to do than to end over a long replay: it goes on at a keyframe.
            self._gap = True
            return
        self.credits.received(packet.sequence, size_bytes, enforced=every_frame and knows)
        if self._gap:
            packet.discontinuity, self._gap = True, False
        if knows or not every_frame:
            self.inbox.put(packet, packet.received_s)
            return
        self.inbox.set_policy(DeliveryPolicy.LIVE)
        try:
            self.inbox.put(packet, packet.received_s)
        finally:
            self.inbox.set_policy(self._policy)

    def take(self, now: float) -> Taken:
        """Take what a decoder is to do next, and give its credits back."""
        taken = self.inbox.take(now)
        if taken.packet is not None:
            taken.packet.taken_s = now
            self.credits.taken(len(taken.packet.data))
        if taken.shed:
            for packet, _ in taken.shed:
                packet.taken_s = now
            self.credits.recount(len(self.inbox), self.inbox.bytes)
        return taken

    def _new_credits(self) -> CreditWindow:
        return self._open_credits(self.next_sequence, len(self.inbox), self.inbox.bytes)
