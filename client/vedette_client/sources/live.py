"""A camera behind a URL: RTSP, or HTTP without an end."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from typing import TYPE_CHECKING

from vedette.v1 import media_pb2
from vedette_client.credentials import without_password
from vedette_client.errors import SourceError
from vedette_client.sources.container import ContainerSource
from vedette_client.sources.demux import Demuxer
from vedette_client.sources.describe import codec_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_client.sources.base import Source, SourceFormat, SourcePacket

DEFAULT_TIMEOUT_S = 10.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0


class LiveSource:
    """A camera that sends when it likes, and comes back after it was gone.

    Args:
        url: The camera's address.
        opener: Opens a connection.
        opened: A connection that is open already; None: `open` makes it.
        reconnect: After a loss try again, ever more slowly, for ever; False: end with the error.
        first_wait_s: How long to wait before the first new try; doubles up to 15 seconds.
    """

    live = True

    def __init__(
        self,
        url: str,
        opener: Callable[[], Demuxer],
        *,
        opened: Demuxer | None = None,
        reconnect: bool = True,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        self.name = without_password(url)
        self._opener = opener
        self._reconnect = reconnect
        self._first_wait_s = first_wait_s
        self._demuxer = opened
        self._format: SourceFormat | None = None
        # Ticks that are added to the camera's, and the end of the latest packet: time, and when it came.
        self._shift = 0
        self._unshifted = False
        self._end: tuple[int, float] | None = None
        self._stop = threading.Event()

    def open(self) -> SourceFormat:
        """Connect.

        Raises:
            SourceError: The camera does not answer, or sends what the server does not take.
        """
        if self._demuxer is None:
            self._demuxer = self._opener()
        self._format = dataclasses.replace(self._demuxer.format, capture_clock=media_pb2.CAPTURE_CLOCK_CLIENT)
        return self._format

    def packets(self) -> Iterator[SourcePacket]:
        """Hand on what the camera sends, as it arrives; capture time is the time of arrival.

        Raises:
            SourceError: It was not opened; it was lost and is not to be tried again; or it came back
                with another codec.
        """
        joined = True
        while self._demuxer is not None and not self._stop.is_set():
            if not joined:
                self._check_same(self._demuxer)
            try:
                for packet in self._demuxer.packets():
                    yield self._arrived(packet, self._demuxer, joined)
                    joined = True
                if not self._reconnect:
                    return
            except SourceError:
                if not self._reconnect:
                    raise
            finally:
                self._demuxer.close()
            joined = False
            self._demuxer = self._connect_again()

    def close(self) -> None:
        """Hang up; may be called twice and from another thread."""
        self._stop.set()
        demuxer = self._demuxer
        if demuxer is not None:
            demuxer.close()

    def _arrived(self, packet: SourcePacket, demuxer: Demuxer, joined: bool) -> SourcePacket:
        """Stamp a packet; the first one after a loss tells so, and its time goes on as the clock on the wall did."""
        packet.capture_time_ns = time.time_ns()
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not joined:
            packet.discontinuity = True
            packet.extradata = packet.extradata or demuxer.format.extradata or None
            self._unshifted = True
        # The first packets of a connection may have no time yet.
        if ticks is not None and self._unshifted and self._end is not None:
            end, arrived_s = self._end
            gap = round((time.monotonic() - arrived_s) / demuxer.format.time_base)
            self._shift = end + max(1, gap) - ticks
            self._unshifted = False
        if packet.pts is not None:
            packet.pts += self._shift
        if packet.dts is not None:
            packet.dts += self._shift
        if ticks is not None:
            latest = max(stamp for stamp in (packet.pts, packet.dts) if stamp is not None)
            self._end = latest, time.monotonic()
        return packet

    def _connect_again(self) -> Demuxer | None:
        """Try until the camera answers or `close` was called; None then."""
        wait_s = self._first_wait_s
        # Spread, so that a hundred cameras behind one switch do not come back in the same instant.
        while not self._stop.wait(wait_s * random.uniform(0.75, 1.25)):  # noqa: S311 - no secret
            try:
                return self._opener()
            except SourceError:
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return None

    def _check_same(self, demuxer: Demuxer) -> None:
        was, now = self._format, demuxer.format
        if was is not None and (was.codec, was.time_base) != (now.codec, now.time_base):
            raise SourceError(
                f"{self.name}: came back as {codec_name(now.codec)} with ticks of {now.time_base} s, "
                f"was {codec_name(was.codec)} with {was.time_base} s; start a new stream for it"
            )


class HttpSource:
    """A video behind an HTTP URL: a recording when its length in time or bytes is known, else a camera.

    Args:
        url: Its address.
        pace: A recording's packets are due by its clock.
        loop: A recording begins again at its end.
        fps: A recording's packets per second, whatever its clock says; None: by its clock.
        timeout_s: How long connecting and every read may take.

    Attributes:
        live: Known after `open`.
    """

    def __init__(
        self, url: str, *, pace: bool = True, loop: bool = False, fps: float | None = None, timeout_s: float
    ) -> None:
        self.name = without_password(url)
        self.live = False
        self._url = url
        self._pace, self._loop, self._fps = pace, loop, fps
        self._timeout_s = timeout_s
        self._inner: Source | None = None

    def open(self) -> SourceFormat:
        """Connect, and find out which of the two it is.

        Raises:
            SourceError: No answer, or no video that the server takes.
        """
        opened = self._connect()
        self.live = not opened.ends
        if self.live:
            self._inner = LiveSource(self._url, self._connect, opened=opened)
        else:
            rounds = iter([opened])
            self._inner = ContainerSource(
                self.name,
                pace=self._pace,
                loop=self._loop,
                fps=self._fps,
                opener=lambda: next(rounds, None) or self._connect(),
            )
        return self._inner.open()

    def packets(self) -> Iterator[SourcePacket]:
        """Walk through its packets.

        Raises:
            SourceError: It was not opened, or failed half-way.
        """
        if self._inner is None:
            raise SourceError(f"{self.name}: packets were asked for before it was opened")
        return self._inner.packets()

    def close(self) -> None:
        """Hang up; may be called twice and from another thread."""
        if self._inner is not None:
            self._inner.close()

    def _connect(self) -> Demuxer:
        options = {"rw_timeout": str(round(self._timeout_s * 1_000_000))}
        return Demuxer(self._url, label=self.name, options=options, timeout_s=self._timeout_s)


def rtsp_source(url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> LiveSource:
    """Build the source of an RTSP camera: over TCP, since a lost datagram is a lost picture."""
    options = {
        "rtsp_transport": "tcp",
        "timeout": str(round(timeout_s * 1_000_000)),  # of the socket, microseconds
        "allowed_media_types": "video",
        # Look no longer than it takes to know codec and size: what is looked at is late.
        "fpsprobesize": "0",
        "analyzeduration": "2000000",
    }
    name = without_password(url)
    return LiveSource(url, lambda: Demuxer(url, label=name, options=options, timeout_s=timeout_s))
