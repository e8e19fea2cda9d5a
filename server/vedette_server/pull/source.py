"""Open a camera or a file with FFmpeg and hand out its video packets as they are.

The only place of the server that calls cameras. Nothing is transcoded: a packet leaves with the bytes that it has in
the container; sound is left out. FFmpeg's errors are translated here, without the URL, which may hold a password.
So may its messages, which are therefore kept from the log.

Names of FFmpeg's options are those of version 5 and later: `timeout` of RTSP was `stimeout` before. Which demuxers
and protocols may be used is fixed for each kind of source: a playlist that comes over HTTP reaches no file, and a file
that is a playlist is not opened at all. Over HTTP nobody is called but the host that was checked: redirections are not
followed, and playlists, which name hosts of their own, are opened only where the settings allow it.

Threads: one thread at a time uses a source. Nothing stops a read that is on: it ends by itself after its timeout.
"""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error
import av.logging
from av.stream import Discard, Disposition

from vedette_server.data.packet import Packet
from vedette_server.pull.address import Kind
from vedette_server.pull.describing import codec_of, describe
from vedette_server.pull.errors import SourceError
from vedette_server.pull.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.packet import Packet as AvPacket
    from av.video.stream import VideoStream

    from vedette_server.pull.address import Address
    from vedette_server.pull.options import PullOptions

_FILES = "mov,matroska,mpegts,mpeg,avi,flv,asf,ogg,h264,hevc,obu,ivf,m4v,mjpeg"
_DEMUXERS = {Kind.RTSP: "rtsp", Kind.HTTP: f"{_FILES},mpjpeg,aac,mp3,ac3,eac3,webvtt", Kind.FILE: _FILES}
_PROTOCOLS = {
    Kind.RTSP: "tcp,udp,rtp,srtp,tls",
    Kind.HTTP: "http,https,httpproxy,tcp,tls,crypto",
    Kind.FILE: "file",
}
# Look no longer than it takes to know codec and size: what is looked at is late.
_ANALYSE_US = "2000000"
# Containers whose header can say that the picture lies on its side; the others are not looked into.
_TURNABLE = {"mov", "mp4", "matroska", "webm"}
_PROBE_PACKETS = 64
_ENDLESS = "mpjpeg"
_ARRIVAL_TICKS = Fraction(1, 90_000)
_PLAYLIST = "hls"
_LIKE_PLAYLIST = re.compile(r"\.m3u8?([?#]|$)", re.IGNORECASE)


class Source:
    """One open camera or file.

    Args:
        address: Where it is.
        options: Timeouts and certificates.
        prefer_tcp: RTSP over TCP; False: over UDP, and TCP where that is refused.

    Attributes:
        format: What its packets contain.
        fps: Pictures per second as the container has it; None when unknown.
        ends: It is a recording: its duration or its length in bytes is known.
        bursts: It comes by pieces of several seconds: its packets have to be spread.
        extent: Its duration and its bytes, to know it again by.

    Raises:
        SourceError: It cannot be opened, or holds no video that the server takes.
    """

    def __init__(self, address: Address, options: PullOptions, *, prefer_tcp: bool = True) -> None:
        self._timeout_s = options.timeout_s
        self._peeked: deque[AvPacket[VideoStream]] = deque()
        self._container = _open(address, options, prefer_tcp=prefer_tcp)
        try:
            self._stream = self._only_video()
            codec_of(self._stream)
            self._demuxed = self._container.demux(self._stream)
            self.format = describe(self._stream, self._find_rotation())
        except BaseException:
            self.close()
            raise
        container = self._container
        name = container.format.name
        # JPEGs that come without times: FFmpeg makes some up, 25 in a second however many there are.
        self._untimed = name == _ENDLESS
        if self._untimed:
            self.format = replace(self.format, time_base=_ARRIVAL_TICKS)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else None
        self.extent = (container.duration, container.size)
        # Cameras that send JPEGs without an end may still name a length, of the first part or of nothing at all.
        sized = address.kind is not Kind.RTSP and container.size > 0 and name not in {_ENDLESS, _PLAYLIST}
        self.ends = address.kind is not Kind.RTSP and (container.duration is not None or sized)
        self.bursts = name == _PLAYLIST

    def packets(self) -> Iterator[Packet]:
        """Walk once through the packets in decoding order; their sequence numbers are not set.

        Raises:
            SourceError: Reading failed half-way.
        """
        began_s, latest = time.monotonic(), -1
        while (packet := self._next()) is not None:
            if not packet.size:
                continue
            plain = _plain(packet)
            if self._untimed:
                latest = max(latest + 1, round((time.monotonic() - began_s) / _ARRIVAL_TICKS))
                plain.pts, plain.dts, plain.duration = latest, latest, None
            yield plain

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._peeked.clear()
        self._container.close()

    def _only_video(self) -> VideoStream:
        """Choose the stream that is no cover picture, and have the others skipped.

        Raises:
            SourceError: There is none.
        """
        videos = self._container.streams.video
        if not videos:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            raise SourceError(f"there is no video in it (found: {kinds})")
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

    def _next(self) -> AvPacket[VideoStream] | None:
        if self._peeked:
            return self._peeked.popleft()
        began_s = time.monotonic()
        try:
            with av.logging.Capture():
                return next(self._demuxed, None)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"reading failed: {_why(error, began_s, self._timeout_s)}") from None


