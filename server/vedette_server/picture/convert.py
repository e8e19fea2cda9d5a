"""Resize, convert, turn and pad a picture into a slot, once and at the cheapest point.

YUV pictures are resized plane by plane, where they lie, and only the few pixels that are left become
BGR: measured (`bench/convert.py`), that takes 0.45 to 0.7 of the CPU time of converting first, and
differs from it by less than one grey level on average. 10 bits of 4:2:0 are rounded to 8 after the
resize. Layouts that are rare in cameras (packed, RGB, device memory) go through swscale as a whole.

Resizing is bilinear also for large ratios, as in the loops that models are trained and judged with;
INTER_AREA would alias less, costs about twice as much, and gives other scores.

Threads: any; each has working memory of its own. The process's wiring calls `cv2.setNumThreads(1)`
once before: the decoder pool is the parallelism, and OpenCV's threads would fight with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from av.error import FFmpegError

from vedette_server.data.format import ColorRange, ColorSpace, PixelFormat
from vedette_server.errors import UndecodableError
from vedette_server.picture.colour import choose_colour
from vedette_server.picture.letterbox import SQUARE
from vedette_server.picture.scratch import ScratchPerThread, frame_to_bgr, plane_views, wide_plane_views

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    import av
    from numpy.typing import NDArray

    from vedette_server.picture.colour import Colour
    from vedette_server.picture.letterbox import Geometry, Letterbox

_scratches = ScratchPerThread()

# 8-bit layouts of three planes, luma first; a fourth is alpha.
_PLANAR = frozenset(
    f"yuv{prefix}{sampling}p" for prefix in ("", "j", "a") for sampling in ("410", "411", "420", "422", "440", "444")
)
_LAYOUT = {PixelFormat.NV12: "nv12", PixelFormat.I420: "yuv422p"}
# What brings samples of 10 bits to 8: in P010 the upper bits hold them.
_WIDE = {"yuv420p10le": 1 / 4, "p010le": 1 / 256}
_TURN = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_STRETCH = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
MATRIX_UNSAID, RANGE_UNSAID = 2, 0
"""What AVColorSpace and AVColorRange say where nobody said anything."""


def video_frame_into(
    frame: av.VideoFrame,
    slot: NDArray[np.uint8],
    fit: Letterbox,
    rotation_degrees: int = 0,
    color_space: ColorSpace = ColorSpace.UNSPECIFIED,
    color_range: ColorRange = ColorRange.UNSPECIFIED,
    sample_aspect: Fraction = SQUARE,
) -> None:
    """Letterbox a decoded video frame.

    Args:
        frame: The frame; left alone.
        slot: ``uint8 [fit.height, fit.width, 3]``, BGR, C-contiguous; wholly overwritten.
        fit: The engine's input size and placement.
        rotation_degrees: Clockwise turn that makes the picture upright: 0, 90, 180, 270.
        color_space: Matrix, where the bitstream does not say.
        color_range: Sample range, where the bitstream does not say.
        sample_aspect: Width of a coded sample over its height.

    Raises:
        UndecodableError: The frame's layout cannot be converted.
    """
    layout = frame.format.name
    colour = frame_colour(frame, color_space, color_range)
    place = fit.place(frame.width, frame.height, rotation_degrees, sample_aspect)
    try:
        if layout in _PLANAR:
            pixels = _resize_planes(plane_views(frame)[:3], "yuv422p", place, colour)
        elif layout == "nv12":
            pixels = _resize_planes(plane_views(frame), layout, place, colour)
        elif layout in _WIDE:
            pixels = _resize_wide(wide_plane_views(frame), _WIDE[layout], place, colour)
        elif layout == "gray":
            pixels = _grey_to_bgr(_resized(plane_views(frame)[0], place), colour.range)
        else:
            pixels = _resize_whole(frame, place, colour)
    except (FFmpegError, cv2.error) as error:
        raise UndecodableError(f"a {frame.width}x{frame.height} {layout} frame cannot be converted: {error}") from error
    _lay(pixels, slot, place, fit)


def frame_colour(frame: av.VideoFrame, color_space: ColorSpace, color_range: ColorRange) -> Colour:
    """Decide how a decoded frame's samples are read.

    Args:
        frame: The frame.
        color_space: Matrix, where the bitstream does not say.
        color_range: Sample range, where the bitstream does not say.
    """
    # The yuvj layouts are those of JPEG: their range is full whatever the frame's field says.
    frame_range = ColorRange.FULL if frame.format.name.startswith("yuvj") else frame.color_range
    return choose_colour(frame.colorspace, frame_range, frame.height, color_space, color_range)


def planes_into(
    planes: Sequence[NDArray[np.uint8]],
    pixel_format: PixelFormat,
    slot: NDArray[np.uint8],
    fit: Letterbox,
    rotation_degrees: int = 0,
    color_space: ColorSpace = ColorSpace.UNSPECIFIED,
    color_range: ColorRange = ColorRange.UNSPECIFIED,
    sample_aspect: Fraction = SQUARE,
) -> None:
    """Letterbox an uncompressed picture.

    Args:
        planes: ``uint8`` views, left alone; pixels of a row stand together, rows may be padded. BGR24 and
            RGB24: one, ``[h, w, 3]``; GRAY8: one, ``[h, w]``; NV12: ``[h, w]`` and ``[(h+1)/2, (w+1)/2, 2]``;
            I420: ``[h, w]`` and twice ``[(h+1)/2, (w+1)/2]``.
        pixel_format: Their layout.
        slot: ``uint8 [fit.height, fit.width, 3]``, BGR, C-contiguous; wholly overwritten.
        fit: The engine's input size and placement.
        rotation_degrees: Clockwise turn that makes the picture upright: 0, 90, 180, 270.
        color_space: Matrix of NV12 and I420.
        color_range: Sample range of NV12, I420 and GRAY8; GRAY8 is full unless it says limited.
        sample_aspect: Width of a coded sample over its height.
    """
    height, width = planes[0].shape[:2]
    place = fit.place(width, height, rotation_degrees, sample_aspect)
    match pixel_format:
        case PixelFormat.BGR24:
            _lay_resized(planes[0], slot, place, fit)
            return
        case PixelFormat.RGB24:
            pixels = np.asarray(cv2.cvtColor(_resized(planes[0], place), cv2.COLOR_RGB2BGR), np.uint8)
        case PixelFormat.GRAY8:
            pixels = _grey_to_bgr(_resized(planes[0], place), color_range)
        case _:
            colour = choose_colour(MATRIX_UNSAID, RANGE_UNSAID, height, color_space, color_range)
            pixels = _resize_planes(planes, _LAYOUT[pixel_format], place, colour)
    _lay(pixels, slot, place, fit)


def bgr_into(
    pixels: NDArray[np.uint8],
    slot: NDArray[np.uint8],
    fit: Letterbox,
    rotation_degrees: int = 0,
    sample_aspect: Fraction = SQUARE,
    coded_size: tuple[int, int] | None = None,
) -> None:
    """Letterbox a picture that is BGR already.

    Args:
        pixels: ``uint8 [h, w, 3]``, BGR, rows may be padded; left alone.
        slot: ``uint8 [fit.height, fit.width, 3]``, BGR, C-contiguous; wholly overwritten.
        fit: The engine's input size and placement.
        rotation_degrees: Clockwise turn that makes the picture upright: 0, 90, 180, 270.
        sample_aspect: Width of a coded sample over its height.
        coded_size: Width and height of the picture in full, where ``pixels`` are a smaller version of it.
    """
    width, height = coded_size or (pixels.shape[1], pixels.shape[0])
    _lay_resized(pixels, slot, fit.place(width, height, rotation_degrees, sample_aspect), fit)


def _resize_planes(
    planes: Sequence[NDArray[np.uint8]], layout: str, place: Geometry, colour: Colour
) -> NDArray[np.uint8]:
    """Resize YUV plane by plane, then convert what is left.

    Planar pictures pass through 4:2:2: it costs what 4:2:0 costs and keeps the rows of chroma (the golden loop has
    them); 4:4:4 has no fast way through swscale.
    """
    scratch = _scratches.get()
    canvas = scratch.canvas(layout, *place.coded_fit)
    for plane, target in zip(planes, canvas.planes, strict=True):
        scratch.resize(plane, target)
    return canvas.to_bgr(colour)


def _resize_wide(
    planes: Sequence[NDArray[np.uint16]], factor: float, place: Geometry, colour: Colour
) -> NDArray[np.uint8]:
    """Resize YUV of 10 bits plane by plane, round what is left to 8, then convert it; as ``_resize_planes``."""
    scratch = _scratches.get()
    canvas = scratch.canvas("yuv422p", *place.coded_fit)
    targets = iter(canvas.planes)
    for plane in planes:
        channels = plane.shape[2] if plane.ndim == 3 else 1
        chosen = [next(targets) for _ in range(channels)]
        wide = scratch.wide_pixels(chosen[0].shape[1], chosen[0].shape[0], channels)
        scratch.resize(plane, wide)
        for index, target in enumerate(chosen):
            # It rounds halves to the even neighbour; a little more rounds them up, as the kernel on devices does.
            cv2.convertScaleAbs(wide[..., index] if channels > 1 else wide, dst=target, alpha=factor, beta=1 / 1024)
    return canvas.to_bgr(colour)


def _resize_whole(frame: av.VideoFrame, place: Geometry, colour: Colour) -> NDArray[np.uint8]:
    """Leave a frame of any layout to swscale."""
    if frame.format.name.startswith("bayer"):
        # swscale aborts the process on some sizes of these; no codec of ours gives them.
        raise UndecodableError(f"{frame.format.name} frames are not supported")
    reformatter = _scratches.get().reformatter(frame.format.name, frame.width, frame.height, place.coded_fit)
    return frame_to_bgr(reformatter, frame, *place.coded_fit, None if frame.format.is_rgb else colour)


def _grey_to_bgr(pixels: NDArray[np.uint8], sample_range: int) -> NDArray[np.uint8]:
    """Repeat luma in all three colours, stretched where its range is limited (swscale never stretches grey)."""
    if sample_range == ColorRange.LIMITED:
        pixels = np.asarray(cv2.LUT(pixels, _STRETCH), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)


def _resized(pixels: NDArray[np.uint8], place: Geometry) -> NDArray[np.uint8]:
    """Resize interleaved pixels into the thread's memory; hand back those given where the size fits."""
    width, height = place.coded_fit
    if pixels.shape[:2] == (height, width):
        return pixels
    scratch = _scratches.get()
    target = scratch.pixels(width, height, pixels.shape[2] if pixels.ndim == 3 else 1)
    scratch.resize(pixels, target)
    return target


