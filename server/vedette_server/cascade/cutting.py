"""Cut objects out of a decoded picture without converting more of it than they take.

A crop is a part of the planes as they lie in memory, on the host or on a GPU: what is resized and converted are its
own pixels only. Where the picture has no layout that can be cut (10 bits for an engine on the CPU, rare formats,
privately coded colours) it is converted as a whole, once for all its crops.

Threads: one at a time; a crop is good while its picture is open.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vedette_engines.cuda.letterboxing import SurfaceKind
from vedette_server.data.format import ColorRange, ColorSpace, PixelFormat
from vedette_server.evidence.pixels import blacken, upright_bgr
from vedette_server.picture.colour import choose_colour
from vedette_server.picture.convert import MATRIX_UNSAID, RANGE_UNSAID, bgr_into, planes_into
from vedette_server.picture.describing import device_colour
from vedette_server.picture.letterbox import SQUARE, Letterbox
from vedette_server.picture.source import DeviceSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.colour import YuvColour
    from vedette_engines.cuda.letterboxing import Surface
    from vedette_server.data.rules import Points
    from vedette_server.decode.base import Picture
    from vedette_server.picture.source import HostSource

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2, normalised."""

# Fewer pixels than these on a side show nothing that a classifier could tell.
LEAST_SIDE_PX = 8
_FORMATS = {
    SurfaceKind.BGR: PixelFormat.BGR24,
    SurfaceKind.RGB: PixelFormat.RGB24,
    SurfaceKind.NV12: PixelFormat.NV12,
    SurfaceKind.I420: PixelFormat.I420,
}
# Bytes of a sample: of luma, and of a place of two in chroma's rows.
_BYTES = {SurfaceKind.BGR: 3, SurfaceKind.RGB: 3, SurfaceKind.NV12: 1, SurfaceKind.P010: 2, SurfaceKind.I420: 1}


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a coded picture, in pixels.

    Attributes:
        left: First column.
        top: First row.
        width: Columns, at least 1.
        height: Rows, at least 1.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(cls, corners: Corners, width: int, height: int, *, even: bool) -> Cut:
        """Choose the pixels that a part touches.

        Args:
            corners: The part, normalised to the coded picture, within it.
            width: The picture's, pixels.
            height: The picture's, pixels.
            even: Begin at an even column and row, as shared chroma wants it; and end so, but at the picture's edge.
        """
        step = 2 if even else 1
        # What rounding of 32 bits added is no pixel more.
        left, top = (
            max(math.floor(at * size + 1e-3), 0) for at, size in zip(corners[:2], (width, height), strict=True)
        )
        right, bottom = (math.ceil(at * size - 1e-3) for at, size in zip(corners[2:], (width, height), strict=True))
        left, top = min(left, width - 1) // step * step, min(top, height - 1) // step * step
        right, bottom = (-(-end // step) * step for end in (right, bottom))
        right, bottom = min(max(right, left + step), width), min(max(bottom, top + step), height)
        return cls(left, top, right - left, bottom - top)


class Cutter:
    """Cuts objects out of one picture.

    Args:
        picture: The picture, open; left so.
        sample_aspect: Width of a coded sample over its height, as its channel's format has it.
        hidden: Corners of areas that nobody may see, normalised to the upright picture: they are black in all crops.
    """

    def __init__(self, picture: Picture, sample_aspect: Fraction = SQUARE, hidden: Sequence[Points] = ()) -> None:
        self._picture = picture
        self._aspect = sample_aspect
        self._hidden = tuple(hidden)
        self._asked = False
        self._source: HostSource | None = None
        self._bgr: NDArray[np.uint8] | None = None

    @property
    def hides(self) -> bool:
        """Whether areas are blackened: then the picture is converted as a whole."""
        return bool(self._hidden)

    @property
    def picture(self) -> Picture:
        """The picture."""
        return self._picture

    @property
    def sample_aspect(self) -> Fraction:
        """Width of a coded sample over its height."""
        return self._aspect

    def cut(self, corners: Corners) -> Crop:
        """Cut a part out.

        Args:
            corners: The part, normalised to the upright picture, within it.
        """
        return Crop(self, corners)

    def host(self) -> HostSource | None:
        """Give the picture as it lies in ordinary memory; None: it lies elsewhere, or has no layout to cut.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        if self._hidden:
            return None
        if not self._asked:
            source = self._picture.source(Letterbox(self._picture.width, self._picture.height))
            if isinstance(source, DeviceSource):
                source.release()
            else:
                self._source = source
            self._asked = True
        return self._source

    def bgr(self) -> NDArray[np.uint8]:
        """Give the whole picture upright, `uint8 [height, width, 3]`; converted when it is first asked for.

        Raises:
            UndecodableError: The picture cannot be converted.
        """
        if self._bgr is None:
            self._bgr = upright_bgr(self._picture, self._aspect)
            blacken(self._bgr, self._hidden)
        return self._bgr


class Crop:
    """A part of a picture, as engines take pictures: see `decode.base.Picture`.

    Args:
        cutter: Of which picture; that is let go of by its owner, not by this.
        corners: The part, normalised to the upright picture, within it.
    """

    def __init__(self, cutter: Cutter, corners: Corners) -> None:
        self._cutter = cutter
        self._corners = corners

    @property
    def width(self) -> int:
        """Upright width in pixels."""
        return self._upright.width

    @property
    def height(self) -> int:
        """Upright height in pixels."""
        return self._upright.height

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes it upright."""
        return self._cutter.picture.rotation_degrees

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Resize, convert, turn and pad the part into the slot; see `Picture`.

        Raises:
            UndecodableError: The picture cannot be converted.
        """
        source = self._cutter.host()
        pixel_format = None if source is None else _FORMATS.get(source.kind)
        colours = None if source is None else _colours_of(source.colour)
        if source is None or pixel_format is None or colours is None:
            pixels = self._cutter.bgr()
            cut = Cut.of(self._corners, pixels.shape[1], pixels.shape[0], even=False)
            bgr_into(_part(pixels, cut), slot, fit)
            return
        height, width = source.planes[0].shape[:2]
        planes = cut_planes(source.planes, self._cut(width, height, packed=source.kind.is_packed))
        turn, aspect = self.rotation_degrees, self._cutter.sample_aspect
        planes_into(planes, pixel_format, slot, fit, turn, *colours, aspect)

    def source(self, fit: Letterbox) -> DeviceSource | None:
        """Give the part of a picture in a GPU's memory where it lies; see `Picture`.

        Of a picture in ordinary memory there is nothing to give: its few pixels are letterboxed sooner than copied,
        and crops of all sizes would use up the pinned memory that frames are copied through.
        """
        if self._cutter.hides:
            return None
        source = self._cutter.picture.source(fit) if self._cutter.host() is None else None
        if not isinstance(source, DeviceSource):
            return None
        try:
            surface = source.surface
            cut = self._cut(surface.width, surface.height, packed=surface.kind.is_packed)
            place = fit.place(cut.width, cut.height, self.rotation_degrees, self._cutter.sample_aspect)
            return replace(source, surface=cut_surface(surface, cut), place=place)
        except BaseException:
            source.release()
            raise

    def close(self) -> None:
        """Do nothing: the picture's owner closes it."""

    @property
    def _upright(self) -> Cut:
        picture = self._cutter.picture
        return Cut.of(self._corners, picture.width, picture.height, even=False)

    def _cut(self, width: int, height: int, *, packed: bool) -> Cut:
        return Cut.of(coded(self._corners, self.rotation_degrees), width, height, even=not packed)


def enlarged(corners: Corners, margin: float) -> Corners:
    """Enlarge a box by a share of itself on each side, as far as the picture goes."""
    x1, y1, x2, y2 = corners
    wide, high = (x2 - x1) * margin, (y2 - y1) * margin
    return max(x1 - wide, 0.0), max(y1 - high, 0.0), min(x2 + wide, 1.0), min(y2 + high, 1.0)


def shows_enough(corners: Corners, width: int, height: int) -> bool:
    """Tell whether there is something to see in a box, normalised to the upright picture of this size in pixels."""
    x1, y1, x2, y2 = corners
    return (x2 - x1) * width >= LEAST_SIDE_PX and (y2 - y1) * height >= LEAST_SIDE_PX


def coded(corners: Corners, rotation_degrees: int) -> Corners:
    """Take a part of the upright picture back to before the clockwise turn that made it upright."""
    x1, y1, x2, y2 = corners
    match rotation_degrees:
        case 90:
            return y1, 1.0 - x2, y2, 1.0 - x1
        case 180:
            return 1.0 - x2, 1.0 - y2, 1.0 - x1, 1.0 - y1
        case 270:
            return 1.0 - y2, x1, 1.0 - y1, x2
        case _:
            return corners


def cut_planes(planes: Sequence[NDArray[Any]], cut: Cut) -> tuple[NDArray[Any], ...]:
    """Look at a part of a picture's planes; nothing is copied. Chroma that pixels share is cut at half the place."""
    first, *others = planes
    half = Cut(cut.left // 2, cut.top // 2, (cut.width + 1) // 2, (cut.height + 1) // 2)
    return _part(first, cut), *(_part(plane, half) for plane in others)


def cut_surface(surface: Surface, cut: Cut) -> Surface:
    """Describe a part of a picture in a device's memory."""
    size = _BYTES[surface.kind]
    luma_at = surface.luma_at + cut.top * surface.luma_pitch + cut.left * size
    chroma_by = cut.top // 2 * surface.chroma_pitch
    # U and V of two columns stand side by side where they share a plane.
    chroma_by += cut.left // 2 if surface.kind is SurfaceKind.I420 else cut.left * size
    chroma_at = luma_at if surface.kind.is_packed else surface.chroma_at + chroma_by
    second_at = surface.second_at if surface.second is None else surface.second_at + chroma_by
    return replace(
        surface, width=cut.width, height=cut.height, luma_at=luma_at, chroma_at=chroma_at, second_at=second_at
    )


def _part(plane: NDArray[Any], cut: Cut) -> NDArray[Any]:
    return plane[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]


def _colours_of(colour: YuvColour | None) -> tuple[ColorSpace, ColorRange] | None:
    """Tell how samples are read, as a configuration says it; None: it has no words for that."""
    return (ColorSpace.UNSPECIFIED, ColorRange.UNSPECIFIED) if colour is None else _colour_words().get(colour)


@functools.cache
def _colour_words() -> Mapping[YuvColour, tuple[ColorSpace, ColorRange]]:
    return {
        device_colour(choose_colour(MATRIX_UNSAID, RANGE_UNSAID, 0, space, sample_range)): (space, sample_range)
        for space in (ColorSpace.BT601, ColorSpace.BT709, ColorSpace.BT2020)
        for sample_range in (ColorRange.LIMITED, ColorRange.FULL)
    }