def _open(address: Address, options: PullOptions, *, prefer_tcp: bool) -> InputContainer:
    path = address.path
    if path is not None and not path.is_file():
        raise SourceError("there is no such file" if not path.exists() else "it is no plain file")
    if address.host:
        Hosts.read(options.hosts).check(address.host)
    began_s = time.monotonic()
    try:
        with av.logging.Capture():
            return av.open(
                address.url,
                mode="r",
                format="rtsp" if address.kind is Kind.RTSP else None,
                options=_options(address, options, prefer_tcp=prefer_tcp),
                timeout=(options.timeout_s, options.timeout_s),
            )
    except (av.error.FFmpegError, OSError) as error:
        why = _why(error, began_s, options.timeout_s)
        raise SourceError(f"it cannot be opened as video: {why}{_hint(address, options)}") from None


def _options(address: Address, options: PullOptions, *, prefer_tcp: bool) -> dict[str, str]:
    """Put FFmpeg's options together; it leaves out those that its demuxer does not know."""
    timeout_us = str(round(options.timeout_s * 1_000_000))
    given = {"protocol_whitelist": _PROTOCOLS[address.kind], "format_whitelist": _DEMUXERS[address.kind]}
    if address.kind is Kind.FILE:
        return given
    given["analyzeduration"] = _ANALYSE_US
    if options.ca_file is not None:
        given |= {"tls_verify": "1", "ca_file": str(options.ca_file)}
    if address.kind is Kind.HTTP:
        if options.playlists:
            given["format_whitelist"] += f",{_PLAYLIST}"
        # An option of FFmpeg 8.
        return given | {"rw_timeout": timeout_us, "max_redirects": "0"}
    if prefer_tcp:
        # A lost datagram is a lost picture.
        given["rtsp_transport"] = "tcp"
    return given | {"timeout": timeout_us, "allowed_media_types": "video", "fpsprobesize": "0"}


def _hint(address: Address, options: PullOptions) -> str:
    """Tell of the setting that is probably missing; a redirection looks like any other failed read."""
    looks_so = _LIKE_PLAYLIST.search(address.url) is not None
    return " (playlists need monitor.source_playlists)" if looks_so and not options.playlists else ""


def _why(error: Exception, began_s: float, timeout_s: float) -> str:
    """Tell an error without the URL that PyAV puts behind it.

    Demuxers that are interrupted make errors of their own of it, which say nothing of time.
    """
    if isinstance(error, av.error.ExitError) or time.monotonic() - began_s >= timeout_s:
        return f"no answer within {timeout_s:g} s"
    return (error.strerror if isinstance(error, OSError | av.error.FFmpegError) else "") or type(error).__name__


def _plain(packet: AvPacket[VideoStream]) -> Packet:
    return Packet(
        sequence=0,
        data=bytes(packet),
        pts=packet.pts,
        dts=packet.dts,
        duration=packet.duration or None,
        keyframe=packet.is_keyframe,
        extradata=bytes(packet.get_sidedata("new_extradata")) if packet.has_sidedata("new_extradata") else None,
        discontinuity=packet.is_corrupt,
    )
