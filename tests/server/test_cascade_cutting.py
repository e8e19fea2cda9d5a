"""A crop is what the whole picture shows at that place, whatever its layout, turn and aspect."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_cuda import on_simulated
from support_cuda_letterbox import Picture as Laid
from support_cuda_letterbox import drawn, on_cpu, on_device
from support_pictures import photo
from vedette_engines.cuda.base import ForeignMemory
from vedette_engines.cuda.colour import yuv_colour
from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
from vedette_server.cascade.cutting import Cut, Cutter, coded, cut_planes, cut_surface, enlarged, shows_enough
from vedette_server.data.format import Codec, ColorRange, ColorSpace, PixelFormat, VideoFormat
from vedette_server.decode.raw import RawPicture, lay_out
from vedette_server.decode.still import StillPicture
from vedette_server.decode.video_picture import VideoPicture
from vedette_server.errors import UndecodableError
from vedette_server.evidence.pixels import upright_bgr
from vedette_server.picture.convert import bgr_into
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.source import DeviceSource

WIDTH, HEIGHT = 320, 240
FIT = Letterbox(64, 48, "centre")
TURNS = st.sampled_from([0, 90, 180, 270])
ASPECTS = st.sampled_from([Fraction(1), Fraction(4, 3)])


def scene(lines: int = HEIGHT) -> np.ndarray:
    """Paint a picture of pale colours and soft edges, so that shared chroma makes little difference."""
    soft = cv2.GaussianBlur(photo(WIDTH, lines), (0, 0), 3)
    grey = cv2.cvtColor(cv2.cvtColor(soft, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(soft, 0.35, grey, 0.65, 0)


def raw_picture(pixel_format: PixelFormat, rotation: int = 0, aspect: Fraction = Fraction(1)) -> RawPicture:
    fmt = VideoFormat(
        Codec.RAW,
        width=WIDTH,
        height=HEIGHT,
        pixel_format=pixel_format,
        rotation_degrees=rotation,
        sample_aspect=aspect,
    )
    pixels = scene()
    match pixel_format:
        case PixelFormat.BGR24:
            data = pixels
        case PixelFormat.RGB24:
            data = pixels[..., ::-1]
        case PixelFormat.GRAY8:
            data = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        case PixelFormat.I420:
            data = cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420)
        case _:
            data = av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format="nv12").to_ndarray()
    packed = np.ascontiguousarray(data).tobytes()
    return RawPicture([plane.view(packed) for plane in lay_out(fmt)], fmt)


def video_picture(layout: str, rotation: int = 0, aspect: Fraction = Fraction(1), lines: int = HEIGHT) -> VideoPicture:
    frame = av.VideoFrame.from_ndarray(scene(lines), "bgr24").reformat(format=layout)
    return VideoPicture(frame, VideoFormat(Codec.H264, rotation_degrees=rotation, sample_aspect=aspect))


def reference(picture: Any, aspect: Fraction, corners: tuple[float, float, float, float]) -> np.ndarray:
    """Convert all of it, then cut, then resize."""
    whole = upright_bgr(picture, aspect)
    height, width = whole.shape[:2]
    left, top, right, bottom = (round(at * size) for at, size in zip(corners, (width, height) * 2, strict=True))
    slot = np.zeros((FIT.height, FIT.width, 3), np.uint8)
    bgr_into(whole[top:bottom, left:right], slot, FIT)
    return slot


def cut_out(picture: Any, aspect: Fraction, corners: tuple[float, float, float, float]) -> np.ndarray:
    slot = np.full((FIT.height, FIT.width, 3), 7, np.uint8)
    Cutter(picture, aspect).cut(corners).letterbox_into(slot, FIT)
    return slot


@st.composite
def places(draw: Any) -> tuple[float, float, float, float]:
    """Parts that begin and end at multiples of 8 pixels, whichever way the picture is turned."""
    xs = sorted(draw(st.lists(st.integers(0, 10), min_size=2, max_size=2, unique=True)))
    ys = sorted(draw(st.lists(st.integers(0, 10), min_size=2, max_size=2, unique=True)))
    return xs[0] / 10, ys[0] / 10, xs[1] / 10, ys[1] / 10


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PixelFormat)), TURNS, ASPECTS, places())
def test_a_crop_of_a_raw_picture_is_what_stands_there(pixel_format, rotation, aspect, corners):
    picture = raw_picture(pixel_format, rotation, aspect)
    difference = cv2.absdiff(cut_out(picture, aspect, corners), reference(picture, aspect, corners))
    # Where samples are not square the part's edges fall between pixels and the whole was resized once more: up to 4.2
    # was found, as much as a part that stands a pixel off. Square samples tell that.
    assert difference.mean() < (2.5 if aspect == 1 else 4.5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["yuv420p", "yuvj420p", "nv12", "yuv422p", "yuv420p10le", "gray"]), TURNS, ASPECTS, places())
def test_a_crop_of_a_video_frame_is_what_stands_there(layout, rotation, aspect, corners):
    picture = video_picture(layout, rotation, aspect)
    difference = cv2.absdiff(cut_out(picture, aspect, corners), reference(picture, aspect, corners))
    # Where samples are not square the part's edges fall between pixels and the whole was resized once more: up to 4.2
    # was found, as much as a part that stands a pixel off. Square samples tell that.
    assert difference.mean() < (2.5 if aspect == 1 else 4.5)


def test_a_crop_keeps_the_colours_that_its_whole_picture_has():
    # A crop of 100 lines of an HD picture is BT.709 nevertheless.
    picture = video_picture("yuv420p", lines=800)
    corners = (0.25, 0.25, 0.5, 0.375)
    difference = cv2.absdiff(cut_out(picture, Fraction(1), corners), reference(picture, Fraction(1), corners))
    assert difference.mean() < 2.0


@pytest.mark.parametrize("space", [ColorSpace.BT601, ColorSpace.BT709, ColorSpace.BT2020])
@pytest.mark.parametrize("sample_range", [ColorRange.LIMITED, ColorRange.FULL])
def test_a_crop_is_read_with_the_matrix_and_range_of_the_configuration(space, sample_range):
    fmt = VideoFormat(
        Codec.RAW,
        width=WIDTH,
        height=HEIGHT,
        pixel_format=PixelFormat.I420,
        color_space=space,
        color_range=sample_range,
    )
    data = cv2.cvtColor(scene(), cv2.COLOR_BGR2YUV_I420).tobytes()
    picture = RawPicture([plane.view(data) for plane in lay_out(fmt)], fmt)
    corners = (0.2, 0.2, 0.7, 0.9)
    assert cv2.absdiff(cut_out(picture, Fraction(1), corners), reference(picture, Fraction(1), corners)).mean() < 2.0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_crop_of_a_still_is_what_stands_there(rotation):
    _, jpeg = cv2.imencode(".jpg", scene(), [cv2.IMWRITE_JPEG_QUALITY, 95])
    fmt = VideoFormat(Codec.JPEG, rotation_degrees=rotation)
    picture = StillPicture(jpeg.tobytes(), WIDTH, HEIGHT, fmt)
    corners = (0.3, 0.2, 0.8, 0.6)
    shown = cut_out(picture, Fraction(1), corners)
    assert cv2.absdiff(shown, reference(picture, Fraction(1), corners)).mean() < 2.0
    picture.close()


def test_a_broken_still_gives_no_crop():
    _, jpeg = cv2.imencode(".jpg", scene())
    picture = StillPicture(jpeg.tobytes()[:900], WIDTH, HEIGHT, VideoFormat(Codec.JPEG))
    with pytest.raises(UndecodableError):
        cut_out(picture, Fraction(1), (0.3, 0.2, 0.8, 0.6))


def test_a_picture_in_memory_is_letterboxed_here_and_a_picture_that_can_be_cut_is_never_converted_as_a_whole():
    class Noting(RawPicture):
        wholes = 0

        def letterbox_into(self, slot: Any, fit: Letterbox) -> None:
            self.wholes += 1
            super().letterbox_into(slot, fit)

    plain = raw_picture(PixelFormat.I420)
    picture = Noting(plain._planes, plain._format)
    cutter = Cutter(picture)
    slot = np.zeros((FIT.height, FIT.width, 3), np.uint8)
    for at in (0.1, 0.3, 0.5):
        crop = cutter.cut((at, at, at + 0.2, at + 0.2))
        crop.letterbox_into(slot, FIT)
        assert crop.source(FIT) is None
    assert picture.wholes == 0

    grey = raw_picture(PixelFormat.GRAY8)
    picture = Noting(grey._planes, grey._format)
    cutter = Cutter(picture)
    for at in (0.1, 0.3, 0.5):
        cutter.cut((at, at, at + 0.2, at + 0.2)).letterbox_into(slot, FIT)
    assert picture.wholes == 1


@given(st.tuples(*[st.floats(0, 1, width=32)] * 4), st.integers(1, 99), st.integers(1, 99), st.booleans())
def test_a_cut_always_lies_in_the_picture_and_holds_a_pixel(corners, width, height, even):
    x1, x2 = sorted(corners[::2])
    y1, y2 = sorted(corners[1::2])
    cut = Cut.of((x1, y1, x2, y2), width, height, even=even)
    assert cut.width >= 1
    assert cut.height >= 1
    assert 0 <= cut.left <= cut.left + cut.width <= width
    assert 0 <= cut.top <= cut.top + cut.height <= height
    if even:
        assert cut.left % 2 == cut.top % 2 == 0
        assert cut.width % 2 == 0 or cut.left + cut.width == width
        assert cut.height % 2 == 0 or cut.top + cut.height == height


@given(st.tuples(*[st.floats(0, 1, width=32)] * 4), st.floats(0, 1))
def test_an_enlarged_box_holds_the_box_and_lies_in_the_picture(corners, margin):
    x1, x2 = sorted(corners[::2])
    y1, y2 = sorted(corners[1::2])
    found = enlarged((x1, y1, x2, y2), margin)
    assert 0 <= found[0] <= x1 <= x2 <= found[2] <= 1
    assert 0 <= found[1] <= y1 <= y2 <= found[3] <= 1


def test_a_tiny_box_shows_nothing():
    assert shows_enough((0.0, 0.0, 0.1, 0.1), 100, 100)
    assert not shows_enough((0.0, 0.0, 0.1, 0.05), 100, 100)
    assert not shows_enough((0.5, 0.2, 0.5, 0.9), 1920, 1080)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_part_of_the_upright_picture_is_found_before_its_turn(rotation):
    pixels = np.arange(6 * 4).reshape(4, 6)
    turned = np.rot90(pixels, -rotation // 90)
    height, width = turned.shape
    cut = Cut.of(coded((1 / width, 2 / height, 3 / width, 3 / height), rotation), 6, 4, even=False)
    part = pixels[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]
    assert np.array_equal(np.rot90(part, -rotation // 90), turned[2:3, 1:3])


@dataclass
class DevicePicture:
    """A picture on a GPU, whose surface is held until it is released."""

    surface: Surface
    rotation_degrees: int = 0
    held: int = 0
    width: int = 64
    height: int = 48

    def source(self, fit: Letterbox) -> DeviceSource:
        self.held += 1
        place = fit.place(64, 48, self.rotation_degrees)
        return DeviceSource(0, self.surface, place, None, None, self._release)

    def _release(self) -> None:
        self.held -= 1

    def close(self) -> None:
        pass

    def letterbox_into(self, slot: Any, fit: Letterbox) -> None:
        slot[...] = 50


@pytest.mark.parametrize(("kind", "size"), [(SurfaceKind.NV12, 1), (SurfaceKind.P010, 2)])
def test_a_picture_on_a_gpu_is_cut_where_it_lies(kind, size):
    pitch = 160
    memory = ForeignMemory(4096, pitch * 72)
    whole = Surface(kind, 64, 48, memory, 0, pitch, memory, pitch * 48, pitch)
    picture = DevicePicture(whole)
    source = Cutter(picture).cut((0.25, 0.25, 0.75, 0.5)).source(FIT)
    assert source is not None
    surface = source.surface
    assert (surface.width, surface.height) == (32, 12)
    assert surface.luma_at == 12 * pitch + 16 * size
    assert surface.chroma_at == pitch * 48 + 6 * pitch + 16 * size
    assert (source.place.width, source.place.height) == (32, 12)
    assert picture.held == 1
    source.release()
    assert picture.held == 0


def test_a_picture_on_a_gpu_is_cut_by_the_cpu_where_an_engine_wants_pixels():
    memory = ForeignMemory(4096, 64 * 72)
    picture = DevicePicture(Surface.nv12(memory, 64, 48))
    assert cut_out(picture, Fraction(1), (0.25, 0.25, 0.75, 0.75)).tolist() == np.full((48, 64, 3), 50).tolist()
    assert picture.held == 0


def test_packed_and_planar_surfaces_are_cut_where_they_lie():
    memory = ForeignMemory(4096, 64 * 48 * 3)
    packed = cut_surface(Surface.packed(SurfaceKind.BGR, memory, 64, 48), Cut(10, 5, 20, 8))
    assert packed.luma_at == packed.chroma_at == 5 * 192 + 30
    planar = Surface(SurfaceKind.I420, 64, 48, memory, 0, 64, memory, 64 * 48, 32, memory, 64 * 60)
    cut = cut_surface(planar, Cut(10, 6, 20, 8))
    assert (cut.luma_at, cut.chroma_at, cut.second_at) == (6 * 64 + 10, 64 * 48 + 3 * 32 + 5, 64 * 60 + 3 * 32 + 5)


@dataclass
class Part:
    """A part of a picture that lies on a device as a whole."""

    whole: Laid
    cut: Cut

    @property
    def width(self) -> int:
        return self.cut.width

    @property
    def height(self) -> int:
        return self.cut.height

    def laid(self) -> np.ndarray:
        return self.whole.laid()

    def surface(self, memory: Any) -> Surface:
        return cut_surface(self.whole.surface(memory), self.cut)


@pytest.mark.parametrize("kind", list(SurfaceKind))
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_device_letterboxes_a_part_as_the_cpu_does(kind: SurfaceKind, rotation: int) -> None:
    whole, fit = drawn(kind, 190, 107), Letterbox(96, 80, "centre")
    cut = Cut.of((0.3, 0.4, 0.8, 1.0), 190, 107, even=not kind.is_packed)
    part: Any = Part(whole, cut)
    with on_simulated() as device:
        got = on_device(device, part, fit, rotation, yuv_colour(5, full_range=False))
    wanted = on_cpu(Laid(kind, cut_planes(whole.planes, cut)), fit, rotation, 5, full_range=False)
    difference = cv2.absdiff(got, wanted)
    # As of whole pictures, see `tests/engines/test_cuda_letterbox.py`.
    assert difference.max() <= 32
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("layout", ["yuv420p", "nv12", "yuv420p10le"])
def test_what_nobody_may_see_is_black_in_crops_too(layout):
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    slot = np.full((FIT.height, FIT.width, 3), 7, np.uint8)
    cutter = Cutter(video_picture(layout), hidden=(left,))
    crop = cutter.cut((0.3, 0.2, 0.7, 0.8))
    crop.letterbox_into(slot, FIT)
    place = FIT.place(crop.width, crop.height)
    shown = slot[place.top : place.top + place.fit_height, place.left : place.left + place.fit_width]
    middle = shown.shape[1] // 2
    assert not shown[:, : middle - 2].any()
    assert shown[:, middle + 4 :].any()
    assert crop.source(FIT) is None
