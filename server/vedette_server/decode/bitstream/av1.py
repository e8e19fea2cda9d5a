"""Read the headers of AV1 (AV1 Bitstream & Decoding Process Specification, clauses 5.3 to 5.9).

A packet is one temporal unit: any number of hidden frames and one that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.unit import AccessUnit

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _INTER, _INTRA_ONLY, _SWITCH = 0, 1, 2, 3
_SELECT = 2
_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence header, as far as it is needed."""

    width: int
    height: int
    still: bool
    presentation_time_bits: int
    decoder_model: bool
    frame_id_bits: int
    screen_content: int
    integer_mv: int
    order_hint_bits: int


@dataclass(frozen=True, slots=True)
class Av1Frame:
    """One frame of a temporal unit.

    Attributes:
        key: A key frame that is shown: everything starts anew.
        shown: It is shown.
        refresh: Which of the eight reference slots it fills, as bits.
        order_hint: Low bits of its place in presentation order; None for a slot that is shown.
        max_order_hint: Their modulus; 1 when the stream has none.
        slot: The slot that is shown, when no new frame is coded; None otherwise.
    """

    key: bool
    shown: bool
    refresh: int
    order_hint: int | None
    max_order_hint: int
    slot: int | None = None


class Av1Headers:
    """Reads the headers of an AV1 stream.

    Args:
        extradata: An `av1C` record, or OBUs, or nothing.
    """

    def __init__(self, extradata: bytes = b"") -> None:
        self._sequence: Sequence | None = None
        if extradata:
            self.read(extradata[4:] if extradata[0] == 0x81 else extradata)

    def read(self, data: bytes) -> AccessUnit:
        """Read the headers of one temporal unit."""
        unit = AccessUnit()
        try:
            frames = self._read_obus(data, unit)
        except HeaderError as exc:
            unit.error = str(exc)
            return unit
        unit.av1 = tuple(frames)
        unit.shows_picture = any(frame.shown for frame in frames)
        unit.keyframe = bool(frames) and frames[0].key
        unit.disposable = bool(frames) and not any(frame.refresh for frame in frames)
        if self._sequence is not None:
            unit.width, unit.height = self._sequence.width, self._sequence.height
        return unit

    def _read_obus(self, data: bytes, unit: AccessUnit) -> list[Av1Frame]:
        frames: list[Av1Frame] = []
        at = 0
        while at < len(data):
            start = at
            kind, first, at = _obu(data, at)
            if kind == _SEQUENCE:
                self._sequence = _read_sequence(BitReader(data[first:at]))
                unit.parameters += data[start:at]
            elif kind in {_FRAME_HEADER, _FRAME}:
                if self._sequence is None:
                    raise HeaderError("the sequence header is missing")
                frames.append(_read_frame(BitReader(data[first : min(at, first + _HEADER_BYTES)]), self._sequence))
        return frames


def _obu(data: bytes, at: int) -> tuple[int, int, int]:
    """Read an OBU's header (5.3): its kind, its first byte of payload and its end."""
    header = data[at]
    if header & 0x80:
        raise HeaderError("the bytes are no OBU")
    at += 2 if header & 4 else 1
    if not header & 2:
        return header >> 3 & 15, at, len(data)
    size = 0
    for shift in range(0, 56, 7):
        if at >= len(data):
            raise HeaderError("an OBU is cut off")
        byte = data[at]
        at += 1
        size |= (byte & 127) << shift
        if not byte & 128:
            break
    if at + size > len(data):
        raise HeaderError(f"an OBU of {size} bytes is cut off after {len(data) - at}")
    return header >> 3 & 15, at, at + size


def _read_sequence(bits: BitReader) -> Sequence:
    bits.skip(4)
    still = bool(bits.u(1))
    presentation_bits, model = 0, False
    if still:
        bits.skip(5)
    else:
        presentation_bits, model = _read_operating_points(bits)
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    width, height = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    frame_id_bits = 0
    if not still and bits.u(1):
        # The length of the difference first, then what the id has more (5.5.1).
        frame_id_bits = bits.u(4) + 2
        frame_id_bits += bits.u(3) + 1
    bits.skip(3)
    screen, integer, order_bits = _SELECT, _SELECT, 0
    if not still:
        bits.skip(4)
        hints = bits.u(1)
        bits.skip(2 * hints)
        screen = _SELECT if bits.u(1) else bits.u(1)
        if screen:
            integer = _SELECT if bits.u(1) else bits.u(1)
        order_bits = bits.u(3) + 1 if hints else 0
    return Sequence(width, height, still, presentation_bits, model, frame_id_bits, screen, integer, order_bits)


def _read_operating_points(bits: BitReader) -> tuple[int, bool]:
    """Read the timing and the operating points (5.5.1): bits of the presentation time, decoder model."""
    presentation_bits, delay_bits, model = 0, 0, False
    if bits.u(1):
        bits.skip(64)
        equal_interval = bool(bits.u(1))
        if equal_interval:
            bits.ue()
        model = bool(bits.u(1))
        if model:
            delay_bits = bits.u(5) + 1
            bits.skip(37)
            presentation_bits = 0 if equal_interval else bits.u(5) + 1
            bits.skip(5 if equal_interval else 0)
    display_delay = bits.u(1)
    for _ in range(bits.u(5) + 1):
        bits.skip(12)
        if bits.u(5) > 7:
            bits.skip(1)
        if model and bits.u(1):
            bits.skip(2 * delay_bits + 1)
        if display_delay and bits.u(1):
            bits.skip(4)
    return presentation_bits, model


def _read_frame(bits: BitReader, sequence: Sequence) -> Av1Frame:
    modulus = 1 << sequence.order_hint_bits
    if sequence.still:
        return Av1Frame(True, True, 0xFF, 0, modulus)
    if bits.u(1):
        return Av1Frame(False, True, 0, None, modulus, slot=bits.u(3))
    kind, shown = bits.u(2), bool(bits.u(1))
    if shown:
        bits.skip(sequence.presentation_time_bits)
    else:
        bits.skip(1)
    starts = kind == _KEY and shown
    resilient = True if kind == _SWITCH or starts else bool(bits.u(1))
    _skip_tools(bits, sequence)
    if kind != _SWITCH:
        bits.skip(1)
    order_hint = bits.u(sequence.order_hint_bits)
    if kind in {_INTER, _SWITCH} and not resilient:
        bits.skip(3)
    if starts or kind == _SWITCH:
        return Av1Frame(starts, shown, 0xFF, order_hint, modulus)
    if sequence.decoder_model and bits.u(1):
        # Times of a decoder model lie before the flags: taken for a frame that all may refer to.
        return Av1Frame(False, shown, 0xFF, order_hint, modulus)
    return Av1Frame(False, shown, bits.u(8), order_hint, modulus)


def _skip_tools(bits: BitReader, sequence: Sequence) -> None:
    """Pass over what lies between the error resilience and the frame size (5.9.2)."""
    bits.skip(1)
    screen = bits.u(1) if sequence.screen_content == _SELECT else sequence.screen_content
    if screen and sequence.integer_mv == _SELECT:
        bits.skip(1)
    bits.skip(sequence.frame_id_bits)
