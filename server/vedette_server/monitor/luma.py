"""A small grey picture of a decoded one, for the motion gate and for camera health.

Made from plane 0 of YUV as it lies in memory: no colour is converted, nothing but the result is written. Area-averaged,
so that noise is too; of tall pictures only some rows are read, since it is memory that costs. Pure; any thread. Cost,
one core: about 70 us for 480x270, 120 us for 768x432, 180 us for 1080p (700 us were all rows read); up to 10 us more
with lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vedette_server.decode.video_picture import VideoPicture
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.source import HostSource

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from vedette_server.decode.base import Picture

WIDTH, HEIGHT = 96, 54
LINES = 48
# Rows above this are not all read: an average over as many says the same.
_ROWS = 270
_FULL_RANGE = 2
_PLAIN_YUV = frozenset({"yuv420p", "yuvj420p", "nv12", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"})
# Stills and pictures of other layouts: decoded no larger than this where the decoder can scale.
_SMALL, _FINE = Letterbox(2 * WIDTH, 2 * HEIGHT), Letterbox(640, 360)
_STRETCH = np.clip((np.arange(256) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True, eq=False)
class Luma:
    """What monitoring looks at of one picture; arrays of its own.

    Attributes:
        grey: ``uint8 [54, 96]``, C-contiguous, the upright picture stretched to this size, black 0, white 255.
        lines: ``uint8 [48 or fewer, w]``, C-contiguous: rows of the source at even distances at full resolution, as
            they lie in memory (not turned), or None: a small picture has lost noise and sharpness, these have not.
    """

    grey: NDArray[np.uint8]
    lines: NDArray[np.uint8] | None = None


def luma_of(picture: Picture, *, lines: bool = False) -> Luma:
    """Look at a picture that is still open.

    Args:
        picture: Not changed.
        lines: With lines; camera health wants them twice a second, the motion gate does not.

    Raises:
        UndecodableError: The bytes of a still are broken.
    """
    if isinstance(picture, VideoPicture):
        return luma_of_frame(picture.frame, picture.rotation_degrees, lines=lines)
    fit = _FINE if lines else _SMALL
    source = picture.source(fit)
    if isinstance(source, HostSource):
        plane = source.planes[0]
        full = plane.ndim == 3
        return _look(_grey_plane(plane), picture.rotation_degrees, lines=lines, full_range=full)
    if source is not None:
        source.release()
    return _look(_letterboxed(picture, fit), 0, lines=lines, full_range=True)


def luma_of_frame(frame: VideoFrame, rotation_degrees: int = 0, *, lines: bool = False) -> Luma:
    """Look at a decoder's frame; see `luma_of`."""
    if frame.format.name in _PLAIN_YUV:
        first = frame.planes[0]
        pixels = np.frombuffer(memoryview(first), np.uint8).reshape(-1, first.line_size)[: frame.height, : frame.width]
        full = frame.format.name.startswith(("yuvj", "gray")) or frame.color_range == _FULL_RANGE
        return _look(pixels, rotation_degrees, lines=lines, full_range=full)
    converted: Any = frame.to_ndarray(format="gray")
    return _look(converted, rotation_degrees, lines=lines, full_range=True)


def luma_of_array(pixels: NDArray[np.uint8], *, lines: bool = False) -> Luma:
    """Look at an upright picture: ``uint8 [h, w]`` or ``uint8 [h, w, 3]`` BGR, full range; see `luma_of`."""
    return _look(_grey_plane(pixels), 0, lines=lines, full_range=True)


def _look(plane: NDArray[np.uint8], turn: int, *, lines: bool, full_range: bool) -> Luma:
    step = max(1, len(plane) // _ROWS)
    size = (HEIGHT, WIDTH) if turn in {90, 270} else (WIDTH, HEIGHT)
    grey: Any = cv2.resize(plane[step // 2 :: step], size, interpolation=cv2.INTER_AREA)
    if turn:
        grey = cv2.rotate(grey, _TURNS[turn])
    if not full_range:
        grey = cv2.LUT(grey, _STRETCH)
    return Luma(grey, _lines(plane) if lines else None)


def _lines(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = max(1, len(plane) // LINES)
    return np.ascontiguousarray(plane[step // 2 :: step][:LINES])


def _grey_plane(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the luma of a plane as it lies in memory: of YUV itself, of 10 bits the upper 8, of colours their mix."""
    if plane.dtype == np.uint16:
        plane = (plane >> 8).astype(np.uint8)
    if plane.ndim == 2:
        return plane
    mixed: Any = cv2.cvtColor(plane, cv2.COLOR_BGR2GRAY)
    return mixed  # type: ignore[no-any-return]


def _letterboxed(picture: Picture, fit: Letterbox) -> NDArray[np.uint8]:
    """Let a picture without a layout that is known be converted, and cut its padding off (of square samples)."""
    slot = np.empty((fit.height, fit.width, 3), np.uint8)
    picture.letterbox_into(slot, fit)
    place = fit.place(picture.width, picture.height)
    return _grey_plane(np.ascontiguousarray(slot[: place.fit_height, : place.fit_width]))
