"""Find the NAL units of an H.264 or HEVC packet.

Two framings: start codes (ITU-T H.264 and H.265, Annex B) and length prefixes (ISO/IEC 14496-15).
"""

from __future__ import annotations

from vedette_server.decode.bitstream.bits import BitReader

_START = b"\0\0\1"
HEADER_BYTES = 96
"""How much of a slice is read: its header up to the reference marking is far shorter."""


def units_of(data: bytes, length_size: int) -> tuple[list[tuple[int, int]], int, str]:
    """Find where the NAL units of a packet lie.

    Args:
        data: The packet.
        length_size: Bytes of each length prefix; 0 for start codes.

    Returns:
        First byte and end of each unit, the size of the length prefixes that are really there (some
        senders keep the `avcC` record of a file but send start codes), and in words what is wrong.
    """
    if not length_size:
        return _started(data), 0, "" if _START in data else "no start code in the packet"
    units, error = _prefixed(data, length_size)
    # A prefix may look like a start code: the lengths are believed where they add up.
    if error and data.startswith(b"\0\0\0\1"):
        return _started(data), 0, ""
    return units, length_size, error


def _started(data: bytes) -> list[tuple[int, int]]:
    units: list[tuple[int, int]] = []
    at = data.find(_START)
    while at >= 0:
        first = at + 3
        at = data.find(_START, first)
        end = len(data) if at < 0 else at
        if end > first:
            units.append((first, end))
    return units


def _prefixed(data: bytes, length_size: int) -> tuple[list[tuple[int, int]], str]:
    units: list[tuple[int, int]] = []
    at, size = 0, len(data)
    while at + length_size <= size:
        first = at + length_size
        at = first + int.from_bytes(data[at:first], "big")
        if at > size:
            return units, f"a NAL unit of {at - first} bytes is cut off after {size - first}"
        if at > first:
            units.append((first, at))
    if at != size:
        return units, f"{size - at} bytes are left over after the last NAL unit"
    return units, ""


def framed(data: bytes, units: list[tuple[int, int]], length_size: int) -> bytes:
    """Join some NAL units of a packet again, framed as the packet was."""
    if length_size:
        return b"".join((end - first).to_bytes(length_size, "big") + data[first:end] for first, end in units)
    return b"".join(b"\0\0\0\1" + data[first:end] for first, end in units)


def payload(data: bytes, first: int, end: int) -> BitReader:
    """Read a NAL unit from ``first`` on, with its emulation prevention bytes taken out."""
    raw = data[first:end]
    if b"\0\0\3" in raw:
        raw = _without_emulation(raw)
    return BitReader(raw)


def _without_emulation(raw: bytes) -> bytes:
    parts: list[bytes] = []
    start = 0
    at = raw.find(b"\0\0\3")
    while at >= 0:
        parts.append(raw[start : at + 2])
        start = at + 3
        at = raw.find(b"\0\0\3", start)
    parts.append(raw[start:])
    return b"".join(parts)
