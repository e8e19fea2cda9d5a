"""Pictures come to lie in pinned memory as the kernel expects them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_cuda_kernels import KERNELS
from support_cuda_letterbox import Picture, noise, on_device
from vedette_engines.cuda.colour import yuv_colour
from vedette_engines.cuda.letterboxing import DeviceLetterbox, Surface, SurfaceKind
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.staging import Staging
from vedette_server.picture.letterbox import Letterbox

KINDS = tuple(SurfaceKind)


@dataclass
class Memory:
    """Pinned memory that is none."""

    array: Any

    def close(self) -> None:
        pass


def padded(plane: Any, slack: int) -> Any:
    """The same plane in memory whose rows are longer."""
    wide = np.zeros((plane.shape[0], plane.shape[1] + slack, *plane.shape[2:]), plane.dtype)
    view = wide[:, : plane.shape[1]]
    view[:] = plane
    return view


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), width=st.integers(1, 200), height=st.integers(1, 60), slack=st.integers(0, 5))
def test_a_staged_picture_is_letterboxed_as_the_picture_itself(
    kind: SurfaceKind, width: int, height: int, slack: int
) -> None:
    staging, device, fit = Staging(), SimulatedDevice(kernels=KERNELS), Letterbox(48, 40, "centre")
    picture, colour = noise(kind, width, height), None if kind.is_packed else yuv_colour(1, full_range=False)
    layout = staging.layout_of(kind, width, height)
    given_, memory = device.pin(layout.size_bytes + 7), device.allocate(layout.size_bytes)
    staging.stage([padded(plane, slack) for plane in picture.planes], layout, given_)
    box, batch, taken, stream = (
        DeviceLetterbox(device, 48, 40),
        device.allocate(5760),
        device.pin(5760),
        device.stream(),
    )
    stream.upload(memory, given_, layout.size_bytes)
    box.launch(stream, Surface.from_layout(memory, layout), batch, 0, fit.place(width, height), colour)
    stream.download(taken, batch, 5760)
    stream.synchronize()
    wanted = on_device(SimulatedDevice(kernels=KERNELS), Picture(kind, picture.planes), fit, 0, colour)
    assert np.array_equal(taken.array, wanted.reshape(-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1920, 1080), (1, 1), (641, 479)])
def test_rows_and_planes_begin_where_the_devices_loads_are_aligned(kind: SurfaceKind, size: tuple[int, int]) -> None:
    layout = Staging().layout_of(kind, *size)
    end = 0
    for (row_bytes, rows), at, pitch in zip(kind.planes(*size), layout.plane_at, layout.pitches, strict=True):
        assert (at % 256, pitch % 64) == (0, 0)
        assert pitch >= row_bytes
        assert at >= end
        end = at + pitch * rows
    assert layout.size_bytes == end
    # Little is uploaded for nothing.
    assert size != (1920, 1080) or end <= 1.01 * sum(row_bytes * rows for row_bytes, rows in kind.planes(*size))


def test_nothing_is_written_behind_the_picture() -> None:
    staging, picture = Staging(), noise(SurfaceKind.I420, 33, 9)
    layout = staging.layout_of(SurfaceKind.I420, 33, 9)
    memory = Memory(np.full(layout.size_bytes + 64, 0x5A, np.uint8))
    staging.stage(picture.planes, layout, memory)
    assert (memory.array[layout.size_bytes :] == 0x5A).all()
    assert (memory.array[33:64] == 0x5A).all()


@pytest.mark.parametrize(
    ("planes", "room", "message"),
    [
        (noise(SurfaceKind.NV12, 8, 8).planes, 4096, r"planes have .* I420 of 8x8 has"),
        (noise(SurfaceKind.I420, 8, 7).planes, 4096, r"I420 of 8x8 has"),
        (noise(SurfaceKind.I420, 8, 8).planes, 100, "pinned memory has 100 bytes; the picture needs"),
    ],
)
def test_planes_that_do_not_fit_are_refused(planes: Any, room: int, message: str) -> None:
    staging = Staging()
    with pytest.raises(ValueError, match=message):
        staging.stage(planes, staging.layout_of(SurfaceKind.I420, 8, 8), Memory(np.zeros(room, np.uint8)))


def test_a_picture_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="picture is 0x4"):
        Staging().layout_of(SurfaceKind.BGR, 0, 4)
