"""Letterboxing one picture on a device, with guard bytes around everything, and what the CPU path makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vedette_engines.cuda.letterboxing import DeviceLetterbox, Surface, SurfaceKind
from vedette_engines.gpu.base import PictureLayout
from vedette_server.data.format import ColorRange, ColorSpace, PixelFormat
from vedette_server.picture.convert import planes_into, video_frame_into
from vedette_server.picture.letterbox import SQUARE
from vedette_server.picture.scratch import wide_plane_views

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from vedette_engines.cuda.colour import YuvColour
    from vedette_server.picture.letterbox import Letterbox

GUARD = 0x5A
KINDS = {SurfaceKind.BGR: PixelFormat.BGR24, SurfaceKind.RGB: PixelFormat.RGB24}
# swscale's number of each, which is H.273's.
SPACES = {1: ColorSpace.BT709, 5: ColorSpace.BT601, 9: ColorSpace.BT2020}


@dataclass(frozen=True)
class Picture:
    """One picture: its planes, packed `[h, w, 3]`, luma `[h, w]`, chroma `[h/2, w/2, 2]` or twice `[h/2, w/2]`.

    They lie one after another, with one pitch.
    """

    kind: SurfaceKind
    planes: tuple[NDArray[Any], ...]
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
        return max(plane[0].nbytes for plane in self.planes) + self.slack

    @property
    def plane_at(self) -> tuple[int, ...]:
        rows = [0, *(len(plane) for plane in self.planes)]
        return tuple(self.at + self.pitch * sum(rows[: index + 1]) for index in range(len(self.planes)))

    def arguments(self, memory: Any) -> tuple[Any, ...]:
        """What the kernel and its twin are given of the source: luma, chroma and second, each with its first byte."""
        places = (self.plane_at * 3)[:3] if len(self.planes) != 2 else (*self.plane_at, self.plane_at[1])
        return tuple(entry for place in places for entry in (memory, place))

    def laid(self) -> NDArray[np.uint8]:
        rows = [np.ascontiguousarray(plane).view(np.uint8).reshape(plane.shape[0], -1) for plane in self.planes]
        memory = np.full(self.at + self.pitch * sum(map(len, rows)), GUARD, np.uint8)
        image, top = memory[self.at :].reshape(-1, self.pitch), 0
        for plane in rows:
            image[top : top + len(plane), : plane.shape[1]] = plane
            top += len(plane)
        return memory

    def surface(self, memory: Any) -> Surface:
        if self.kind is SurfaceKind.NV12:
            return Surface.nv12(memory, self.width, self.height, at=self.at, pitch=self.pitch)
        if self.kind is SurfaceKind.P010:
            return Surface.p010(memory, self.width, self.height, at=self.at, pitch=self.pitch)
        if self.kind is SurfaceKind.I420:
            places, pitches = tuple(place - self.at for place in self.plane_at), (self.pitch,) * 3
            layout = PictureLayout(self.kind, self.width, self.height, places, pitches, memory.size_bytes - self.at)
            return Surface.from_layout(memory, layout, at=self.at)
        return Surface.packed(self.kind, memory, self.width, self.height, at=self.at, pitch=self.pitch)


def noise(kind: SurfaceKind, width: int, height: int, *, at: int = 0, slack: int = 0, seed: int = 0) -> Picture:
    random = np.random.default_rng(seed)
    half = ((height + 1) // 2, (width + 1) // 2)
    shapes: tuple[tuple[int, ...], ...] = ((height, width, 3),)
    if kind is SurfaceKind.I420:
        shapes = ((height, width), half, half)
    elif not kind.is_packed:
        shapes = ((height, width), (*half, 2))
    sample = np.uint16 if kind is SurfaceKind.P010 else np.uint8
    return Picture(
        kind, tuple(random.integers(0, np.iinfo(sample).max + 1, shape, sample) for shape in shapes), at, slack
    )


def drawn(kind: SurfaceKind, width: int, height: int, seed: int = 0) -> Picture:
    """A picture with edges and slopes, as a camera's has; noise has no chroma to speak of after a lens."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    planes = [127 + 90 * np.sin(9 * x + phase) * np.cos(7 * y - phase) for phase in phases]
    planes[0] = planes[0] + 35 * ((x * 8).astype(int) % 2)
    exact = np.clip(np.stack(planes, -1), 0, 255)
    # What is in the lower 6 bits of P010 does not count.
    whole = (exact * 4).astype(np.uint16) << 6 | 0x2A if kind is SurfaceKind.P010 else exact.astype(np.uint8)
    if kind.is_packed:
        return Picture(kind, (whole,))
    luma, chroma = whole[..., 0].copy(), whole[::2, ::2, 1:].copy()
    if kind is SurfaceKind.I420:
        return Picture(kind, (luma, chroma[..., 0].copy(), chroma[..., 1].copy()))
    return Picture(kind, (luma, chroma))


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


def on_cpu(
    picture: Picture,
    fit: Letterbox,
    rotation: int,
    matrix: int,
    *,
    full_range: bool,
    sample_aspect: Fraction = SQUARE,
) -> NDArray[np.uint8]:
    """What the server's CPU path makes of the same picture; NV12 as the I420 that decoders on the CPU give."""
    slot = np.empty((fit.height, fit.width, 3), np.uint8)
    planes = list(picture.planes)
    colours = SPACES[matrix], ColorRange.FULL if full_range else ColorRange.LIMITED
    if picture.kind is SurfaceKind.P010:
        frame = av.VideoFrame(picture.width, picture.height, "p010le")
        for view, plane in zip(wide_plane_views(frame), planes, strict=True):
            # As FFmpeg has it, with nothing below.
            view[:] = plane >> 6 << 6
        video_frame_into(frame, slot, fit, rotation, *colours, sample_aspect)
        return slot
    if picture.kind is SurfaceKind.NV12:
        planes = [planes[0], *(np.ascontiguousarray(planes[1][..., index]) for index in (0, 1))]
    planes_into(planes, KINDS.get(picture.kind, PixelFormat.I420), slot, fit, rotation, *colours, sample_aspect)
    return slot
