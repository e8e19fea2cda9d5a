"""One session of one channel, whatever becomes of its connections.

Pure code, one thread, no clock and no network of its own: it says what to send and takes what came. It
numbers packets, keeps them until they are settled, decides after a reconnect what to send again, ignores
verdicts that came twice, and counts everything.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from vedette.v1 import media_pb2, stream_pb2
from vedette_client.account import Account, account_from_wire, check_closing
from vedette_client.buffer import Kept, ReplayBuffer
from vedette_client.errors import ConnectionLostError, ProtocolError
from vedette_client.flow import ClockOffset, Flow
from vedette_client.outbox import Outbox
from vedette_client.verdicts import SkipReason, Verdict, lost_verdict, verdict_from_wire
from vedette_client.wire import Fragments, fragment, packet_to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.v1 import analysis_pb2, session_pb2
    from vedette_client.options import StreamLimits
    from vedette_client.sources.base import SourcePacket

_INTRA = {media_pb2.CODEC_JPEG, media_pb2.CODEC_PNG, media_pb2.CODEC_WEBP, media_pb2.CODEC_RAW}
_UNTOLD = SkipReason(0)
"""Packets that were skipped without a verdict of their own, until the closing account tells the reasons."""

_CLOCK_SYNC_S = 60.0


class Session:
    """The client's side of a session.

    Args:
        config: The first message, without `resume`; belongs to the session from now on.
        limits: What may be held.
        on_sent: Called with each packet and its number when it is sent for the first time.
    """

    def __init__(
        self,
        config: stream_pb2.StreamConfig,
        limits: StreamLimits,
        on_sent: Callable[[int, SourcePacket], None] | None = None,
    ) -> None:
        intra = config.format.codec in _INTRA
        self.config = config
        self.limits = limits
        self.flow = Flow()
        self.clock = ClockOffset()
        self.account = Account()
        self.accepted: stream_pb2.Accepted | None = None
        self.verdicts: deque[Verdict] = deque()
        self.outbox = Outbox(limits.wait_packets, limits.wait_bytes, limits.wait_s, intra=intra)
        self.buffer = ReplayBuffer(limits.keep_packets, limits.keep_bytes, intra=intra)
        self.next_sequence = 0
        self.next_index = 0
        self.duplicates = 0
        self.finished = False
        self.drain: stream_pb2.Drain | None = None
        self.closing: Account | None = None
        self.pending_update: stream_pb2.UpdateConfig | None = None
        self.updated: stream_pb2.ConfigUpdated | None = None
        self._on_sent = on_sent
        self._omits = config.omit_skips
        self._since_restart = Account()
        self._extradata: bytes | None = None
        self._resend: deque[Kept] = deque()
        self._restart: Kept | None = None
        self._fragments: Fragments = deque()
        self._acked = 0
        self._unacked_since_s: float | None = None
        self._last_sent_s = 0.0
        self._clock_due_s = 0.0
        self._update_sent = False
        self._heartbeat_s = 5.0
        self._ack_every = limits.ack_every
        self._max_message_bytes = 4 << 20

    # --- a connection begins ---------------------------------------------------------------------------

    def opening(self) -> stream_pb2.AnalyzeStreamRequest:
        """Write a connection's first message."""
        request = stream_pb2.AnalyzeStreamRequest(config=self.config)
        if self.accepted is not None:
            resume = request.config.resume
            resume.session_token = self.accepted.session_token
            resume.next_verdict_index = self.next_index
            resume.next_sequence = self.next_sequence
            # The token is enough; without it, whoever took the channel over meanwhile keeps it.
            request.config.takeover = False
        return request

    def accept(self, accepted: stream_pb2.Accepted, now_s: float) -> None:
        """Take the server's answer, and decide what has to be sent again.

        Raises:
            ProtocolError: The server asks for what cannot be.
        """
        kept = accepted.state_restored and self.accepted is not None
        self.accepted = accepted
        self.flow.restart(accepted.flow)
        self._fragments.clear()
        self.drain = None
        self._update_sent = False
        self._clock_due_s = self._last_sent_s = now_s
        if accepted.HasField("heartbeat_interval"):
            self._heartbeat_s = accepted.heartbeat_interval.ToMilliseconds() / 1000
        if accepted.limits.max_message_bytes:
            self._max_message_bytes = accepted.limits.max_message_bytes
        if accepted.limits.max_unacknowledged_verdicts:
            self._ack_every = max(1, min(self.limits.ack_every, accepted.limits.max_unacknowledged_verdicts // 4))
        if kept:
            self._go_on(accepted)
        else:
            self._start_again(accepted)
        self._acked, self._unacked_since_s = self.next_index, None

    def _go_on(self, accepted: stream_pb2.Accepted) -> None:
        """Send what a server that kept its state has not received."""
        if accepted.next_sequence > self.next_sequence:
            raise ProtocolError(
                f"the server wants packet {accepted.next_sequence} next, of {self.next_sequence} that were sent"
            )
        if accepted.next_verdict_index > self.next_index:
            raise ProtocolError(f"verdict {accepted.next_verdict_index} is to come, {self.next_index} is due")
        first = 0 if accepted.keyframe_needed else accepted.next_sequence
        self._resend = deque(self.buffer.from_sequence(first))
        self._restart = self._resend[0] if self._resend and accepted.keyframe_needed else None

    def _start_again(self, accepted: stream_pb2.Accepted) -> None:
        """Rebuild the decoder of a server that remembers nothing, and have judged what was not."""
        self.next_index = accepted.next_verdict_index
        self._since_restart = Account()
        entries, lost = self.buffer.from_start()
        for entry in lost:
            self._lose(entry)
        for entry in entries:
            if not entry.settled:
                self._since_restart.add_packet(entry)
        is_over = self.finished and not self.outbox and self._since_restart.packets == 0
        self._resend = deque() if is_over else deque(entries)
        self._restart = self._resend[0] if self._resend else None

    # --- what to send ----------------------------------------------------------------------------------

    @property
    def heartbeat_s(self) -> float:
        """The interval that the server asks for."""
        return self._heartbeat_s

    @property
    def all_sent(self) -> bool:
        """Whether the sending half of the call can be closed."""
        return self.finished and not self.outbox and not self._resend and not self._fragments

    def next_message(self, now_s: float, wall_ns: int) -> stream_pb2.AnalyzeStreamRequest | None:
        """Write the next message; None when there is nothing to say or it is not allowed yet."""
        packets = self._next_packets()
        control = self._next_control(now_s, wall_ns)
        if not packets and control is None and not self.is_ack_due(now_s):
            if now_s - self._last_sent_s < self._heartbeat_s / 2:
                return None
            control = stream_pb2.AnalyzeStreamRequest(heartbeat=stream_pb2.Heartbeat())
        message = control if control is not None else stream_pb2.AnalyzeStreamRequest()
        if packets:
            message.packets.extend(packets)
        if self.next_index > self._acked:
            message.ack_verdicts.through_index = self.next_index - 1
            self._acked, self._unacked_since_s = self.next_index, None
        self._last_sent_s = now_s
        return message

    def ack_due_s(self) -> float | None:
        """Tell when an acknowledgement must be sent at the latest."""
        return None if self._unacked_since_s is None else self._unacked_since_s + self.limits.ack_s

    def is_ack_due(self, now_s: float) -> bool:
        """Tell whether verdicts have waited long enough, or in sufficient number, for an acknowledgement."""
        if self.next_index - self._acked >= self._ack_every or (self.all_sent and self.next_index > self._acked):
            return True
        return self._unacked_since_s is not None and now_s - self._unacked_since_s >= self.limits.ack_s

    def _next_control(self, now_s: float, wall_ns: int) -> stream_pb2.AnalyzeStreamRequest | None:
        if self.pending_update is not None and not self._update_sent:
            self._update_sent = True
            return stream_pb2.AnalyzeStreamRequest(update_config=self.pending_update)
        if now_s >= self._clock_due_s:
            self._clock_due_s = now_s + _CLOCK_SYNC_S
            sync = stream_pb2.ClockSync()
            sync.client_send_time.FromNanoseconds(wall_ns)
            return stream_pb2.AnalyzeStreamRequest(clock_sync=sync)
        return None

    def _next_packets(self) -> list[stream_pb2.Packet]:
        if self._fragments:
            return [self._fragments.popleft()]
        packets: list[stream_pb2.Packet] = []
        size = 0
        room = self._max_message_bytes - 1024  # what stands around the bytes
        while len(packets) < self.limits.bundle_packets:
            upcoming = self._peek()
            if upcoming is None or (packets and size + upcoming > min(self.limits.bundle_bytes, room)):
                break
            packet = self._take()
            size += upcoming + 64
            if upcoming > room:
                self._fragments = fragment(packet, room)
                return [self._fragments.popleft()]
            packets.append(packet)
        return packets

    def _peek(self) -> int | None:
        """Size of the packet whose turn is next; None when there is none, or it may not be sent yet."""
        if self.drain is not None:
            return None
        if self._resend and self.finished and not self.outbox and self.buffer.unsettled == 0:
            self._resend.clear()  # nobody needs that decoder any more
        if self._resend:
            entry = self._resend[0]
            sequence, packet = entry.sequence, entry.packet
        else:
            waiting = self.outbox.peek()
            if waiting is None or self.buffer.full:
                return None
            sequence, packet = self.next_sequence, waiting
        size = len(packet.data) + len(packet.extradata or b"")
        return size if self.flow.allows(sequence, len(packet.data)) else None

    def _take(self) -> stream_pb2.Packet:
        if self._resend:
            entry = self._resend.popleft()
            packet = packet_to_wire(entry, with_extradata=entry.extradata_before if entry is self._restart else None)
            self.account.decode_only += entry.settled
        else:
            entry = self._number()
            self.buffer.append(entry)
            self._since_restart.add_packet(entry)
            packet = packet_to_wire(entry)
            if self._on_sent is not None:
                self._on_sent(entry.sequence, entry.packet)
        self.flow.sent_bytes += len(entry.packet.data)
        return packet

    def _number(self) -> Kept:
        waiting = self.outbox.take()
        packet = waiting.packet
        entry = Kept(self.next_sequence, packet, waiting.dropped_before, waiting.discontinuity, self._extradata)
        if packet.extradata is not None:
            self._extradata = packet.extradata
        self.next_sequence += 1
        self.account.add_packet(entry)
        return entry

    def _lose(self, entry: Kept) -> None:
        verdict = lost_verdict(entry.sequence, entry.packet)
        self.account.add_verdict(verdict)
        self.verdicts.append(verdict)

    # --- what came -------------------------------------------------------------------------------------

    def take(self, message: stream_pb2.AnalyzeStreamResponse, now_s: float, wall_ns: int) -> None:
        """Take one message of the server; verdicts go to `verdicts`.

        Raises:
            ProtocolError: The server broke the contract.
            ConnectionLostError: Verdicts are missing: only a new connection can bring them.
            AccountMismatchError: The closing account is not ours.
        """
        for verdict in message.verdicts:
            self._take_verdict(verdict, now_s)
        if message.HasField("flow"):
            self.flow.take(message.flow)
            if self._omits and message.flow.HasField("settled_through_sequence"):
                self._settle_untold(message.flow.settled_through_sequence)
        if (control := message.WhichOneof("control")) is not None:
            self._take_control(message, control, wall_ns)

    def _take_control(self, message: stream_pb2.AnalyzeStreamResponse, control: str, wall_ns: int) -> None:
        if control == "clock_sync":
            self.clock.take(message.clock_sync, wall_ns)
        elif control == "config_updated":
            self._take_update(message.config_updated)
        elif control == "drain":
            self.drain = message.drain
        elif control == "closing_account":
            self._close(message.closing_account)
        elif control == "accepted":
            raise ProtocolError("the server accepted the stream twice")

    def request_update(self, update: stream_pb2.UpdateConfig) -> None:
        """Ask for other settings; they hold for later connections, too."""
        for path in update.update_mask.paths:
            self.config.ClearField(path)  # type: ignore[arg-type]
        self.config.MergeFrom(update.config)
        self._omits = self._omits or self.config.omit_skips
        self.pending_update, self._update_sent, self.updated = update, False, None

    def totals(self) -> Account:
        """Copy what was counted so far."""
        totals = self.account.copy()
        totals.client_dropped = self.outbox.dropped_total
        return totals

    def give_up(self) -> None:
        """Judge what is still open: no connection will bring its verdict."""
        self.outbox.clear()
        self._resend.clear()
        for entry in self.buffer.take_unsettled():
            self._lose(entry)

    def _take_verdict(self, wire: analysis_pb2.FrameVerdict, now_s: float) -> None:
        if wire.verdict_index < self.next_index:
            self.duplicates += 1
            return
        if wire.verdict_index > self.next_index:
            raise ConnectionLostError(f"verdict {wire.verdict_index} came where {self.next_index} was due")
        entry = self.buffer.settle(wire.sequence)
        if entry is None:
            self._take_back_untold(wire.sequence)
        verdict = verdict_from_wire(wire, entry.packet if entry is not None else None)
        self.next_index += 1
        self.account.add_verdict(verdict)
        self.account.verdicts += 1
        self._since_restart.add_verdict(verdict)
        self.verdicts.append(verdict)
        if self._unacked_since_s is None:
            self._unacked_since_s = now_s

    def _take_back_untold(self, sequence: int) -> None:
        """Correct the count of a packet that was said to be settled before its verdict came."""
        if sequence >= self.next_sequence or self._since_restart.skipped[_UNTOLD] <= 0:
            raise ProtocolError(f"the server judged packet {sequence}, which has its verdict or was never sent")
        self.account.skipped[_UNTOLD] -= 1
        self._since_restart.skipped[_UNTOLD] -= 1

    def _settle_untold(self, through: int) -> None:
        untold = len(self.buffer.settle_through(through))
        self.account.skipped[_UNTOLD] += untold
        self._since_restart.skipped[_UNTOLD] += untold

    def _take_update(self, updated: stream_pb2.ConfigUpdated) -> None:
        self.updated, self.pending_update = updated, None
        if self.accepted is not None:
            self.accepted.config.CopyFrom(updated.config)

    def _close(self, wire: session_pb2.Account) -> None:
        if self._omits:
            self._settle_untold(self.next_sequence)
            theirs = account_from_wire(wire)
            told = self._since_restart.skipped - Counter({_UNTOLD: self._since_restart.skipped[_UNTOLD]})
            self.account.skipped[_UNTOLD] -= self._since_restart.skipped[_UNTOLD]
            self.account.skipped += theirs.skipped - told
        check_closing(self._since_restart, wire, skips_told=not self._omits, whole=self.finished)
        self.closing = account_from_wire(wire)
        self.account.pictures_decoded = self.closing.pictures_decoded
