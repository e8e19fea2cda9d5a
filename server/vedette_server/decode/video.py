"""Decode one channel's compressed video: H.264, HEVC, AV1, VP9, MPEG-4 part 2, through PyAV.

Two questions are answered apart. What comes of a packet, FFmpeg says: one packet in, its picture out
some packets later, tied to it by the opaque field that FFmpeg carries from packet to frame. Whether a
picture may be believed, ``references`` says from the headers, and FFmpeg says by its errors, its
messages and its corrupt flag. A picture that one of them doubts is answered without pixels.

While decoding waits for a place to start, pictures are answered LOST_REFERENCE unseen: they cost
nothing, and FFmpeg is not confused by what it cannot decode.

What cannot be seen: a flipped bit in entropy-coded data may decode to another picture that is as
legal. Measured on single flips, H.264 shows about three in four, MPEG-4 half, AV1 and VP9 nearly all.
FFmpeg's HEVC decoder looks for no such damage at all, nor for a picture cut off in the last slice of a
packet with start codes; only a stream that carries picture hashes is safe from that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import av
import av.logging
from av.codec.context import Flags

from vedette_server.data.format import Codec
from vedette_server.data.outcome import SkipReason
from vedette_server.decode.answers import AnswerQueue, Pending
from vedette_server.decode.bitstream.inspect import open_reader
from vedette_server.decode.damage import damage_in
from vedette_server.decode.references.gaps import TimeGaps
from vedette_server.decode.references.opening import open_references
from vedette_server.errors import InvalidError, PictureTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoded
    from vedette_server.decode.bitstream.unit import AccessUnit
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.picture.letterbox import Letterbox

_DECODERS = {
    Codec.H264: "h264",
    Codec.HEVC: "hevc",
    Codec.AV1: "libdav1d",
    # FFmpeg's own VP9 decoder costs the same and takes cut-off data for a picture.
    Codec.VP9: "libvpx-vp9",
    Codec.MPEG4: "mpeg4",
}
_REORDERING = {Codec.H264, Codec.HEVC, Codec.MPEG4}
# VP9 and MPEG-4 headers do not count pictures: a missing one shows in the times alone.
_TIME_TOLERANCE = {Codec.VP9: 1.5, Codec.MPEG4: 1.5}
_OTHER_TOLERANCE = 8.0
_MAX_EXTRADATA_BYTES = 1 << 20
_CODED_MARGIN_PX = 128
_ERRORS_BEFORE_RENEWAL = 3


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
        from vedette_server.picture.convert import video_frame_into  # noqa: PLC0415

        fmt = self._fmt
        video_frame_into(self.frame, slot, fit, fmt.rotation_degrees, fmt.color_space, fmt.color_range)

    def close(self) -> None:
        """Give the frame back to the decoder."""
        self._frame = None


class VideoDecoder:
    """Decodes the packets of one channel; see the module for what it believes.

    One thread, no delay but the stream's own reordering. FFmpeg's messages are read on the thread that
    decodes, so PyAV's log level and its folding of repeated messages are set for the whole process.

    Args:
        fmt: The stream's coding; its ``extradata`` may be replaced by a packet's.
        limits: The largest picture that is decoded.

    Raises:
        InvalidError: The format is no video, or its extradata is too long.
    """

    def __init__(self, fmt: VideoFormat, limits: PictureLimits) -> None:
        if fmt.codec not in _DECODERS:
            raise InvalidError("CODEC_NOT_VIDEO", f"codec {fmt.codec.name} is no video codec")
        _check_extradata(fmt.extradata)
        av.logging.set_level(av.logging.INFO)
        av.logging.set_skip_repeated(False)
        self._fmt = fmt
        self._limits = limits
        self._queue = AnswerQueue()
        self._references = open_references(fmt.codec)
        self._gaps = TimeGaps(_TIME_TOLERANCE.get(fmt.codec, _OTHER_TOLERANCE), reorders=fmt.codec in _REORDERING)
        self._failures = 0
        self._begin(fmt.extradata)

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        """Feed one packet and return what can be answered now, in presentation order.

        Raises:
            PictureTooLargeError: The stream's pictures are over the limit; the channel must end. The
                packet stays to be answered by ``flush``.
        """
        started = time.perf_counter()
        answers = self._renew(packet)
        pending = self._queue.add(packet)
        unit = self._read(packet)
        self._check_size(unit, pending)
        restarts = self._references.restarts(unit)
        reason, detail = self._judge(unit)
        if reason is not None:
            self._queue.resolve(pending, reason, detail)
        if restarts and self._fed:
            answers += self._restart()
        if reason is None or (not unit.error and self._references.needs(unit)):
            answers += self._feed(packet.data, pending, unit)
        elif unit.parameters:
            self._decode(unit.parameters, None)
        pending.decode_s += time.perf_counter() - started
        answers += self._queue.settle(self._context.reorder_depth)
        return answers

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        """Answer a packet that shedding keeps from the decoder, and remember what it breaks."""
        answers = self._renew(packet)
        pending = self._queue.add(packet)
        unit = self._read(packet)
        self._check_size(unit, pending)
        if unit.parameters:
            self._decode(unit.parameters, None)
        if unit.shows_picture is not False or unit.error:
            self._judge(unit)
            self._references.lose(unit, "a picture that others refer to was shed")
        self._queue.resolve(pending, reason, "shed")
        return answers + self._queue.settle(self._context.reorder_depth)

    def flush(self) -> Sequence[Decoded]:
        """Answer all packets still held; what follows must start with a keyframe."""
        answers = self._drain() + self._queue.finish()
        self._references.distrust("the stream was cut")
        return answers

    def close(self) -> None:
        """Let go of FFmpeg's decoder; may be called twice."""
        self._queue = AnswerQueue()
        self._begin(b"")

    def _begin(self, extradata: bytes) -> None:
        self._extradata = extradata
        self._headers = open_reader(self._fmt.codec, extradata)
        self._renew_context()

    def _renew_context(self) -> None:
        context = cast("VideoCodecContext", av.CodecContext.create(_DECODERS[self._fmt.codec], "r"))
        context.thread_count = 1
        context.copy_opaque = True
        # Otherwise FFmpeg keeps doubtful pictures to itself, and their packets wait.
        context.flags |= Flags.output_corrupt
        limits = self._limits
        pixels = (limits.max_width + _CODED_MARGIN_PX) * (limits.max_height + _CODED_MARGIN_PX)
        context.options = {"max_pixels": str(pixels), "err_detect": "crccheck"}
        if self._extradata:
            context.extradata = self._extradata
        self._context = context
        self._fed = False

    def _renew(self, packet: Packet) -> list[Decoded]:
        """Start over with a packet's new decoder configuration, after what the old one still holds."""
        if packet.discontinuity:
            self._references.distrust("the client says that packets are missing")
        if gap := self._gaps.gap_before(packet):
            self._references.distrust(gap)
        extradata = packet.extradata
        if not extradata or extradata == self._extradata or len(extradata) > _MAX_EXTRADATA_BYTES:
            return []
        answers = self._drain()
        self._references.distrust("the decoder's configuration changed")
        self._begin(extradata)
        return answers

    def _read(self, packet: Packet) -> AccessUnit:
        unit = self._headers.read(packet.data)
        if not packet.data:
            unit.error = "the packet is empty"
        return unit

    def _check_size(self, unit: AccessUnit, pending: Pending) -> None:
        try:
            self._limits.check(unit.width, unit.height)
        except PictureTooLargeError as exc:
            self._queue.resolve(pending, SkipReason.UNDECODABLE, exc.message)
            raise

    def _judge(self, unit: AccessUnit) -> tuple[SkipReason | None, str]:
        """Say what the headers alone have against a packet."""
        if unit.error:
            self._references.lose(unit, f"a packet could not be read: {unit.error}")
            return SkipReason.UNDECODABLE, unit.error
        if unit.shows_picture is False and not _stores_pictures(unit):
            return None, ""
        lacking = self._references.judge(unit)
        return (SkipReason.LOST_REFERENCE, lacking) if lacking else (None, "")

    def _feed(self, data: bytes, pending: Pending, unit: AccessUnit) -> list[Decoded]:
        """Decode one packet, and doubt what its errors, messages and flags make doubtful."""
        frames, trouble = self._decode(data, pending)
        if trouble and _has_pictures(unit):
            self._spoil(pending, unit, trouble)
        elif unit.shows_picture is False:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "it holds no picture to show")
        elif trouble:
            self._queue.resolve(pending, SkipReason.UNDECODABLE, trouble)
        answers = self._show(frames)
        if not frames and self._fmt.codec in {Codec.AV1, Codec.VP9}:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "no picture came of it")
        return answers

    def _spoil(self, pending: Pending, unit: AccessUnit, trouble: str) -> None:
        if pending.answer is None:
            self._failures += unit.keyframe
            self._references.lose(unit, f"a picture before it is broken: {trouble}")
        self._queue.resolve(pending, SkipReason.UNDECODABLE, trouble)

    def _decode(self, data: bytes, pending: Pending | None) -> tuple[list[VideoFrame], str]:
        """Call FFmpeg; return its frames, and in words what went wrong."""
        packet = av.Packet(data)
        packet.opaque = pending
        self._fed = True
        error = ""
        with av.logging.Capture() as messages:
            try:
                frames = self._context.decode(packet)
            except (av.FFmpegError, ValueError, MemoryError) as exc:
                frames, error = [], str(exc) or type(exc).__name__
        return frames, damage_in(messages) or error

    def _show(self, frames: list[VideoFrame]) -> list[Decoded]:
        answers: list[Decoded] = []
        for frame in frames:
            pending = frame.opaque
            frame.opaque = None
            if not isinstance(pending, Pending):
                continue
            if frame.is_corrupt and pending.answer is None:
                self._references.distrust("a picture before it is broken")
                self._queue.resolve(pending, SkipReason.UNDECODABLE, "the decoder marked it as corrupt")
            if pending.answer is None:
                self._limits.check(frame.width, frame.height)
                self._failures = 0
            answers += self._queue.show(pending, VideoPicture(frame, self._fmt))
        return answers

    def _drain(self) -> list[Decoded]:
        """Take out the pictures that FFmpeg holds back, and make it forget all others."""
        if not self._fed:
            return []
        try:
            frames = self._context.decode(None)
        except (av.FFmpegError, ValueError, MemoryError):
            frames = []
        depth = self._context.reorder_depth
        self._context.flush_buffers()
        # FFmpeg forgets the depth as well, and would show the first pictures out of order.
        self._context.reorder_depth = depth
        self._fed = False
        return self._show(frames)

    def _restart(self) -> list[Decoded]:
        answers = self._drain()
        if self._failures >= _ERRORS_BEFORE_RENEWAL:
            self._failures = 0
            self._renew_context()
        return answers


def _has_pictures(unit: AccessUnit) -> bool:
    return unit.shows_picture is not False or _stores_pictures(unit)


def _stores_pictures(unit: AccessUnit) -> bool:
    return bool(unit.av1 or unit.vp9)


def _check_extradata(extradata: bytes) -> None:
    if len(extradata) > _MAX_EXTRADATA_BYTES:
        raise InvalidError(
            "EXTRADATA_TOO_LONG",
            f"extradata has {len(extradata)} bytes; at most {_MAX_EXTRADATA_BYTES} are allowed",
        )
