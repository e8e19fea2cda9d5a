"""The letterbox kernel gives the CPU path's picture, and so do its twin and its PTX.

The source is compiled as C++ and run over the whole grid; where there is no compiler that part is skipped.

Bounds against the CPU path, stated here and held on drawn pictures and real frames: BGR and RGB at most 1 of 255 (the
resizing libraries round differently), NV12, I420 and P010 at most 4 and 0.1 on average; 32 and 0.5 where the fitted
width and height are both odd, since swscale takes another way there. Measured on x86-64; elsewhere swscale rounds
otherwise.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_cuda import DEVICES
from support_cuda_kernels import KERNELS
from support_cuda_letterbox import GUARD, Picture, drawn, noise, on_cpu, on_device
from vedette_engines.cuda import kernels
from vedette_engines.cuda.base import CudaError, ForeignMemory
from vedette_engines.cuda.colour import MATRICES, yuv_colour
from vedette_engines.cuda.letterbox_twin import letterbox
from vedette_engines.cuda.letterboxing import BLOCK, DeviceLetterbox, Surface, SurfaceKind
from vedette_engines.cuda.ordering import MisuseError
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.base import PictureLayout
from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.letterbox import SQUARE, Letterbox
from vedette_server.picture.scratch import plane_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CLIPS = Path(__file__).parents[3] / "shared/assets/clips"
TURNS = (0, 90, 180, 270)
KINDS = tuple(SurfaceKind)
YUV = tuple(kind for kind in KINDS if not kind.is_packed)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    with DEVICES[request.param]() as device:
        yield device


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """The kernel's source as C++, run over its grid; takes what the twin takes."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    target = tmp_path_factory.mktemp("kernel") / "letterbox.so"
    source = Path(kernels.__file__).with_name("letterbox.cu")
    flags = ["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-x", "c++"]
    subprocess.run([compiler, *flags, str(source), "-o", str(target)], check=True)
    run = ctypes.CDLL(str(target)).letterbox_grid

    def call(*arguments: Any) -> None:
        buffers, numbers = arguments[:8], arguments[8:]
        width, height = numbers[5:7]
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]))
        pairs = zip(buffers[::2], buffers[1::2], strict=True)
        flat = [entry for array, at in pairs for entry in (ctypes.c_void_p(array.ctypes.data), ctypes.c_longlong(at))]
        run(*grid, *BLOCK, *flat, (ctypes.c_int * len(numbers))(*numbers))

    return call


