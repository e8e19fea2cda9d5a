"""Describe decoded pictures for an engine that letterboxes on its device; see `source.py`.

Where a picture stands in the input and how its colours are read is decided by the functions of the CPU's path
(`convert.py`), so that both give the same picture; tests state how near.

Threads: any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.cuda.colour import yuv_colour
from vedette_engines.cuda.letterboxing import SurfaceKind
from vedette_server.data.format import ColorRange, PixelFormat
from vedette_server.picture.colour import choose_colour
from vedette_server.picture.convert import MATRIX_UNSAID, RANGE_UNSAID, frame_colour
from vedette_server.picture.scratch import plane_views, wide_plane_views
from vedette_server.picture.source import HostSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.colour import YuvColour
    from vedette_server.data.format import VideoFormat
    from vedette_server.picture.colour import Colour
    from vedette_server.picture.letterbox import Letterbox

# 10 bits in three planes would have to be interleaved first: the CPU letterboxes those.
_LAYOUTS = {
    "yuv420p": SurfaceKind.I420,
    "yuvj420p": SurfaceKind.I420,
    "nv12": SurfaceKind.NV12,
    "p010le": SurfaceKind.P010,
}
_RAW = {
    PixelFormat.BGR24: SurfaceKind.BGR,
    PixelFormat.RGB24: SurfaceKind.RGB,
    PixelFormat.NV12: SurfaceKind.NV12,
    PixelFormat.I420: SurfaceKind.I420,
}


def video_frame_source(frame: av.VideoFrame, fit: Letterbox, fmt: VideoFormat) -> HostSource | None:
    """Describe a decoded video frame; its planes stay the frame's.

    Args:
        frame: The frame.
        fit: The engine's input size and placement.
        fmt: Says the rotation, and the colours where the bitstream does not.

    Returns:
        None: the frame has no layout that a device takes.
    """
    kind = _LAYOUTS.get(frame.format.name)
    if kind is None:
        return None
    planes = wide_plane_views(frame) if kind is SurfaceKind.P010 else plane_views(frame)
    place = fit.place(frame.width, frame.height, fmt.rotation_degrees, fmt.sample_aspect)
    return HostSource(kind, tuple(planes), place, device_colour(frame_colour(frame, fmt.color_space, fmt.color_range)))


def planes_source(planes: Sequence[NDArray[np.uint8]], fit: Letterbox, fmt: VideoFormat) -> HostSource | None:
    """Describe a raw picture.

    Args:
        planes: As `planes_into` takes them.
        fit: The engine's input size and placement.
        fmt: Says pixel format, rotation and colours.

    Returns:
        None: the pixel format is none that a device takes.
    """
    kind = _RAW.get(fmt.pixel_format) if fmt.pixel_format else None
    if kind is None:
        return None
    height, width = planes[0].shape[:2]
    colour = None
    if not kind.is_packed:
        chosen = choose_colour(MATRIX_UNSAID, RANGE_UNSAID, height, fmt.color_space, fmt.color_range)
        colour = device_colour(chosen)
    return HostSource(kind, tuple(planes), fit.place(width, height, fmt.rotation_degrees, fmt.sample_aspect), colour)


def bgr_source(pixels: NDArray[np.uint8], fit: Letterbox, fmt: VideoFormat, coded_size: tuple[int, int]) -> HostSource:
    """Describe a picture that is BGR already.

    Args:
        pixels: `uint8 [h, w, 3]`, BGR, rows may be padded.
        fit: The engine's input size and placement.
        fmt: Says the rotation.
        coded_size: Width and height of the picture in full, where `pixels` are a smaller version of it.
    """
    place = fit.place(*coded_size, fmt.rotation_degrees, fmt.sample_aspect)
    return HostSource(SurfaceKind.BGR, (pixels,), place, None)


def device_colour(colour: Colour) -> YuvColour:
    """Give the kernel's numbers of a matrix and a range."""
    return yuv_colour(colour.matrix, full_range=colour.range == ColorRange.FULL)
