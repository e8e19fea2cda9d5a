"""Keep the latest packets of one channel as they came, so that a clip can begin before its event.

The bytes are never copied: clips under way read the same entries. What is kept always begins at a keyframe. Two
bounds: of seconds, beyond which whole groups of pictures go as soon as what is left still covers them; and of bytes,
which is hard, so that a stream with one keyframe an hour cannot hold more.

Threads: one at a time feeds; any may read. `feed` does no I/O and waits for nothing but a short lock.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from vedette_server.data.format import Codec
from vedette_server.decode.bitstream.inspect import open_reader

if TYPE_CHECKING:
    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet
    from vedette_server.decode.bitstream.unit import HeaderReader

# What a packet of a few bytes takes nonetheless.
OVERHEAD_BYTES = 400
# NAL unit types of parameter sets, and of the delimiter that may stand before them.
_PARAMETERS = {Codec.H264: frozenset({7, 8}), Codec.HEVC: frozenset({32, 33, 34})}
_DELIMITER = {Codec.H264: 9, Codec.HEVC: 35}
_LONGEST_DELIMITER_BYTES = 16


# Not frozen: that would take longer than all else that is done with a packet.
@dataclass(slots=True)
class Kept:
    """One packet in the ring; nobody changes it.

    Attributes:
        index: Counts the ring's packets, without gaps.
        packet: The packet, not to be changed.
        fmt: The format in force.
        time_s: When it was taken, seconds since the epoch.
        keyframe: Decoding can start here.
        generation: Packets of another one have other parameters: they cannot stand in one file.
        gap: It does not continue the packet before it.
        extradata: The decoder configuration in force.
        parameters: Parameter sets in force that came in the stream, framed as its packets; of a keyframe that brings
            none itself.
    """

    index: int
    packet: Packet
    fmt: VideoFormat
    time_s: float
    keyframe: bool
    generation: int
    gap: bool
    extradata: bytes
    parameters: bytes

    @property
    def decode_s(self) -> float:
        """When it has to be decoded, on the clock of `time_s`: nothing that follows is shown earlier."""
        packet = self.packet
        if packet.pts is None or packet.dts is None:
            return self.time_s
        return self.time_s - float((packet.pts - packet.dts) * self.fmt.time_base)


class PacketRing:
    """The latest packets of one channel.

    Args:
        max_s: So many seconds can be gone back.
        max_bytes: Never holds more, what packets take beside their data included.
    """

    def __init__(self, max_s: float, max_bytes: int) -> None:
        if max_s < 0 or max_bytes < 1:
            raise ValueError(f"a ring of {max_s} s and {max_bytes} bytes; allowed are 0 s and 1 byte and up")
        self._max_s = max_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: deque[Kept] = deque()
        self._keys: deque[Kept] = deque()
        self._bytes = 0
        self._next = 0
        self._dropped = 0
        self._generation = 0
        self._fmt: VideoFormat | None = None
        self._extradata = b""
        self._parameters = b""
        self._reader: HeaderReader | None = None
        self._awaits_keyframe = True
        self._gap = True
        self._last_sequence = -1
        self._session_from = 0
        self._closed = False
        self._over = False

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """How many packets were not kept: no keyframe came before them, or one group of pictures is too large."""
        return self._dropped

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    @property
    def over(self) -> bool:
        """Whether the session is over: nothing comes until another begins."""
        return self._over

    @property
    def span_s(self) -> float:
        """How far it goes back."""
        with self._lock:
            return self._kept[-1].time_s - self._kept[0].time_s if self._kept else 0.0

    def begin(self, fmt: VideoFormat) -> None:
        """Take the format of the packets that follow: those of a new session. What is kept stays."""
        with self._lock:
            if fmt != self._fmt:
                self._generation += 1
                self._parameters = b""
            self._fmt = fmt
            self._set_extradata(fmt.extradata)
            self._awaits_keyframe = self._gap = True
            self._last_sequence = -1
            self._session_from = self._next
            self._over = False

    def end(self) -> None:
        """Take note that the session is over."""
        self._over = True

    def feed(self, packet: Packet, *, keyframe: bool | None = None, time_s: float | None = None) -> None:
        """Keep one packet; one that was sent again is known by its sequence and left out.

        Args:
            packet: The packet, in decoding order.
            keyframe: Decoding can start here, where that is known better than the client says it.
            time_s: When it was taken, seconds since the epoch; None: its capture time, or its receipt.

        Raises:
            ValueError: The format is not known yet: call `begin` first.
        """
        fmt = self._fmt
        if fmt is None:
            raise ValueError("the ring does not know the format; call begin() before feed()")
        if time_s is None:
            time_s = (packet.received_wall_ns if packet.capture_wall_ns is None else packet.capture_wall_ns) / 1e9
        with self._lock:
            if packet.sequence <= self._last_sequence or self._closed:
                return
            self._last_sequence = packet.sequence
            self._renew(packet)
            key, own = self._look(packet, fmt, keyframe)
            if self._awaits_keyframe and not key:
                self._dropped += 1
                return
            self._awaits_keyframe = False
            parameters = self._parameters if key and not own else b""
            kept = Kept(self._next, packet, fmt, time_s, key, self._generation, self._gap, self._extradata, parameters)
            self._gap = False
            self._next += 1
            self._append(kept)

    def find_start(self, at_s: float, pre_s: float) -> int:
        """Find the packet that a clip begins with.

        Args:
            at_s: When its event began.
            pre_s: How long before that it begins.

        Returns:
            Index of the keyframe at or before `at_s - pre_s`, or the oldest there is; never one with other parameters
            than the event's. Where nothing is kept, the index of the next packet.
        """
        with self._lock:
            if not self._keys:
                return self._next
            event = next((key for key in reversed(self._keys) if key.time_s <= at_s), self._keys[0])
            chosen = event
            for key in reversed(self._keys):
                if key.generation != event.generation or key.index > event.index:
                    continue
                if key.time_s > event.time_s:
                    # Of another session, whose time was later.
                    break
                chosen = key
                if key.time_s <= at_s - pre_s:
                    break
            return chosen.index

    def index_of(self, sequence: int) -> int | None:
        """Find a packet of the session that is on, by its number; None: it is not held (any more)."""
        with self._lock:
            for kept in reversed(self._kept):
                if kept.index < self._session_from:
                    return None
                if kept.packet.sequence == sequence:
                    return kept.index
        return None

    def latest(self) -> Kept | None:
        """Return the packet that came last; None: nothing is held."""
        with self._lock:
            return self._kept[-1] if self._kept else None

    def keyframe_before(self, index: int) -> int:
        """Return the index of the last keyframe at or before a packet; the oldest there is where there is none."""
        with self._lock:
            for key in reversed(self._keys):
                if key.index <= index:
                    return key.index
            return self._keys[0].index if self._keys else self._next

    def read(self, index: int, limit: int) -> list[Kept]:
        """Return at most `limit` packets from an index on; from the oldest one on where that is newer."""
        with self._lock:
            if not self._kept or limit <= 0:
                return []
            skip = max(index - self._kept[0].index, 0)
            return list(islice(self._kept, skip, skip + limit))

    def close(self) -> None:
        """Take nothing any more; what is kept can still be read. May be called twice."""
        self._closed = True

    def clear(self) -> None:
        """Forget all packets: the channel may keep nothing any more."""
        with self._lock:
            self._kept.clear()
            self._keys.clear()
            self._bytes = 0
            self._awaits_keyframe = self._gap = True

    def _set_extradata(self, extradata: bytes) -> None:
        self._extradata = extradata
        fmt = self._fmt
        self._reader = None if fmt is None or fmt.codec.is_intra else open_reader(fmt.codec, extradata)

    def _renew(self, packet: Packet) -> None:
        """Take note of new extradata and of a discontinuity."""
        if packet.extradata is not None and packet.extradata != self._extradata:
            self._generation += 1
            self._set_extradata(packet.extradata)
            self._parameters = b""
            self._awaits_keyframe = self._gap = True
        if packet.discontinuity:
            self._awaits_keyframe = self._gap = True

    def _look(self, packet: Packet, fmt: VideoFormat, keyframe: bool | None) -> tuple[bool, bool]:
        """Tell whether decoding can start at a packet, and whether it brings its parameter sets.

        Only keyframes, and packets that begin as parameter sets do, are read: most packets cost a look at one byte.
        """
        if self._reader is None:
            return True, True
        claimed = packet.keyframe if keyframe is None else keyframe
        if not claimed and not _leads_with_parameters(fmt.codec, packet.data):
            return False, False
        unit = self._reader.read(packet.data)
        if unit.parameters and unit.parameters != self._parameters:
            if self._parameters and unit.keyframe:
                self._generation += 1
            self._parameters = unit.parameters
        return (unit.keyframe if keyframe is None else keyframe), bool(unit.parameters)

    def _append(self, kept: Kept) -> None:
        size = len(kept.packet.data) + OVERHEAD_BYTES
        self._kept.append(kept)
        if kept.keyframe:
            self._keys.append(kept)
        self._bytes += size
        while self._bytes > self._max_bytes and self._kept:
            self._drop_first_group(lost=True)
        while len(self._keys) > 1 and self._is_old(self._keys[1], kept):
            self._drop_first_group(lost=False)

    def _is_old(self, key: Kept, newest: Kept) -> bool:
        """Tell whether a keyframe lies so far back, by both clocks, that nothing before it is needed."""
        received_s = newest.packet.received_s - key.packet.received_s
        return abs(newest.time_s - key.time_s) >= self._max_s and (received_s >= self._max_s or not received_s)

    def _drop_first_group(self, *, lost: bool) -> None:
        """Drop the packets before the second keyframe; where there is none, all."""
        until = self._keys[1].index if len(self._keys) > 1 else self._next
        if lost and len(self._keys) <= 1:
            # What follows cannot be decoded without what is dropped here.
            self._dropped += len(self._kept)
            self._awaits_keyframe = self._gap = True
        self._keys.popleft()
        while self._kept and self._kept[0].index < until:
            self._bytes -= len(self._kept.popleft().packet.data) + OVERHEAD_BYTES


def _leads_with_parameters(codec: Codec, data: bytes) -> bool:
    """Look at the first NAL unit's type, and at the second's where the first is a delimiter.

    Both framings have the first header behind four bytes, or three; a delimiter in front has start codes.
    """
    types = _PARAMETERS.get(codec)
    if types is None or len(data) < 6:
        return False
    kind = _kind(codec, data[3] if data.startswith(b"\0\0\1") else data[4])
    if kind == _DELIMITER[codec]:
        at = data.find(b"\0\0\1", 4, _LONGEST_DELIMITER_BYTES) + 3
        return 3 <= at < len(data) and _kind(codec, data[at]) in types
    return kind in types


def _kind(codec: Codec, header: int) -> int:
    """Return a NAL unit's type, from the first byte of its header."""
    return header & 31 if codec is Codec.H264 else header >> 1 & 63
