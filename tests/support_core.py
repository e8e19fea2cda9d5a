"""The pure core of the server wired together without threads: every step is a call, in whatever order a test likes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from support_kinds import LetterKinds
from vedette_server.batch.batcher import Batcher
from vedette_server.batch.fair_queue import FairQueue
from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.session.accounts import Account
from vedette_server.session.credits import CreditWindow
from vedette_server.session.inbox import Inbox, InboxLimits
from vedette_server.session.ledger import VerdictLedger
from vedette_server.session.timeline import Timeline

LIMITS = InboxLimits(max_packets=12, max_bytes=1500, drop_disposable_after_s=0.4, jump_after_s=1.0)
LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME
# Pictures of one channel that wait for their turn; one decode and the flush after it give at most two.
PENDING = 4

# A verdict: the place in presentation order, the sequence, and why it was skipped (None: analysed).
Verdict = tuple[int, int, SkipReason | None]
Answer = tuple[Packet, SkipReason | None]


class ReorderingDecoder:
    """Answers as a decoder of I, P and B pictures would: one that others refer to comes out with the next such."""

    def __init__(self) -> None:
        self.broken = True
        self._held: list[Answer] = []

    def decode(self, packet: Packet) -> list[Answer]:
        kind = packet.data[:1].upper()
        self.broken = self.broken and kind != b"K"
        return self._answer(packet, kind, SkipReason.LOST_REFERENCE if self.broken else None)

    def drop(self, packet: Packet, reason: SkipReason) -> list[Answer]:
        kind = packet.data[:1].upper()
        self.broken = self.broken or kind != b"B"
        return self._answer(packet, kind, reason)

    def flush(self) -> list[Answer]:
        held, self._held = self._held, []
        return held

    def _answer(self, packet: Packet, kind: bytes, reason: SkipReason | None) -> list[Answer]:
        if kind == b"B":
            return [(packet, reason)]
        held, self._held = self._held, [(packet, reason)]
        return held


@dataclass(eq=False)
class Frame:
    """A picture on its way through queue and batch."""

    channel: CoreChannel
    place: int
    sequence: int


@dataclass(eq=False)
class CoreChannel:
    """One channel and its client."""

    name: str
    policy: DeliveryPolicy
    weight: int
    replayed: int
    next_sequence: int = 0
    kinds: dict[int, str] = field(default_factory=dict)
    connected: bool = True
    ended: bool = False
    in_flight: int = 0
    places: list[int] = field(default_factory=list)
    wire: list[tuple[int, Verdict]] = field(default_factory=list)
    client: list[tuple[int, Verdict]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox = Inbox(LIMITS, self.policy, LetterKinds())
        self.account = Account(first_sequence=self.replayed)
        self.timeline: Timeline[Verdict] = Timeline()
        self.ledger: VerdictLedger[Verdict] = VerdictLedger(1000)
        self.credits = CreditWindow(
            LIMITS.max_packets, LIMITS.max_bytes, max_packet_bytes=200, next_sequence=self.replayed
        )
        self.known = self.credits.to_tell()
        self.sent_bytes = 0
        self.decoder = ReorderingDecoder()

    def may_send(self, size: int) -> bool:
        assert self.known is not None
        return self.policy is LIVE or (
            self.next_sequence <= self.known.send_through_sequence
            and self.sent_bytes + size <= self.known.send_through_bytes
        )

    def arrive(self, kind: str, size: int, now: float) -> None:
        sequence = self.next_sequence
        self.next_sequence += 1
        decode_only = sequence < self.replayed
        if sequence == 0:
            kind = "K"
        packet = Packet(sequence, kind.encode().ljust(size, b"."), keyframe=kind == "K", decode_only=decode_only)
        self.kinds[sequence] = kind
        self.sent_bytes += len(packet.data)
        if decode_only:
            self.account.receive_decode_only(sequence, len(packet.data))
        else:
            self.account.receive(sequence, len(packet.data))
        if self.policy is EVERY_FRAME:
            self.credits.received(sequence, len(packet.data))
        self.inbox.put(packet, now)

    def settle(self, place: int, sequence: int, reason: SkipReason | None) -> None:
        for verdict in self.timeline.settle(place, (place, sequence, reason)):
            if verdict[2] is None:
                self.account.analyse(verdict[1])
            else:
                self.account.skip(verdict[1], verdict[2])
            self.ledger.append(verdict)
            self.account.number_verdict()

    def take(self, now: float) -> list[Answer]:
        """Let the decoder do the next thing that waits."""
        taken = self.inbox.take(now)
        answers: list[Answer] = []
        for packet, reason in taken.shed:
            answers += self.decoder.drop(packet, reason)
        if taken.packet is not None:
            if self.policy is EVERY_FRAME:
                self.credits.taken(len(taken.packet.data))
                self.known = self.credits.to_tell() or self.known
            answers += self.decoder.decode(taken.packet)
        return [answer for answer in answers if not answer[0].decode_only]

    def send(self, limit: int) -> None:
        if self.connected:
            self.wire += self.ledger.unsent(limit)

    def deliver(self, count: int) -> None:
        """Let part of what is on the wire reach the client."""
        self.client += self.wire[:count]
        del self.wire[:count]

    def acknowledge(self) -> None:
        if self.connected and self.client:
            self.ledger.acknowledge(self.client[-1][0])

    def disconnect(self) -> None:
        self.connected = False
        self.wire.clear()

    def resume(self) -> None:
        following = self.client[-1][0] + 1 if self.client else 0
        self.ledger.acknowledge(following - 1)
        self.ledger.rewind(following)
        self.connected = True


class Core:
    """Several channels, one engine."""

    def __init__(self, channels: list[CoreChannel], max_batch: int) -> None:
        self.channels = channels
        self.queue: FairQueue[Frame] = FairQueue()
        self.batcher: Batcher[Frame] = Batcher(max_batch, max_wait_s=0.2)
        self.now = 50.0
        # Per channel with something pending: the picks of each other channel since it was last served.
        self.passed_over: dict[str, Counter[str]] = {}
        for channel in channels:
            self.queue.add(channel.name, channel.weight, channel.policy is LIVE, PENDING)

    def decode(self, channel: CoreChannel) -> None:
        if channel.ended or self.queue.pending(channel.name) > PENDING - 2:
            return
        self._offer(channel, channel.take(self.now))

    def _offer(self, channel: CoreChannel, answers: list[Answer]) -> None:
        for packet, reason in answers:
            place = channel.timeline.open()
            channel.places.append(packet.sequence)
            if reason is not None:
                channel.settle(place, packet.sequence, reason)
                continue
            channel.account.decode_picture()
            displaced = self.queue.offer(channel.name, Frame(channel, place, packet.sequence))
            if displaced is not None:
                assert channel.policy is LIVE
                channel.settle(displaced.place, displaced.sequence, SkipReason.SUPERSEDED)
            self.passed_over.setdefault(channel.name, Counter())

    def pick(self) -> None:
        picked = self.queue.pick()
        if picked is None:
            return
        key, frame = picked
        assert key == frame.channel.name
        self.passed_over.pop(frame.channel.name)
        if self.queue.pending(key):
            self.passed_over[frame.channel.name] = Counter()
        for others in self.passed_over.values():
            others[frame.channel.name] += 1
        frame.channel.in_flight += 1
        self.batcher.put(frame, self.now)

    def run(self, *, works: bool) -> None:
        self.finish(self.batcher.take(self.now), works=works)

    def finish(self, batch: list[Frame], *, works: bool) -> None:
        for frame in reversed(batch):  # as they please
            frame.channel.in_flight -= 1
            frame.channel.settle(frame.place, frame.sequence, None if works else SkipReason.ENGINE_ERROR)

    def end(self, channel: CoreChannel, reason: SkipReason) -> None:
        """End a channel now: what has no verdict gets the reason, but what runs in an engine is waited for."""
        if channel.ended:
            return
        channel.ended = True
        self.passed_over.pop(channel.name, None)
        for frame in self.queue.remove(channel.name):
            channel.settle(frame.place, frame.sequence, reason)
        answers = channel.decoder.flush() + [(packet, reason) for packet in channel.inbox.drain()]
        for packet, why in answers:
            if not packet.decode_only:
                channel.places.append(packet.sequence)
                channel.settle(channel.timeline.open(), packet.sequence, why or reason)

    def finish_stream(self, channel: CoreChannel) -> None:
        """Decode what is left and wait for all of it."""
        while not channel.ended and len(channel.inbox):
            self.decode(channel)
            self.pick()
            self.finish(self.batcher.drain(), works=True)
        while not channel.ended and not self.queue.has_room(channel.name):
            self.pick()
        if not channel.ended:
            self._offer(channel, [answer for answer in channel.decoder.flush() if not answer[0].decode_only])

    def wait_is_bounded(self, channel: CoreChannel) -> bool:
        """Whether no other channel was picked more often than the bound of the fair queue says, since our last turn."""
        by_name = {other.name: other for other in self.channels}

        def bound(other: CoreChannel) -> Fraction:
            # Only a fresher live picture passes a live one, for two turns of the one that waits at most.
            turns = 3 if channel.policy is LIVE and other.policy is LIVE else 1
            return turns * Fraction(other.weight, channel.weight) + 1 + Fraction(1, 1000)

        passed = self.passed_over.get(channel.name, Counter())
        return all(count <= bound(by_name[other]) for other, count in passed.items())
