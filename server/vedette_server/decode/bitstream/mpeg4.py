"""Read the headers of MPEG-4 part 2 (ISO/IEC 14496-2, clause 6.2)."""

from __future__ import annotations

from dataclasses import dataclass

from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.unit import AccessUnit

_START = b"\0\0\1"
_GROUP, _VOP = 0xB3, 0xB6
_I, _B = 0, 2
_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Mpeg4Vop:
    """The first VOP of a packet.

    Attributes:
        intra: It refers to no other.
        bidirectional: A B-VOP: it refers to two, and none refers to it.
        time: When it is shown, in ticks of ``resolution`` per second.
        resolution: Ticks per second.
        low_delay: The stream has no B-VOPs.
    """

    intra: bool
    bidirectional: bool
    time: int
    resolution: int
    low_delay: bool


class Mpeg4Headers:
    """Reads the headers of an MPEG-4 part 2 stream.

    Args:
        extradata: The headers up to the video object layer, or nothing.
    """

    def __init__(self, extradata: bytes = b"") -> None:
        self._resolution = 0
        self._low_delay = False
        self._size = (0, 0)
        self._base_s = 0
        self._previous_base_s = 0
        if extradata:
            self.read(extradata)

    def read(self, data: bytes) -> AccessUnit:
        """Read the headers of one packet."""
        unit = AccessUnit(shows_picture=False)
        vops = 0
        try:
            for first in _starts(data):
                code = data[first]
                if code == _VOP:
                    vops += 1
                    if vops == 1:
                        self._read_vop(_bits(data, first), unit)
                elif code == _GROUP:
                    self._read_group(_bits(data, first))
                elif 0x20 <= code <= 0x2F:
                    self._read_layer(_bits(data, first))
                    unit.parameters = _before_pictures(data)
        except HeaderError as exc:
            unit.error = str(exc)
        if not unit.error and not data.find(_START) >= 0:
            unit.error = "no start code in the packet"
        unit.disposable = unit.disposable and vops == 1 and not unit.error
        unit.width, unit.height = self._size
        return unit

    def _read_layer(self, bits: BitReader) -> None:
        """Read a video object layer (6.2.3)."""
        bits.skip(9)
        version = 1
        if bits.u(1):
            version = bits.u(4)
            bits.skip(3)
        if bits.u(4) == 15:
            bits.skip(16)
        if bits.u(1):
            bits.skip(2)
            self._low_delay = bool(bits.u(1))
            bits.skip(79 if bits.u(1) else 0)
        shape = bits.u(2)
        if shape == 3 and version != 1:
            bits.skip(4)
        bits.skip(1)
        self._resolution = bits.u(16)
        bits.skip(1)
        if bits.u(1):
            bits.skip(self._time_bits)
        if shape == 0:
            bits.skip(1)
            width = bits.u(13)
            bits.skip(1)
            self._size = (width, bits.u(13))

    @property
    def _time_bits(self) -> int:
        return max((self._resolution - 1).bit_length(), 1)

    def _read_group(self, bits: BitReader) -> None:
        """Read a group's time code (6.2.5): times start anew from it."""
        hours, minutes = bits.u(5), bits.u(6)
        bits.skip(1)
        self._base_s = hours * 3600 + minutes * 60 + bits.u(6)

    def _read_vop(self, bits: BitReader, unit: AccessUnit) -> None:
        if not self._resolution:
            raise HeaderError("the video object layer is missing")
        kind = bits.u(2)
        seconds = 0
        while bits.u(1):
            seconds += 1
        bits.skip(1)
        ticks = bits.u(self._time_bits)
        bits.skip(1)
        unit.shows_picture = bool(bits.u(1))
        if kind == _B:
            seconds += self._previous_base_s
        else:
            # The time base of B-VOPs is that of the I- or P-VOP before the last (6.3.5).
            self._previous_base_s = self._base_s
            self._base_s = seconds = self._base_s + seconds
        unit.keyframe = kind == _I and unit.shows_picture
        unit.disposable = kind == _B
        unit.mpeg4 = Mpeg4Vop(
            kind == _I, kind == _B, seconds * self._resolution + ticks, self._resolution, self._low_delay
        )


def _starts(data: bytes) -> list[int]:
    starts: list[int] = []
    at = data.find(_START)
    while 0 <= at < len(data) - 3:
        starts.append(at + 3)
        at = data.find(_START, at + 3)
    return starts


def _before_pictures(data: bytes) -> bytes:
    """Return the headers of a packet that hold for all pictures after it."""
    ends = [at for at in (data.find(b"\0\0\1\xb3"), data.find(b"\0\0\1\xb6")) if at >= 0]
    return data[: min(ends, default=len(data))]


def _bits(data: bytes, first: int) -> BitReader:
    return BitReader(data[first + 1 : first + 1 + _HEADER_BYTES])
