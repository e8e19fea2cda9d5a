"""A session's order and accounts: verdicts are put in presentation order, booked, numbered and kept.

Pure code: the session's lock is held around every call.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.data.verdict import Verdict
from vedette_server.errors import InvalidError, LimitError
from vedette_server.session.accounts import Account
from vedette_server.session.hint import RateHint
from vedette_server.session.ledger import VerdictLedger
from vedette_server.session.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette_server.data.packet import Packet
    from vedette_server.metrics import ChannelMetrics
    from vedette_server.trace import ChannelTrace

BUSY = frozenset({SkipReason.SUPERSEDED, SkipReason.STALE, SkipReason.OVERLOAD})


class Books:
    """The presentation order, the numbered verdicts and the totals of one session.

    Args:
        metrics: The channel's figures.
        max_unacknowledged: Verdicts that may wait for an acknowledgement before packets are refused.
        first_verdict_index: Where numbering starts.
        clock: Monotonic seconds.
        trace: Records the way of each packet; None: nobody does.

    Attributes:
        account: The totals.
        ledger: The numbered verdicts.
        hint: What a live sender is advised.
        omit_skips: Skipped packets get no numbered verdict.
        telling: Whether verdicts are still kept for a client; they are booked in any case.
        released: Verdicts in order that somebody looks at before they are booked; None: nobody does.
    """

    def __init__(
        self,
        metrics: ChannelMetrics,
        max_unacknowledged: int,
        first_verdict_index: int,
        clock: Callable[[], float],
        trace: ChannelTrace | None = None,
    ) -> None:
        self.account = Account()
        self.ledger: VerdictLedger[Verdict] = VerdictLedger(max_unacknowledged, first_verdict_index)
        self.hint = RateHint(clock())
        self.omit_skips = False
        self.telling = True
        self.released: deque[Verdict] | None = None
        self._max_unacknowledged = max_unacknowledged
        self._timeline: Timeline[Verdict] = Timeline()
        self._metrics = metrics
        self._clock = clock
        self._trace = trace

    def receive(self, packet: Packet, size_bytes: int, client_dropped: int) -> None:
        """Book a packet; what a packet that comes again says about those before it was booked with the first."""
        if client_dropped and not packet.decode_only:
            self.account.drop_by_client(client_dropped)
        if not packet.decode_only:
            self.account.receive(packet.sequence, size_bytes)
            self._metrics.packet(size_bytes)
        elif not self.account.is_pending(packet.sequence):
            self.account.receive_decode_only(packet.sequence, size_bytes)

    def hold(self) -> None:
        """Hold what is released from now on, for who takes it from `released` and books it."""
        self.released = deque()

    def check_acknowledged(self) -> None:
        """Make sure that verdicts leave: that the client takes note of them, and none holds up too many.

        Raises:
            LimitError: Too many wait for an acknowledgement, or for one that an engine does not give.
        """
        held = self._timeline.held + len(self.released or ())
        if held >= self._max_unacknowledged:
            raise LimitError(
                "VERDICTS_HELD_UP",
                f"{held} verdicts wait for one before them, whose engine does not answer; "
                f"allowed: {self._max_unacknowledged}",
            )
        if self.ledger.full:
            raise LimitError(
                "VERDICTS_NOT_ACKNOWLEDGED",
                f"{self.ledger.unacknowledged} verdicts wait for an acknowledgement; "
                f"allowed: {self._max_unacknowledged}",
            )

    def acknowledge(self, through_index: int) -> None:
        """Let go of verdicts that the client has.

        Raises:
            InvalidError: A verdict that was never numbered is acknowledged.
        """
        try:
            self.ledger.acknowledge(through_index)
        except ValueError as error:
            raise InvalidError("ACK_AHEAD", f"ack_verdicts.through_index is {through_index}: {error}") from error

    def rewind(self, next_verdict_index: int) -> None:
        """Send again what a returning client lacks, and let go of what it has.

        Raises:
            InvalidError: It claims verdicts that were never numbered, or asks for some that it acknowledged.
        """
        ledger = self.ledger
        if not ledger.first_kept <= next_verdict_index <= ledger.next_index:
            raise InvalidError(
                "RESUME_OUT_OF_RANGE",
                f"resume.next_verdict_index is {next_verdict_index}; the session holds verdicts "
                f"{ledger.first_kept} to {ledger.next_index}",
            )
        ledger.rewind(next_verdict_index)
        if next_verdict_index:
            ledger.acknowledge(next_verdict_index - 1)

    def let_go(self) -> None:
        """Keep verdicts for nobody, now and later."""
        self.telling = False
        if self.ledger.next_index:
            self.ledger.acknowledge(self.ledger.next_index - 1)

    @property
    def all_sent(self) -> bool:
        """Whether every numbered verdict was sent on this connection."""
        return self.ledger.send_cursor == self.ledger.next_index

    def open(self) -> int:
        """Give the next place in presentation order."""
        return self._timeline.open()

    def settle(self, place: int, verdict: Verdict) -> None:
        """Settle a place; it and those that waited behind it are booked and numbered, or held to be looked at."""
        leaving = self._timeline.settle(place, verdict)
        if self.released is not None:
            self.released += leaving
            return
        for released in leaving:
            self.book(released)

    def refuse(self, packets: Iterable[Packet], reason: SkipReason) -> None:
        """Settle packets that are not decoded: their places are the next ones."""
        for packet in packets:
            packet.data = b""
            if not packet.decode_only:
                self.settle(self.open(), Verdict(packet, reason=reason))

    def book(self, verdict: Verdict) -> int | None:
        """Book a verdict whose turn has come, and number it; None: it is not told."""
        packet, reason, times = verdict.packet, verdict.reason, verdict.times
        times.total_s = self._clock() - packet.received_s
        if reason is None:
            self.account.analyse(packet.sequence)
            self.hint.analysed()
        else:
            self.account.skip(packet.sequence, reason)
            if reason in BUSY:
                self.hint.shed()
        self._metrics.verdict(reason, times)
        index = None
        if self.telling and (reason is None or not self.omit_skips):
            index = self.ledger.append(verdict)
            self.account.number_verdict()
        if self._trace is not None:
            self._trace.judged(verdict, index)
        return index
