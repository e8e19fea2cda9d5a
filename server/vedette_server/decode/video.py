"""Decode one channel's compressed video: H.264, HEVC, AV1, VP9, MPEG-4 part 2.

Two questions are answered apart. What comes of a packet, a backend says (`backend.py`): one packet in, its
picture out some packets later, tied to it by what FFmpeg, or a GPU's decoder, carries from packet to frame.
Whether a picture may be believed, ``references`` says from the headers, and FFmpeg says by its errors, its
messages and its corrupt flag. A picture that one of them doubts is answered without pixels. Where decoding
begins anew, and only there, a chooser may put another backend into the place of the one that was.

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
from typing import TYPE_CHECKING

from vedette_server.data.format import Codec
from vedette_server.data.outcome import SkipReason
from vedette_server.decode.answers import AnswerQueue, Pending
from vedette_server.decode.backend import Backend, BackendLostError, Shown, Start
from vedette_server.decode.bitstream.inspect import open_reader
from vedette_server.decode.damage import tells_only_of_references
from vedette_server.decode.references.gaps import TimeGaps
from vedette_server.decode.references.opening import open_references
from vedette_server.decode.software import DECODERS, NAL_CODECS, SoftwareBackend
from vedette_server.errors import InvalidError, PictureTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet
    from vedette_server.decode.backend import Chooser
    from vedette_server.decode.base import Decoded
    from vedette_server.decode.bitstream.unit import AccessUnit
    from vedette_server.decode.limits import PictureLimits

_REORDERING = {Codec.H264, Codec.HEVC, Codec.MPEG4}
# VP9 and MPEG-4 headers do not count pictures: a missing one shows in the times alone.
_TIME_TOLERANCE = {Codec.VP9: 1.5, Codec.MPEG4: 1.5}
_OTHER_TOLERANCE = 8.0
_MAX_EXTRADATA_BYTES = 1 << 20
_MAX_PARAMETERS = 16


class VideoDecoder:
    """Decodes the packets of one channel; see the module for what it believes.

    Args:
        fmt: The stream's coding; its ``extradata`` may be replaced by a packet's.
        limits: The largest picture that is decoded.
        chooser: Chooses what decodes, and is closed with the decoder; None: FFmpeg does.

    Raises:
        InvalidError: The format is no video, or its extradata is too long.
    """

    def __init__(self, fmt: VideoFormat, limits: PictureLimits, chooser: Chooser | None = None) -> None:
        if fmt.codec not in DECODERS:
            raise InvalidError("CODEC_NOT_VIDEO", f"codec {fmt.codec.name} is no video codec")
        _check_extradata(fmt.extradata)
        self._fmt = fmt
        self._limits = limits
        self._chooser = chooser
        self._backend: Backend | None = None
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
        if restarts or (reason is None and unit.keyframe and not self._used.suits(unit)):
            self._restart(packet.data, pending, unit)
        if reason is None or (not unit.error and self._references.needs(unit)):
            self._feed(packet.data, pending, unit)
        elif unit.parameters:
            self._learn(unit.parameters)
        return self._settled()

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        """Answer a packet that shedding keeps from the decoder, and remember what it breaks.

        Raises:
            PictureTooLargeError: As ``decode``.
        """
        pending, unit = self._take(packet)
        if unit.parameters:
            self._learn(unit.parameters)
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
        """Let go of what decodes and of all that was not answered; may be called twice."""
        self._queue = AnswerQueue()
        self._answers = []
        self._begin(b"")
        if self._chooser is not None:
            self._chooser.close()

    def _begin(self, extradata: bytes) -> None:
        self._extradata = extradata
        self._headers = open_reader(self._fmt.codec, extradata)
        self._parameters: dict[bytes, None] = {}
        if self._backend is not None:
            self._backend.close()
        self._use(SoftwareBackend(self._fmt, extradata, self._limits))

    def _use(self, backend: Backend) -> None:
        self._backend = backend
        self._tainted = False
        self._forgot = True

    @property
    def _used(self) -> Backend:
        assert self._backend is not None  # noqa: S101 - it is there from the first line on
        return self._backend

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
        self._answers += self._queue.settle(self._used.reorder_depth)
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
        try:
            shown, trouble = self._decode(data, pending, unit)
        except BackendLostError as lost:
            self._lose_backend(lost)
            return
        finally:
            pending.decode_s = time.perf_counter() - started
        if trouble and _has_pictures(unit):
            self._spoil(pending, unit, trouble)
        elif unit.shows_picture is False:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "it holds no picture to show")
        self._show(shown)
        if not shown and self._used.prompt and self._fmt.codec not in _REORDERING:
            self._queue.resolve(pending, SkipReason.NO_FRAME, "no picture came of it")

    def _decode(self, data: bytes, pending: Pending, unit: AccessUnit) -> tuple[list[Shown], str]:
        """Call the backend; where one cannot even begin, another does."""
        reminded = self._reminded(data, unit)
        try:
            return self._used.feed(reminded, pending)
        except BackendLostError as lost:
            if lost.began or self._chooser is None:
                raise
            self._used.close()
            self._use(self._chooser.lost(self._used, str(lost), self._start(data, pending, unit)))
        return self._used.feed(self._reminded(data, unit), pending)

    def _reminded(self, data: bytes, unit: AccessUnit) -> bytes:
        """Tell a new or flushed backend the parameter sets that came earlier in the stream."""
        if not self._forgot:
            return data
        self._forgot = False
        if self._fmt.codec in NAL_CODECS:
            for parameters in self._parameters:
                self._used.feed(parameters, None)
            return data
        return self._headed(data, unit)

    def _headed(self, data: bytes, unit: AccessUnit) -> bytes:
        if self._fmt.codec not in NAL_CODECS and not unit.parameters and self._parameters:
            # Alone, these decoders make nothing of them.
            return next(reversed(self._parameters)) + data
        return data

    def _learn(self, parameters: bytes) -> None:
        try:
            self._used.feed(parameters, None)
        except BackendLostError as lost:
            self._lose_backend(lost)

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

    def _show(self, shown: list[Shown]) -> None:
        for each in shown:
            if each.pending.answer is None:
                self._doubt(each)
            self._answers += self._queue.show(each.pending, each.picture)

    def _doubt(self, shown: Shown) -> None:
        """Refuse a picture that the backend itself calls broken, or that is not what its headers said."""
        limits = self._limits
        if shown.width > limits.max_width or shown.height > limits.max_height:
            self._queue.resolve(
                shown.pending, SkipReason.UNDECODABLE, f"the picture is {shown.width}x{shown.height}, over the limit"
            )
        elif shown.corrupt:
            self._tainted = True
            self._references.distrust("a picture before it is broken")
            self._queue.resolve(shown.pending, SkipReason.UNDECODABLE, "the decoder marked it as corrupt")

    def _drain(self, before: Pending | None = None) -> None:
        """Take out the pictures that are held back, and make the backend forget all others.

        Args:
            before: A packet that was not fed yet, with which decoding begins anew.
        """
        try:
            shown = self._used.drain()
        except BackendLostError as lost:
            self._lose_backend(lost, before)
            return
        self._forgot = self._forgot or self._used.forgetful
        self._show(shown)

    def _restart(self, data: bytes, pending: Pending, unit: AccessUnit) -> None:
        """Begin anew; with a new decoder after an error, since flushing does not cure FFmpeg of all of it."""
        self._drain(pending)
        if self._tainted:
            self._used.renew()
            self._tainted, self._forgot = False, True
        if self._chooser is None:
            return
        chosen = self._chooser.choose(self._used, self._start(data, pending, unit))
        if chosen is not self._used:
            self._used.close()
            self._use(chosen)

    def _start(self, data: bytes, pending: Pending, unit: AccessUnit) -> Start:
        packet = pending.packet
        pts, dts = (None, None) if packet is None else (packet.pts, packet.dts)
        reorders = pts is not None and dts is not None and dts < pts
        return Start(self._fmt, self._extradata, self._headed(data, unit), tuple(self._parameters), unit, reorders)

    def _lose_backend(self, lost: BackendLostError, before: Pending | None = None) -> None:
        """Answer all that a lost backend held, and go on with another from the next place to start."""
        why = f"the decoder failed: {lost}"
        if before is None:
            self._references.distrust(why)
        self._queue.give_up(SkipReason.LOST_REFERENCE, why, but=before)
        self._used.close()
        if self._chooser is None:
            self._use(SoftwareBackend(self._fmt, self._extradata, self._limits))
        else:
            self._use(self._chooser.lost(self._used, str(lost), None))


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
