"""Decode on the CPU, through PyAV: FFmpeg behind the seam of `backend.py`.

One thread, no delay but the stream's own reordering. FFmpeg's messages are read on the thread that decodes, so PyAV's
log level and its folding of repeated messages are set for the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import av
import av.logging
from av.codec.context import Flags
from av.error import FFmpegError

from vedette_server.data.format import Codec
from vedette_server.decode.answers import Pending
from vedette_server.decode.backend import Shown
from vedette_server.decode.damage import damage_in
from vedette_server.decode.padded import padded_packet
from vedette_server.decode.video_picture import VideoPicture

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.backend import Backend, Start
    from vedette_server.decode.bitstream.unit import AccessUnit
    from vedette_server.decode.limits import PictureLimits

DECODERS = {
    Codec.H264: "h264",
    Codec.HEVC: "hevc",
    Codec.AV1: "libdav1d",
    # FFmpeg's own VP9 decoder costs the same and takes cut-off data for a picture.
    Codec.VP9: "libvpx-vp9",
    Codec.MPEG4: "mpeg4",
}
NAL_CODECS = frozenset({Codec.H264, Codec.HEVC})
_CODED_MARGIN_PX = 128


class SoftwareBackend:
    """FFmpeg's decoder of one stream.

    Args:
        fmt: The stream's coding, and how its pictures are shown.
        extradata: Its decoder configuration.
        limits: The largest picture that is decoded.
    """

    prompt = True

    def __init__(self, fmt: VideoFormat, extradata: bytes, limits: PictureLimits) -> None:
        av.logging.set_level(av.logging.INFO)
        av.logging.set_skip_repeated(False)
        self._fmt = fmt
        self._extradata = extradata
        self._limits = limits
        self.forgetful = fmt.codec not in NAL_CODECS
        self.renew()

    @property
    def reorder_depth(self) -> int:
        """How many packets it holds back to sort their pictures."""
        return self._context.reorder_depth

    def suits(self, unit: AccessUnit) -> bool:  # noqa: ARG002 - FFmpeg takes whatever comes
        """Tell that it can go on."""
        return True

    def feed(self, data: bytes, pending: Pending | None) -> tuple[list[Shown], str]:
        """Call FFmpeg; return its pictures, and in words what went wrong."""
        packet = padded_packet(data)
        packet.opaque = pending
        self._fed = True
        error = ""
        with av.logging.Capture() as messages:
            try:
                frames = self._context.decode(packet)
            except (FFmpegError, ValueError, MemoryError) as exc:
                frames, error = [], str(exc) or type(exc).__name__
        return self._shown(frames), damage_in(messages) or error

    def drain(self) -> list[Shown]:
        """Take out the pictures that FFmpeg holds back, and make it forget all others."""
        if not self._fed:
            return []
        self._fed = False
        try:
            frames = self._context.decode(None)
        except (FFmpegError, ValueError, MemoryError):
            frames = []
        depth = self._context.reorder_depth
        self._context.flush_buffers()
        # FFmpeg forgets the depth as well, and would show the first pictures out of order.
        self._context.reorder_depth = depth
        return self._shown(frames)

    def renew(self) -> None:
        """Replace FFmpeg's decoder: flushing does not cure it of all errors."""
        self._context = open_context(self._fmt.codec, self._extradata, self._limits)
        self._fed = False

    def close(self) -> None:
        """Let go of FFmpeg's decoder; may be called twice."""
        self._extradata = b""
        self.renew()

    def _shown(self, frames: list[VideoFrame]) -> list[Shown]:
        shown = []
        for frame in frames:
            pending = frame.opaque
            frame.opaque = None
            if isinstance(pending, Pending):
                picture = VideoPicture(frame, self._fmt)
                shown.append(Shown(pending, picture, frame.width, frame.height, frame.is_corrupt))
        return shown


class CpuChooser:
    """Leaves a stream to FFmpeg.

    Args:
        fmt: The stream's coding.
        limits: The largest picture that is decoded.
        on_close: Called when the stream is over; more than once does no harm.
    """

    def __init__(self, fmt: VideoFormat, limits: PictureLimits, on_close: Callable[[], None] = lambda: None) -> None:
        self._fmt = fmt
        self._limits = limits
        self._on_close = on_close

    def choose(self, current: Backend, start: Start) -> Backend:  # noqa: ARG002 - whatever comes
        """Stay with the current one."""
        return current

    def lost(self, backend: Backend, why: str, start: Start | None) -> Backend:  # noqa: ARG002 - it never is
        """Begin anew."""
        return SoftwareBackend(self._fmt, self._fmt.extradata, self._limits)

    def close(self) -> None:
        """Tell that the stream is over."""
        self._on_close()


def open_context(codec: Codec, extradata: bytes, limits: PictureLimits) -> VideoCodecContext:
    """Open FFmpeg's decoder; extradata that it refuses is left out, the stream may bring its parameter sets itself."""
    context = _new_context(codec, limits)
    if extradata:
        context.extradata = extradata
        try:
            context.open()
        except (FFmpegError, ValueError, MemoryError):
            context = _new_context(codec, limits)
    return context


def _new_context(codec: Codec, limits: PictureLimits) -> VideoCodecContext:
    context = cast("VideoCodecContext", av.CodecContext.create(DECODERS[codec], "r"))
    context.thread_count = 1
    context.copy_opaque = True
    # Otherwise FFmpeg keeps doubtful pictures to itself, and their packets wait.
    context.flags |= Flags.output_corrupt
    pixels = (limits.max_width + _CODED_MARGIN_PX) * (limits.max_height + _CODED_MARGIN_PX)
    context.options = {"max_pixels": str(pixels), "err_detect": "crccheck"}
    return context
