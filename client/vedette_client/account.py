"""The totals of a session, counted here and compared with the server's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_client.errors import AccountMismatchError
from vedette_client.verdicts import SkipReason

if TYPE_CHECKING:
    from vedette.v1 import session_pb2
    from vedette_client.buffer import Kept
    from vedette_client.verdicts import Verdict


@dataclass(slots=True)
class Account:
    """The totals of a session. packets = pending + analysed + the sum of `skipped`.

    Attributes:
        packets: Packets that were numbered and sent, repetitions left out.
        bytes: Their bytes.
        analysed: Packets whose picture was analysed.
        skipped: Packets whose picture was not, by reason.
        client_dropped: Packets that were dropped here, before they were numbered.
        verdicts: Verdicts numbered by the server so far.
        decode_only: Packets sent once more to rebuild a decoder.
        pictures_decoded: Pictures that the server's decoder gave; known from its own account only.
    """

    packets: int = 0
    bytes: int = 0
    analysed: int = 0
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    client_dropped: int = 0
    verdicts: int = 0
    decode_only: int = 0
    pictures_decoded: int = 0

    @property
    def pending(self) -> int:
        """Packets without a verdict."""
        return self.packets - self.analysed - self.skipped.total()

    def add_packet(self, entry: Kept) -> None:
        """Count a packet that the server is to judge."""
        self.packets += 1
        self.bytes += len(entry.packet.data)
        self.client_dropped += entry.dropped_before

    def add_verdict(self, verdict: Verdict) -> None:
        """Count what became of a packet."""
        if verdict.reason is None:
            self.analysed += 1
        else:
            self.skipped[verdict.reason] += 1

    def copy(self) -> Account:
        """Copy it, so that it no longer changes."""
        return Account(
            self.packets,
            self.bytes,
            self.analysed,
            Counter(self.skipped),
            self.client_dropped,
            self.verdicts,
            self.decode_only,
            self.pictures_decoded,
        )


def account_from_wire(wire: session_pb2.Account) -> Account:
    """Build the totals from the server's message."""
    skipped: Counter[SkipReason] = Counter()
    for entry in wire.skipped:
        if entry.count:
            skipped[SkipReason(int(entry.reason))] += entry.count
    return Account(
        packets=wire.packets_received,
        bytes=wire.bytes_received,
        analysed=wire.analysed,
        skipped=skipped,
        client_dropped=wire.client_dropped,
        verdicts=wire.verdicts,
        decode_only=wire.decode_only,
        pictures_decoded=wire.pictures_decoded,
    )


def check_closing(ours: Account, wire: session_pb2.Account, *, skips_told: bool, whole: bool = True) -> None:
    """Compare what was counted here since the server's memory begins with its closing account.

    Args:
        ours: Counted here.
        wire: The server's closing account.
        skips_told: Every skipped packet had a verdict of its own (no `omit_skips`).
        whole: All was sent that there was; of a stream that the server ended before, it never saw what was on its way,
            and nothing can be said but that its own account closes.

    Raises:
        AccountMismatchError: They differ, or the server's does not close.
    """
    theirs = account_from_wire(wire)
    pairs = {
        "packets": (ours.packets, theirs.packets),
        "bytes": (ours.bytes, theirs.bytes),
        "pending": (0, wire.packets_pending),
        "analysed": (ours.analysed, theirs.analysed),
        "client dropped": (ours.client_dropped, theirs.client_dropped),
        "skipped": (ours.packets - ours.analysed, theirs.skipped.total()),
    }
    if skips_told:
        for reason in ours.skipped.keys() | theirs.skipped.keys():
            pairs[f"skipped {reason.name}"] = (ours.skipped[reason], theirs.skipped[reason])
    if not whole:
        pairs = {"pending": pairs["pending"]}
    differences = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differences:
        raise AccountMismatchError(differences)
