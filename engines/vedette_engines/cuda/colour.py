"""The numbers that take YUV samples to BGR on the device: swscale's, so that they give what the CPU path gives."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class YuvColour(NamedTuple):
    """Whole numbers for the kernel: an offset of luma, and factors of 13 bits.

    Attributes:
        y_offset: What black is.
        y_gain: Factor of luma.
        v_to_red: Factor of V in red.
        u_to_green: Factor of U in green, below zero.
        v_to_green: Factor of V in green, below zero.
        u_to_blue: Factor of U in blue.
    """

    y_offset: int
    y_gain: int
    v_to_red: int
    u_to_green: int
    v_to_green: int
    u_to_blue: int


# V to red, U to blue, U to green, V to green, of 16 bits, for limited range (libswscale, yuv2rgb.c,
# ff_yuv2rgb_coeffs), by ITU-T H.273 MatrixCoefficients: 1 BT.709, 4 FCC, 5 and 6 BT.601, 7 SMPTE 240M, 9 BT.2020.
_BT601 = (104597, 132201, 25675, 53279)
_FACTORS = {
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    5: _BT601,
    6: _BT601,
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
MATRICES = tuple(_FACTORS)


@lru_cache
def yuv_colour(matrix: int, *, full_range: bool) -> YuvColour:
    """Give the numbers of a matrix and a range.

    Args:
        matrix: ITU-T H.273 MatrixCoefficients (swscale's SWS_CS numbers are the same).
        full_range: Luma is 0..255 and not 16..235.

    Raises:
        ValueError: Another matrix.
    """
    if matrix not in _FACTORS:
        raise ValueError(f"matrix is {matrix}; allowed are {', '.join(map(str, MATRICES))}")
    factors = _FACTORS[matrix]
    gain = 65536 * 255 // 219
    if full_range:
        gain = 65536
        red, blue, green_u, green_v = (factor * 224 // 255 for factor in factors)
    else:
        red, blue, green_u, green_v = factors
    return YuvColour(
        y_offset=0 if full_range else 16,
        y_gain=_to_13_bits(gain),
        v_to_red=_to_13_bits(red),
        u_to_green=_to_13_bits(-green_u),
        v_to_green=_to_13_bits(-green_v),
        u_to_blue=_to_13_bits(blue),
    )


def _to_13_bits(factor: int) -> int:
    """Round a factor of 16 bits, as swscale's roundToInt16 does."""
    return (factor * 8192 + 32768) >> 16
