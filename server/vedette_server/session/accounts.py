"""Count what became of every packet of a session.

The invariant, after every call: received = pending + analysed + the sum of skipped. A packet gets one verdict; a second
one, or one for a packet that never came, is a bug and raises.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_server.data.outcome import SkipReason


class AccountingError(RuntimeError):
    """A bug of the server: a packet was received twice, judged twice, or judged and never received."""


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """The totals of a session at one moment.

    Attributes:
        packets_received: Packets to be judged, without those sent again.
        bytes_received: Their bytes.
        packets_pending: Those without a verdict.
        analysed: Those whose picture was analysed.
        skipped: Those whose picture was not, by reason; read-only, reasons that occurred only.
        pictures_decoded: Pictures that the decoder gave.
        client_dropped: Packets that the client says it dropped before numbering them.
        verdicts: Verdicts numbered.
        decode_only: Packets that were to be decoded and not judged.
    """

    packets_received: int
    bytes_received: int
    packets_pending: int
    analysed: int
    skipped: Mapping[SkipReason, int]
    pictures_decoded: int
    client_dropped: int
    verdicts: int
    decode_only: int

    @property
    def skipped_total(self) -> int:
        """Packets skipped for any reason."""
        return sum(self.skipped.values())

    @property
    def closed(self) -> bool:
        """Whether every packet has its verdict."""
        return self.packets_pending == 0


class Account:
    """The running totals of one session.

    Args:
        first_sequence: Sequence of the first packet to be judged; those before it count as settled.
    """

    def __init__(self, first_sequence: int = 0) -> None:
        self._next_sequence = first_sequence
        # The keys in the order of receipt, which is rising: the first one is the oldest.
        self._pending: dict[int, None] = {}
        self._packets = 0
        self._bytes = 0
        self._analysed = 0
        self._skipped: Counter[SkipReason] = Counter()
        self._pictures = 0
        self._client_dropped = 0
        self._verdicts = 0
        self._decode_only = 0

    @property
    def pending(self) -> int:
        """How many packets have no verdict."""
        return len(self._pending)

    @property
    def closed(self) -> bool:
        """Whether every packet has its verdict."""
        return not self._pending

    @property
    def settled_through(self) -> int | None:
        """The last sequence up to which every packet has its verdict; None when not even the first has."""
        settled = next(iter(self._pending), self._next_sequence) - 1
        return settled if settled >= 0 else None

    def is_pending(self, sequence: int) -> bool:
        """Whether a packet was received and has no verdict."""
        return sequence in self._pending

    def pending_sequences(self) -> list[int]:
        """Return the packets without a verdict, in rising order."""
        return list(self._pending)

    def receive(self, sequence: int, size_bytes: int) -> None:
        """Count a packet that is to be judged.

        Raises:
            AccountingError: It is not above all that were received before.
        """
        if sequence < self._next_sequence:
            raise AccountingError(f"packet {sequence} was received after packet {self._next_sequence - 1}")
        self._next_sequence = sequence + 1
        self._pending[sequence] = None
        self._packets += 1
        self._bytes += size_bytes

    def receive_decode_only(self, sequence: int, size_bytes: int = 0) -> None:  # noqa: ARG002 - same shape as receive
        """Count a packet that has its verdict already; neither it nor its bytes count as received.

        Raises:
            AccountingError: Its verdict is still due.
        """
        if sequence in self._pending:
            raise AccountingError(f"packet {sequence} came to be decoded only, but has no verdict yet")
        self._decode_only += 1

    def drop_by_client(self, count: int) -> None:
        """Count packets that the client dropped before numbering them."""
        self._client_dropped += count

    def decode_picture(self, count: int = 1) -> None:
        """Count pictures that the decoder gave."""
        self._pictures += count

    def number_verdict(self, count: int = 1) -> None:
        """Count verdicts that were numbered."""
        self._verdicts += count

    def analyse(self, sequence: int) -> None:
        """Give a packet its verdict: analysed.

        Raises:
            AccountingError: It has one already, or was never received.
        """
        self._settle(sequence)
        self._analysed += 1

    def skip(self, sequence: int, reason: SkipReason) -> None:
        """Give a packet its verdict: skipped.

        Raises:
            AccountingError: It has one already, or was never received.
        """
        self._settle(sequence)
        self._skipped[reason] += 1

    def snapshot(self) -> AccountSnapshot:
        """Return the totals as they are now."""
        return AccountSnapshot(
            packets_received=self._packets,
            bytes_received=self._bytes,
            packets_pending=len(self._pending),
            analysed=self._analysed,
            skipped=MappingProxyType(dict(self._skipped)),
            pictures_decoded=self._pictures,
            client_dropped=self._client_dropped,
            verdicts=self._verdicts,
            decode_only=self._decode_only,
        )

    def _settle(self, sequence: int) -> None:
        if sequence not in self._pending:
            known = "already has its verdict" if sequence < self._next_sequence else "was never received"
            raise AccountingError(f"packet {sequence} was judged, but {known}")
        del self._pending[sequence]
