"""Read the headers of HEVC (ITU-T H.265, clauses 7.3 and 7.4; ISO/IEC 14496-15 for `hvcC`).

Read are the picture size, the picture order count and the reference picture set, which names every
picture that may still be referred to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.decode.bitstream import nal
from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.unit import AccessUnit

if TYPE_CHECKING:
    from collections.abc import Sequence

_VPS, _SPS, _PPS = 32, 33, 34
_END_OF_SEQUENCE = 36
_IDR = {19, 20}
_RASL = {8, 9}
_SUB_LAYER_NON_REFERENCE = {0, 2, 4, 6, 8, 10, 12, 14}
_LEADING = {6, 7, 8, 9}
_MAX_SETS = 64
_HEADER_BYTES = 256

DeltaSet = tuple[tuple[int, bool], ...]
"""Differences of picture order count, each with whether the current picture itself refers to it."""


@dataclass(frozen=True, slots=True)
class Sps:
    """A sequence parameter set, as far as it is needed."""

    width: int
    height: int
    separate_planes: bool
    poc_lsb_bits: int
    max_temporal_id: int
    short_sets: tuple[DeltaSet, ...]
    long_term: bool
    long_lsbs: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, slots=True)
class Pps:
    """A picture parameter set, as far as it is needed."""

    sps: int
    output_flag: bool
    extra_bits: int


@dataclass(frozen=True, slots=True)
class HevcSlice:
    """The first slice segment of a picture.

    Attributes:
        irap: An intra random access point: IDR, CRA or BLA.
        idr: An IDR picture: its picture order count starts at 0.
        breaks: A BLA picture, or the first after an end of sequence: what was before is forgotten.
        rasl: A leading picture that may refer to what was before its IRAP picture.
        anchors: The next picture order counts are told relative to this one (8.3.1).
        reference: Others may refer to it.
        poc_lsb: Low bits of its picture order count.
        max_poc_lsb: Their modulus.
        short: Its short-term references, as differences of picture order count.
        long: Its long-term references: low bits of the picture order count, how many cycles of the low
            bits ago (None: not told), and whether the picture itself refers to it.
    """

    irap: bool
    idr: bool
    breaks: bool
    rasl: bool
    anchors: bool
    reference: bool
    poc_lsb: int
    max_poc_lsb: int
    short: DeltaSet
    long: tuple[tuple[int, int | None, bool], ...]


class HevcHeaders:
    """Reads the headers of an HEVC stream.

    Args:
        extradata: An `hvcC` record, or parameter sets with start codes, or nothing.
    """

    def __init__(self, extradata: bytes = b"") -> None:
        self._sps: dict[int, Sps] = {}
        self._pps: dict[int, Pps] = {}
        self._length_size = 0
        self._ended = False
        if len(extradata) >= 23 and not extradata.startswith((b"\0\0\0\1", b"\0\0\1")):
            self._length_size = (extradata[21] & 3) + 1
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
        ends = False
        for span in units:
            first, end = span
            kind = data[first] >> 1 & 63
            if end - first < 3 or data[first] & 1 or data[first + 1] & 0xF8:
                ends = ends or kind == _END_OF_SEQUENCE
                continue  # Too short for a picture, or of another layer, which FFmpeg does not show.
            if kind < 32:
                slices.append(span)
            elif kind in {_VPS, _SPS, _PPS}:
                parameters.append(span)
                self._read_parameters(data, span)
        if parameters:
            unit.parameters = nal.framed(data, parameters, length_size)
        unit.shows_picture = bool(slices)
        if slices:
            self._read_slice(data, slices[0], unit)
        self._ended = ends or (self._ended and not slices)

    def _read_record(self, record: bytes) -> None:
        at = 23
        try:
            for _ in range(record[22]):
                count = int.from_bytes(record[at + 1 : at + 3], "big")
                at += 3
                for _ in range(count):
                    first = at + 2
                    at = first + int.from_bytes(record[at:first], "big")
                    self._read_parameters(record, (first, at))
        except (HeaderError, IndexError):
            return  # The stream may bring its parameter sets itself; if not, its slices say so.

    def _read_parameters(self, data: bytes, span: tuple[int, int]) -> None:
        first, end = span
        if first + 2 >= min(end, len(data)):
            raise HeaderError("an empty parameter set")
        kind = data[first] >> 1 & 63
        if kind == _SPS:
            number, sps = _read_sps(nal.payload(data, first + 2, end))
            self._sps[number] = sps
        elif kind == _PPS:
            bits = nal.payload(data, first + 2, end)
            number, owner = bits.ue(), bits.ue()
            bits.skip(1)
            self._pps[number & 63] = Pps(owner, bool(bits.u(1)), bits.u(3))

    def _read_slice(self, data: bytes, span: tuple[int, int], unit: AccessUnit) -> None:
        first, end = span
        kind, temporal_id = data[first] >> 1 & 63, (data[first + 1] & 7) - 1
        irap = 16 <= kind <= 23
        unit.keyframe = irap
        bits = nal.payload(data, first + 2, min(end, first + _HEADER_BYTES))
        if not bits.u(1):
            raise HeaderError("the beginning of the picture is missing")
        if irap:
            bits.skip(1)
        number = bits.ue()
        pps = self._pps.get(number)
        sps = None if pps is None else self._sps.get(pps.sps)
        if pps is None or sps is None:
            raise HeaderError(f"the parameter sets of picture parameter set {number} are missing")
        unit.width, unit.height = sps.width, sps.height
        bits.skip(pps.extra_bits)
        bits.ue()
        if pps.output_flag and not bits.u(1):
            unit.shows_picture = False
        bits.skip(2 if sps.separate_planes else 0)
        non_reference = kind in _SUB_LAYER_NON_REFERENCE and kind < 16
        unit.disposable = non_reference and temporal_id >= sps.max_temporal_id
        poc_lsb = 0
        short: DeltaSet = ()
        long: tuple[tuple[int, int | None, bool], ...] = ()
        if kind not in _IDR:
            poc_lsb = bits.u(sps.poc_lsb_bits)
            short = _read_short(bits, sps)
            long = _read_long(bits, sps) if sps.long_term else ()
        unit.hevc = HevcSlice(
            irap=irap,
            idr=kind in _IDR,
            breaks=irap and (kind < 19 or self._ended),
            rasl=kind in _RASL,
            anchors=temporal_id == 0 and not non_reference and kind not in _LEADING,
            reference=not unit.disposable,
            poc_lsb=poc_lsb,
            max_poc_lsb=1 << sps.poc_lsb_bits,
            short=short,
            long=long,
        )


def _read_short(bits: BitReader, sps: Sps) -> DeltaSet:
    if not bits.u(1):
        return _read_delta_set(bits, sps.short_sets, in_slice=True)
    count = len(sps.short_sets)
    if count == 0:
        raise HeaderError("a slice names a reference picture set of which there is none")
    index = bits.u((count - 1).bit_length())
    if index >= count:
        raise HeaderError(f"a slice names reference picture set {index} of {count}")
    return sps.short_sets[index]


def _read_long(bits: BitReader, sps: Sps) -> tuple[tuple[int, int | None, bool], ...]:
    """Read the long-term references: low bits, difference of the high part or None, used now."""
    known = len(sps.long_lsbs)
    from_sps = bits.ue() if known else 0
    count = from_sps + bits.ue()
    if count > 32:
        raise HeaderError(f"a slice names {count} long-term references")
    found: list[tuple[int, int | None, bool]] = []
    cycle = 0
    for index in range(count):
        if index < from_sps:
            at = bits.u((known - 1).bit_length())
            if at >= known:
                raise HeaderError("a slice names a long-term reference that does not exist")
            lsb, used = sps.long_lsbs[at]
        else:
            lsb, used = bits.u(sps.poc_lsb_bits), bool(bits.u(1))
        whole = bits.u(1)
        delta = bits.ue() if whole else 0
        # The cycles add up, separately for the two kinds (7-52).
        cycle = delta if index in {0, from_sps} else cycle + delta
        found.append((lsb, cycle if whole else None, used))
    return tuple(found)


def _read_delta_set(bits: BitReader, sets: Sequence[DeltaSet], *, in_slice: bool) -> DeltaSet:
    """Read the short-term reference picture set after ``sets`` (7.3.7), the way clause 7.4.8 resolves it."""
    if sets and bits.u(1):
        return _predicted_set(bits, sets, in_slice=in_slice)
    negative, positive = bits.ue(), bits.ue()
    if negative > 16 or positive > 16:
        raise HeaderError("a reference picture set is longer than 16")
    found: list[tuple[int, bool]] = []
    for count, sign in ((negative, -1), (positive, 1)):
        delta = 0
        for _ in range(count):
            delta += sign * (bits.ue() + 1)
            found.append((delta, bool(bits.u(1))))
    return tuple(found)


def _predicted_set(bits: BitReader, sets: Sequence[DeltaSet], *, in_slice: bool) -> DeltaSet:
    back = bits.ue() + 1 if in_slice else 1
    if back > len(sets):
        raise HeaderError("a reference picture set is predicted from none")
    base = sets[-back]
    negative = bool(bits.u(1))
    shift = bits.ue() + 1
    shift = -shift if negative else shift
    found: list[tuple[int, bool]] = []
    for delta in [*(delta for delta, _ in base), 0]:
        used = bool(bits.u(1))
        if (used or bits.u(1)) and delta + shift:
            found.append((delta + shift, used))
    before = sorted((entry for entry in found if entry[0] < 0), reverse=True)
    return tuple(before + sorted(entry for entry in found if entry[0] > 0))


def _read_sps(bits: BitReader) -> tuple[int, Sps]:
    bits.skip(4)
    layers = bits.u(3)
    bits.skip(1)
    _skip_profile(bits, layers)
    number = bits.ue()
    chroma = bits.ue()
    separate = bool(bits.u(1)) if chroma == 3 else False
    width, height = bits.ue(), bits.ue()
    if bits.u(1):
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
        crop_x = (left + right) * (2 if chroma in {1, 2} else 1)
        crop_y = (top + bottom) * (2 if chroma == 1 else 1)
        # The window fills up coding units; where it hides more, what counts is what is decoded.
        width -= crop_x if crop_x < min(width, 64) else 0
        height -= crop_y if crop_y < min(height, 64) else 0
    bits.ue()
    bits.ue()
    poc_lsb_bits = bits.ue() + 4
    _skip_tools(bits, layers)
    count = bits.ue()
    if number > 15 or poc_lsb_bits > 16 or count > _MAX_SETS:
        raise HeaderError("a sequence parameter set says what none may say")
    sets: list[DeltaSet] = []
    for _ in range(count):
        sets.append(_read_delta_set(bits, sets, in_slice=False))
    long_term = bool(bits.u(1))
    long_lsbs = tuple((bits.u(poc_lsb_bits), bool(bits.u(1))) for _ in range(_bounded(bits.ue()) if long_term else 0))
    return number, Sps(width, height, separate, poc_lsb_bits, layers, tuple(sets), long_term, long_lsbs)


def _skip_tools(bits: BitReader, layers: int) -> None:
    """Pass over what lies between the picture order count and the reference picture sets (7.3.2.2)."""
    for _ in range(1 if not bits.u(1) else layers + 1):
        for _ in range(3):
            bits.ue()
    for _ in range(6):
        bits.ue()
    if bits.u(1) and bits.u(1):
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.u(1):
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.skip(1)


def _bounded(count: int) -> int:
    if count > 32:
        raise HeaderError(f"a sequence parameter set names {count} long-term references")
    return count


def _skip_profile(bits: BitReader, layers: int) -> None:
    bits.skip(96)
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    if layers:
        bits.skip(2 * (8 - layers))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _skip_scaling_lists(bits: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.u(1):
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                bits.se()