def _lay_resized(pixels: NDArray[np.uint8], slot: NDArray[np.uint8], place: Geometry, fit: Letterbox) -> None:
    """Resize BGR pixels straight into the slot where nothing has to be turned."""
    if place.rotation_degrees:
        _lay(_resized(pixels, place), slot, place, fit)
        return
    region = _pad(slot, place, fit)
    if pixels.shape == region.shape:
        np.copyto(region, pixels)
    else:
        _scratches.get().resize(pixels, region)


def _lay(pixels: NDArray[np.uint8], slot: NDArray[np.uint8], place: Geometry, fit: Letterbox) -> None:
    """Put pixels of the final size into the slot, turned."""
    region = _pad(slot, place, fit)
    if place.rotation_degrees:
        cv2.rotate(pixels, _TURN[place.rotation_degrees], dst=region)
    else:
        np.copyto(region, pixels)


def _pad(slot: NDArray[np.uint8], place: Geometry, fit: Letterbox) -> NDArray[np.uint8]:
    """Fill the strips around the picture and return the region in between.

    Raises:
        ValueError: The slot is not of the letterbox's size.
    """
    if slot.shape != (fit.height, fit.width, 3):
        raise ValueError(f"slot is {slot.shape}; the letterbox wants {(fit.height, fit.width, 3)}")
    right, bottom = place.left + place.fit_width, place.top + place.fit_height
    slot[: place.top] = fit.pad
    slot[bottom:] = fit.pad
    slot[place.top : bottom, : place.left] = fit.pad
    slot[place.top : bottom, right:] = fit.pad
    return slot[place.top : bottom, place.left : right]
