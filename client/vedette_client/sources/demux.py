"""Open one container with FFmpeg and hand out its video packets as they are.

The only place of the client that demuxes. Nothing is transcoded: a packet leaves with the bytes it has
in the container. FFmpeg's errors are translated here.

Threads: one thread at a time walks through `packets`; `close` may be called from any.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.stream import Discard, Disposition

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources.base import SourcePacket
from vedette_client.sources.describe import codec_of, describe
from vedette_client.sources.huffman import with_huffman_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Containers whose header can say that the picture lies on its side; the others are not looked into.
_TURNABLE = {"mov", "mp4", "matroska", "webm"}
_PROBE_PACKETS = 64
_ENDLESS = "mpjpeg"


class Demuxer:
    """One open container.

    Args:
        url: A path, or a URL that FFmpeg knows.
        label: Names it in errors, without its password; None: the URL.
        format_name: FFmpeg's name of the container; None: found out.
        options: FFmpeg's options for the container.
        timeout_s: How long opening, and then every read, may take; None: for ever.

    Attributes:
        format: What its packets contain.
        duration_s: How long it is; None when unknown, as of a live stream.
        ends: It has an end: its duration or its length in bytes is known.

    Raises:
        SourceError: It cannot be opened, or holds no video that the server takes.
    """

    def __init__(
        self,
        url: str,
        *,
        label: str | None = None,
        format_name: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._label = label or url
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._peeked: deque[Packet[VideoStream]] = deque()
        self._container = _open(url, self._label, format_name, dict(options or {}), timeout_s)
        try:
            self._stream = self._only_video()
            codec = codec_of(self._stream, self._label)
            self._demuxed = self._container.demux(self._stream)
            self.format = describe(self._stream, codec, self._find_rotation())
        except BaseException:
            self.close()
            raise
        self.duration_s = None if self._container.duration is None else self._container.duration / 1_000_000
        # Cameras that send JPEGs without an end may still name a length, of the first part or of nothing at all.
        sized = self._container.size > 0 and self._container.format.name != _ENDLESS
        self.ends = self.duration_s is not None or sized

    def packets(self) -> Iterator[SourcePacket]:
        """Walk once through the packets in decoding order.

        Raises:
            SourceError: Reading failed half-way.
        """
        motion_jpeg = self.format.codec == media_pb2.CODEC_JPEG
        while (packet := self._next()) is not None:
            if packet.size:
                yield _plain(packet, motion_jpeg)

    def close(self) -> None:
        """Let go of the container; may be called twice and from another thread."""
        self._closed.set()
        # A container must not vanish under a thread that reads it: that thread closes it, then.
        if self._reading.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._reading.release()

    def _only_video(self) -> VideoStream:
        """Choose the stream that is no cover picture, and have the others skipped."""
        videos = self._container.streams.video
        if not videos:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            raise SourceError(f"{self._label}: no video in it (found: {kinds})")
        chosen = next((v for v in videos if not v.disposition & Disposition.attached_pic), videos[0])
        for stream in self._container.streams:
            if stream is not chosen:
                stream.discard = Discard.all
        return chosen

    def _find_rotation(self) -> int:
        """Decode up to the first picture, where the container may turn it; clockwise degrees.

        PyAV shows a stream's display matrix on decoded pictures only. What was read is kept.
        """
        if not _TURNABLE & set(self._container.format.name.split(",")):
            return 0
        self._stream.codec_context.thread_count = 1
        for _ in range(_PROBE_PACKETS):
            try:
                packet = next(self._demuxed, None)
                if packet is None:
                    break
                self._peeked.append(packet)
                frames = packet.decode()
            except av.error.FFmpegError:
                break  # broken streams are told as they are read
            if frames:
                turn = -frames[0].rotation % 360
                return turn if turn % 90 == 0 else 0
        return 0

    def _next(self) -> Packet[VideoStream] | None:
        with self._reading:
            if self._closed.is_set():
                self._release()
                return None
            try:
                packet = self._peeked.popleft() if self._peeked else next(self._demuxed, None)
            except av.error.FFmpegError as error:
                raise SourceError(f"{self._label}: reading failed: {_why(error)}") from error
        if self._closed.is_set():
            self.close()
            return None
        return packet

    def _release(self) -> None:
        self._peeked.clear()
        self._container.close()


def _open(
    url: str, label: str, format_name: str | None, options: dict[str, str], timeout_s: float | None
) -> InputContainer:
    path = Path(url)
    if "://" not in url and path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{label}: the file is empty")
    try:
        return av.open(url, mode="r", format=format_name, options=options, timeout=(timeout_s, timeout_s))
    except av.error.FFmpegError as error:
        raise SourceError(f"{label}: cannot be opened as video: {_why(error)}") from error


def _why(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return error.strerror or str(error)


def _plain(packet: Packet[VideoStream], motion_jpeg: bool) -> SourcePacket:
    data = bytes(packet)
    extradata = bytes(packet.get_sidedata("new_extradata")) if packet.has_sidedata("new_extradata") else None
    return SourcePacket(
        data=with_huffman_tables(data) if motion_jpeg else data,
        pts=packet.pts,
        dts=packet.dts,
        duration=packet.duration or None,
        keyframe=packet.is_keyframe,
        extradata=extradata,
        discontinuity=packet.is_corrupt,
    )
