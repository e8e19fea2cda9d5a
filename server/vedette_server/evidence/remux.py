"""Write packets into an MP4 file as they came, without transcoding.

H.264 and HEVC are given to FFmpeg with start codes, whatever their framing was, since its muxer makes `avcC` and `hvcC`
of parameter sets that come so; those that the stream sent long ago are put in front of the first packet. MP4 holds
neither raw pictures nor PNG or WebP: they become JPEGs, one by one. Pictures shown before the first keyframe are left
out: they refer to what is not there. Rotation is written as the track's display matrix.

FFmpeg learns a stream's parameters from its first packet: wrapped as IVF, a header of 32 bytes that takes any codec but
HEVC, which is read as it is.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import av
import simplejpeg
from av.error import FFmpegError

from vedette_server.data.format import Codec
from vedette_server.decode.annexb import AnnexB
from vedette_server.decode.opening import open_decoder
from vedette_server.decode.padded import padded_packet
from vedette_server.errors import EvidenceError, RefusedError, UndecodableError
from vedette_server.evidence.disk import in_words
from vedette_server.evidence.pixels import upright_bgr
from vedette_server.evidence.timeline import TICKS, Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from vedette_server.decode.base import Decoder
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.ring import Kept
    from vedette_server.evidence.timeline import Placed

_TAGS = {Codec.H264: b"H264", Codec.AV1: b"AV01", Codec.VP9: b"VP90", Codec.MPEG4: b"FMP4"}
_JPEG_QUALITY = 95
TIME_BASE = Fraction(1, TICKS)


class Sink(Protocol):
    """Where the packets of one file go."""

    @property
    def pictures(self) -> int:
        """How many are in the file so far."""
        ...

    def add(self, kept: Kept) -> None:
        """Take the next packet.

        Raises:
            EvidenceError: It cannot be written.
        """
        ...

    def finish(self) -> None:
        """Complete the file.

        Raises:
            EvidenceError: It cannot be written.
        """
        ...

    def close(self) -> None:
        """Let go of everything, after `finish` or instead of it; may be called twice."""
        ...


class RemuxSink:
    """Writes packets as they came.

    Args:
        path: The file.
        limits: The largest picture, where stills have to be decoded.
    """

    def __init__(self, path: Path, limits: PictureLimits) -> None:
        self.pictures = 0
        self._path = path
        self._limits = limits
        self._timeline = Timeline()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._framing: AnnexB | None = None
        self._decoder: Decoder | None = None
        self._first_pts: int | None = None
        self._last_dts = -TICKS // 25

    def add(self, kept: Kept) -> None:
        """Take the next packet; the first has to be a keyframe."""
        for placed in self._timeline.place(kept):
            self._write(placed)

    def finish(self) -> None:
        """Write the index and close the file."""
        for placed in self._timeline.flush():
            self._write(placed)
        if self._container is None:
            raise EvidenceError("the clip has no picture that can be kept")
        container, self._container = self._container, None
        try:
            container.close()
        except (FFmpegError, OSError) as error:
            raise EvidenceError(f"the clip cannot be written: {in_words(error)}") from error

    def close(self) -> None:
        """Let go of FFmpeg's muxer; what it wrote is not complete then."""
        container, self._container = self._container, None
        if container is not None:
            abandon(container)
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _write(self, placed: Placed) -> None:
        kept = placed.kept
        if kept.keyframe and (kept.gap or self._first_pts is None):
            self._first_pts = placed.pts
        if self._first_pts is None or placed.pts < self._first_pts:
            return
        data = self._coded(kept)
        if not data:
            return
        try:
            if self._stream is None:
                self._stream = self._open(kept, data)
            packet = padded_packet(data)
            packet.stream, packet.time_base = self._stream, TIME_BASE
            packet.pts, packet.dts = placed.pts, placed.dts
            # A last picture without a duration would not be shown: as long as the one before it.
            dts = placed.pts if placed.dts is None else placed.dts
            packet.duration = placed.duration or min(max(dts - self._last_dts, 1), TICKS)
            self._last_dts = dts
            packet.is_keyframe = kept.keyframe
            if self._container is not None:
                self._container.mux(packet)
        except (FFmpegError, OSError, ValueError, MemoryError) as error:
            raise EvidenceError(f"the clip cannot be written: {in_words(error)}") from error
        self.pictures += 1

    def _coded(self, kept: Kept) -> bytes:
        """Frame a packet as the muxer wants it; empty: it is left out."""
        codec = kept.fmt.codec
        if codec is Codec.JPEG:
            return kept.packet.data
        if codec.is_intra:
            return self._as_jpeg(kept)
        if self._framing is None:
            self._framing = AnnexB(codec, kept.extradata)
        data = self._framing.packet(kept.packet.data)
        if self._stream is None:
            return self._framing.header + self._framing.packet(kept.parameters) + data
        return data

    def _as_jpeg(self, kept: Kept) -> bytes:
        if self._decoder is None:
            self._decoder = open_decoder(kept.fmt, self._limits)
        for decoded in self._decoder.decode(kept.packet):
            if decoded.picture is not None:
                try:
                    return bytes(
                        simplejpeg.encode_jpeg(
                            upright_bgr(decoded.picture, kept.fmt.sample_aspect), _JPEG_QUALITY, "BGR"
                        )
                    )
                except UndecodableError:
                    return b""
                finally:
                    decoded.picture.close()
        return b""

    def _open(self, kept: Kept, data: bytes) -> VideoStream:
        """Open the file, with what the first packet says of the stream."""
        fmt = kept.fmt
        container = av.open(str(self._path), "w", format="mp4", options={"movflags": "faststart"})
        self._container = container
        # The turn is part of the pixels where they were decoded.
        turn = fmt.rotation_degrees if fmt.codec is Codec.JPEG or not fmt.codec.is_intra else 0
        name, sample = "hevc", data
        if fmt.codec is not Codec.HEVC:
            name, sample = "ivf", _as_ivf(_TAGS.get(fmt.codec, b"MJPG"), data)
        with av.open(io.BytesIO(sample), format=name) as source:
            template = source.streams.video[0]
            if not template.codec_context.width:
                raise EvidenceError(f"the {fmt.codec.name} keyframe tells no size: its parameter sets are missing")
            # Opaque: with the parameters alone; else an encoder would be looked for, and dav1d has none.
            stream = container.add_stream_from_template(template, opaque=True)
        stream.time_base = TIME_BASE
        aspect = stream.codec_context.sample_aspect_ratio
        if fmt.sample_aspect != 1 and not fmt.codec.is_intra and (aspect is None or aspect in {0, 1}):
            stream.codec_context.sample_aspect_ratio = fmt.sample_aspect
        if turn:
            # FFmpeg counts against the clock.
            stream.set_display_rotation(-turn)
        return stream


def abandon(container: OutputContainer) -> None:
    """Close a container whose file is of no use any more."""
    try:
        container.close()
    except (FFmpegError, OSError, ValueError):
        # It may have begun with nothing in it, or its disk is full: that was told already, or it is not wanted.
        return


def add_all(sink: Sink, packets: Sequence[Kept]) -> None:
    """Give a sink some packets.

    Raises:
        EvidenceError: They cannot be written, or the stream's format is none that can be decoded.
    """
    try:
        for kept in packets:
            sink.add(kept)
    except RefusedError as error:
        raise EvidenceError(error.message) from error


def finish(sink: Sink) -> None:
    """Complete a sink's file and let go of it; raises as `add_all` does."""
    try:
        sink.finish()
    except RefusedError as error:
        raise EvidenceError(error.message) from error
    sink.close()


def _as_ivf(tag: bytes, data: bytes) -> bytes:
    """Wrap one packet; the sizes in the header are not looked at."""
    head = b"DKIF" + struct.pack("<HH4sHHIIII", 0, 32, tag, 0, 0, TICKS, 1, 1, 0)
    return head + struct.pack("<IQ", len(data), 0) + data
