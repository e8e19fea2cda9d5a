"""A decoded picture as it lies in memory, for an engine that letterboxes on its device.

Plain data between decoders and the inference that runs a frame. Where a picture stands in the input and how its
colours are read is decided here as on the CPU's path (`convert.py`), by the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Stream
    from vedette_engines.cuda.colour import YuvColour
    from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
    from vedette_server.picture.letterbox import Geometry


@dataclass(frozen=True, slots=True)
class HostSource:
    """A picture in ordinary memory.

    Attributes:
        kind: Layout of its pixels.
        planes: `uint8` views (10 bits: `uint16`), valid while the picture is open; pixels of a row stand together, rows
            may be padded. BGR, RGB: one, `[h, w, 3]`; NV12: `[h, w]` and `[(h+1)/2, (w+1)/2, 2]`; I420: `[h, w]` and
            twice `[(h+1)/2, (w+1)/2]`.
        place: Where the upright picture stands in the input.
        colour: How to read YUV; None for BGR and RGB.
    """

    kind: SurfaceKind
    planes: tuple[NDArray[np.uint8] | NDArray[np.uint16], ...]
    place: Geometry
    colour: YuvColour | None


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """A picture in a GPU's memory.

    Attributes:
        device: Number of the GPU.
        surface: The picture; valid until `release` is called.
        place: Where the upright picture stands in the input.
        colour: How to read YUV; None for BGR and RGB.
        order: Makes a stream wait until the picture is decoded; None: it is.
        release: To be called once, when no engine reads the surface any more; any thread.
    """

    device: int
    surface: Surface
    place: Geometry
    colour: YuvColour | None
    order: Callable[[Stream], None] | None
    release: Callable[[], None]
