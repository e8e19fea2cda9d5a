"""One picture of compressed video, as its decoder left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.describing import video_frame_source

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from vedette_server.data.format import VideoFormat
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.source import HostSource


class VideoPicture:
    """One decoded picture, still as the decoder left it.

    Args:
        frame: The decoder's frame; held until ``close``.
        fmt: Says the rotation, and the colours where the bitstream does not.
    """

    __slots__ = ("_fmt", "_frame", "_size")

    def __init__(self, frame: VideoFrame, fmt: VideoFormat) -> None:
        self._frame: VideoFrame | None = frame
        self._fmt = fmt
        self._size = (frame.width, frame.height)

    @property
    def width(self) -> int:
        """Upright width in pixels."""
        return self._size[1 if self._fmt.rotation_degrees in {90, 270} else 0]

    @property
    def height(self) -> int:
        """Upright height in pixels."""
        return self._size[0 if self._fmt.rotation_degrees in {90, 270} else 1]

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes it upright."""
        return self._fmt.rotation_degrees

    @property
    def frame(self) -> VideoFrame:
        """The decoder's frame, not to be changed.

        Raises:
            ValueError: The picture is closed.
        """
        if self._frame is None:
            raise ValueError("the picture is closed")
        return self._frame

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Resize, convert, turn and pad the picture into ``slot``: ``uint8 [height, width, 3]``, BGR."""
        fmt = self._fmt
        turn = fmt.rotation_degrees
        video_frame_into(self.frame, slot, fit, turn, fmt.color_space, fmt.color_range, fmt.sample_aspect)

    def source(self, fit: Letterbox) -> HostSource | None:
        """Give the frame's planes; None for layouts other than 8-bit 4:2:0, NV12 and P010."""
        return video_frame_source(self.frame, fit, self._fmt)

    def close(self) -> None:
        """Give the frame back to the decoder."""
        self._frame = None
