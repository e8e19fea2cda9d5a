"""Read a still's size from its first bytes, so that a bomb is refused before it is decoded.

Sources: ITU-T T.81 (JPEG) through libjpeg-turbo, PNG specification third edition section 11.2.1, RFC 9649 (WebP).
"""

from __future__ import annotations

import simplejpeg

from vedette_server.data.format import Codec
from vedette_server.errors import UndecodableError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8L_SIGNATURE = 0x2F


def read_size(codec: Codec, data: bytes) -> tuple[int, int]:
    """Return width and height in pixels, as coded.

    Raises:
        UndecodableError: The bytes do not begin as a picture of this codec does.
    """
    match codec:
        case Codec.JPEG:
            width, height = _read_jpeg(data)
        case Codec.PNG:
            width, height = _read_png(data)
        case Codec.WEBP:
            width, height = _read_webp(data)
        case _:
            raise ValueError(f"codec is {codec.name}; allowed are JPEG, PNG and WEBP")
    if width < 1 or height < 1:
        raise UndecodableError(f"the {codec.name} header says {width}x{height} pixels")
    return width, height


def _read_jpeg(data: bytes) -> tuple[int, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise UndecodableError(f"{len(data)} bytes without a JPEG header: {error}") from error
    return int(width), int(height)


def _read_png(data: bytes) -> tuple[int, int]:
    if not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 24:
        raise UndecodableError(f"{len(data)} bytes without a PNG header")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def _read_webp(data: bytes) -> tuple[int, int]:
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise UndecodableError(f"{len(data)} bytes without a WebP header")
    match data[12:16]:
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L" if data[20] == _VP8L_SIGNATURE:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[23:26] == _VP8_START_CODE:
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
        case chunk:
            raise UndecodableError(f"the WebP begins with an unknown chunk {chunk!r}")
