"""Tell which packets a slow decoder may leave out, and at which one it can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.bitstream.inspect import open_reader

if TYPE_CHECKING:
    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet


class PacketKinds:
    """What shedding must know of the packets of one stream.

    Reads headers only where it is asked, so it must be shown the packets that may carry parameter sets
    (`learn`): without those it knows little, and what it cannot read it takes for needed. Parameter sets
    that hold for later packets than the one that is asked about may be in force by then; a mistake costs
    that picture and those that refer to it, as any loss does, and the decoder finds out by itself.

    Args:
        fmt: The coding of the stream.
    """

    def __init__(self, fmt: VideoFormat) -> None:
        self._codec = fmt.codec
        self._reader = None if fmt.codec.is_intra else open_reader(fmt.codec, fmt.extradata)

    def learn(self, packet: Packet) -> None:
        """Take the parameter sets out of a packet, where it may have some."""
        if self._reader is None or not (packet.keyframe or packet.extradata):
            return
        if packet.extradata:
            self._reader = open_reader(self._codec, packet.extradata)
        self._reader.read(packet.data)

    def is_disposable(self, packet: Packet) -> bool:
        """Whether no other picture refers to the packet's."""
        return self._reader is None or self._reader.read(packet.data).disposable

    def is_keyframe(self, packet: Packet) -> bool:
        """Whether decoding can start at the packet, as its sender or its headers say."""
        return packet.keyframe or self._reader is None or self._reader.read(packet.data).keyframe