def run(
    function: Callable[..., None],
    picture: Picture,
    fit: Letterbox,
    rotation: int,
    colour: tuple[int, ...] = (0,) * 6,
    sample_aspect: Fraction = SQUARE,
) -> NDArray[np.uint8]:
    """Call the twin or the compiled kernel on memory with guard bytes on both sides of the slot."""
    place = fit.place(picture.width, picture.height, rotation, sample_aspect)
    size = fit.width * fit.height * 3
    out = np.full(size + 200, GUARD, np.uint8)
    numbers = (
        *(int(picture.kind), picture.pitch, picture.pitch, picture.width, picture.height, fit.width, fit.height),
        *(place.left, place.top, place.fit_width, place.fit_height, rotation // 90, fit.pad, *colour),
    )
    function(*picture.arguments(picture.laid()), out, 100, *numbers)
    assert (out[:100] == GUARD).all()
    assert (out[-100:] == GUARD).all()
    return out[100:-100].reshape(fit.height, fit.width, 3)


def differences(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[int, float]:
    apart = np.abs(one.astype(int) - other)
    return int(apart.max()), float(apart.mean())


def bounds(picture: Picture, fit: Letterbox, rotation: int, sample_aspect: Fraction = SQUARE) -> tuple[int, float]:
    if picture.kind.is_packed:
        return 1, 0.05
    place = fit.place(picture.width, picture.height, rotation, sample_aspect)
    return (32, 0.5) if place.fit_width & place.fit_height & 1 else (4, 0.1)


def check_near(got: NDArray[np.uint8], wanted: NDArray[np.uint8], bound: tuple[int, float]) -> None:
    most, mean = differences(got, wanted)
    assert most <= bound[0]
    assert mean <= bound[1]


SIZES = st.integers(1, 70)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_the_compiled_kernel_and_its_twin_give_the_same_bytes(compiled: Any, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    picture = noise(
        kind, data.draw(SIZES), data.draw(SIZES), at=data.draw(st.integers(0, 9)), slack=data.draw(st.integers(0, 9))
    )
    placement = data.draw(st.sampled_from(["centre", "top-left"]))
    fit = Letterbox(data.draw(SIZES), data.draw(SIZES), placement, data.draw(st.integers(0, 255)))
    rotation = data.draw(st.sampled_from(TURNS))
    colour = yuv_colour(data.draw(st.sampled_from(MATRICES)), full_range=data.draw(st.booleans()))
    assert np.array_equal(run(compiled, picture, fit, rotation, colour), run(letterbox, picture, fit, rotation, colour))


@pytest.mark.parametrize("size", [(4096, 2160), (1, 4096), (4096, 1), (3, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_huge_and_tiny_pictures_are_the_same_too(compiled: Any, size: tuple[int, int], kind: SurfaceKind) -> None:
    picture, colour = noise(kind, *size), yuv_colour(1, full_range=False)
    for fit in (Letterbox(640, 640), Letterbox(33, 65, "centre")):
        assert np.array_equal(run(compiled, picture, fit, 90, colour), run(letterbox, picture, fit, 90, colour))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("placement", ["centre", "top-left"])
@pytest.mark.parametrize("size", [(192, 108), (64, 48), (31, 57), (640, 360)])
def test_a_drawn_picture_comes_out_as_on_the_cpu(
    kind: SurfaceKind, rotation: int, placement: str, size: tuple[int, int]
) -> None:
    fit = Letterbox(96, 80, placement)
    picture = drawn(kind, *size)
    got = run(letterbox, picture, fit, rotation, yuv_colour(1, full_range=False))
    check_near(got, on_cpu(picture, fit, rotation, 1, full_range=False), bounds(picture, fit, rotation))


@pytest.mark.parametrize("kind", YUV)
@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("aspect", [Fraction(12, 11), Fraction(16, 11), Fraction(1, 2)], ids=str)
def test_samples_that_are_not_square_are_those_of_the_cpu(kind: SurfaceKind, rotation: int, aspect: Fraction) -> None:
    picture, fit = drawn(kind, 352, 288), Letterbox(128, 128, "centre", 20)
    got = run(letterbox, picture, fit, rotation, yuv_colour(5, full_range=False), aspect)
    wanted = on_cpu(picture, fit, rotation, 5, full_range=False, sample_aspect=aspect)
    check_near(got, wanted, bounds(picture, fit, rotation, aspect))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("fit", [Letterbox(160, 160), Letterbox(161, 91)], ids=["even", "odd"])
@pytest.mark.parametrize("kind", YUV)
def test_every_matrix_and_range_is_that_of_the_cpu(
    kind: SurfaceKind, matrix: int, full_range: bool, fit: Letterbox
) -> None:
    picture = drawn(kind, 320, 180, seed=matrix)
    got = run(letterbox, picture, fit, 0, yuv_colour(matrix, full_range=full_range))
    check_near(got, on_cpu(picture, fit, 0, matrix, full_range=full_range), bounds(picture, fit, 0))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    side=st.integers(8, 200),
    rotation=st.sampled_from(TURNS),
    centred=st.booleans(),
)
def test_packed_noise_of_any_size_comes_out_as_on_the_cpu(
    width: int, height: int, side: int, rotation: int, centred: bool
) -> None:
    picture, fit = noise(SurfaceKind.BGR, width, height), Letterbox(side, side, "centre" if centred else "top-left")
    most, _ = differences(run(letterbox, picture, fit, rotation), on_cpu(picture, fit, rotation, 1, full_range=False))
    assert most <= 1


@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/assets is not here")
@pytest.mark.parametrize("fit", [Letterbox(640, 640), Letterbox(416, 416, "centre"), Letterbox(417, 417)], ids=str)
@pytest.mark.parametrize("rotation", [0, 270])
def test_frames_of_real_clips_come_out_as_on_the_cpu(fit: Letterbox, rotation: int) -> None:
    av = pytest.importorskip("av")
    clips = [clip for clip in sorted(CLIPS.iterdir()) if "h264" in clip.name or "h265" in clip.name]
    assert clips
    for clip in clips:
        with av.open(str(clip)) as container:
            frame = next(container.decode(video=0))
        luma, u, v = plane_views(frame)
        wanted = np.empty((fit.height, fit.width, 3), np.uint8)
        video_frame_into(frame, wanted, fit, rotation)
        matrix = frame.colorspace if frame.colorspace in MATRICES else 1 if frame.height >= 720 else 5
        for picture in (
            Picture(SurfaceKind.NV12, (luma, np.stack((u, v), -1))),
            Picture(SurfaceKind.I420, (luma, u, v)),
        ):
            got = run(letterbox, picture, fit, rotation, yuv_colour(matrix, full_range=frame.color_range == 2))
            check_near(got, wanted, bounds(picture, fit, rotation))


@pytest.mark.parametrize("kind", KINDS)
def test_every_device_writes_the_slot_and_nothing_around_it(device: Any, kind: SurfaceKind) -> None:
    picture, fit = noise(kind, 50, 34, at=5, slack=14), Letterbox(40, 48, "centre", 7)
    colour = None if kind.is_packed else yuv_colour(9, full_range=True)
    got = on_device(device, picture, fit, 90, colour)
    assert np.array_equal(got, run(letterbox, picture, fit, 90, colour or (0,) * 6))


def test_a_surface_of_another_library_is_read_where_it_lies() -> None:
    device = SimulatedDevice(kernels=KERNELS)
    box, stream, memory, batch = (
        DeviceLetterbox(device, 8, 8),
        device.stream(),
        device.allocate(1000),
        device.allocate(192),
    )
    given, taken = device.pin(1000), device.pin(192)
    given.array[:] = np.arange(1000)
    stream.upload(memory, given, 1000)
    surface = Surface.packed(SurfaceKind.BGR, ForeignMemory(memory.address + 200, 192), 8, 8)
    box.launch(stream, surface, batch, 0, Letterbox(8, 8).place(8, 8))
    stream.download(taken, batch, 192)
    stream.synchronize()
    assert np.array_equal(taken.array, given.array[200:392])
    for thing in (box, memory, batch, given, taken, stream):
        thing.close()
    device.close()


def test_slots_of_one_batch_may_be_written_beside_each_other_and_one_slot_not() -> None:
    device = SimulatedDevice(kernels=KERNELS)
    box, memory, batch, given = (
        DeviceLetterbox(device, 8, 8),
        device.allocate(192),
        device.allocate(384),
        device.pin(192),
    )
    first, second, loaded = device.stream(), device.stream(), device.event()
    first.upload(memory, given, 192)
    first.record(loaded)
    second.wait(loaded)
    surface, place = Surface.packed(SurfaceKind.BGR, memory, 8, 8), Letterbox(8, 8).place(8, 8)
    box.launch(first, surface, batch, 0, place)
    box.launch(second, surface, batch, 1, place)
    with pytest.raises(MisuseError, match="no stream, event or host wait"):
        box.launch(second, surface, batch, 0, place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": 2}, "slot is 2; the batch has 2"),
        ({"slot": -1}, "slot is -1"),
        ({"fit": Letterbox(9, 9)}, "leaves the input of 8x8"),
        ({"kind": SurfaceKind.NV12}, "an NV12 surface needs a colour"),
    ],
)
def test_a_launch_that_would_write_elsewhere_is_refused(change: dict[str, Any], message: str) -> None:
    device = SimulatedDevice(kernels=KERNELS)
    box, batch, memory = DeviceLetterbox(device, 8, 8), device.allocate(2 * 192), device.allocate(192)
    kind = change.get("kind", SurfaceKind.BGR)
    surface = Surface.nv12(memory, 8, 8) if kind is SurfaceKind.NV12 else Surface.packed(kind, memory, 8, 8)
    place = change.get("fit", Letterbox(8, 8)).place(8, 8)
    with pytest.raises(ValueError, match=message):
        box.launch(device.stream(), surface, batch, change.get("slot", 0), place)


def laid_out(memory: Any, kind: SurfaceKind, plane_at: tuple[int, ...], pitches: tuple[int, ...]) -> Surface:
    return Surface.from_layout(memory, PictureLayout(kind, 8, 8, plane_at, pitches, 192))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layout_describes_what_stands_in_memory(kind: SurfaceKind) -> None:
    memory, picture = ForeignMemory(4096, 5000), noise(kind, 31, 17, slack=4)
    layout = PictureLayout(kind, 31, 17, picture.plane_at, (picture.pitch,) * len(picture.planes), 4000)
    assert Surface.from_layout(memory, layout, at=0) == picture.surface(memory)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda memory: Surface.packed(SurfaceKind.BGR, memory, 8, 9), "pixels take bytes 0..216"),
        (lambda memory: Surface.packed(SurfaceKind.BGR, memory, 8, 8, at=1), "pixels take bytes 1..193"),
        (lambda memory: Surface.packed(SurfaceKind.RGB, memory, 8, 8, pitch=23), "at a pitch of 23"),
        (lambda memory: Surface.nv12(memory, 12, 12), "chroma take bytes 144..216"),
        (lambda memory: Surface.p010(memory, 8, 10), "chroma take bytes 160..240"),
        (lambda memory: Surface(SurfaceKind.I420, 8, 8, memory, 0, 8, memory, 64, 4), "no memory for V"),
        (lambda memory: laid_out(memory, SurfaceKind.I420, (0, 128, 180), (16, 8, 8)), "V take bytes 180..208"),
        (lambda memory: laid_out(memory, SurfaceKind.I420, (0, 128, 160), (16, 8, 4)), "those of chroma at one pitch"),
        (lambda memory: laid_out(memory, SurfaceKind.NV12, (0,), (8,)), "it has 2, those of chroma"),
        (lambda memory: Surface.packed(SurfaceKind.BGR, memory, 0, 8), "surface is 0x8"),
    ],
)
def test_a_surface_that_leaves_its_memory_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(ForeignMemory(4096, 192))


def test_a_letterbox_that_was_closed_launches_nothing() -> None:
    device = SimulatedDevice(kernels=KERNELS)
    box, batch, stream = DeviceLetterbox(device, 8, 8), device.allocate(192), device.stream()
    box.close()
    box.close()
    with pytest.raises(CudaError, match="using a letterbox that was closed"):
        box.launch(stream, Surface.packed(SurfaceKind.BGR, batch, 8, 8), batch, 0, Letterbox(8, 8).place(8, 8))


def test_a_picture_beyond_the_kernels_numbers_is_refused() -> None:
    device = SimulatedDevice(kernels=KERNELS)
    box = DeviceLetterbox(device, 40000, 1)
    surface = Surface.packed(SurfaceKind.BGR, ForeignMemory(4096, 1 << 20), 36000, 1)
    with pytest.raises(ValueError, match="too large"):
        box.launch(device.stream(), surface, device.allocate(120000), 0, Letterbox(40000, 1).place(36000, 1))


@pytest.mark.parametrize(("size", "pad"), [((0, 8), 114), ((8, 8), 256)])
def test_an_input_that_cannot_be_is_refused(size: tuple[int, int], pad: int) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        DeviceLetterbox(SimulatedDevice(kernels=KERNELS), *size, pad)


def test_a_matrix_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="matrix is 3; allowed are 1, 4, 5, 6, 7, 9"):
        yuv_colour(3, full_range=False)


def test_the_committed_ptx_belongs_to_the_source() -> None:
    text = kernels.ptx("letterbox").decode()
    assert kernels.belongs("letterbox"), "run `python -m vedette_engines.cuda.kernels.make`"
    assert f".version {kernels.OLDEST_PTX}\n" in text
    assert ".target sm_75\n" in text
    assert ".entry letterbox(" in text


def test_a_source_that_changed_is_seen() -> None:
    text = kernels.source("letterbox")
    assert kernels.source_hash(text) != kernels.source_hash(text.replace("0u", "1u"))
    assert kernels.signed("code", text).startswith(f"// source sha256: {kernels.source_hash(text)}\n")


def test_the_ptx_takes_as_many_arguments_as_are_given() -> None:
    text = kernels.ptx("letterbox").decode()
    assert text.count(".param .u64 letterbox_param_") == 8
    assert text.count(".param .u32 letterbox_param_") == 19
