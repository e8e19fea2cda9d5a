"""Turn a source's packets back into pictures, for drawing; the server has a decoder of its own."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import av
import av.error
import numpy as np
from PIL import Image

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.padded import padded_packet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vedette_client.sources.base import SourceFormat, SourcePacket

_DECODERS: dict[int, str] = {
    media_pb2.CODEC_H264: "h264",
    media_pb2.CODEC_HEVC: "hevc",
    media_pb2.CODEC_AV1: "libdav1d",
    media_pb2.CODEC_VP9: "vp9",
    media_pb2.CODEC_MPEG4: "mpeg4",
}
_STILLS: dict[int, str] = {media_pb2.CODEC_JPEG: "JPEG", media_pb2.CODEC_PNG: "PNG", media_pb2.CODEC_WEBP: "WEBP"}
_LAYOUTS: dict[int, tuple[str, float]] = {
    media_pb2.PIXEL_FORMAT_BGR24: ("bgr24", 3.0),
    media_pb2.PIXEL_FORMAT_RGB24: ("rgb24", 3.0),
    media_pb2.PIXEL_FORMAT_GRAY8: ("gray", 1.0),
    media_pb2.PIXEL_FORMAT_NV12: ("nv12", 1.5),
    media_pb2.PIXEL_FORMAT_I420: ("yuv420p", 1.5),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One decoded picture.

    Attributes:
        sequence: Of the packet that it came from.
        pts: Presentation time in ticks; None when unknown.
        frame: The picture as decoded, not turned upright yet.
        turn_degrees: The clockwise turn that makes it upright.
    """

    sequence: int
    pts: int | None
    frame: av.VideoFrame
    turn_degrees: int

    def upright(self) -> NDArray[np.uint8]:
        """Convert it: `uint8 [height, width, 3]`, RGB, C-contiguous, the caller's own."""
        picture = np.rot90(self.frame.to_ndarray(format="rgb24"), -self.turn_degrees // 90)
        return np.array(picture, np.uint8, order="C")


class PictureReader:
    """Decodes one source's packets, in their order; broken ones give no picture.

    Args:
        form: What the packets contain.

    Raises:
        SourceError: There is no decoder for it.
    """

    def __init__(self, form: SourceFormat) -> None:
        self._form = form
        self._extradata = form.extradata
        self._context = self._new_context() if form.codec in _DECODERS else None
        if self._context is None and form.codec not in _STILLS and form.codec != media_pb2.CODEC_RAW:
            raise SourceError(f"codec {form.codec} cannot be drawn; supported are {sorted(_DECODERS | _STILLS)}")

    def read(self, sequence: int, packet: SourcePacket) -> list[Shown]:
        """Take a packet; give the pictures that are ready, in presentation order."""
        if self._context is None:
            frame = self._still(packet.data)
            return [] if frame is None else [Shown(sequence, packet.pts, frame, self._form.rotation_degrees)]
        done = []
        if packet.extradata is not None and packet.extradata != self._extradata:
            done = self.finish()
            self._extradata = packet.extradata
            self._context = self._new_context()
        data = padded_packet(packet.data)
        data.pts, data.dts, data.opaque = packet.pts, packet.dts, sequence
        try:
            return done + self._shown(self._context.decode(data))
        except av.error.FFmpegError:
            return done

    def finish(self) -> list[Shown]:
        """Give the pictures that are still held."""
        if self._context is None:
            return []
        try:
            return self._shown(self._context.decode(None))
        except av.error.FFmpegError:
            return []

    def _new_context(self) -> av.VideoCodecContext:
        context = cast("av.VideoCodecContext", av.CodecContext.create(_DECODERS[self._form.codec], "r"))
        context.thread_count = 1  # more would hold pictures back
        context.copy_opaque = True  # so that a frame knows its packet
        if self._extradata:
            context.extradata = self._extradata
        return context

    def _shown(self, frames: Iterable[av.VideoFrame]) -> list[Shown]:
        turn = self._form.rotation_degrees
        return [Shown(frame.opaque, frame.pts, frame, turn) for frame in frames if isinstance(frame.opaque, int)]

    def _still(self, data: bytes) -> av.VideoFrame | None:
        try:
            picture = self._raw(data) if self._form.codec == media_pb2.CODEC_RAW else _open(data)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        return picture

    def _raw(self, data: bytes) -> av.VideoFrame:
        layout, bytes_per_pixel = _LAYOUTS[self._form.pixel_format]
        width, height = self._form.width, self._form.height
        strides = self._form.strides_bytes
        if strides and strides[0] != width * (3 if bytes_per_pixel == 3 else 1):
            raise ValueError("padded rows are not drawn")
        size = int(width * height * bytes_per_pixel)
        flat = np.frombuffer(data, np.uint8)[:size]
        shape = {3.0: (height, width, 3), 1.0: (height, width)}.get(bytes_per_pixel, (height * 3 // 2, width))
        return av.VideoFrame.from_ndarray(flat.reshape(shape), format=layout)


def _open(data: bytes) -> av.VideoFrame:
    with Image.open(io.BytesIO(data), formats=list(_STILLS.values())) as image:
        return av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
