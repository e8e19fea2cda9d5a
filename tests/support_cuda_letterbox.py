"""Letterboxing one picture on a device, with guard bytes around everything, and what the CPU path makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.letterboxing import DeviceLetterbox, Surface, SurfaceKind
from vedette_server.data.format import ColorRange, ColorSpace, PixelFormat
from vedette_server.picture.convert import planes_into

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.cuda.colour import YuvColour
    from vedette_server.picture.letterbox import Letterbox

GUARD = 0x5A
KINDS = {SurfaceKind.BGR: PixelFormat.BGR24, SurfaceKind.RGB: PixelFormat.RGB24}
# swscale's number of each, which is H.273's.
SPACES = {1: ColorSpace.BT709, 5: ColorSpace.BT601, 9: ColorSpace.BT2020}


@dataclass(frozen=True)
class Picture:
    """One picture: its planes, packed `[h, w, 3]` or luma `[h, w]` and chroma `[h/2, w/2, 2]`, and how they lie."""

    kind: SurfaceKind
    planes: tuple[NDArray[np.uint8], ...]
    at: int = 0
    slack: int = 0

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def pitch(self) -> int:
        return max(plane[0].size for plane in self.planes) + self.slack

    def laid(self) -> NDArray[np.uint8]:
        rows = [plane.reshape(plane.shape[0], -1) for plane in self.planes]
        memory = np.full(self.at + self.pitch * sum(map(len, rows)), GUARD, np.uint8)
        image, top = memory[self.at :].reshape(-1, self.pitch), 0
        for plane in rows:
            image[top : top + len(plane), : plane.shape[1]] = plane
            top += len(plane)
        return memory

    def surface(self, memory: Any) -> Surface:
        if self.kind is SurfaceKind.NV12:
            return Surface.nv12(memory, self.width, self.height, at=self.at, pitch=self.pitch)
        return Surface.packed(self.kind, memory, self.width, self.height, at=self.at, pitch=self.pitch)


def noise(kind: SurfaceKind, width: int, height: int, *, at: int = 0, slack: int = 0, seed: int = 0) -> Picture:
    random = np.random.default_rng(seed)
    shapes = [(height, width, 3)]
    if kind is SurfaceKind.NV12:
        shapes = [(height, width), ((height + 1) // 2, (width + 1) // 2, 2)]  # type: ignore[list-item]
    return Picture(kind, tuple(random.integers(0, 256, shape, np.uint8) for shape in shapes), at, slack)


def drawn(kind: SurfaceKind, width: int, height: int, seed: int = 0) -> Picture:
    """A picture with edges and slopes, as a camera's has; noise has no chroma to speak of after a lens."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    planes = [127 + 90 * np.sin(9 * x + phase) * np.cos(7 * y - phase) for phase in phases]
    planes[0] = planes[0] + 35 * ((x * 8).astype(int) % 2)
    whole = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    if kind is not SurfaceKind.NV12:
        return Picture(kind, (whole,))
    return Picture(kind, (whole[..., 0].copy(), whole[::2, ::2, 1:].copy()))


def on_device(
    device: Any, picture: Picture, fit: Letterbox, rotation: int, colour: YuvColour | None
) -> NDArray[np.uint8]:
    """Letterbox into the middle one of three slots; what stands around it may not change.

    Returns:
        `uint8 [fit.height, fit.width, 3]`.
    """
    laid = picture.laid()
    box = DeviceLetterbox(device, fit.width, fit.height, fit.pad)
    stream, given, memory = device.stream(), device.pin(len(laid)), device.allocate(len(laid))
    batch, taken = device.allocate(box.slot_bytes * 3), device.pin(box.slot_bytes * 3)
    given.array[:] = laid
    taken.array[:] = GUARD
    stream.upload(memory, given, len(laid))
    stream.upload(batch, taken, box.slot_bytes * 3)
    place = fit.place(picture.width, picture.height, rotation)
    box.launch(stream, picture.surface(memory), batch, 1, place, colour)
    stream.download(taken, batch, box.slot_bytes * 3)
    stream.synchronize()
    before, slot, after = taken.array.reshape(3, -1).copy()
    assert (before == GUARD).all()
    assert (after == GUARD).all()
    for thing in (given, memory, batch, taken, box, stream):
        thing.close()
    return slot.reshape(fit.height, fit.width, 3)


def on_cpu(picture: Picture, fit: Letterbox, rotation: int, matrix: int, *, full_range: bool) -> NDArray[np.uint8]:
    """What the server's CPU path makes of the same picture; NV12 as the I420 that decoders on the CPU give."""
    slot = np.empty((fit.height, fit.width, 3), np.uint8)
    if picture.kind is SurfaceKind.NV12:
        luma, chroma = picture.planes
        planes = [luma, *(np.ascontiguousarray(chroma[..., index]) for index in (0, 1))]
        sample_range = ColorRange.FULL if full_range else ColorRange.LIMITED
        planes_into(planes, PixelFormat.I420, slot, fit, rotation, SPACES[matrix], sample_range)
    else:
        planes_into(list(picture.planes), KINDS[picture.kind], slot, fit, rotation)
    return slot
