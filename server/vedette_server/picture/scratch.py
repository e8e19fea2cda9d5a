"""Working memory for resizing and converting, one for every thread that does so.

A canvas is a picture at its final size, still in the source's layout. Canvases are kept for the
sizes used last, so that the usual frame allocates nothing but swscale's result.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from collections.abc import Hashable

    from av.video.plane import VideoPlane
    from numpy.typing import NDArray

    from vedette_server.picture.colour import Colour

MAX_CANVASES = 16
MAX_BUFFERS = 2
MAX_BUFFER_BYTES = 8 << 20


class Canvas:
    """A picture of fixed size in one of FFmpeg's 8-bit layouts, and its way to BGR.

    Args:
        layout: `yuv422p` or `nv12`.
        width: Width in pixels.
        height: Height in pixels.

    Attributes:
        planes: ``uint8`` views of the frame's memory, ``[h, w]`` each, ``[h, w, 2]`` for interleaved chroma.
    """

    def __init__(self, layout: str, width: int, height: int) -> None:
        self._frame = av.VideoFrame(width, height, layout)
        self._reformatter = VideoReformatter()
        self.planes = plane_views(self._frame)

    def to_bgr(self, colour: Colour) -> NDArray[np.uint8]:
        """Convert what the planes hold.

        Returns:
            ``uint8 [height, width, 3]``, BGR, rows may be padded; memory of its own.
        """
        return frame_to_bgr(self._reformatter, self._frame, self._frame.width, self._frame.height, colour)


class Scratch:
    """Canvases and arrays of one thread, the least recently used let go.

    Made on the thread that uses it: it also sets, for that thread, that Intel's IPP may resize, which is two to
    three times faster and differs by one grey level at most. OpenCV keeps that switch per thread.
    """

    def __init__(self) -> None:
        cv2.ipp.setUseIPP_NotExact(True)
        self._canvases: OrderedDict[Hashable, Canvas | VideoReformatter | NDArray[Any]] = OrderedDict()

    def canvas(self, layout: str, width: int, height: int) -> Canvas:
        """Return the thread's canvas of this layout and size."""
        key = (layout, width, height)
        found = self._canvases.get(key)
        if not isinstance(found, Canvas):
            found = Canvas(layout, width, height)
        self._keep(key, found)
        return found

    def reformatter(self, *key: Hashable) -> VideoReformatter:
        """Return the thread's reformatter for one kind of work; it keeps its tables while the kind stays."""
        found = self._canvases.get(key)
        if not isinstance(found, VideoReformatter):
            found = VideoReformatter()
        self._keep(key, found)
        return found

    def pixels(self, width: int, height: int, channels: int) -> NDArray[np.uint8]:
        """Return the thread's array ``uint8 [height, width, channels]`` (``[height, width]`` for one)."""
        key = ("pixels", width, height, channels)
        found = self._canvases.get(key)
        if not isinstance(found, np.ndarray):
            found = np.empty((height, width, channels) if channels > 1 else (height, width), np.uint8)
        self._keep(key, found)
        return found

    def wide_pixels(self, width: int, height: int, channels: int) -> NDArray[np.uint16]:
        """Return the thread's array ``uint16 [height, width, channels]`` (``[height, width]`` for one)."""
        key = ("wide", width, height, channels)
        found = self._canvases.get(key)
        if not isinstance(found, np.ndarray):
            found = np.empty((height, width, channels) if channels > 1 else (height, width), np.uint16)
        self._keep(key, found)
        return found

    @staticmethod
    def resize(pixels: NDArray[Any], target: NDArray[Any]) -> None:
        """Resize ``pixels`` bilinearly to the shape of ``target``, into it."""
        cv2.resize(pixels, (target.shape[1], target.shape[0]), dst=target)

    def _keep(self, key: Hashable, found: Canvas | VideoReformatter | NDArray[Any]) -> None:
        self._canvases[key] = found
        self._canvases.move_to_end(key)
        if len(self._canvases) > MAX_CANVASES:
            self._canvases.popitem(last=False)


class BufferStack(threading.local):
    """Flat buffers that were used lately, of the calling thread: one that is still in the CPU's cache comes first.

    Whoever takes a buffer owns it until it gives it back, on any thread, or forgets it.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """Return ``uint8 [n]``, n at least ``size_bytes``; what it holds is anything."""
        while self._free:
            found = self._free.pop()
            if len(found) >= size_bytes:
                return found
        return np.empty(size_bytes, np.uint8)

    def give(self, buffer: NDArray[np.uint8]) -> None:
        """Give a buffer back; large ones, and more than a few, are let go."""
        if len(buffer) <= MAX_BUFFER_BYTES and len(self._free) < MAX_BUFFERS:
            self._free.append(buffer)


class ScratchPerThread(threading.local):
    """Gives every thread a scratch of its own, made when it first asks."""

    _scratch: Scratch | None = None

    def get(self) -> Scratch:
        """Return the calling thread's scratch."""
        if self._scratch is None:
            self._scratch = Scratch()
        return self._scratch


def plane_views(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Look at the planes of an 8-bit frame without copying.

    Returns:
        Per plane ``uint8 [h, w]``, ``[h, w, 2]`` for interleaved chroma; the memory is the frame's.
    """
    interleaved = frame.format.name == "nv12"
    views = []
    for index, plane in enumerate(frame.planes):
        rows = _rows(plane)
        if index and interleaved:
            views.append(rows[: plane.height, : plane.width * 2].reshape(plane.height, plane.width, 2))
        else:
            views.append(rows[: plane.height, : plane.width])
    return views


def wide_plane_views(frame: av.VideoFrame) -> list[NDArray[np.uint16]]:
    """Look at the planes of a frame of 10 bits without copying: as ``plane_views``, of ``uint16``."""
    interleaved = frame.format.name == "p010le"
    views = []
    for index, plane in enumerate(frame.planes):
        channels = 2 if index and interleaved else 1
        rows = _rows(plane).view("<u2")[: plane.height, : plane.width * channels]
        views.append(rows.reshape(plane.height, plane.width, 2) if channels == 2 else rows)
    return views


def frame_to_bgr(
    reformatter: VideoReformatter, frame: av.VideoFrame, width: int, height: int, colour: Colour | None
) -> NDArray[np.uint8]:
    """Let swscale convert a frame, and resize it where the sizes differ.

    Args:
        reformatter: The calling thread's.
        frame: The frame, of any software or hardware format.
        width: Wanted width in pixels.
        height: Wanted height in pixels.
        colour: How to read YUV samples; None for RGB.

    Returns:
        ``uint8 [height, width, 3]``, BGR, rows may be padded; memory of its own.

    Raises:
        av.FFmpegError: swscale cannot.
    """
    matrix, sample_range = colour or (None, None)
    # One thread: the decoder pool is the parallelism; swscale would take every core.
    result = reformatter.reformat(
        frame, width, height, "bgr24", src_colorspace=matrix, src_color_range=sample_range, threads=1
    )
    return _rows(result.planes[0])[:height, : width * 3].reshape(height, width, 3)


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """Look at a plane as rows of bytes, padding included."""
    # PyAV's planes have the buffer protocol, its stubs do not say so.
    return np.frombuffer(cast("bytes", plane), np.uint8).reshape(-1, plane.line_size)
