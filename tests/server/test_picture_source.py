"""A picture that is letterboxed on a device comes out as the same picture does on the CPU.

Bounds, stated here: I420 and P010 of decoders at most 4 of 255 and 0.1 on average; NV12 at most 12 and 1.0, as the CPU
leaves its chroma at half the rows; BGR and RGB at most 1. With an odd fit, see `test_cuda_letterbox.py`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
import simplejpeg

from support_cuda_kernels import KERNELS
from support_cuda_letterbox import drawn
from vedette_engines.cuda.letterboxing import DeviceLetterbox, Surface, SurfaceKind
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.staging import Staging
from vedette_server.data.format import Codec, ColorRange, ColorSpace, PixelFormat, VideoFormat
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.raw import RawDecoder
from vedette_server.decode.still import StillDecoder
from vedette_server.decode.video_picture import VideoPicture
from vedette_server.errors import UndecodableError
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.scratch import plane_views, wide_plane_views
from vedette_server.picture.source import HostSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.decode.base import Picture

LIMITS = PictureLimits()
FITS = [Letterbox(160, 128), Letterbox(96, 160, "centre", 30)]
TURNS = (0, 90, 180, 270)
RAW = [PixelFormat.BGR24, PixelFormat.RGB24, PixelFormat.NV12, PixelFormat.I420]


def by_device(source: HostSource, fit: Letterbox) -> NDArray[np.uint8]:
    """Stage, upload and letterbox a picture on a device that is not there."""
    device, staging = SimulatedDevice(kernels=KERNELS), Staging()
    height, width = source.planes[0].shape[:2]
    layout = staging.layout_of(source.kind, width, height)
    given, memory = device.pin(layout.size_bytes), device.allocate(layout.size_bytes)
    staging.stage(source.planes, layout, given)
    box, stream = DeviceLetterbox(device, fit.width, fit.height, fit.pad), device.stream()
    batch, taken = device.allocate(box.slot_bytes), device.pin(box.slot_bytes)
    stream.upload(memory, given, layout.size_bytes)
    box.launch(stream, Surface.from_layout(memory, layout), batch, 0, source.place, source.colour)
    stream.download(taken, batch, box.slot_bytes)
    stream.synchronize()
    return taken.array.reshape(fit.height, fit.width, 3)


def check(picture: Picture, fit: Letterbox, most: int = 4, mean: float = 0.1) -> HostSource:
    source = picture.source(fit)
    assert isinstance(source, HostSource)
    got, wanted = by_device(source, fit), np.empty((fit.height, fit.width, 3), np.uint8)
    picture.letterbox_into(wanted, fit)
    apart = np.abs(got.astype(int) - wanted)
    assert apart.max() <= most
    assert apart.mean() <= mean
    return source


def frame_of(layout: str, width: int = 320, height: int = 180) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, layout)
    if layout == "p010le":
        for wide, plane in zip(wide_plane_views(frame), drawn(SurfaceKind.P010, width, height).planes, strict=True):
            wide[:] = plane >> 6 << 6
        return frame
    kind = SurfaceKind.NV12 if layout == "nv12" else SurfaceKind.I420
    for view, plane in zip(plane_views(frame), drawn(kind, width, height).planes, strict=True):
        view[:] = plane
    return frame


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize(("layout", "kind"), [("yuv420p", "I420"), ("yuvj420p", "I420"), ("p010le", "P010")])
def test_a_decoded_frame_comes_out_as_on_the_cpu(layout: str, kind: str, rotation: int, fit: Letterbox) -> None:
    fmt = VideoFormat(Codec.H264, rotation_degrees=rotation, sample_aspect=Fraction(4, 3))
    assert check(VideoPicture(frame_of(layout), fmt), fit).kind.name == kind


@pytest.mark.parametrize(("space", "sample_range"), [(ColorSpace.BT2020, ColorRange.FULL), (ColorSpace.BT601, 0)])
def test_colours_are_read_as_the_bitstream_says_and_else_as_the_channel_does(
    space: ColorSpace, sample_range: ColorRange
) -> None:
    fmt = VideoFormat(Codec.H264, color_space=space, color_range=ColorRange(sample_range))
    frame = frame_of("yuv420p")
    unsaid = check(VideoPicture(frame, fmt), FITS[0])
    frame.colorspace, frame.color_range = 1, 2
    said = check(VideoPicture(frame, fmt), FITS[0])
    assert said.colour != unsaid.colour


@pytest.mark.parametrize("size", [(321, 181), (33, 57), (1, 1)])
def test_odd_pictures_are_described_to_their_last_row_and_column(size: tuple[int, int]) -> None:
    check(VideoPicture(frame_of("yuv420p", *size), VideoFormat(Codec.H264)), Letterbox(128, 128))


@pytest.mark.parametrize("layout", ["yuv422p", "yuv444p", "yuv420p10le", "gray", "rgb24"])
def test_a_layout_that_no_device_takes_has_no_source(layout: str) -> None:
    assert VideoPicture(av.VideoFrame(64, 48, layout), VideoFormat(Codec.H264)).source(FITS[0]) is None


def raw(pixel_format: PixelFormat, **changes: Any) -> Any:
    kind = {"NV12": SurfaceKind.NV12, "I420": SurfaceKind.I420}.get(pixel_format.name, SurfaceKind.BGR)
    data = b"".join(plane.tobytes() for plane in drawn(kind, 200, 120).planes)
    fmt = VideoFormat(Codec.RAW, width=200, height=120, pixel_format=pixel_format, **changes)
    return RawDecoder(fmt, LIMITS).open_picture(data)


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("pixel_format", RAW)
def test_a_raw_picture_comes_out_as_on_the_cpu(pixel_format: PixelFormat, rotation: int, fit: Letterbox) -> None:
    bound = {"NV12": (12, 1.0), "I420": (4, 0.1)}.get(pixel_format.name, (1, 0.05))
    check(raw(pixel_format, rotation_degrees=rotation, color_space=ColorSpace.BT709), fit, *bound)


def test_nothing_is_copied_to_describe_a_raw_picture() -> None:
    picture = raw(PixelFormat.NV12)
    first, second = (picture.source(fit).planes for fit in FITS)
    assert all(np.shares_memory(one, other) for one, other in zip(first, second, strict=True))


def test_a_raw_picture_that_was_closed_has_no_source() -> None:
    picture = raw(PixelFormat.I420)
    picture.close()
    with pytest.raises(UndecodableError, match="closed"):
        picture.source(FITS[0])


def test_a_grey_picture_is_left_to_the_cpu() -> None:
    fmt = VideoFormat(Codec.RAW, width=8, height=6, pixel_format=PixelFormat.GRAY8)
    assert RawDecoder(fmt, LIMITS).open_picture(bytes(48)).source(FITS[0]) is None


def still(codec: Codec, **changes: Any) -> Any:
    (pixels,) = drawn(SurfaceKind.BGR, 640, 360).planes
    data = (
        simplejpeg.encode_jpeg(pixels, 90, "BGR") if codec is Codec.JPEG else cv2.imencode(".png", pixels)[1].tobytes()
    )
    return StillDecoder(replace(VideoFormat(codec), **changes), LIMITS).open_picture(data)


@pytest.mark.parametrize("codec", [Codec.JPEG, Codec.PNG])
@pytest.mark.parametrize("rotation", TURNS)
def test_a_still_is_decoded_and_comes_out_as_on_the_cpu(codec: Codec, rotation: int) -> None:
    for fit in FITS:
        check(still(codec, rotation_degrees=rotation), fit, 1, 0.05)


def test_a_still_that_is_wanted_larger_leaves_what_was_given_before_alone() -> None:
    picture = still(Codec.JPEG)
    small = picture.source(Letterbox(64, 64))
    before = small.planes[0].copy()
    large = picture.source(Letterbox(640, 640))
    assert large.planes[0].shape[0] > small.planes[0].shape[0]
    assert np.array_equal(small.planes[0], before)
    assert large.place.fit_width == 640
    picture.close()
    picture.close()


def test_a_broken_still_says_so_when_it_is_decoded() -> None:
    whole = simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8), 90, "BGR")
    picture = StillDecoder(VideoFormat(Codec.JPEG), LIMITS).open_picture(whole[: len(whole) - 40])
    with pytest.raises(UndecodableError, match="JPEG"):
        picture.source(FITS[0])
