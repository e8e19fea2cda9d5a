"""Decode stills: one JPEG, PNG or WebP per packet, motion JPEG included.

A still is decoded when it is letterboxed, not when its packet comes: one that is superseded in between
cost a look at its header. JPEGs are decoded at a half, a quarter or an eighth of their size where that still
covers the engine's input. Decoding is strict: a truncated still is no picture, not a half grey one.

An orientation in EXIF is ignored; what turns a picture upright is the configuration's `rotation_degrees`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg

from vedette_server.data.format import Codec
from vedette_server.decode.header import read_size
from vedette_server.decode.intra import IntraDecoder
from vedette_server.errors import UndecodableError
from vedette_server.picture.convert import bgr_into
from vedette_server.picture.describing import bgr_source
from vedette_server.picture.scratch import BufferStack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.source import HostSource

_END_OF_IMAGE = b"\xff\xd9"
_buffers = BufferStack()


class StillDecoder(IntraDecoder):
    """Decodes the stills of one channel.

    Args:
        fmt: The channel's format; its codec is JPEG, PNG or WEBP.
        limits: The largest picture.
    """

    def __init__(self, fmt: VideoFormat, limits: PictureLimits) -> None:
        if not fmt.codec.is_still:
            raise ValueError(f"codec is {fmt.codec.name}; allowed are JPEG, PNG and WEBP")
        self._format = fmt
        self._limits = limits

    def open_picture(self, data: bytes) -> StillPicture:
        """Read the header and promise the picture; see ``IntraDecoder``."""
        width, height = read_size(self._format.codec, data)
        self._limits.check(width, height)
        return StillPicture(data, width, height, self._format)


class StillPicture:
    """One still that is decoded when it is needed.

    Args:
        data: The packet's bytes.
        coded_width: Width in the header, pixels.
        coded_height: Height in the header, pixels.
        fmt: The channel's format.
    """

    def __init__(self, data: bytes, coded_width: int, coded_height: int, fmt: VideoFormat) -> None:
        self._data = data
        self._coded_size = (coded_width, coded_height)
        self._format = fmt
        self._decoded: NDArray[np.uint8] | None = None
        self._buffer: NDArray[np.uint8] | None = None
        # Whether somebody outside looks at the pixels, and buffers that somebody may still look at.
        self._shown = False
        self._kept: list[NDArray[np.uint8]] = []

    @property
    def width(self) -> int:
        """Upright width in pixels."""
        return self._coded_size[self._format.rotation_degrees in {90, 270}]

    @property
    def height(self) -> int:
        """Upright height in pixels."""
        return self._coded_size[self._format.rotation_degrees not in {90, 270}]

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes it upright."""
        return self._format.rotation_degrees

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Decode, unless that was done at this size or above, and letterbox; see ``Picture``."""
        fmt = self._format
        pixels = self._decode_for(fit)
        bgr_into(pixels, slot, fit, fmt.rotation_degrees, fmt.sample_aspect, self._coded_size)

    def source(self, fit: Letterbox) -> HostSource:
        """Decode, unless that was done at this size or above, and give the pixels.

        Raises:
            UndecodableError: The bytes are broken.
        """
        pixels = self._decode_for(fit)
        self._shown = True
        return bgr_source(pixels, fit, self._format, self._coded_size)

    def close(self) -> None:
        """Let go of the bytes and the pixels; may be called twice."""
        self._data = b""
        self._decoded = None
        for buffer in (self._buffer, *self._kept):
            if buffer is not None:
                _buffers.give(buffer)
        self._buffer = None
        self._kept = []

    def _decode_for(self, fit: Letterbox) -> NDArray[np.uint8]:
        fmt = self._format
        return self._decode(*fit.place(*self._coded_size, fmt.rotation_degrees, fmt.sample_aspect).coded_fit)

    def _decode(self, min_width: int, min_height: int) -> NDArray[np.uint8]:
        """Return ``uint8 [h, w, 3]``, BGR, of this size or above, or of the still's own where that is less."""
        found = self._decoded
        if found is None or not self._suffices(found, min_width, min_height):
            self._decoded = None
            if self._shown and self._buffer is not None:
                self._kept.append(self._buffer)
                self._buffer, self._shown = None, False
            found = (
                self._decode_jpeg(min_width, min_height)
                if self._format.codec is Codec.JPEG
                else _decode_whole(self._data, self._format.codec, self._coded_size)
            )
            self._decoded = found
        return found

    def _decode_jpeg(self, min_width: int, min_height: int) -> NDArray[np.uint8]:
        """Decode at the smallest size that libjpeg-turbo has a fast way to and that is large enough.

        Raises:
            UndecodableError: The JPEG is damaged or cut short.
        """
        data = self._data
        try:
            return self._decode_jpeg_strictly(data, min_width, min_height)
        except ValueError as error:
            if data.rstrip(b"\0").endswith(_END_OF_IMAGE):
                raise UndecodableError(f"damaged JPEG of {len(data)} bytes: {error}") from error
        # Some cameras leave out the end marker. With it, a JPEG that lacks more than that is still refused.
        try:
            return self._decode_jpeg_strictly(data + _END_OF_IMAGE, min_width, min_height)
        except ValueError as error:
            raise UndecodableError(f"truncated JPEG of {len(data)} bytes: {error}") from error

    def _decode_jpeg_strictly(self, data: bytes, min_width: int, min_height: int) -> NDArray[np.uint8]:
        # The fast inverse DCT saves 5 % and costs a grey level on average: not taken. Scales between a half and one
        # have no fast way (they take twice as long as no scaling), hence the factor.
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, min_height, min_width, 2)
        size_bytes = int(height) * int(width) * 3
        if self._buffer is None or len(self._buffer) < size_bytes:
            self._buffer = _buffers.take(size_bytes)
        pixels = simplejpeg.decode_jpeg(
            data,
            "BGR",
            fastupsample=True,
            min_height=min_height,
            min_width=min_width,
            min_factor=2,
            buffer=self._buffer,
            strict=True,
        )
        return np.asarray(pixels, np.uint8)

    def _suffices(self, pixels: NDArray[np.uint8], min_width: int, min_height: int) -> bool:
        height, width = pixels.shape[:2]
        return (width, height) == self._coded_size or (width >= min_width and height >= min_height)


def _decode_whole(data: bytes, codec: Codec, coded_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a PNG or WebP; its alpha is dropped, 16 bits become 8.

    Raises:
        UndecodableError: It is damaged or cut short.
    """
    if codec is Codec.PNG and b"IEND" not in data:
        # libpng would say so on the process's standard error.
        raise UndecodableError(f"truncated PNG of {len(data)} bytes: it has no end")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UndecodableError(f"damaged {codec.name} of {len(data)} bytes: {error}") from error
    if pixels is None:
        raise UndecodableError(f"damaged or truncated {codec.name} of {len(data)} bytes")
    if (pixels.shape[1], pixels.shape[0]) != coded_size:
        raise UndecodableError(
            f"{codec.name} of {pixels.shape[1]}x{pixels.shape[0]} pixels, its header says {coded_size}"
        )
    return np.asarray(pixels, np.uint8)
