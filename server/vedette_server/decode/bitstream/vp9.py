"""Read the headers of VP9 (VP9 Bitstream & Decoding Process Specification, clause 6.2 and annex B).

A packet is one frame, or a superframe: hidden frames and one that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.unit import AccessUnit

_SYNC = 0x498342
_RGB = 7
_HEADER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Vp9Frame:
    """One frame of a packet.

    Attributes:
        key: A key frame: everything starts anew.
        shown: It is shown.
        refresh: Which of the eight reference slots it fills, as bits.
        resilient: It takes over nothing from the frame before it but its references: neither
            probabilities nor motion vectors.
        width: In pixels; 0 when it has its size from a reference.
        height: In pixels; 0 when it has its size from a reference.
    """

    key: bool
    shown: bool
    refresh: int
    resilient: bool
    width: int = 0
    height: int = 0


class Vp9Headers:
    """Reads the headers of a VP9 stream; it has no extradata."""

    def __init__(self, extradata: bytes = b"") -> None:
        del extradata  # `vpcC` repeats what the frames say.

    def read(self, data: bytes) -> AccessUnit:
        """Read the headers of one packet."""
        unit = AccessUnit()
        try:
            frames = tuple(_read_frame(data, first) for first in _frames_of(data))
        except HeaderError as exc:
            unit.error = str(exc)
            return unit
        unit.vp9 = frames
        unit.shows_picture = any(frame.shown for frame in frames)
        unit.keyframe = frames[0].key
        # A frame that is not resilient leaves motion vectors and probabilities to the next.
        unit.disposable = all(frame.refresh == 0 and frame.resilient for frame in frames)
        unit.width = max(frame.width for frame in frames)
        unit.height = max(frame.height for frame in frames)
        return unit


def _frames_of(data: bytes) -> list[int]:
    """Find where the frames of a packet begin (annex B)."""
    if not data:
        raise HeaderError("the packet is empty")
    marker = data[-1]
    size = 2 + (marker >> 3 & 3) * ((marker & 7) + 1) + (marker & 7) + 1
    if marker & 0xE0 != 0xC0 or len(data) < size or data[-size] != marker:
        return [0]
    width = (marker >> 3 & 3) + 1
    starts: list[int] = []
    first = 0
    for at in range(len(data) - size + 1, len(data) - 1, width):
        length = int.from_bytes(data[at : at + width], "little")
        if length:
            starts.append(first)
        first += length
    if not starts or first > len(data) - size:
        raise HeaderError("the frames of a superframe are longer than the packet")
    return starts


def _read_frame(data: bytes, first: int) -> Vp9Frame:
    bits = BitReader(data[first : first + _HEADER_BYTES])
    if bits.u(2) != 2:
        raise HeaderError("the bytes are no VP9 frame")
    profile = bits.u(1) + 2 * bits.u(1)
    if profile == 3:
        bits.skip(1)
    if bits.u(1):
        return Vp9Frame(key=False, shown=True, refresh=0, resilient=False)
    key, shown, resilient = not bits.u(1), bool(bits.u(1)), bool(bits.u(1))
    if key:
        _read_sync(bits)
        _read_colors(bits, profile)
        return Vp9Frame(True, shown, 0xFF, resilient, bits.u(16) + 1, bits.u(16) + 1)
    intra = False if shown else bool(bits.u(1))
    bits.skip(0 if resilient else 2)
    if intra:
        _read_sync(bits)
        if profile:
            _read_colors(bits, profile)
        return Vp9Frame(False, shown, bits.u(8), resilient, bits.u(16) + 1, bits.u(16) + 1)
    refresh = bits.u(8)
    bits.skip(12)
    if bits.u(1) or bits.u(1) or bits.u(1):
        return Vp9Frame(False, shown, refresh, resilient)
    return Vp9Frame(False, shown, refresh, resilient, bits.u(16) + 1, bits.u(16) + 1)


def _read_sync(bits: BitReader) -> None:
    if bits.u(24) != _SYNC:
        raise HeaderError("the sync code of a VP9 frame is wrong")


def _read_colors(bits: BitReader, profile: int) -> None:
    bits.skip(1 if profile >= 2 else 0)
    if bits.u(3) == _RGB:
        bits.skip(1 if profile in {1, 3} else 0)
    else:
        bits.skip(1 + (3 if profile in {1, 3} else 0))
