"""Frame packets as hardware decoders take them: with start codes, and with their parameter sets in the stream.

MP4 and its kin keep parameter sets in a record beside the stream (`avcC`, `hvcC`, `av1C`: ISO/IEC 14496-15 and the AV1
binding) and put a length before each NAL unit; NVDEC's parser wants ITU-T H.264 and H.265, Annex B. AV1, VP9 and MPEG-4
packets are taken as they are.
"""

from __future__ import annotations

from vedette_server.data.format import Codec
from vedette_server.decode.bitstream import nal

_START = b"\0\0\0\1"


class AnnexB:
    """Frames the packets of one stream.

    Args:
        codec: Its codec.
        extradata: Its decoder configuration.

    Attributes:
        header: What the configuration says, as it goes in front of the first packet; empty when it says nothing.
    """

    def __init__(self, codec: Codec, extradata: bytes) -> None:
        self._length_size = 0
        self._nal = codec in {Codec.H264, Codec.HEVC}
        self.header = b""
        if codec is Codec.H264 and extradata[:1] == b"\1" and len(extradata) >= 7:
            self._length_size = (extradata[4] & 3) + 1
            self.header = _h264_sets(extradata)
        elif codec is Codec.HEVC and extradata[:1] == b"\1" and len(extradata) >= 23:
            self._length_size = (extradata[21] & 3) + 1
            self.header = _hevc_sets(extradata)
        elif codec is Codec.AV1:
            self.header = extradata[4:] if extradata[:1] == b"\x81" else extradata
        elif codec is not Codec.VP9:
            self.header = extradata

    def packet(self, data: bytes) -> bytes:
        """Frame one packet; what cannot be read is left as it is."""
        if not (self._nal and self._length_size):
            return data
        units, length_size, _ = nal.units_of(data, self._length_size)
        return nal.framed(data, units, 0) if length_size else data


def _h264_sets(record: bytes) -> bytes:
    found: list[bytes] = []
    at = 5
    for mask in (31, 255):
        if at >= len(record):
            break
        count = record[at] & mask
        at = _read_units(record, at + 1, count, found)
    return b"".join(_START + unit for unit in found)


def _hevc_sets(record: bytes) -> bytes:
    found: list[bytes] = []
    at = 23
    for _ in range(record[22] if len(record) > 22 else 0):
        count = int.from_bytes(record[at + 1 : at + 3], "big")
        at = _read_units(record, at + 3, count, found)
    return b"".join(_START + unit for unit in found)


def _read_units(record: bytes, at: int, count: int, found: list[bytes]) -> int:
    """Take `count` units with lengths of two bytes; one that is cut off is left out. Return where they end."""
    for _ in range(count):
        end = at + 2 + int.from_bytes(record[at : at + 2], "big")
        if end > len(record) or at + 2 >= end:
            return len(record)
        found.append(record[at + 2 : end])
        at = end
    return at
