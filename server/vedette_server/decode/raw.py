"""Take raw pictures apart: one uncompressed picture per packet.

Nothing is copied: the planes are views of the packet's bytes until the picture is letterboxed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.data.format import PixelFormat
from vedette_server.decode.intra import IntraDecoder
from vedette_server.errors import InvalidError, UndecodableError
from vedette_server.picture.convert import planes_into
from vedette_server.picture.describing import planes_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.source import HostSource


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """Where one plane stands in a packet.

    Attributes:
        offset_bytes: From the packet's first byte.
        shape: Of the view: `(h, w)`, or `(h, w, c)` for interleaved channels.
        stride_bytes: From row to row.
    """

    offset_bytes: int
    shape: tuple[int, ...]
    stride_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row that are pixels."""
        return self.shape[1] * (self.shape[2] if len(self.shape) == 3 else 1)

    @property
    def end_bytes(self) -> int:
        """Where the last pixel ends; what pads the last row may be missing."""
        return self.offset_bytes + (self.shape[0] - 1) * self.stride_bytes + self.row_bytes

    def view(self, data: bytes) -> NDArray[np.uint8]:
        """Look at the plane in a packet: ``uint8`` of this shape, read-only."""
        channels = self.shape[2:]
        return np.ndarray(self.shape, np.uint8, data, self.offset_bytes, (self.stride_bytes, *channels, 1))


class RawDecoder(IntraDecoder):
    """Takes the raw pictures of one channel apart.

    Args:
        fmt: The channel's format, with size and pixel format.
        limits: The largest picture.

    Raises:
        InvalidError: Size, pixel format or strides are missing or do not go together.
        PictureTooLargeError: The size is over the limit.
    """

    def __init__(self, fmt: VideoFormat, limits: PictureLimits) -> None:
        limits.check(fmt.width, fmt.height)
        self._layout = lay_out(fmt)
        self._format = fmt
        last = self._layout[-1]
        self._least_bytes = last.end_bytes
        self._full_bytes = last.offset_bytes + last.shape[0] * last.stride_bytes

    def open_picture(self, data: bytes) -> RawPicture:
        """Check the length and look at the planes; see ``IntraDecoder``."""
        if not self._least_bytes <= len(data) <= self._full_bytes:
            fmt = self._format
            name = fmt.pixel_format.name if fmt.pixel_format else "?"
            raise UndecodableError(
                f"{len(data)} bytes; a {fmt.width}x{fmt.height} {name} picture has {self._full_bytes}"
            )
        return RawPicture([plane.view(data) for plane in self._layout], self._format)


class RawPicture:
    """One raw picture; its planes are the packet's bytes.

    Args:
        planes: Views, in the order of ``planes_into``.
        fmt: The channel's format.
    """

    def __init__(self, planes: list[NDArray[np.uint8]], fmt: VideoFormat) -> None:
        self._planes = planes
        self._format = fmt

    @property
    def width(self) -> int:
        """Upright width in pixels."""
        return self._format.height if self._format.rotation_degrees in {90, 270} else self._format.width

    @property
    def height(self) -> int:
        """Upright height in pixels."""
        return self._format.width if self._format.rotation_degrees in {90, 270} else self._format.height

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes it upright."""
        return self._format.rotation_degrees

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Resize and convert into the slot; see ``Picture``."""
        fmt = self._format
        if fmt.pixel_format is None or not self._planes:
            raise UndecodableError("the picture was closed")
        planes_into(
            self._planes,
            fmt.pixel_format,
            slot,
            fit,
            fmt.rotation_degrees,
            fmt.color_space,
            fmt.color_range,
            fmt.sample_aspect,
        )

    def source(self, fit: Letterbox) -> HostSource | None:
        """Give the packet's planes; None for grey pictures."""
        if not self._planes:
            raise UndecodableError("the picture was closed")
        return planes_source(self._planes, fit, self._format)

    def close(self) -> None:
        """Let go of the packet's bytes; may be called twice."""
        self._planes = []


def lay_out(fmt: VideoFormat) -> tuple[PlaneLayout, ...]:
    """Compute where the planes of a format's packets stand, one after another.

    Raises:
        InvalidError: Size, pixel format or strides are missing or do not go together.
    """
    if fmt.width < 1 or fmt.height < 1 or fmt.pixel_format is None:
        raise InvalidError(
            "RAW_FORMAT_INCOMPLETE",
            f"raw pictures need a size and a pixel format; given are {fmt.width}x{fmt.height} and {fmt.pixel_format}",
        )
    shapes = _plane_shapes(fmt.pixel_format, fmt.width, fmt.height)
    strides = fmt.strides_bytes or tuple(PlaneLayout(0, shape, 0).row_bytes for shape in shapes)
    if len(strides) != len(shapes):
        raise InvalidError(
            "STRIDES_INVALID", f"{len(strides)} strides; {fmt.pixel_format.name} has {len(shapes)} planes"
        )
    planes: list[PlaneLayout] = []
    offset = 0
    for shape, stride in zip(shapes, strides, strict=True):
        plane = PlaneLayout(offset, shape, stride)
        if stride < plane.row_bytes:
            raise InvalidError(
                "STRIDES_INVALID", f"stride of plane {len(planes)} is {stride} bytes; its rows have {plane.row_bytes}"
            )
        planes.append(plane)
        offset += shape[0] * stride
    return tuple(planes)


def _plane_shapes(pixel_format: PixelFormat, width: int, height: int) -> tuple[tuple[int, ...], ...]:
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    match pixel_format:
        case PixelFormat.BGR24 | PixelFormat.RGB24:
            return ((height, width, 3),)
        case PixelFormat.GRAY8:
            return ((height, width),)
        case PixelFormat.NV12:
            return (height, width), (half_height, half_width, 2)
        case PixelFormat.I420:
            return (height, width), (half_height, half_width), (half_height, half_width)
