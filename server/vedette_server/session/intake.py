"""What a session lets in: the next sequence, within the credits.

Pure code: the session's lock is held around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy
from vedette_server.errors import InvalidError

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
        self._expected = self.high_water
        self.credits = self._new_credits()

    def reopen(self) -> None:
        """Take packets again after the end, from a keyframe at or before the next packet."""
        self.closed = False
        self._rejoin_limit = self.high_water

    def set_policy(self, policy: DeliveryPolicy) -> None:
        """Change the delivery policy from the next packet on."""
        if policy is DeliveryPolicy.EVERY_FRAME and self._policy is not policy:
            self.credits = self._new_credits()
        self._policy = policy
        self.inbox.set_policy(policy)

    def check(self, packet: Packet) -> None:
        """Check a packet's place in the stream; one that was received before is marked ``decode_only``.

        Raises:
            InvalidError: It is not the next packet, or the stream has ended.
        """
        if self.closed:
            raise InvalidError("INPUT_CLOSED", f"packet {packet.sequence} came after the end of the stream")
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
        if self._policy is DeliveryPolicy.EVERY_FRAME:
            self.credits.received(packet.sequence, size_bytes)
        self.inbox.put(packet, packet.received_s)

    def take(self, now: float) -> Taken:
        """Take what a decoder is to do next, and give its credits back."""
        taken = self.inbox.take(now)
        for packet, _ in taken.shed:
            self._taken(packet, now)
        if taken.packet is not None:
            self._taken(taken.packet, now)
        return taken

    def _taken(self, packet: Packet, now: float) -> None:
        packet.taken_s = now
        if self._policy is DeliveryPolicy.EVERY_FRAME:
            self.credits.taken(len(packet.data))

    def _new_credits(self) -> CreditWindow:
        return self._open_credits(self.next_sequence, len(self.inbox), self.inbox.bytes)
