"""Complete motion JPEG pictures that leave their Huffman tables out.

Webcams and old AVI files do (the tables are then those of ITU-T T.81, annex K.3); JPEG decoders need
not know them.
"""

from __future__ import annotations

import io
from functools import cache

from PIL import Image

_SOI = b"\xff\xd8"
_DHT = 0xC4
_SOS = 0xDA


def with_huffman_tables(jpeg: bytes) -> bytes:
    """Return the picture with the standard tables put in, if it has none; else as it is."""
    segments = _segments(jpeg)
    scan = next((start for marker, start, _ in segments if marker == _SOS), None)
    if scan is None or any(marker == _DHT for marker, _, _ in segments):
        return jpeg
    return jpeg[:scan] + _standard_tables() + jpeg[scan:]


def _segments(jpeg: bytes) -> list[tuple[int, int, int]]:
    """List marker, start and end of the header's segments, up to and including start of scan."""
    found: list[tuple[int, int, int]] = []
    start = 2
    if not jpeg.startswith(_SOI):
        return found
    while start + 4 <= len(jpeg) and jpeg[start] == 0xFF:
        marker = jpeg[start + 1]
        end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
        found.append((marker, start, end))
        if marker == _SOS:
            break
        start = end
    return found


@cache
def _standard_tables() -> bytes:
    """Take the tables from a picture that an encoder wrote without optimising them."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG", optimize=False)
    jpeg = buffer.getvalue()
    return b"".join(jpeg[start:end] for marker, start, end in _segments(jpeg) if marker == _DHT)
