"""Decode one channel's compressed video: H.264, HEVC, AV1, VP9, MPEG-4 part 2, through PyAV.

Two questions are answered apart. What comes of a packet, FFmpeg says: one packet in, its picture out
some packets later, tied to it by the opaque field that FFmpeg carries from packet to frame. Whether a
picture may be believed, ``references`` says from the headers, and FFmpeg says by its errors, its
messages and its corrupt flag. A picture that one of them doubts is answered without pixels.

While decoding waits for a place to start, pictures are answered LOST_REFERENCE unseen: they cost
nothing, and FFmpeg is not confused by what it cannot decode.

What cannot be seen: a flipped bit in entropy-coded data may decode to another picture that is as
legal. Of single flips in small clips, about one in eight passes unseen in VP9, one in four in H.264 and
AV1, two in five in MPEG-4; packets that are cut off are all seen. FFmpeg's HEVC decoder looks for neither:
nine flips in ten pass, and with start codes so does a picture cut off inside its last slice (with length
prefixes it is seen). A stream with picture hashes, and a sender that says which packets it knows to be
damaged, are the remedy. Losses that leave no trace in headers or times are named in ``references``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import av
import av.logging
from av.codec.context import Flags
from av.error import FFmpegError

from vedette_server.data.format import Codec
from vedette_server.data.outcome import SkipReason
from vedette_server.decode.answers import AnswerQueue, Pending
from vedette_server.decode.bitstream.inspect import open_reader
from vedette_server.decode.damage import damage_in, tells_only_of_references
from vedette_server.decode.references.gaps import TimeGaps
from vedette_server.decode.references.opening import open_references
from vedette_server.decode.video_picture import VideoPicture
from vedette_server.errors import InvalidError, PictureTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoded
    from vedette_server.decode.bitstream.unit import AccessUnit
    from vedette_server.decode.limits import PictureLimits

_DECODERS = {
    Codec.H264: "h264",
    Codec.HEVC: "hevc",
    Codec.AV1: "libdav1d",
    # FFmpeg's own VP9 decoder costs the same and takes cut-off data for a picture.
    Codec.VP9: "libvpx-vp9",
    Codec.MPEG4: "mpeg4",
}
_NAL_CODECS = {Codec.H264, Codec.HEVC}
_REORDERING = {Codec.H264, Codec.HEVC, Codec.MPEG4}
# VP9 and MPEG-4 headers do not count pictures: a missing one shows in the times alone.
_TIME_TOLERANCE = {Codec.VP9: 1.5, Codec.MPEG4: 1.5}
_OTHER_TOLERANCE = 8.0
_MAX_EXTRADATA_BYTES = 1 << 20
_CODED_MARGIN_PX = 128
_MAX_PARAMETERS = 16


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
        self._answers: list[Decoded] = []
        self._references = open_references(fmt.codec)
        self._gaps = TimeGaps(_TIME_TOLERANCE.get(fmt.codec, _OTHER_TOLERANCE), reorders=fmt.codec in _REORDERING)
        self._begin(fmt.extradata)

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        """Feed one packet and return what can be answered now, in presentation order.

        Raises:
            PictureTooLargeError: The stream's pictures are over the limit; the channel must end. The
                packet stays to be answered by ``flush``.
        """
        pending, unit = self._take(packet)
        restarts = self._references.restarts(unit)
        reason, detail = self._judge(unit)
        if reason is not None:
            self._queue.resolve(pending, reason, detail)
        if restarts:
            self._restart()
        if reason is None or (not unit.error and self._references.needs(unit)):
            self._feed(packet.data, pending, unit)
        elif unit.parameters:
            self._decode(unit.parameters, None)
        return self._settled()

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        """Answer a packet that shedding keeps from the decoder, and remember what it breaks.

        Raises:
            PictureTooLargeError: As ``decode``.
        """
        pending, unit = self._take(packet)
        if unit.parameters:
            self._decode(unit.parameters, None)
        if _has_pictures(unit) or unit.error:
            self._judge(unit)
            self._references.lose(unit, "a picture that others refer to was shed")
        self._queue.resolve(pending, reason, "shed")
        return self._settled()

    def flush(self) -> Sequence[Decoded]:
        """Answer all packets still held; what follows must start with a keyframe."""
        self._drain()
        self._references.distrust("the stream was cut")
        self._answers += self._queue.finish()
        return self._say()

    def close(self) -> None:
        """Let go of FFmpeg's decoder and of all that was not answered; may be called twice."""
        self._queue = AnswerQueue()
        self._answers = []
        self._begin(b"")

    def _begin(self, extradata: bytes) -> None:
        self._extradata = extradata
        self._headers = open_reader(self._fmt.codec, extradata)
        self._parameters: dict[bytes, None] = {}
        self._renew_context()

    def _renew_context(self) -> None:
        context = self._new_context()
        if self._extradata:
            context.extradata = self._extradata
            try:
                context.open()
            except (FFmpegError, ValueError, MemoryError):
                # Refused: the stream may still bring its parameter sets itself.
                context = self._new_context()
        self._context = context
        self._fed = self._tainted = False
        self._forgot = True

    def _new_context(self) -> VideoCodecContext:
        context = cast("VideoCodecContext", av.CodecContext.create(_DECODERS[self._fmt.codec], "r"))
        context.thread_count = 1
        context.copy_opaque = True
        # Otherwise FFmpeg keeps doubtful pictures to itself, and their packets wait.
        context.flags |= Flags.output_corrupt
        limits = self._limits
        pixels = (limits.max_width + _CODED_MARGIN_PX) * (limits.max_height + _CODED_MARGIN_PX)
        context.options = {"max_pixels": str(pixels), "err_detect": "crccheck"}
        return context

    def _take(self, packet: Packet) -> tuple[Pending, AccessUnit]:
        """Take in a packet: its configuration, its headers, and what it says about those before it."""
        if packet.discontinuity:
            self._references.distrust("the client says that packets are missing")
        if packet.extradata and packet.extradata != self._extradata:
            self._reconfigure(packet.extradata)
        pending = self._queue.add(packet)
        unit = self._headers.read(packet.data)
        if not packet.data:
            unit.error = "the packet is empty"
        if unit.parameters and not unit.error:
            self._remember(unit.parameters)
        if gap := self._gaps.gap_before(packet, keyframe=unit.keyframe):
            self._references.distrust(gap)
        if unit.h264 is not None and unit.h264.second:
            self._queue.pair(pending)
        try:
            self._limits.check(unit.width, unit.height)
        except PictureTooLargeError as exc:
            self._queue.resolve(pending, SkipReason.UNDECODABLE, exc.message)
            raise
        return pending, unit

    def _remember(self, parameters: bytes) -> None:
        """Keep the stream's own parameter sets, newest last, for a decoder that has to be replaced."""
        self._parameters.pop(parameters, None)
        self._parameters[parameters] = None
        if len(self._parameters) > _MAX_PARAMETERS:
            del self._parameters[next(iter(self._parameters))]

    def _reconfigure(self, extradata: bytes) -> None:
        """Start over with a new decoder configuration, after what the old decoder still holds."""
        if len(extradata) > _MAX_EXTRADATA_BYTES:
            self._references.distrust(f"a decoder configuration of {len(extradata)} bytes was refused")
            return
        self._drain()
        self._references.distrust("the decoder's configuration changed")
        self._begin(extradata)

    def _settled(self) -> list[Decoded]:
        if self._references.stalled():
            # What is held back is whole, and no packet will come that pushes it out.
            self._drain()
        self._answers += self._queue.settle(self._context.reorder_depth)
        return self._say()

    def _say(self) -> list[Decoded]:
        answers, self._answers = self._answers, []
        return answers

    def _judge(self, unit: AccessUnit) -> tuple[SkipReason | None, str]:
        """Say what the headers alone have against a packet."""
        if unit.error:
            self._references.lose(unit, f"a packet could not be read: {unit.error}")
            return SkipReason.UNDECODABLE, unit.error
        if not _has_pictures(unit):
            return None, ""
        lacking = self._references.judge(unit)
        return (SkipReason.LOST_REFERENCE, lacking) if lacking else (None, "")

    def _feed(self, data: bytes, pending: Pending, unit: AccessUnit) -> None:
        """Decode one packet, and doubt what its errors, messages and flags make doubtful."""
        started = time.perf_counter()
        if self._forgot:
            data = self._reminded(data, unit)
        frames, trouble = self._decode(data, pending)
        pending.decode_s = time.perf_counter() - started
        if trouble and _has_pictures(unit):
            self._spoil(pending, unit, trouble)
        elif unit.shows_picture is False:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "it holds no picture to show")
        self._show(frames)
        if not frames and self._fmt.codec not in _REORDERING:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "no picture came of it")

    def _reminded(self, data: bytes, unit: AccessUnit) -> bytes:
        """Tell a new or flushed decoder the parameter sets that came earlier in the stream."""
        self._forgot = False
        if self._fmt.codec in _NAL_CODECS:
            for parameters in self._parameters:
                self._decode(parameters, None)
        elif not unit.parameters and self._parameters:
            # Alone, these decoders make nothing of them.
            return next(reversed(self._parameters)) + data
        return data

    def _spoil(self, pending: Pending, unit: AccessUnit, trouble: str) -> None:
        if pending.answer is None or not tells_only_of_references(trouble):
            self._tainted = True
            why = f"a picture before it is broken: {trouble}"
            if unit.h264 is not None and not unit.h264.arithmetic:
                # Where CAVLC breaks off, FFmpeg adds the coefficients it has to the next macroblock it decodes,
                # whichever picture that is of: nothing of this decoder can be believed any more.
                self._references.distrust(why)
            else:
                self._references.lose(unit, why)
        self._queue.resolve(pending, SkipReason.UNDECODABLE, trouble)

    def _decode(self, data: bytes, pending: Pending | None) -> tuple[list[VideoFrame], str]:
        """Call FFmpeg; return its frames, and in words what went wrong."""
        # Copied: FFmpeg reads past the end, and wants zeros there, which a `bytes` object has not.
        packet: av.Packet[Stream] = av.Packet(len(data))
        packet.update(data)
        packet.opaque = pending
        self._fed = True
        error = ""
        with av.logging.Capture() as messages:
            try:
                frames = self._context.decode(packet)
            except (FFmpegError, ValueError, MemoryError) as exc:
                frames, error = [], str(exc) or type(exc).__name__
        return frames, damage_in(messages) or error

    def _show(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            pending = frame.opaque
            frame.opaque = None
            if not isinstance(pending, Pending):
                continue
            if pending.answer is None:
                self._doubt(frame, pending)
            self._answers += self._queue.show(pending, VideoPicture(frame, self._fmt))

    def _doubt(self, frame: VideoFrame, pending: Pending) -> None:
        """Refuse a picture that FFmpeg itself calls broken, or that is not what its headers said."""
        limits = self._limits
        if frame.width > limits.max_width or frame.height > limits.max_height:
            self._queue.resolve(
                pending, SkipReason.UNDECODABLE, f"the picture is {frame.width}x{frame.height}, over the limit"
            )
        elif frame.is_corrupt:
            self._tainted = True
            self._references.distrust("a picture before it is broken")
            self._queue.resolve(pending, SkipReason.UNDECODABLE, "the decoder marked it as corrupt")

    def _drain(self) -> None:
        """Take out the pictures that FFmpeg holds back, and make it forget all others."""
        if not self._fed:
            return
        self._fed = False
        try:
            frames = self._context.decode(None)
        except (FFmpegError, ValueError, MemoryError):
            frames = []
        depth = self._context.reorder_depth
        self._context.flush_buffers()
        self._forgot = self._fmt.codec not in _NAL_CODECS
        # FFmpeg forgets the depth as well, and would show the first pictures out of order.
        self._context.reorder_depth = depth
        self._show(frames)

    def _restart(self) -> None:
        """Begin anew; with a new decoder after an error, since flushing does not cure FFmpeg of all of it."""
        self._drain()
        if self._tainted:
            self._renew_context()


def _has_pictures(unit: AccessUnit) -> bool:
    return unit.shows_picture is not False or _stores_pictures(unit)


def _stores_pictures(unit: AccessUnit) -> bool:
    """Whether later pictures may refer to what a packet holds, shown or not."""
    return bool(unit.av1 or unit.vp9 or unit.hevc or unit.mpeg4)


def _check_extradata(extradata: bytes) -> None:
    if len(extradata) > _MAX_EXTRADATA_BYTES:
        raise InvalidError(
            "EXTRADATA_TOO_LONG",
            f"extradata has {len(extradata)} bytes; at most {_MAX_EXTRADATA_BYTES} are allowed",
        )
