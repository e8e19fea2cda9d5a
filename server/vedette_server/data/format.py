"""What the packets of a stream contain.

Plain data, shared by all threads. The numbers of the enumerations are those of the contract
(`vedette.v1`); a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction


class Codec(IntEnum):
    """How the bytes of a packet are coded."""

    H264 = 1
    HEVC = 2
    AV1 = 3
    VP9 = 4
    MPEG4 = 5
    JPEG = 6
    PNG = 7
    WEBP = 8
    RAW = 9

    @property
    def is_still(self) -> bool:
        """Whether every packet is a picture of its own in a still format."""
        return self in {Codec.JPEG, Codec.PNG, Codec.WEBP}

    @property
    def is_intra(self) -> bool:
        """Whether no packet ever refers to another."""
        return self.is_still or self is Codec.RAW


class PixelFormat(IntEnum):
    """Memory layout of an uncompressed picture."""

    BGR24 = 1
    RGB24 = 2
    GRAY8 = 3
    NV12 = 4
    I420 = 5


class ColorSpace(IntEnum):
    """Matrix coefficients of a YUV picture."""

    UNSPECIFIED = 0
    BT601 = 1
    BT709 = 2
    BT2020 = 3


class ColorRange(IntEnum):
    """Range of the samples of a YUV picture."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """The coding of a stream, as its configuration gives it.

    Attributes:
        codec: The coding of every packet.
        extradata: Decoder configuration record or parameter sets; may be empty.
        time_base: Seconds per tick of PTS, DTS and duration.
        width: Coded width in pixels; 0 when unknown (never for raw pictures).
        height: Coded height in pixels; 0 when unknown (never for raw pictures).
        pixel_format: Layout of a raw picture; None for other codecs.
        strides_bytes: Bytes from row to row, one per plane; empty when rows are packed.
        rotation_degrees: Clockwise turn that makes the picture upright: 0, 90, 180, 270.
        sample_aspect: Width of a sample over its height.
        color_space: Matrix, where the bitstream does not say.
        color_range: Sample range, where the bitstream does not say.
    """

    codec: Codec
    extradata: bytes = b""
    time_base: Fraction = Fraction(1, 90_000)
    width: int = 0
    height: int = 0
    pixel_format: PixelFormat | None = None
    strides_bytes: tuple[int, ...] = ()
    rotation_degrees: int = 0
    sample_aspect: Fraction = Fraction(1)
    color_space: ColorSpace = ColorSpace.UNSPECIFIED
    color_range: ColorRange = ColorRange.UNSPECIFIED
