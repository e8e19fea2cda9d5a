"""Sent packets, kept back to the keyframe from which decoding may have to start again.

Pure code, one thread. A packet is *settled* when its verdict has come. Packets stand in groups: a
keyframe and what follows it. A server that lost its memory must be able to decode every packet that is
not settled, and every one to come; so a group is dropped only when the next one is a safe start:

- everything before its keyframe is settled;
- every packet that follows the keyframe but is shown before it (a leading picture of an open group,
  ITU-T H.265 3.81) is settled, because it may refer to the group before;
- no more of those can come, because a packet shown after the keyframe was seen (leading pictures precede
  trailing ones in decoding order, ITU-T H.265 8.3.1), or because another keyframe was.

Where packets have no PTS, every packet of a group may be a leading one, and one more group is kept.

The bound counts what is not settled: it is never evicted, it makes the buffer `full`. Settled packets
above the bound are evicted from the front, and with them the chance to start again in that group.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_client.sources.base import SourcePacket

_REORDERED = 32
"""A decoder may hold so many packets before it gives the first picture; fewer may never be `full`."""


@dataclass(slots=True)
class Kept:
    """One packet that was numbered.

    Attributes:
        sequence: Its number within the session.
        packet: The packet.
        dropped_before: Packets that the client dropped before this one, unnumbered.
        discontinuity: It does not continue the one before it.
        extradata_before: The newest decoder configuration before this packet, where it changed in mid-stream.
        settled: Its verdict has come.
        group: The group that it stands in.
        leading: It may be shown before its group's keyframe.
    """

    sequence: int
    packet: SourcePacket
    dropped_before: int = 0
    discontinuity: bool = False
    extradata_before: bytes | None = None
    settled: bool = False
    group: Group | None = None
    leading: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """A keyframe and the packets that follow it.

    Attributes:
        pts: The keyframe's presentation time; None when unknown.
        entries: Its packets, in decoding order.
        unsettled: How many of them are not settled.
        leading_unsettled: How many of those may refer to the group before.
        trailing_seen: No more leading packets will come.
        startable: Decoding can start at its first packet, or no earlier start was ever sent.
    """

    pts: int | None
    entries: deque[Kept] = field(default_factory=deque)
    unsettled: int = 0
    leading_unsettled: int = 0
    trailing_seen: bool = False
    startable: bool = True


class ReplayBuffer:
    """The packets that a resume may need.

    Args:
        max_packets: Bound of the packets kept.
        max_bytes: Bound of their bytes.
        intra: No packet refers to another (stills, raw pictures).
    """

    def __init__(self, max_packets: int, max_bytes: int, *, intra: bool = False) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._intra = intra
        self._groups: deque[Group] = deque()
        self._by_sequence: dict[int, Kept] = {}
        self._bytes = 0
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._begun = False

    def __len__(self) -> int:
        return len(self._by_sequence)

    @property
    def bytes(self) -> int:
        """Bytes of all packets kept."""
        return self._bytes

    @property
    def unsettled(self) -> int:
        """Packets that have no verdict yet."""
        return self._unsettled

    @property
    def full(self) -> bool:
        """Whether no further packet may be sent before a verdict comes."""
        if self._unsettled >= self._max_packets:
            return True
        return self._unsettled_bytes >= self._max_bytes and self._unsettled >= (1 if self._intra else _REORDERED)

    def append(self, entry: Kept) -> None:
        """Keep a packet that is about to be sent."""
        packet = entry.packet
        if self._intra or packet.keyframe or not self._groups:
            if self._groups:
                self._groups[-1].trailing_seen = True
            startable = self._intra or packet.keyframe or not self._begun
            self._groups.append(Group(packet.pts, trailing_seen=self._intra, startable=startable))
            self._begun = True
        group = self._groups[-1]
        entry.group = group
        if group.entries or (packet.pts is None and not self._intra):
            entry.leading = packet.pts is None or group.pts is None or packet.pts < group.pts
            group.trailing_seen = group.trailing_seen or not entry.leading
        group.entries.append(entry)
        self._by_sequence[entry.sequence] = entry
        self._bytes += len(packet.data)
        self._unsettled += 1
        self._unsettled_bytes += len(packet.data)
        group.unsettled += 1
        group.leading_unsettled += entry.leading
        self._prune()

    def settle(self, sequence: int) -> Kept | None:
        """Note that a packet has its verdict; None when it had one already, or was never kept."""
        entry = self._by_sequence.get(sequence)
        if entry is None or entry.settled:
            return None
        self._settle(entry)
        self._prune()
        return entry

    def settle_through(self, sequence: int) -> list[Kept]:
        """Note that every packet up to and including this one has its verdict; return those that are new."""
        settled: list[Kept] = []
        for group in self._groups:
            if group.entries[0].sequence > sequence:
                break
            settled += [entry for entry in group.entries if entry.sequence <= sequence and not entry.settled]
        for entry in settled:
            self._settle(entry)
        self._prune()
        return settled

    def from_sequence(self, sequence: int) -> list[Kept]:
        """List the packets from this number on, in decoding order."""
        return [entry for group in self._groups for entry in group.entries if entry.sequence >= sequence]

    def from_start(self) -> tuple[list[Kept], list[Kept]]:
        """Choose what to send to a decoder that holds nothing.

        Returns:
            The packets to send, from a keyframe on, and those without a verdict that no longer can be
            decoded: their keyframe was evicted. The latter are settled, and nothing of their group is kept.
        """
        lost: list[Kept] = []
        while self._groups and not self._groups[0].startable:
            group = self._groups.popleft()
            unsettled = [entry for entry in group.entries if not entry.settled]
            for entry in unsettled:
                self._settle(entry)
            lost += unsettled
            self._forget(group)
        return self.from_sequence(0), lost

    def take_unsettled(self) -> list[Kept]:
        """Settle and return every packet that has no verdict: the session is over."""
        unsettled = [entry for entry in self.from_sequence(0) if not entry.settled]
        for entry in unsettled:
            self._settle(entry)
        return unsettled

    def _settle(self, entry: Kept) -> None:
        entry.settled = True
        self._unsettled -= 1
        self._unsettled_bytes -= len(entry.packet.data)
        if entry.group is not None:
            entry.group.unsettled -= 1
            entry.group.leading_unsettled -= entry.leading

    def _prune(self) -> None:
        groups = self._groups
        while len(groups) > 1 and groups[0].unsettled == 0 and self._is_safe(groups[1]):
            self._forget(groups.popleft())
        while groups and self._is_over() and groups[0].entries[0].settled:
            self._evict_first(groups[0])

    def _is_safe(self, group: Group) -> bool:
        return group.trailing_seen and group.leading_unsettled == 0

    def _is_over(self) -> bool:
        return len(self._by_sequence) > self._max_packets or self._bytes > self._max_bytes

    def _evict_first(self, group: Group) -> None:
        group.startable = False
        self._drop(group.entries.popleft())
        if not group.entries:
            self._groups.popleft()

    def _forget(self, group: Group) -> None:
        for entry in group.entries:
            self._drop(entry)
        group.entries.clear()

    def _drop(self, entry: Kept) -> None:
        del self._by_sequence[entry.sequence]
        self._bytes -= len(entry.packet.data)
        entry.group = None
