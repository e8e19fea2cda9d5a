"""Letterbox pictures on the device: one kernel takes a picture as it was decoded into its slot of the batch.

It gives what the CPU path gives (`vedette_server/picture/convert.py`), as near as the tests state: bilinear, as models
are judged with. The picture may be the executor's own upload or a decoder's surface; whoever owns it leaves it alone
until an event recorded behind the launch is done.

Threads: one at a time per letterbox.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from vedette_engines.cuda import kernels
from vedette_engines.cuda.base import CudaError

if TYPE_CHECKING:
    from vedette_engines.cuda.base import Device, DeviceBuffer, Kernel, Stream
    from vedette_engines.cuda.colour import YuvColour
    from vedette_engines.gpu.base import PictureLayout

BLOCK = (32, 8)
_TURNS = {0: 0, 90: 1, 180: 2, 270: 3}
# Places are computed in 32 bits: see `between` in the kernel.
_LARGEST_PRODUCT = 1 << 30
_NO_COLOUR = (0,) * 6


class SurfaceKind(enum.IntEnum):
    """How a picture lies in memory; the kernel knows the numbers.

    NV12: luma, then chroma interleaved, of half the width and height, rounded up; I420: chroma in a plane for U and
    one for V. P010: as NV12, a sample of 16 bits, low byte first, of which the upper 10 count. BGR, RGB: packed.
    """

    NV12 = 0
    BGR = 1
    RGB = 2
    I420 = 3
    P010 = 4

    @property
    def is_packed(self) -> bool:
        """Whether its pixels are colours, in one plane."""
        return self in {SurfaceKind.BGR, SurfaceKind.RGB}

    def planes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """Tell the planes of a picture of this size: bytes of a row, and rows."""
        half_width, half_height = (width + 1) // 2, (height + 1) // 2
        match self:
            case SurfaceKind.NV12:
                return (width, height), (half_width * 2, half_height)
            case SurfaceKind.P010:
                return (width * 2, height), (half_width * 4, half_height)
            case SurfaceKind.I420:
                return (width, height), (half_width, half_height), (half_width, half_height)
            case _:
                return ((width * 3, height),)


class Place(Protocol):
    """Where the upright picture stands in the input; the server's `Geometry` is one."""

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes the picture upright: 0, 90, 180, 270."""
        ...

    @property
    def fit_width(self) -> int:
        """Width of the upright picture in the input."""
        ...

    @property
    def fit_height(self) -> int:
        """Height of the upright picture in the input."""
        ...

    @property
    def left(self) -> int:
        """First column of the picture in the input."""
        ...

    @property
    def top(self) -> int:
        """First row of the picture in the input."""
        ...


@dataclass(frozen=True, slots=True)
class Surface:
    """One picture in the device's memory, as coded: before any turn.

    Attributes:
        kind: Its layout.
        width: Width in pixels.
        height: Height in pixels.
        luma: Memory of luma, or of the packed pixels.
        luma_at: First byte of them.
        luma_pitch: Bytes from one row to the next.
        chroma: Memory of the interleaved chroma, or of U; for packed pixels their own.
        chroma_at: First byte of it.
        chroma_pitch: Bytes from one row to the next, of U and V both.
        second: Memory of V; None where it has no plane of its own.
        second_at: First byte of it.
    """

    kind: SurfaceKind
    width: int
    height: int
    luma: DeviceBuffer
    luma_at: int
    luma_pitch: int
    chroma: DeviceBuffer
    chroma_at: int
    chroma_pitch: int
    second: DeviceBuffer | None = None
    second_at: int = 0

    def __post_init__(self) -> None:
        """Check that all rows lie in the memory.

        Raises:
            ValueError: They do not, the size is below 1x1, or the second plane of chroma is missing.
        """
        if self.width < 1 or self.height < 1:
            raise ValueError(f"surface is {self.width}x{self.height}; allowed is 1x1 and up")
        first, *others = self.kind.planes(self.width, self.height)
        _check_plane("luma" if others else "pixels", self.luma, self.luma_at, self.luma_pitch, *first)
        if others:
            _check_plane("chroma", self.chroma, self.chroma_at, self.chroma_pitch, *others[0])
        if self.kind is SurfaceKind.I420:
            if self.second is None:
                raise ValueError("an I420 surface has no memory for V")
            _check_plane("V", self.second, self.second_at, self.chroma_pitch, *others[1])

    @classmethod
    def packed(
        cls, kind: SurfaceKind, memory: DeviceBuffer, width: int, height: int, *, at: int = 0, pitch: int | None = None
    ) -> Self:
        """Describe BGR or RGB pixels; without a pitch the rows follow each other."""
        pitch = pitch or width * 3
        return cls(kind, width, height, memory, at, pitch, memory, at, pitch)

    @classmethod
    def nv12(
        cls,
        memory: DeviceBuffer,
        width: int,
        height: int,
        *,
        at: int = 0,
        pitch: int | None = None,
        luma_rows: int | None = None,
    ) -> Self:
        """Describe NV12 in one piece of memory, chroma after luma, as decoders give it.

        Args:
            memory: Where it lies.
            width: Width in pixels.
            height: Height in pixels.
            at: First byte of luma.
            pitch: Bytes from one row to the next, in both planes; None: the rows follow each other.
            luma_rows: Rows of luma in memory, where a decoder keeps more than it shows.
        """
        return cls._semi_planar(SurfaceKind.NV12, memory, width, height, at, pitch, luma_rows)

    @classmethod
    def p010(
        cls,
        memory: DeviceBuffer,
        width: int,
        height: int,
        *,
        at: int = 0,
        pitch: int | None = None,
        luma_rows: int | None = None,
    ) -> Self:
        """Describe P010 in one piece of memory; see `nv12`."""
        return cls._semi_planar(SurfaceKind.P010, memory, width, height, at, pitch, luma_rows)

    @classmethod
    def from_layout(cls, memory: DeviceBuffer, layout: PictureLayout, *, at: int = 0) -> Self:
        """Describe a picture whose planes lie in one piece of memory.

        Args:
            memory: Where it lies.
            layout: How.
            at: First byte of it all.

        Raises:
            ValueError: The layout has too few planes, U and V with unlike pitches, or it leaves the memory.
        """
        wanted = len(layout.kind.planes(layout.width, layout.height))
        if (len(layout.plane_at), len(layout.pitches)) != (wanted, wanted) or len({*layout.pitches[1:]}) > 1:
            raise ValueError(
                f"{layout.kind.name} planes begin at {layout.plane_at}, at pitches of {layout.pitches}; "
                f"it has {wanted}, those of chroma at one pitch"
            )
        places = [at + first for first in layout.plane_at]
        return cls(
            layout.kind,
            layout.width,
            layout.height,
            memory,
            places[0],
            layout.pitches[0],
            memory,
            places[min(1, wanted - 1)],
            layout.pitches[-1],
            memory if wanted == 3 else None,
            places[2] if wanted == 3 else 0,
        )

    @classmethod
    def _semi_planar(
        cls,
        kind: SurfaceKind,
        memory: DeviceBuffer,
        width: int,
        height: int,
        at: int,
        pitch: int | None,
        luma_rows: int | None,
    ) -> Self:
        pitch = pitch or kind.planes(width, height)[1][0]
        chroma_at = at + pitch * (luma_rows or height)
        return cls(kind, width, height, memory, at, pitch, memory, chroma_at, pitch)


class DeviceLetterbox:
    """The kernel on one device, for one size of input.

    Args:
        device: The device; the caller is attached to it.
        width: Width of the input in pixels.
        height: Height of the input in pixels.
        pad: Grey value of what a picture does not cover, 0..255.

    Raises:
        ValueError: A size or the grey is not allowed.
        CudaError: The device does not take the kernel.
    """

    def __init__(self, device: Device, width: int, height: int, pad: int = 114) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"letterbox is {width}x{height}; allowed is 1x1 and up")
        if not 0 <= pad <= 255:
            raise ValueError(f"pad is {pad}; allowed is 0..255")
        self._size = (width, height)
        self._pad = pad
        self._module = device.load(kernels.ptx("letterbox"))
        self._kernel: Kernel | None = self._module.kernel("letterbox")
        self._grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]))

    @property
    def slot_bytes(self) -> int:
        """Length of one slot of the batch."""
        return self._size[0] * self._size[1] * 3

    def launch(
        self,
        stream: Stream,
        surface: Surface,
        target: DeviceBuffer,
        slot_index: int,
        place: Place,
        colour: YuvColour | None = None,
    ) -> None:
        """Write a picture into a slot.

        Args:
            stream: Where; the surface may be reused when an event behind this is done.
            surface: The picture.
            target: The batch, `uint8 [n, height, width, 3]`, BGR, C-contiguous; the slot is wholly overwritten.
            slot_index: Which slot.
            place: Where the picture stands in the input.
            colour: How to read YUV; nothing for BGR and RGB.

        Raises:
            ValueError: The slot lies outside the batch, the place outside the input, YUV has no colour, or a size
                is more than the kernel computes with.
            CudaError: The launch failed.
        """
        kernel = self._kernel
        if kernel is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using a letterbox that was closed", sticky=False)
        self._check(surface, target, slot_index, place, colour)
        second, second_at = (
            (surface.second, surface.second_at) if surface.second else (surface.chroma, surface.chroma_at)
        )
        width, height = self._size
        numbers = (
            *(surface.kind, surface.luma_pitch, surface.chroma_pitch, surface.width, surface.height),
            *(width, height, place.left, place.top, place.fit_width, place.fit_height),
            *(_TURNS[place.rotation_degrees], self._pad, *(colour or _NO_COLOUR)),
        )
        arguments = (
            *(surface.luma, np.int64(surface.luma_at), surface.chroma, np.int64(surface.chroma_at)),
            *(second, np.int64(second_at)),
            *(target, np.int64(slot_index * self.slot_bytes), *map(np.int32, numbers)),
        )
        stream.launch(kernel, self._grid, BLOCK, arguments)

    def close(self) -> None:
        """Unload the kernel, attached; may be called twice. No launch may be under way."""
        # pycuda unloads a module when no kernel of it is left.
        self._kernel = None
        self._module.close()

    def _check(
        self, surface: Surface, target: DeviceBuffer, slot_index: int, place: Place, colour: YuvColour | None
    ) -> None:
        slots = target.size_bytes // self.slot_bytes
        if not 0 <= slot_index < slots:
            raise ValueError(f"slot is {slot_index}; the batch has {slots}")
        if not surface.kind.is_packed and colour is None:
            raise ValueError(f"an {surface.kind.name} surface needs a colour")
        if place.rotation_degrees not in _TURNS:
            raise ValueError(f"rotation is {place.rotation_degrees}; allowed are 0, 90, 180 and 270 degrees")
        self._check_place(place)
        largest = max(place.fit_width, place.fit_height) * max(surface.width, surface.height)
        if largest >= _LARGEST_PRODUCT:
            raise ValueError(
                f"a {surface.width}x{surface.height} picture is too large for {place.fit_width}x{place.fit_height}"
            )

    def _check_place(self, place: Place) -> None:
        for first, size, whole in (
            (place.left, place.fit_width, self._size[0]),
            (place.top, place.fit_height, self._size[1]),
        ):
            if first < 0 or size < 1 or first + size > whole:
                raise ValueError(
                    f"a picture of {place.fit_width}x{place.fit_height} at {place.left}, {place.top} "
                    f"leaves the input of {self._size[0]}x{self._size[1]}"
                )


def _check_plane(what: str, memory: DeviceBuffer, start: int, pitch: int, row_bytes: int, rows: int) -> None:
    end = start + pitch * (rows - 1) + row_bytes
    if start < 0 or pitch < row_bytes or end > memory.size_bytes:
        raise ValueError(
            f"{what} take bytes {start}..{end} at a pitch of {pitch}; rows have {row_bytes} bytes, "
            f"the memory {memory.size_bytes}"
        )
