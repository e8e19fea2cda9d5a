"""Tell what a packet is without decoding it.

For shedding (which packets may be left out), for the packet inbox (where decoding can start) and for
the decoder. A reader remembers parameter sets, so each consumer that sees another selection of the
packets has one of its own. Costs tens of microseconds a packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.format import Codec
from vedette_server.decode.bitstream.av1 import Av1Headers
from vedette_server.decode.bitstream.h264 import H264Headers
from vedette_server.decode.bitstream.hevc import HevcHeaders
from vedette_server.decode.bitstream.mpeg4 import Mpeg4Headers
from vedette_server.decode.bitstream.vp9 import Vp9Headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.decode.bitstream.unit import AccessUnit, HeaderReader

_READERS: dict[Codec, Callable[[bytes], HeaderReader]] = {
    Codec.H264: H264Headers,
    Codec.HEVC: HevcHeaders,
    Codec.AV1: Av1Headers,
    Codec.VP9: Vp9Headers,
    Codec.MPEG4: Mpeg4Headers,
}


def open_reader(codec: Codec, extradata: bytes = b"") -> HeaderReader:
    """Begin to read the headers of one stream, in decoding order.

    Args:
        codec: A video codec; not a still or raw one.
        extradata: The stream's decoder configuration, or nothing.

    Raises:
        KeyError: The codec is no video codec.
    """
    return _READERS[codec](extradata)


def inspect(codec: Codec, data: bytes, extradata: bytes = b"") -> AccessUnit:
    """Read the headers of one packet on its own.

    What parameter sets in other packets say is not known: ``open_reader`` is for streams.
    """
    return open_reader(codec, extradata).read(data)
