"""Bring pictures, as they were decoded, into pinned memory, for a device that letterboxes them itself.

Every byte is copied once, by NumPy, which lets go of the interpreter meanwhile. What the CPU gains by it is little: a
1080p I420 picture is 3.1 MB to be copied, and the letterbox reads no more than four samples for each that it writes.
Interleaved on a noisy machine of two cores (medians of three runs), staging took 0.65 to 1.1 of the time of the CPU's
letterbox into 416x416, 0.43 to 0.74 of that into 640x640; and the upload grows from 0.5 or 1.2 MB to 3.1 MB a frame.
So it pays where inputs are large, or several engines look at one picture, and PCIe has room; hardly at 416. Where a
decoder leaves its pictures on the device there is nothing to stage, and there the kernel earns its keep.

Threads: any; a `Staging` has no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.gpu.base import PictureLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.base import PinnedBuffer
    from vedette_engines.cuda.letterboxing import SurfaceKind

# Two sectors of the device's memory; FFmpeg's rows are such multiples, too.
_PITCH_BYTES = 64
_PLANE_BYTES = 256


class Staging:
    """Lays pictures out in pinned memory."""

    def layout_of(self, kind: SurfaceKind, width: int, height: int) -> PictureLayout:
        """Tell how a picture of this size will lie.

        Rows begin at multiples of 64 bytes, planes at multiples of 256; what lies between them is never read.

        Args:
            kind: Layout of its pixels.
            width: Width in pixels, as coded.
            height: Height in pixels.

        Raises:
            ValueError: The size is below 1x1.
        """
        if width < 1 or height < 1:
            raise ValueError(f"picture is {width}x{height}; allowed is 1x1 and up")
        places, pitches, end = [], [], 0
        for row_bytes, rows in kind.planes(width, height):
            pitch = _up_to(row_bytes, _PITCH_BYTES)
            places.append(_up_to(end, _PLANE_BYTES))
            pitches.append(pitch)
            end = places[-1] + pitch * rows
        return PictureLayout(kind, width, height, tuple(places), tuple(pitches), end)

    def stage(
        self,
        planes: Sequence[NDArray[np.uint8] | NDArray[np.uint16]],
        layout: PictureLayout,
        memory: PinnedBuffer,
    ) -> None:
        """Copy a picture into pinned memory, from its first byte on.

        Args:
            planes: Views of the planes; pixels of a row stand together, rows may be padded. `uint8`, of P010 `uint16`
                in the machine's order. BGR, RGB: one, `[h, w, 3]`; NV12, P010: `[h, w]` and `[(h+1)/2, (w+1)/2, 2]`;
                I420: `[h, w]` and twice `[(h+1)/2, (w+1)/2]`.
            layout: From `layout_of`, for the picture's kind and size.
            memory: At least `layout.size_bytes`; nothing on the device reads it now.

        Raises:
            ValueError: The planes are not those of the layout, or the memory is too small.
        """
        if memory.array.size < layout.size_bytes:
            raise ValueError(f"pinned memory has {memory.array.size} bytes; the picture needs {layout.size_bytes}")
        wanted = layout.kind.planes(layout.width, layout.height)
        given = tuple((plane.itemsize * (plane.size // len(plane)), len(plane)) for plane in planes)
        if given != wanted:
            raise ValueError(
                f"planes have {given} bytes and rows; {layout.kind.name} of {layout.width}x{layout.height} has {wanted}"
            )
        for plane, at, pitch in zip(planes, layout.plane_at, layout.pitches, strict=True):
            np.copyto(_view(memory.array, at, pitch, plane), plane)


def _view(
    memory: NDArray[np.uint8], at: int, pitch: int, plane: NDArray[np.uint8] | NDArray[np.uint16]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """See the place of a plane in memory, shaped as the plane is."""
    steps = [plane.itemsize]
    for size in plane.shape[:1:-1]:
        steps.insert(0, steps[0] * size)
    return np.ndarray(plane.shape, plane.dtype, memory.data, at, (pitch, *steps))


def _up_to(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
