"""Hold the packets of one channel until a decoder takes them, and shed when decoding is too slow.

Only live channels shed, in the order in which it hurts least. Level 1, decode without converting or running, is decided
after the decoder and not here. Level 2 keeps pictures from the decoder that nothing refers to. Level 3 jumps to the
newest keyframe that waits; when none does, everything goes until one comes. A packet that was shed still needs its
verdict, and the decoder must know what it will miss: both are told by ``take``, in the order in which the packets came.

The bytes of packets that were shed are let go before ``take`` when they are many. So a decoder that is told to drop a
packet without ``data`` must reckon that others refer to it.

Threads: none of this locks; the caller holds one lock around every call. ``now`` is the server's monotonic clock in
seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import LimitError

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet

# While a channel waits for a keyframe it asks for one at most so often.
_REQUEST_INTERVAL_S = 1.0
# Packets sent again after a reconnect, to be decoded only: a group of pictures, and some are long.
_MAX_REPLAYED = 4096
# Packets shed that nobody came to hear of. A camera takes minutes to send so many; a flood ends here.
_MAX_SHED = 8192


class InboxFullError(LimitError):
    """The sender of a channel sent more than it had credit for, or faster than a live channel can be read."""


class ShedLevel(IntEnum):
    """What a channel keeps from its decoder at present."""

    NOTHING = 0
    DISPOSABLE = 2
    TO_KEYFRAME = 3


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """What an inbox bears, and when it sheds.

    Attributes:
        max_packets: Most packets that wait to be decoded and judged.
        max_bytes: Most bytes of theirs; a single packet may be larger. Packets to be decoded only, and shed packets
            whose verdict is due, may take as much again each.
        drop_disposable_after_s: Level 2 begins when the oldest waiting packet is older; it ends at half of that.
        jump_after_s: Level 3 begins when the oldest waiting packet is older; it ends at half of that.
    """

    max_packets: int
    max_bytes: int
    drop_disposable_after_s: float
    jump_after_s: float

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ValueError: One is.
        """
        if self.max_packets < 1 or self.max_bytes < 1:
            raise ValueError(
                f"an inbox needs room for a packet, not {self.max_packets} packets, {self.max_bytes} bytes"
            )
        if not 0 <= self.drop_disposable_after_s <= self.jump_after_s:
            raise ValueError(
                f"0 <= drop_disposable_after_s <= jump_after_s must hold,"
                f" not 0 <= {self.drop_disposable_after_s} <= {self.jump_after_s}"
            )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a decoder is to do next.

    Attributes:
        packet: Decode this; None: nothing waits.
        shed: Before that, drop these for these reasons, in this order.
        keyframe_request: The client is to be asked for a keyframe.
    """

    packet: Packet | None
    shed: list[tuple[Packet, SkipReason]]
    keyframe_request: bool


class Kinds(Protocol):
    """What an inbox must know of packets."""

    def learn(self, packet: Packet) -> None:
        """Take note of a packet that came to a live channel; called for each, in the order of decoding."""
        ...

    def is_disposable(self, packet: Packet) -> bool:
        """Whether no other picture refers to a packet's; asked at most once per packet, of live channels."""
        ...

    def is_keyframe(self, packet: Packet) -> bool:
        """Whether decoding can start at a packet; asked at most once per packet, of live channels."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    packet: Packet
    size_bytes: int
    arrived_s: float
    shed: bool = False
    keyframe: bool | None = None


class Inbox:
    """The packets of one channel that wait for a decoder.

    Args:
        limits: Bounds and thresholds.
        policy: LIVE sheds; EVERY_FRAME never does.
        kinds: Tells which packets can be left out, and at which decoding can start.
    """

    def __init__(self, limits: InboxLimits, policy: DeliveryPolicy, kinds: Kinds) -> None:
        self.limits = limits
        self.policy = policy
        self._kinds = kinds
        self._again = 0
        self._entries: deque[_Entry] = deque()
        # Those among them that are to be decoded and judged.
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._shed = 0
        self._shed_bytes = 0
        self._replayed = 0
        self._replayed_bytes = 0
        self._level = ShedLevel.NOTHING
        self._awaits_keyframe = False
        self._requested_s: float | None = None

    def __len__(self) -> int:
        """How many packets `take` would still hand out, those to be dropped included."""
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes of all packets that are held."""
        return self._waiting_bytes + self._replayed_bytes + self._shed_bytes

    @property
    def level(self) -> ShedLevel:
        """What is kept from the decoder at present."""
        return self._level

    @property
    def awaits_keyframe(self) -> bool:
        """Whether everything is shed until a keyframe comes."""
        return self._awaits_keyframe

    def oldest_wait(self, now: float) -> float:
        """How many seconds the oldest packet that is to be judged and not shed has waited; 0 when there is none."""
        return max(0.0, now - self._waiting[0].arrived_s) if self._waiting else 0.0

    def set_policy(self, policy: DeliveryPolicy) -> None:
        """Change the policy; what was shed before remains shed."""
        self.policy = policy
        if policy is DeliveryPolicy.EVERY_FRAME:
            self._awaits_keyframe = False
            self._level = ShedLevel.NOTHING

    def expect_again(self) -> None:
        """Make room for packets that are sent again, to be judged, because an earlier server's state was lost.

        They are the client's to choose, back to a keyframe, and credits limit them by their bytes alone.
        """
        self._again = _MAX_REPLAYED

    def takes_again(self, size_bytes: int) -> bool:
        """Whether there is room for a packet that is to be decoded only."""
        if not self._replayed:
            return True
        return self._replayed < _MAX_REPLAYED and self._replayed_bytes + size_bytes <= self.limits.max_bytes

    def put(self, packet: Packet, now: float) -> None:
        """Add the next packet. A live channel over its bounds sheds at once.

        Raises:
            InboxFullError: The bounds cannot be kept; the channel must end.
        """
        size = len(packet.data)
        self._admit(packet, size)
        if self.policy is DeliveryPolicy.LIVE:
            self._kinds.learn(packet)
        entry = _Entry(packet, size, now)
        self._entries.append(entry)
        if packet.decode_only:
            self._replayed += 1
            self._replayed_bytes += size
            return
        self._waiting.append(entry)
        self._waiting_bytes += size
        if self._awaits_keyframe:
            if self._is_keyframe(entry):
                self._awaits_keyframe = False
            else:
                self._shed_newest()
        if self._over_bound(len(self._waiting), self._waiting_bytes):
            self._shed_to_bound()

    def take(self, now: float) -> Taken:
        """Take the next packet to decode, and all before it that are to be dropped."""
        if self.policy is DeliveryPolicy.LIVE and not self._awaits_keyframe:
            self._judge_level(now)
        shed: list[tuple[Packet, SkipReason]] = []
        packet: Packet | None = None
        while self._entries and packet is None:
            entry = self._entries.popleft()
            if self._forget(entry, now):
                shed.append((entry.packet, SkipReason.OVERLOAD))
            else:
                packet = entry.packet
        return Taken(packet, shed, self._keyframe_request(now))

    def drain(self) -> list[Packet]:
        """Take everything out, oldest first, what was shed and not yet taken included."""
        packets = [entry.packet for entry in self._entries]
        self._entries.clear()
        self._waiting.clear()
        self._waiting_bytes = self._replayed_bytes = self._shed_bytes = 0
        self._replayed = self._shed = 0
        return packets

    def _admit(self, packet: Packet, size: int) -> None:
        """Refuse a packet for which there is no room and that may not be shed."""
        limits = self.limits
        if packet.decode_only:
            if not self.takes_again(size):
                held = f"{self._replayed} packets to be decoded only, {self._replayed_bytes} bytes"
                allowed = f"{_MAX_REPLAYED} packets, {limits.max_bytes} bytes"
                raise _full(packet, held, allowed)
        elif self.policy is DeliveryPolicy.EVERY_FRAME:
            if self._over_bound(len(self._waiting) + 1, self._waiting_bytes + size):
                held = f"{len(self._waiting)} packets, {self._waiting_bytes} bytes"
                raise _full(packet, held, f"{limits.max_packets + self._again} packets, {limits.max_bytes} bytes")
        elif self._shed >= _MAX_SHED:
            raise _full(packet, f"{self._shed} packets shed and not yet told", f"{_MAX_SHED} packets")

    def _over_bound(self, packets: int, size_bytes: int) -> bool:
        return packets > self.limits.max_packets + self._again or (packets > 1 and size_bytes > self.limits.max_bytes)

    def _forget(self, entry: _Entry, now: float) -> bool:
        """Take an entry that left off the books, and tell whether its packet is to be dropped."""
        if entry.packet.decode_only:
            self._replayed -= 1
            self._replayed_bytes -= entry.size_bytes
            return False
        if entry.shed:
            self._shed -= 1
            self._shed_bytes -= len(entry.packet.data)
            return True
        disposable = self._level >= ShedLevel.DISPOSABLE and self._sheds_disposable(entry.packet)
        self._waiting.popleft()
        self._waiting_bytes -= entry.size_bytes
        if disposable and self.oldest_wait(now) <= self.limits.drop_disposable_after_s / 2:
            self._level = ShedLevel.NOTHING
        return disposable

    def _sheds_disposable(self, packet: Packet) -> bool:
        # The newest one is decoded: where no picture refers to another, all would go otherwise.
        return len(self._waiting) > 1 and self._kinds.is_disposable(packet)

    def _judge_level(self, now: float) -> None:
        """Enter and leave levels by the wait of the oldest packet, and jump where that is due."""
        wait = self.oldest_wait(now)
        limits = self.limits
        if wait > limits.jump_after_s or (self._level is ShedLevel.TO_KEYFRAME and wait > limits.jump_after_s / 2):
            self._level = ShedLevel.TO_KEYFRAME
            if not self._jump() and wait > limits.jump_after_s:
                self._shed_all()
        elif wait > limits.drop_disposable_after_s:
            self._level = ShedLevel.DISPOSABLE
        elif self._level is ShedLevel.TO_KEYFRAME or wait <= limits.drop_disposable_after_s / 2:
            self._level = ShedLevel.DISPOSABLE if wait > limits.drop_disposable_after_s / 2 else ShedLevel.NOTHING

    def _is_keyframe(self, entry: _Entry) -> bool:
        if entry.keyframe is None:
            entry.keyframe = self._kinds.is_keyframe(entry.packet)
        return entry.keyframe

    def _newest_keyframe(self) -> int | None:
        """Find the newest keyframe among those that wait."""
        for index in range(len(self._waiting) - 1, -1, -1):
            if self._is_keyframe(self._waiting[index]):
                return index
        return None

    def _jump(self) -> bool:
        """Shed what waits before the newest keyframe; False when no keyframe waits."""
        index = self._newest_keyframe()
        for _ in range(index or 0):
            self._mark(self._waiting.popleft())
        return index is not None

    def _shed_all(self) -> None:
        """Shed what waits and what comes, until a keyframe comes."""
        while self._waiting:
            self._mark(self._waiting.popleft())
        self._awaits_keyframe = True

    def _shed_newest(self) -> None:
        self._mark(self._waiting.pop())

    def _shed_to_bound(self) -> None:
        """Jump; where that does not help, keep only the keyframe, which waits alone for its decoder."""
        self._level = ShedLevel.TO_KEYFRAME
        if not self._jump():
            self._shed_all()
        elif self._over_bound(len(self._waiting), self._waiting_bytes):
            while len(self._waiting) > 1:
                self._shed_newest()
            self._awaits_keyframe = True

    def _mark(self, entry: _Entry) -> None:
        """Note that a packet is to be dropped; its bytes are let go when too many are held in this way."""
        entry.shed = True
        self._waiting_bytes -= entry.size_bytes
        if self._shed_bytes + entry.size_bytes > self.limits.max_bytes:
            entry.packet = replace(entry.packet, data=b"")
        self._shed += 1
        self._shed_bytes += len(entry.packet.data)

    def _keyframe_request(self, now: float) -> bool:
        if not self._awaits_keyframe:
            return False
        if self._requested_s is not None and now - self._requested_s < _REQUEST_INTERVAL_S:
            return False
        self._requested_s = now
        return True


def _full(packet: Packet, held: str, allowed: str) -> InboxFullError:
    return InboxFullError(
        "INBOX_FULL", f"packet {packet.sequence} finds no room: {held} wait for a decoder; allowed are {allowed}"
    )
