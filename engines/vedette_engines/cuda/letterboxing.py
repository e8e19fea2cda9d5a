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

BLOCK = (32, 8)
_TURNS = {0: 0, 90: 1, 180: 2, 270: 3}
# Places are computed in 32 bits: see `between` in the kernel.
_LARGEST_PRODUCT = 1 << 30
_NO_COLOUR = (0,) * 6


class SurfaceKind(enum.IntEnum):
    """How a picture lies in memory; the kernel knows the numbers."""

    NV12 = 0
    BGR = 1
    RGB = 2


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
        chroma: Memory of the interleaved chroma; for packed pixels their own.
        chroma_at: First byte of it.
        chroma_pitch: Bytes from one row to the next.
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

    def __post_init__(self) -> None:
        """Check that all rows lie in the memory.

        Raises:
            ValueError: They do not, or the size is below 1x1.
        """
        if self.width < 1 or self.height < 1:
            raise ValueError(f"surface is {self.width}x{self.height}; allowed is 1x1 and up")
        if self.kind is SurfaceKind.NV12:
            _check_plane("luma", self.luma, self.luma_at, self.luma_pitch, self.width, self.height)
            halves = (self.width + 1) // 2, (self.height + 1) // 2
            _check_plane("chroma", self.chroma, self.chroma_at, self.chroma_pitch, halves[0] * 2, halves[1])
        else:
            _check_plane("pixels", self.luma, self.luma_at, self.luma_pitch, self.width * 3, self.height)

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
        pitch = pitch or (width + 1) // 2 * 2
        chroma_at = at + pitch * (luma_rows or height)
        return cls(SurfaceKind.NV12, width, height, memory, at, pitch, memory, chroma_at, pitch)


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
            colour: How to read NV12; nothing for BGR and RGB.

        Raises:
            ValueError: The slot lies outside the batch, the place outside the input, NV12 has no colour, or a size
                is more than the kernel computes with.
            CudaError: The launch failed.
        """
        kernel = self._kernel
        if kernel is None:
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "using a letterbox that was closed", sticky=False)
        self._check(surface, target, slot_index, place, colour)
        width, height = self._size
        numbers = (
            *(surface.kind, surface.luma_pitch, surface.chroma_pitch, surface.width, surface.height),
            *(width, height, place.left, place.top, place.fit_width, place.fit_height),
            *(_TURNS[place.rotation_degrees], self._pad, *(colour or _NO_COLOUR)),
        )
        arguments = (
            *(surface.luma, np.int64(surface.luma_at), surface.chroma, np.int64(surface.chroma_at)),
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
        if surface.kind is SurfaceKind.NV12 and colour is None:
            raise ValueError("an NV12 surface needs a colour")
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
