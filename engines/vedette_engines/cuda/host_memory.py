"""Look at memory of the host by its address."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def array_at(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Give memory as `uint8 [size_bytes]`; whoever owns it keeps it alive for as long as the array is used."""
    block = (ctypes.c_uint8 * size_bytes).from_address(address)
    array: NDArray[np.uint8] = np.ctypeslib.as_array(block)
    return array
