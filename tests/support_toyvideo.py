"""Packets for the toy codec of `support_fakeserver`: open and closed groups, B pictures, stills."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vedette.v1 import media_pb2
from vedette_client.sources.base import SourceFormat, SourcePacket

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = SourceFormat(codec=media_pb2.CODEC_H264, extradata=b"", time_base=Fraction(1, 10), width=200, height=100)
STILLS = SourceFormat(codec=media_pb2.CODEC_JPEG, extradata=b"", time_base=Fraction(1, 10), width=200, height=100)


def packet(pts: int, refs: tuple[int, ...], *, keyframe: bool = False, padding: int = 0) -> SourcePacket:
    data = f"{pts}:{','.join(map(str, refs))};".encode() + b"x" * padding
    return SourcePacket(data=data, pts=pts, dts=None, duration=1, keyframe=keyframe)


def video(groups: int = 4, length: int = 9, *, b_pictures: int = 2, open_groups: bool = True) -> list[SourcePacket]:
    """Write groups in decoding order: each anchor refers to the one before, B pictures to both neighbours.

    With open groups the B pictures before a keyframe refer to the last anchor of the group before.
    """
    packets: list[SourcePacket] = []
    anchor: int | None = None
    step = b_pictures + 1
    for group in range(groups):
        start = group * length
        anchors = list(range(start, start + length, step))
        for position, pts in enumerate(anchors):
            is_key = position == 0
            before = anchor
            packets.append(packet(pts, () if is_key or before is None else (before,), keyframe=is_key))
            if before is not None and (open_groups or not is_key):
                packets += [packet(b, (before, pts)) for b in range(before + 1, pts)]
            anchor = pts
        if not open_groups:
            last = anchors[-1]
            for pts in range(last + 1, start + length):
                packets.append(packet(pts, (last,)))
                last = pts
            anchor = last
    return packets


def stills(count: int) -> list[SourcePacket]:
    return [packet(pts, (), keyframe=True) for pts in range(count)]


class ListSource:
    """A source that has its packets already."""

    def __init__(self, packets: list[SourcePacket], video: SourceFormat = FORMAT, *, live: bool = False) -> None:
        self.name = "list"
        self.live = live
        self.closed = 0
        self._packets = packets
        self._format = video

    def open(self) -> SourceFormat:
        return self._format

    def packets(self) -> Iterator[SourcePacket]:
        yield from self._packets

    def close(self) -> None:
        self.closed += 1
