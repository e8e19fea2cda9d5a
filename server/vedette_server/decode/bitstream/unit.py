"""What the headers of one packet tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.av1 import Av1Frame
    from vedette_server.decode.bitstream.h264 import H264Slice
    from vedette_server.decode.bitstream.hevc import HevcSlice
    from vedette_server.decode.bitstream.mpeg4 import Mpeg4Vop
    from vedette_server.decode.bitstream.vp9 import Vp9Frame


@dataclass(slots=True)
class AccessUnit:
    """One packet, as its headers describe it.

    Attributes:
        keyframe: Decoding can start here; with gradual refresh (H.264) whole pictures come a little later.
        disposable: No other packet needs this one: leaving it out changes no other picture.
        shows_picture: Whether a picture comes of it; None when the headers do not tell.
        width: Width in pixels of the pictures that the headers in force describe; 0 when unknown.
        height: Their height; 0 when unknown.
        error: In words, what is wrong with the bytes; empty when the headers are whole.
        parameters: The parameter sets in it, framed as the packet is; empty when there are none.
        h264: The first slice of an H.264 picture.
        hevc: The first slice of an HEVC picture.
        av1: The frames of an AV1 temporal unit, in order.
        vp9: The frames of a VP9 superframe, in order.
        mpeg4: The first VOP of an MPEG-4 packet.
    """

    keyframe: bool = False
    disposable: bool = False
    shows_picture: bool | None = None
    width: int = 0
    height: int = 0
    error: str = ""
    parameters: bytes = b""
    h264: H264Slice | None = None
    hevc: HevcSlice | None = None
    av1: tuple[Av1Frame, ...] = ()
    vp9: tuple[Vp9Frame, ...] = ()
    mpeg4: Mpeg4Vop | None = None


class HeaderReader(Protocol):
    """Reads the headers of the packets of one stream, in decoding order.

    Remembers parameter sets. Never raises for bad bytes: they end in ``AccessUnit.error``.
    """

    def read(self, data: bytes) -> AccessUnit:
        """Read the headers of one packet."""
        ...
