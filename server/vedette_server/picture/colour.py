"""Decide how the samples of a YUV picture become colours.

The bitstream decides where it says something, then the channel's configuration, then the contract's
rule: BT.709 from 720 lines up and BT.601 below, limited range.
"""

from __future__ import annotations

from typing import NamedTuple

from vedette_server.data.format import ColorRange, ColorSpace


class Colour(NamedTuple):
    """How to read YUV samples, in swscale's numbers.

    Attributes:
        matrix: One of libswscale's SWS_CS numbers.
        range: One of libavutil's AVCOL_RANGE numbers: 1 limited, 2 full.
    """

    matrix: int
    range: int


# AVColorSpace (ITU-T H.273 MatrixCoefficients) to SWS_CS; what is not here says nothing of use.
_MATRIX_OF_BITSTREAM = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_MATRIX_OF_CONFIG = {ColorSpace.BT601: 5, ColorSpace.BT709: 1, ColorSpace.BT2020: 9}
_BT601, _BT709 = 5, 1
HD_LINES = 720


def choose_colour(
    bitstream_matrix: int, bitstream_range: int, lines: int, space: ColorSpace, sample_range: ColorRange
) -> Colour:
    """Choose matrix and range of one picture.

    Args:
        bitstream_matrix: The frame's AVColorSpace; 2 when the bitstream does not say.
        bitstream_range: The frame's AVColorRange; 0 when the bitstream does not say.
        lines: Coded height in pixels.
        space: The configuration's matrix.
        sample_range: The configuration's range.
    """
    matrix = _MATRIX_OF_BITSTREAM.get(bitstream_matrix) or _MATRIX_OF_CONFIG.get(space)
    if matrix is None:
        matrix = _BT709 if lines >= HD_LINES else _BT601
    # Both enumerations count limited as 1 and full as 2.
    return Colour(matrix, bitstream_range or int(sample_range) or int(ColorRange.LIMITED))
