"""Slow the sender of a channel that may lose nothing, by absolute credits.

The sender may send packets through a sequence number and a number of bytes; both are raised when a decoder takes
a packet, not when its verdict leaves: a decoder that reorders would wait for packets that wait for its verdicts.
At most one window is ever on its way or waiting.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette_server.errors import LimitError


class CreditExceededError(LimitError):
    """A sender sent more than its credits allow."""


@dataclass(frozen=True, slots=True)
class Credits:
    """How far a sender may go.

    Attributes:
        send_through_sequence: Packets up to and including this one.
        send_through_bytes: So many bytes of packet data since the connection was accepted.
    """

    send_through_sequence: int
    send_through_bytes: int


class CreditWindow:
    """The credits of one connection of one channel; packets are taken in the order in which they were received.

    Args:
        packets: Most packets on their way or waiting, 1 or more. Packets below ``next_sequence``, sent again to be
            decoded only, are limited by their bytes alone.
        bytes: Most bytes of theirs, 1 or more.
        max_packet_bytes: The largest packet that is allowed; the window is widened to it, so that every packet fits.
            0: the window.
        next_sequence: The first packet that this connection is to judge.
        waiting_packets: Packets of an earlier connection that no decoder has taken yet.
        waiting_bytes: Their bytes.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        packets: int,
        bytes: int,  # noqa: A002 - the contract's word
        *,
        max_packet_bytes: int = 0,
        next_sequence: int = 0,
        waiting_packets: int = 0,
        waiting_bytes: int = 0,
    ) -> None:
        if packets < 1 or bytes < 1:
            raise ValueError(f"a window of {packets} packets and {bytes} bytes lets nothing pass")
        self.packets = packets
        self.bytes = max(bytes, max_packet_bytes)
        self._max_packet_bytes = max_packet_bytes or self.bytes
        self._first_sequence = next_sequence
        self._last_sequence = next_sequence - 1
        self._received_bytes = 0
        self._waiting_packets = waiting_packets
        self._waiting_bytes = waiting_bytes
        self._replayed = 0
        self._told: Credits | None = None

    @property
    def granted_through_sequence(self) -> int:
        """The last packet that may be sent."""
        return self._last_sequence + max(0, self.packets - self._waiting_packets)

    @property
    def granted_through_bytes(self) -> int:
        """How many bytes of packet data may be sent since the connection was accepted."""
        return self._received_bytes + max(0, self.bytes - self._waiting_bytes)

    @property
    def waiting_packets(self) -> int:
        """Packets received that no decoder has taken, those sent again left out."""
        return self._waiting_packets

    @property
    def waiting_bytes(self) -> int:
        """Bytes received that no decoder has taken."""
        return self._waiting_bytes

    def received(self, sequence: int, size: int, *, enforced: bool = True) -> None:
        """Count a packet of ``size`` bytes that came.

        Args:
            sequence: Its number.
            size: Its bytes.
            enforced: The sender knows of its credits; otherwise the packet is counted, whatever they were.

        Raises:
            CreditExceededError: It is beyond the credits.
        """
        if enforced:
            self._check(sequence, size)
        self._received_bytes += size
        self._waiting_bytes += size
        if sequence < self._first_sequence:
            self._replayed += 1
        else:
            self._last_sequence = max(self._last_sequence, sequence)
            self._waiting_packets += 1

    def _check(self, sequence: int, size: int) -> None:
        if sequence > self.granted_through_sequence:
            raise CreditExceededError(
                "CREDIT_EXCEEDED",
                f"packet {sequence} is beyond the credit, which ends with packet {self.granted_through_sequence}",
            )
        if self._received_bytes + size > self.granted_through_bytes:
            raise CreditExceededError(
                "CREDIT_EXCEEDED",
                f"packet {sequence} makes {self._received_bytes + size} bytes of {self.granted_through_bytes} allowed",
            )

    def taken(self, size: int) -> None:
        """Give back the credit of the oldest packet that waits, of ``size`` bytes: a decoder took it."""
        self._waiting_bytes -= size
        if self._replayed:
            self._replayed -= 1
        else:
            self._waiting_packets -= 1

    def recount(self, waiting_packets: int, waiting_bytes: int) -> None:
        """Set what waits, after packets were shed whose bytes had been let go before."""
        self._replayed = 0
        self._waiting_packets = waiting_packets
        self._waiting_bytes = waiting_bytes

    def to_tell(self) -> Credits | None:
        """Return the credits when the sender should hear of them, and count them as told.

        That is at first, when a quarter of the window is free again, and when nothing waits while the next packet might
        not fit into what the sender knows of: nothing else would set it free.
        """
        return self.tell() if self._worth_telling() else None

    def tell(self) -> Credits:
        """Return the credits as they are, and count them as told."""
        self._told = Credits(self.granted_through_sequence, self.granted_through_bytes)
        return self._told

    def _worth_telling(self) -> bool:
        told = self._told
        if told is None:
            return True
        new_packets = self.granted_through_sequence - told.send_through_sequence
        new_bytes = self.granted_through_bytes - told.send_through_bytes
        if new_packets >= max(1, self.packets // 4) or new_bytes >= max(1, self.bytes // 4):
            return True
        left_bytes = told.send_through_bytes - self._received_bytes
        return new_bytes > 0 and self._waiting_bytes == 0 and left_bytes < self._max_packet_bytes
