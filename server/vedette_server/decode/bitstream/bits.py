"""Read bits from the beginning of a header.

A header is a few dozen bytes; they are held as one integer, since shifts of it cost less in Python
than a walk over bytes.
"""

from __future__ import annotations


class HeaderError(ValueError):
    """The bytes are no header of the kind that was expected; caught inside this package's callers."""


class BitReader:
    """Reads big-endian bit fields from the front of some bytes.

    Args:
        data: The bytes; copied into an integer.
    """

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes | memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    @property
    def left(self) -> int:
        """Bits that were not read yet."""
        return self._left

    def u(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits.

        Raises:
            HeaderError: Fewer bits are left.
        """
        left = self._left - count
        if left < 0:
            raise HeaderError("the header is cut off")
        self._left = left
        return (self._value >> left) & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        """Pass over ``count`` bits.

        Raises:
            HeaderError: Fewer bits are left.
        """
        self._left -= count
        if self._left < 0:
            raise HeaderError("the header is cut off")

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number (H.264 9.1, H.265 9.2).

        Raises:
            HeaderError: The number is cut off or longer than 32 bits.
        """
        rest = self._value & ((1 << self._left) - 1)
        zeros = self._left - rest.bit_length()
        if zeros > 32 or zeros * 2 + 1 > self._left:
            raise HeaderError("an Exp-Golomb number is cut off")
        self._left -= zeros * 2 + 1
        return (rest >> self._left) - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb number (H.264 9.1.1).

        Raises:
            HeaderError: The number is cut off or longer than 32 bits.
        """
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)
