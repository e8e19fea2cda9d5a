"""Tables of the cells that grid detectors count their anchors by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.signature import Signature


def cells(signature: Signature, strides: Sequence[int], *, ceil: bool = False) -> NDArray[np.float32]:
    """Tabulate every cell's column, row and stride, as `float32 [A, 3]`: grid by grid, each row by row.

    Args:
        signature: Tells the input size.
        strides: Pixels per cell of each grid, in the output's order.
        ceil: A part of a cell at the right and lower border counts as one.
    """
    tables = []
    for stride in strides:
        height, width = (-(-side // stride) if ceil else side // stride for side in (signature.height, signature.width))
        tables.append(grid(width, height, stride))
    return np.concatenate(tables)


def grid(width: int, height: int, stride: float) -> NDArray[np.float32]:
    """Tabulate one grid's columns, rows and stride, as `float32 [height * width, 3]`, row by row."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns, rows, np.full_like(rows, stride)], -1).reshape(-1, 3)
