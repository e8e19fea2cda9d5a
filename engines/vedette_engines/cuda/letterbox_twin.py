"""The letterbox kernel in NumPy, bit for bit: what a simulated device runs, and what tests compare the kernel with.

See `kernels/letterbox.cu`; the names are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.letterboxing import SurfaceKind
from vedette_engines.cuda.simulated_stream import SimulatedKernel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

_WEIGHT_BITS = 11
_ONE = 1 << _WEIGHT_BITS
_LUMA, _CHROMA, _SECOND, _TARGET = 0, 2, 4, 6
_BUFFERS = (_LUMA, _CHROMA, _SECOND, _TARGET)


def simulated_letterbox(duration_s: Callable[[Sequence[Any]], float] = lambda _: 0.0) -> SimulatedKernel:
    """Make the kernel for a simulated device; it reads and writes what the real one does, and no byte more."""
    return SimulatedKernel(
        "letterbox", duration_s, letterbox, reads=(_LUMA, _CHROMA, _SECOND), writes=(_TARGET,), parts=parts_used
    )


def parts_used(arguments: Sequence[Any]) -> Mapping[int, tuple[int, int]]:
    """Tell the first byte and the number of bytes that a launch uses of each of its buffers."""
    luma_at, chroma_at, second_at, target_at = (int(arguments[index + 1]) for index in _BUFFERS)
    kind, luma_pitch, chroma_pitch, source_width, source_height, width, height = map(int, arguments[8:15])
    first, *others = SurfaceKind(kind).planes(source_width, source_height)
    luma = (luma_at, plane_bytes(luma_pitch, *first))
    target = (target_at, width * height * 3)
    if not others:
        return {_LUMA: luma, _CHROMA: luma, _SECOND: luma, _TARGET: target}
    chroma, second = (
        (at, plane_bytes(chroma_pitch, *plane))
        for at, plane in zip((chroma_at, second_at), (others[0], others[-1]), strict=True)
    )
    return {_LUMA: luma, _CHROMA: chroma, _SECOND: second, _TARGET: target}


def plane_bytes(pitch: int, row_bytes: int, rows: int) -> int:
    """Tell how many bytes a plane takes; its last row ends with its last pixel."""
    return pitch * (rows - 1) + row_bytes


def letterbox(
    luma: NDArray[np.uint8],
    luma_at: Any,
    chroma: NDArray[np.uint8],
    chroma_at: Any,
    second: NDArray[np.uint8],
    second_at: Any,
    target: NDArray[np.uint8],
    target_at: Any,
    *numbers: Any,
) -> None:
    """Do what the kernel does.

    Args:
        luma: `uint8 [n]`, luma, or packed pixels.
        luma_at: First byte of it.
        chroma: `uint8 [n]`, interleaved chroma, or U.
        chroma_at: First byte of it.
        second: `uint8 [n]`, V; where chroma is interleaved, that once more.
        second_at: First byte of it.
        target: `uint8 [n]`, the batch; one slot of it is wholly overwritten.
        target_at: First byte of the slot.
        numbers: The kernel's whole numbers, in its order.
    """
    number, luma_pitch, chroma_pitch, source_width, source_height, width, height, *rest = map(int, numbers)
    kind = SurfaceKind(number)
    left, top, fit_width, fit_height, turns, pad, *colour = rest
    coded = (fit_height, fit_width) if turns % 2 else (fit_width, fit_height)
    if kind.is_packed:
        pixels = _reduced(_plane(luma, int(luma_at), luma_pitch, source_width, source_height, 3), *coded)
        pixels = pixels[..., ::-1] if kind is SurfaceKind.RGB else pixels
    else:
        sample = 2 if kind is SurfaceKind.P010 else 1
        grey = _reduced(_plane(luma, int(luma_at), luma_pitch, source_width, source_height, 1, sample), *coded)
        odd = bool(coded[0] & coded[1] & 1)
        columns = coded[0] if odd else (coded[0] + 1) // 2
        halves = (source_width + 1) // 2, (source_height + 1) // 2
        if kind is SurfaceKind.I420:
            planes = [
                _plane(memory, int(at), chroma_pitch, *halves, 1)
                for memory, at in ((chroma, chroma_at), (second, second_at))
            ]
        else:
            planes = [_plane(chroma, int(chroma_at), chroma_pitch, *halves, 2, sample)]
        mixed = np.concatenate([_reduced(plane, columns, coded[1]) for plane in planes], axis=-1)
        pixels = _to_bgr(grey[..., 0], mixed, colour, odd=odd)
    slot = target[int(target_at) :][: width * height * 3].reshape(height, width, 3)
    slot[:] = pad
    # NumPy turns counter-clockwise.
    slot[top : top + fit_height, left : left + fit_width] = np.rot90(pixels, -turns)


def resized(
    plane: NDArray[np.uint8] | NDArray[np.uint16], width: int, height: int, spare_bits: int = 0
) -> NDArray[np.int64]:
    """Resize bilinearly.

    Args:
        plane: `uint8 [h, w, channels]`, or `uint16`, of 8 bits and the spare ones.
        width: Wanted width.
        height: Wanted height.
        spare_bits: How many more than 8 a sample has.

    Returns:
        `int64 [height, width, channels]`, 0..255.
    """
    low_x, high_x, weight_x = _between(width, plane.shape[1])
    low_y, high_y, weight_y = _between(height, plane.shape[0])
    across, down = weight_x[None, :, None], weight_y[:, None, None]

    def row(places: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = plane[places].astype(np.int64)
        mixed: NDArray[np.int64] = rows[:, low_x] * (_ONE - across) + rows[:, high_x] * across
        return mixed

    mixed = row(low_y) * (_ONE - down) + row(high_y) * down
    bits = 2 * _WEIGHT_BITS + spare_bits
    found: NDArray[np.int64] = np.minimum((mixed + (1 << (bits - 1))) >> bits, 255)
    return found


def _between(target: int, source: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    above = np.maximum((2 * np.arange(target, dtype=np.int64) + 1) * source - target, 0)
    low, rest = above // (2 * target), above % (2 * target)
    weight = ((rest << _WEIGHT_BITS) + target) // (2 * target)
    return np.minimum(low, source - 1), np.minimum(low + 1, source - 1), weight


def _reduced(plane: NDArray[np.uint8], width: int, height: int) -> NDArray[np.int64]:
    """Resize a plane, `uint8 [h, w, channels, bytes]`, to samples of 8 bits; of two bytes the upper 10 bits count."""
    if plane.shape[-1] == 1:
        return resized(plane[..., 0], width, height)
    ten = ((plane[..., 0].astype(np.uint16) | plane[..., 1].astype(np.uint16) << 8) >> 6).astype(np.uint16)
    return resized(ten, width, height, 2)


def _plane(
    memory: NDArray[np.uint8], start: int, pitch: int, width: int, height: int, channels: int, sample: int = 1
) -> NDArray[np.uint8]:
    """See rows of pixels, `pitch` bytes apart, as `uint8 [height, width, channels, bytes of a sample]`.

    The last row ends with its last pixel.
    """
    step = channels * sample
    used = memory[start : start + plane_bytes(pitch, width * step, height)]
    strides = (pitch, step, sample, 1)
    return np.lib.stride_tricks.as_strided(used, (height, width, channels, sample), strides, writeable=False)


def _to_bgr(
    grey: NDArray[np.int64], chroma: NDArray[np.int64], colour: Sequence[int], *, odd: bool
) -> NDArray[np.int64]:
    offset, gain, v_to_red, u_to_green, v_to_green, u_to_blue = colour
    half = 1 << 12 if odd else 0
    grey = ((grey - offset) * gain + half) >> 13
    centred = chroma - 128
    if not odd:
        centred = np.repeat(centred, 2, axis=1)[:, : grey.shape[1]]
    u, v = centred[..., 0], centred[..., 1]
    blue = grey + ((u * u_to_blue + half) >> 13)
    green = grey + ((u * u_to_green + half) >> 13) + ((v * v_to_green + half) >> 13)
    red = grey + ((v * v_to_red + half) >> 13)
    pixels: NDArray[np.int64] = np.clip(np.stack((blue, green, red), axis=-1), 0, 255)
    return pixels
