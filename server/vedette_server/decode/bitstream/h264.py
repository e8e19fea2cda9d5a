"""Read the headers of H.264 (ITU-T H.264, clauses 7.3 and 7.4; ISO/IEC 14496-15 for `avcC`).

Only what tells pictures apart is read: parameter sets up to the picture size, and a slice header up
to the picture order count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vedette_server.decode.bitstream import nal
from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.unit import AccessUnit

_SLICE, _PARTITION_A, _IDR, _SEI, _SPS, _PPS = 1, 2, 5, 6, 7, 8
_PARAMETERS = {_SPS, _PPS, 13, 15}
_RECOVERY_POINT = 6
_HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_I_SLICES = {2, 7, 4, 9}
_MAX_MACROBLOCKS = 1 << 16


@dataclass(frozen=True, slots=True)
class Sps:
    """A sequence parameter set, as far as it is needed."""

    frame_num_bits: int
    poc_type: int
    poc_lsb_bits: int
    max_ref_frames: int
    frame_mbs_only: bool
    separate_planes: bool
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class H264Slice:
    """The first slice of a picture, and what the other NAL units beside it say.

    Attributes:
        idr: The picture is an IDR picture.
        reference: Others may refer to it (`nal_ref_idc` is not 0).
        intra: All its slices are I slices.
        arithmetic: It is coded with CABAC; else with CAVLC.
        frame_num: Counts reference frames, modulo ``max_frame_num``.
        max_frame_num: The modulus.
        field: 0 for a frame, 1 for a top field, 2 for a bottom field.
        second: It is the second field of the frame whose first field came just before.
        poc_lsb: Low bits of the picture order count; None when the stream counts otherwise.
        max_poc_lsb: Their modulus.
        max_ref_frames: How many frames are kept for reference.
        recovery_frames: `recovery_frame_cnt` of a recovery point SEI; None without one.
    """

    idr: bool
    reference: bool
    intra: bool
    arithmetic: bool
    frame_num: int
    max_frame_num: int
    field: int
    second: bool
    poc_lsb: int | None
    max_poc_lsb: int
    max_ref_frames: int
    recovery_frames: int | None


class H264Headers:
    """Reads the headers of an H.264 stream.

    Args:
        extradata: An `avcC` record, or parameter sets with start codes, or nothing.
    """

    def __init__(self, extradata: bytes = b"") -> None:
        self._sps: dict[int, Sps] = {}
        self._pps: dict[int, tuple[int, bool]] = {}  # its sequence parameter set; whether CABAC codes it
        self._length_size = 0
        self._first_field: H264Slice | None = None
        if extradata[:1] == b"\1" and len(extradata) >= 7:
            self._length_size = (extradata[4] & 3) + 1
            self._read_record(extradata)
        elif extradata:
            self.read(extradata)

    def read(self, data: bytes) -> AccessUnit:
        """Read the headers of one packet."""
        units, length_size, error = nal.units_of(data, self._length_size)
        unit = AccessUnit(error=error)
        try:
            self._read_units(data, units, length_size, unit)
        except HeaderError as exc:
            unit.error = unit.error or str(exc)
        if unit.error:
            unit.keyframe = unit.disposable = False
        return unit

    def _read_units(self, data: bytes, units: list[tuple[int, int]], length_size: int, unit: AccessUnit) -> None:
        parameters: list[tuple[int, int]] = []
        slices: list[tuple[int, int]] = []
        recovery: int | None = None
        for span in units:
            kind = data[span[0]] & 31
            if kind in {_SLICE, _PARTITION_A, _IDR}:
                slices.append(span)
            elif kind in _PARAMETERS:
                parameters.append(span)
                self._read_parameters(data, span)
            elif kind == _SEI:
                found = _recovery_frames(data, span)
                recovery = recovery if found is None else found
        if parameters:
            unit.parameters = nal.framed(data, parameters, length_size)
        if not slices:
            unit.shows_picture = False
            return
        unit.shows_picture = True
        unit.disposable = all(data[first] & 0x60 == 0 for first, _ in slices)
        unit.keyframe = data[slices[0][0]] & 31 == _IDR
        self._read_slice(data, slices, recovery, unit)

    def _read_record(self, record: bytes) -> None:
        at = 5
        try:
            for mask in (31, 255):
                count = record[at] & mask
                at += 1
                for _ in range(count):
                    first = at + 2
                    at = first + int.from_bytes(record[at:first], "big")
                    self._read_parameters(record, (first, at))
        except (HeaderError, IndexError):
            return  # The stream may bring its parameter sets itself; if not, its slices say so.

    def _read_parameters(self, data: bytes, span: tuple[int, int]) -> None:
        first, end = span
        if first >= min(end, len(data)):
            raise HeaderError("an empty parameter set")
        kind = data[first] & 31
        bits = nal.payload(data, first + 1, end)
        if kind == _SPS:
            number, sps = _read_sps(bits)
            self._sps[number] = sps
        elif kind == _PPS:
            number, owner = bits.ue(), bits.ue()
            self._pps[number & 255] = (owner, bool(bits.u(1)))

    def _read_slice(self, data: bytes, slices: list[tuple[int, int]], recovery: int | None, unit: AccessUnit) -> None:
        first, end = slices[0]
        kind = data[first] & 31
        bits = nal.payload(data, first + 1, min(end, first + nal.HEADER_BYTES))
        if bits.ue() != 0:
            raise HeaderError("the beginning of the picture is missing")
        slice_type, pps_number = bits.ue(), bits.ue()
        sps_number, arithmetic = self._pps.get(pps_number, (-1, False))
        sps = self._sps.get(sps_number)
        if sps is None:
            raise HeaderError(f"the parameter sets of picture parameter set {pps_number} are missing")
        if sps.separate_planes:
            bits.skip(2)
        frame_num = bits.u(sps.frame_num_bits)
        field = 0 if sps.frame_mbs_only or not bits.u(1) else 1 + bits.u(1)
        if kind == _IDR:
            bits.ue()
        intra = slice_type in _I_SLICES and all(_is_intra(data, span) for span in slices[1:])
        unit.width, unit.height = sps.width, sps.height
        unit.keyframe = unit.keyframe or (recovery is not None and sps.poc_type != 1)
        found = H264Slice(
            idr=kind == _IDR,
            reference=not unit.disposable,
            intra=intra,
            arithmetic=arithmetic,
            frame_num=frame_num,
            max_frame_num=1 << sps.frame_num_bits,
            field=field,
            second=False,
            poc_lsb=bits.u(sps.poc_lsb_bits) if sps.poc_type == 0 else None,
            max_poc_lsb=1 << sps.poc_lsb_bits,
            max_ref_frames=sps.max_ref_frames,
            # Without a readable order nothing tells which pictures come before the point of recovery.
            recovery_frames=None if sps.poc_type == 1 else recovery,
        )
        second = self._first_field is not None and _pair(self._first_field, found)
        self._first_field = found if field and not second else None
        unit.h264 = replace(found, second=True) if second else found


def _pair(first: H264Slice, second: H264Slice) -> bool:
    """Whether two fields that follow each other are one frame (3.30, 7.4.1.2.4)."""
    return (
        first.field + second.field == 3
        and first.frame_num == second.frame_num
        and (first.reference or not second.reference)
        and not second.idr
    )


def _is_intra(data: bytes, span: tuple[int, int]) -> bool:
    bits = nal.payload(data, span[0] + 1, min(span[1], span[0] + 16))
    bits.ue()
    return bits.ue() in _I_SLICES


def _recovery_frames(data: bytes, span: tuple[int, int]) -> int | None:
    """Find the recovery point among the messages of an SEI unit (H.264 7.3.2.3, D.1.8)."""
    bits = nal.payload(data, span[0] + 1, min(span[1], span[0] + 4096))
    try:
        while bits.left > 16:
            kind, size = _sei_number(bits), _sei_number(bits)
            if kind == _RECOVERY_POINT:
                return bits.ue()
            bits.skip(size * 8)
    except HeaderError:
        return None  # A broken message hurts no picture.
    return None


def _sei_number(bits: BitReader) -> int:
    total = 0
    while (byte := bits.u(8)) == 255:
        total += 255
    return total + byte


def _read_sps(bits: BitReader) -> tuple[int, Sps]:
    profile = bits.u(8)
    bits.skip(16)
    number = bits.ue()
    chroma, separate = _read_chroma(bits) if profile in _HIGH_PROFILES else (1, False)
    frame_num_bits = bits.ue() + 4
    poc_type, poc_lsb_bits = _read_poc_type(bits)
    max_ref_frames = bits.ue()
    bits.skip(1)
    width_mbs, height_units = bits.ue() + 1, bits.ue() + 1
    frame_mbs_only = bool(bits.u(1))
    height_mbs = height_units * (1 if frame_mbs_only else 2)
    bits.skip(1 if frame_mbs_only else 2)
    if number > 31 or frame_num_bits > 16 or poc_lsb_bits > 16 or max(width_mbs, height_mbs) > _MAX_MACROBLOCKS:
        raise HeaderError("a sequence parameter set says what none may say")
    crop_x = crop_y = 0
    if bits.u(1):
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
        crop_x = (left + right) * (2 if chroma in {1, 2} and not separate else 1)
        crop_y = (top + bottom) * (2 if chroma == 1 and not separate else 1) * (1 if frame_mbs_only else 2)
    return number, Sps(
        frame_num_bits,
        poc_type,
        poc_lsb_bits,
        max_ref_frames,
        frame_mbs_only,
        separate,
        # Cropping fills up macroblocks; where it hides more, what counts is the size that is decoded.
        width_mbs * 16 - (crop_x if crop_x < 32 else 0),
        height_mbs * 16 - (crop_y if crop_y < 32 else 0),
    )


def _read_chroma(bits: BitReader) -> tuple[int, bool]:
    chroma = bits.ue()
    separate = bool(bits.u(1)) if chroma == 3 else False
    bits.ue()
    bits.ue()
    bits.skip(1)
    if bits.u(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.u(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, separate


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _read_poc_type(bits: BitReader) -> tuple[int, int]:
    poc_type = bits.ue()
    if poc_type == 0:
        return 0, bits.ue() + 4
    if poc_type == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    return poc_type, 0
