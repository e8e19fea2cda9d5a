"""Tell which packets a slow decoder may leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.bitstream.inspect import open_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet


def is_disposable(fmt: VideoFormat) -> Callable[[Packet], bool]:
    """Return a test for packets of one stream whose picture no other one refers to.

    The test must see the packets that carry parameter sets; what it cannot read it takes for needed.
    """
    if fmt.codec.is_intra:
        return lambda _: True
    reader = open_reader(fmt.codec, fmt.extradata)
    return lambda packet: reader.read(packet.data).disposable
