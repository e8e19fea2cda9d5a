"""The CUDA seam and the letterbox kernel on a real GPU, with each library that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_cuda_letterbox import drawn, noise, on_cpu, on_device
from support_cuda_seam import SeamSuite
from vedette_engines.cuda.colour import yuv_colour
from vedette_engines.cuda.error_texts import NAMES
from vedette_engines.cuda.letterbox_twin import letterbox
from vedette_engines.cuda.letterboxing import DeviceLetterbox, SurfaceKind
from vedette_engines.cuda.opening import open_device
from vedette_engines.cuda.pycuda_driver import PycudaDevice, import_pycuda
from vedette_engines.errors import LoadError
from vedette_server.picture.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.gpu
TURNS = (0, 90, 180, 270)


def open_pycuda_alone() -> Any:
    try:
        return PycudaDevice(0, import_pycuda())
    except ImportError as error:
        raise LoadError(str(error)) from error


LIBRARIES = {
    "cuda-bindings": lambda: open_device(library="cuda-bindings"),
    "pycuda": lambda: open_device(library="pycuda"),
    "pycuda-alone": open_pycuda_alone,
}


@pytest.fixture(params=LIBRARIES)
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    try:
        device: Any = LIBRARIES[request.param]()
    except LoadError as error:
        pytest.skip(str(error))
    with device.attached():
        yield device
    device.close()


class TestSeamOnGpu(SeamSuite):
    """All that the implementations do alike, on the real thing."""


def by_twin(picture: Any, fit: Letterbox, rotation: int, colour: Any) -> Any:
    place = fit.place(picture.width, picture.height, rotation)
    out = np.zeros(fit.width * fit.height * 3, np.uint8)
    numbers = (
        *(int(picture.kind), picture.pitch, picture.pitch, picture.width, picture.height, fit.width, fit.height),
        *(place.left, place.top, place.fit_width, place.fit_height, rotation // 90, fit.pad, *(colour or (0,) * 6)),
    )
    letterbox(*picture.arguments(picture.laid()), out, 0, *numbers)
    return out.reshape(fit.height, fit.width, 3)


@pytest.mark.parametrize("kind", tuple(SurfaceKind))
@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("size", [(1920, 1080), (4096, 2160), (641, 479), (3, 3), (1, 999)])
def test_the_gpu_gives_the_twins_bytes(device: Any, kind: SurfaceKind, rotation: int, size: tuple[int, int]) -> None:
    picture = noise(kind, *size, at=16, slack=10)
    colour = None if kind.is_packed else yuv_colour(1, full_range=False)
    for fit in (Letterbox(640, 640), Letterbox(417, 235, "centre", 0)):
        got = on_device(device, picture, fit, rotation, colour)
        assert np.array_equal(got, by_twin(picture, fit, rotation, colour))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("kind", [SurfaceKind.NV12, SurfaceKind.I420, SurfaceKind.P010])
def test_the_gpu_gives_the_cpu_paths_picture(device: Any, kind: SurfaceKind, matrix: int, full_range: bool) -> None:
    picture, fit = drawn(kind, 1920, 1080), Letterbox(640, 640)
    got = on_device(device, picture, fit, 0, yuv_colour(matrix, full_range=full_range))
    apart = np.abs(got.astype(int) - on_cpu(picture, fit, 0, matrix, full_range=full_range))
    assert apart.max() <= 4
    assert apart.mean() <= 0.1


def test_a_graph_that_letterboxes_again_sees_the_new_picture(device: Any) -> None:
    if not device.facts.features.graphs:
        pytest.skip("this library has no graphs")
    fit, box = Letterbox(64, 64), DeviceLetterbox(device, 64, 64)
    pictures = [noise(SurfaceKind.BGR, 100, 80, seed=seed) for seed in (1, 2)]
    stream, size = device.stream(), len(pictures[0].laid())
    given, taken = device.pin(size), device.pin(box.slot_bytes)
    memory, batch = device.allocate(size), device.allocate(box.slot_bytes)
    stream.begin_capture()
    stream.upload(memory, given, size)
    box.launch(stream, pictures[0].surface(memory), batch, 0, fit.place(100, 80))
    stream.download(taken, batch, box.slot_bytes)
    graph = stream.end_capture()
    for picture in pictures:
        given.array[:] = picture.laid()
        stream.launch_graph(graph)
        stream.synchronize()
        assert np.array_equal(taken.array.reshape(64, 64, 3), by_twin(picture, fit, 0, None))
    for thing in (graph, given, taken, memory, batch, box, stream):
        thing.close()


def test_the_driver_calls_its_errors_as_the_table_does() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    try:
        open_device().close()
    except LoadError as error:
        pytest.skip(str(error))
    for text, name in NAMES.items():
        assert driver.cuGetErrorString(getattr(driver.CUresult, name))[1].decode() == text
