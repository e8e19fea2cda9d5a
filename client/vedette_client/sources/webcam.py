"""A webcam of this machine through Video4Linux2.

A camera that compresses by itself (motion JPEG or H.264) is forwarded as it is. One that only has raw
pictures gets them coded as JPEG here: raw ones would be ten times as many bytes on the wire.
"""

from __future__ import annotations

import dataclasses
import io
import re
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from PIL import Image

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources.base import SourceFormat, SourcePacket
from vedette_client.sources.demux import Demuxer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer

_FORMAT = "video4linux2"
_TIMEOUT_S = 10.0
_JPEG_QUALITY = 85


def device_of(spec: str) -> str | None:
    """Translate `webcam:N` or `/dev/videoN` into the device's path; None when it is neither."""
    if re.fullmatch(r"/dev/video\d+", spec):
        return spec
    if not spec.startswith("webcam:"):
        return None
    number = spec.removeprefix("webcam:")
    if not number.isdecimal():
        raise SourceError(f"{spec}: a webcam is named by its number, such as webcam:0 for /dev/video0")
    return f"/dev/video{int(number)}"


def capture_options(input_format: str | None, fps: float | None) -> dict[str, str]:
    """Say in FFmpeg's terms what is asked of the device."""
    options = {"input_format": input_format} if input_format else {}
    if fps is not None:
        options["framerate"] = f"{fps:g}"
    return options


class WebcamSource:
    """A webcam.

    Args:
        device: Path of the device.
        fps: Frames per second to ask for; None: what the device likes.
    """

    live = True

    def __init__(self, device: str, *, fps: float | None = None) -> None:
        self.name = device
        self._fps = fps
        self._forwarded: Demuxer | None = None
        self._raw: RawCapture | None = None

    def open(self) -> SourceFormat:
        """Open the device in the best way that it offers.

        Raises:
            SourceError: There is no such device, or it gives no pictures.
        """
        if not sys.platform.startswith("linux"):
            raise SourceError(f"{self.name}: webcams are read through Video4Linux2, which {sys.platform} has not")
        if not Path(self.name).exists():
            raise SourceError(f"{self.name}: there is no such device")
        for input_format in ("mjpeg", "h264"):
            try:
                options = capture_options(input_format, self._fps)
                self._forwarded = Demuxer(self.name, format_name=_FORMAT, options=options, timeout_s=_TIMEOUT_S)
            except SourceError:
                continue
            return _now(self._forwarded.format)
        try:
            options = capture_options(None, self._fps)
            container = av.open(self.name, mode="r", format=_FORMAT, options=options, timeout=(_TIMEOUT_S, _TIMEOUT_S))
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.name}: cannot be opened: {error.strerror}") from error
        self._raw = RawCapture(container, self.name)
        return _now(self._raw.format)

    def packets(self) -> Iterator[SourcePacket]:
        """Hand on pictures as the camera gives them.

        Raises:
            SourceError: It was not opened, or was unplugged.
        """
        opened = self._forwarded or self._raw
        if opened is None:
            raise SourceError(f"{self.name}: packets were asked for before it was opened")
        for packet in opened.packets():
            packet.capture_time_ns = time.time_ns()
            yield packet

    def close(self) -> None:
        """Let go of the device; may be called twice and from another thread."""
        for opened in (self._forwarded, self._raw):
            if opened is not None:
                opened.close()


class RawCapture:
    """A container of uncompressed pictures, given out as JPEG stills.

    Args:
        container: An open container with one video stream; owned from here on.
        name: Names it in errors.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self._container = container
        self._name = name
        self._stream = container.streams.video[0]
        self._using = threading.Lock()
        self._closed = threading.Event()
        context = self._stream.codec_context
        self.format = SourceFormat(
            codec=media_pb2.CODEC_JPEG,
            extradata=b"",
            time_base=self._stream.time_base or Fraction(1, 1_000_000),
            width=context.width,
            height=context.height,
            fps=float(self._stream.average_rate) if self._stream.average_rate else None,
        )

    def packets(self) -> Iterator[SourcePacket]:
        """Give the pictures.

        Raises:
            SourceError: Reading failed.
        """
        frames = self._container.decode(self._stream)
        while True:
            with self._using:
                if self._closed.is_set():
                    self._container.close()
                    return
                try:
                    frame = next(frames, None)
                except av.error.FFmpegError as error:
                    raise SourceError(f"{self._name}: reading failed: {error.strerror}") from error
                if frame is None:
                    return
                packet = SourcePacket(_jpeg(frame), frame.pts, frame.dts, None, keyframe=True)
            yield packet

    def close(self) -> None:
        """Let go of the container; may be called twice and from another thread."""
        self._closed.set()
        if self._using.acquire(blocking=False):
            try:
                self._container.close()
            finally:
                self._using.release()


def _jpeg(frame: av.VideoFrame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame.to_ndarray(format="rgb24")).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _now(form: SourceFormat) -> SourceFormat:
    """Give the same format, with capture times by this machine's clock."""
    return dataclasses.replace(form, capture_clock=media_pb2.CAPTURE_CLOCK_CLIENT)
