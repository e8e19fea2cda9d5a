"""Tell a hardware decoder that a stream's pictures are not reordered, where the stream keeps silent about it.

A parser that does not know has to hold back as many H.264 pictures as the level allows to be stored: at 1080p and level
4 that is four, a quarter of a second at 15 a second. Many cameras say nothing, and never reorder. So the sequence
parameter set is given what is missing: `bitstream_restriction_flag` with `max_num_reorder_frames` 0 (ITU-T H.264,
7.3.2.1.1 and E.1.1; what else comes with the flag gets the values that its absence means, E.2.1). Pictures are decoded
as before: all of it concerns their output alone. HEVC always says it, AV1 and VP9 have no such order.
"""

from __future__ import annotations

from vedette_server.decode.bitstream import nal
from vedette_server.decode.bitstream.bits import BitReader, HeaderError

_SPS = 7
# A sequence parameter set, whatever its `nal_ref_idc`.
_MARKS = (b"\0\0\1\x67", b"\0\0\1\x47", b"\0\0\1\x27")
_HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_EXTENDED_ASPECT = 255


def say_unordered(data: bytes) -> bytes:
    """Complete the sequence parameter sets of an H.264 packet with start codes; what says enough is left alone."""
    if not any(mark in data for mark in _MARKS):
        return data
    units, _, _ = nal.units_of(data, 0)
    return b"".join(
        b"\0\0\0\1" + (_completed(data[first:end]) if data[first] & 31 == _SPS else data[first:end])
        for first, end in units
    )


def _completed(unit: bytes) -> bytes:
    """Complete one set; one that cannot be read is left alone."""
    # Zeros behind a unit belong to the next start code.
    body = unit.rstrip(b"\0")
    bits = nal.payload(body, 1, len(body))
    size = bits.left
    try:
        frames = _read_to_vui(bits)
        flag_at = size - bits.left
        # Without parameters of use: all of them, absent but for the last.
        kept = "1" + "0" * 8
        if bits.u(1):
            _read_to_restriction(bits)
            flag_at, kept = size - bits.left, ""
            if bits.u(1):
                return unit
    except HeaderError:
        return unit
    whole = _bits_of(body)
    # Motion vectors may leave the picture; the denominators and lengths; no reordering; so many frames are stored.
    added = "1" + "1" + "".join(map(_ue, (2, 1, 16, 16, 0, max(frames, 1))))
    return unit[:1] + _escaped(_packed(whole[:flag_at] + kept + added))


def _read_to_vui(bits: BitReader) -> int:
    """Read up to `vui_parameters_present_flag`; return `max_num_ref_frames`."""
    profile = bits.u(8)
    bits.skip(16)
    bits.ue()
    if profile in _HIGH_PROFILES:
        _skip_chroma(bits)
    bits.ue()
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    frames = bits.ue()
    bits.skip(1)
    bits.ue()
    bits.ue()
    if not bits.u(1):
        bits.skip(1)
    bits.skip(1)
    if bits.u(1):
        for _ in range(4):
            bits.ue()
    return frames


def _skip_chroma(bits: BitReader) -> None:
    chroma = bits.ue()
    if chroma == 3:
        bits.skip(1)
    bits.ue()
    bits.ue()
    bits.skip(1)
    if bits.u(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.u(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _read_to_restriction(bits: BitReader) -> None:
    """Read the VUI up to `bitstream_restriction_flag`."""
    _skip_looks(bits)
    if bits.u(1):
        bits.skip(65)
    timed = False
    for _ in range(2):
        if bits.u(1):
            _skip_decoder(bits)
            timed = True
    bits.skip(2 if timed else 1)


def _skip_looks(bits: BitReader) -> None:
    """Pass over aspect, overscan, colours and the place of chroma."""
    if bits.u(1) and bits.u(8) == _EXTENDED_ASPECT:
        bits.skip(32)
    if bits.u(1):
        bits.skip(1)
    if bits.u(1):
        bits.skip(4)
        if bits.u(1):
            bits.skip(24)
    if bits.u(1):
        bits.ue()
        bits.ue()


def _skip_decoder(bits: BitReader) -> None:
    """Pass over the parameters of one hypothetical decoder (E.1.2)."""
    count = bits.ue() + 1
    if count > 32:
        raise HeaderError("a decoder with too many schedules")
    bits.skip(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.skip(1)
    bits.skip(20)


def _bits_of(body: bytes) -> str:
    reader = nal.payload(body, 1, len(body))
    size = reader.left
    return f"{reader.u(size):0{size}b}"


def _ue(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _packed(bits: str) -> bytes:
    """Close a payload with its stop bit, and fill its last byte."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _escaped(payload: bytes) -> bytes:
    """Put in the emulation prevention bytes (7.4.1)."""
    found = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            found.append(3)
            zeros = 0
        found.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(found)
