from __future__ import annotations

import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_pictures import asset, photo
from vedette_server.data.format import ColorRange, ColorSpace, PixelFormat
from vedette_server.errors import UndecodableError
from vedette_server.picture.convert import bgr_into, planes_into, video_frame_into
from vedette_server.picture.letterbox import Letterbox

FIT = Letterbox(416, 416)


def blank(fit: Letterbox) -> np.ndarray:
    return np.full((fit.height, fit.width, 3), 7, np.uint8)


def frame_of(pixels: np.ndarray, layout: str, **options: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format=layout, threads=1, **options)


def reference(frame: av.VideoFrame, fit: Letterbox, **options: int) -> np.ndarray:
    """Convert first and resize then, as the loop behind the golden files does."""
    place = fit.place(frame.width, frame.height)
    slot = np.full((fit.height, fit.width, 3), fit.pad, np.uint8)
    pixels = frame.to_ndarray(format="bgr24", **options)
    region = slot[place.top : place.top + place.fit_height, place.left : place.left + place.fit_width]
    region[:] = cv2.resize(pixels, (place.fit_width, place.fit_height))
    return slot


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(cv2.absdiff(one, other).mean())


@pytest.mark.parametrize("size", [(768, 432), (480, 270), (1920, 1080), (706, 483), (416, 416)])
@pytest.mark.parametrize("placement", ["top-left", "centre"])
def test_a_frame_resized_in_yuv_looks_like_one_converted_first(size, placement):
    fit = Letterbox(416, 320, placement, 40)
    frame = frame_of(photo(*size), "yuv420p")
    slot = blank(fit)

    video_frame_into(frame, slot, fit, color_space=ColorSpace.BT601)

    assert difference(slot, reference(frame, fit)) < 1.5


@pytest.mark.parametrize("layout", ["yuv420p", "nv12", "yuv422p", "yuv444p", "yuv420p10le", "yuyv422", "rgb24", "gbrp"])
def test_every_layout_of_a_decoder_comes_out_as_the_same_picture(layout):
    pixels = photo(640, 360)
    slot = blank(FIT)

    video_frame_into(frame_of(pixels, layout), slot, FIT)

    expected = reference(frame_of(pixels, "bgr24"), FIT)
    assert difference(slot, expected) < 2.5


def test_a_frame_of_jpeg_range_is_not_stretched():
    pixels = photo(640, 360)
    slot = blank(FIT)

    video_frame_into(frame_of(pixels, "yuvj420p"), slot, FIT)

    assert difference(slot, reference(frame_of(pixels, "bgr24"), FIT)) < 2.0


@pytest.mark.parametrize(("space", "number"), [(ColorSpace.BT601, 5), (ColorSpace.BT709, 1), (ColorSpace.BT2020, 9)])
@pytest.mark.parametrize("sample_range", [ColorRange.LIMITED, ColorRange.FULL])
def test_what_the_bitstream_does_not_say_the_configuration_does(space, number, sample_range):
    frame = frame_of(photo(640, 360), "yuv420p")
    frame.colorspace, frame.color_range = 2, 0
    slot = blank(FIT)

    video_frame_into(frame, slot, FIT, 0, space, sample_range)

    expected = reference(frame, FIT, src_colorspace=number, src_color_range=int(sample_range))
    assert difference(slot, expected) < 1.5


def test_what_the_bitstream_says_holds_against_the_configuration():
    frame = frame_of(photo(640, 360), "yuv420p")
    frame.colorspace, frame.color_range = 1, 2
    said, unsaid = blank(FIT), blank(FIT)

    video_frame_into(frame, said, FIT, 0, ColorSpace.BT601, ColorRange.LIMITED)
    video_frame_into(frame, unsaid, FIT)

    assert np.array_equal(said, unsaid)


@pytest.mark.parametrize(("lines", "number"), [(718, 5), (720, 1)])
def test_an_unnamed_matrix_is_bt709_from_720_lines_up(lines, number):
    frame = frame_of(photo(960, lines), "yuv420p")
    frame.colorspace, frame.color_range = 2, 0
    slot = blank(FIT)

    video_frame_into(frame, slot, FIT)

    right = reference(frame, FIT, src_colorspace=number)
    wrong = reference(frame, FIT, src_colorspace=6 - number)
    assert difference(slot, right) < difference(slot, wrong)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
@pytest.mark.parametrize("placement", ["top-left", "centre"])
def test_a_camera_that_hangs_askew_is_turned_upright(degrees, turns, placement):
    fit = Letterbox(320, 256, placement)
    pixels = photo(640, 360)
    upright = np.ascontiguousarray(np.rot90(pixels, turns))
    slot, expected = blank(fit), blank(fit)

    video_frame_into(frame_of(pixels, "yuv420p"), slot, fit, degrees)
    bgr_into(upright, expected, fit)
    assert difference(slot, expected) < 2.5

    bgr_into(pixels, slot, fit, degrees)
    assert difference(slot, expected) < 0.6


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 90, 180, 270]),
    st.sampled_from(["yuv420p", "nv12", "gray", "bgr24"]),
)
def test_a_picture_of_any_size_covers_its_place_and_nothing_else(width, height, fit_width, fit_height, turn, layout):
    fit = Letterbox(fit_width, fit_height, "centre", pad=255)
    # One plain grey: wherever the picture is, its value is known.
    frame = frame_of(np.full((height, width, 3), 90, np.uint8), layout)
    frame.color_range = 2 if layout == "gray" else 0
    slot = blank(fit)

    video_frame_into(frame, slot, fit, turn)

    place = fit.place(width, height, turn)
    inside = np.zeros(slot.shape[:2], bool)
    inside[place.top : place.top + place.fit_height, place.left : place.left + place.fit_width] = True
    assert (slot[~inside] == 255).all()
    assert np.abs(slot[inside].astype(int) - 90).max() <= 4


@pytest.mark.parametrize("padding", [0, 24])
@pytest.mark.parametrize("size", [(640, 360), (355, 241), (416, 234)])
@pytest.mark.parametrize("turn", [0, 90])
@pytest.mark.parametrize("pixel_format", [PixelFormat.BGR24, PixelFormat.RGB24, PixelFormat.NV12, PixelFormat.I420])
def test_raw_pictures_with_and_without_padded_rows_come_out_alike(pixel_format, size, padding, turn):
    pixels = photo(*size)
    expected, slot = blank(FIT), blank(FIT)
    bgr_into(pixels, expected, FIT, turn)

    planes_into(raw_planes(pixels, pixel_format, padding), pixel_format, slot, FIT, turn)

    assert difference(slot, expected) < 2.5


@pytest.mark.parametrize(("sample_range", "white"), [(ColorRange.UNSPECIFIED, 235), (ColorRange.LIMITED, 255)])
def test_a_raw_grey_picture_is_of_full_range_unless_told_otherwise(sample_range, white):
    slot = blank(FIT)

    planes_into([np.full((416, 416), 235, np.uint8)], PixelFormat.GRAY8, slot, FIT, color_range=sample_range)

    assert np.abs(slot.astype(int) - white).max() <= 1


@pytest.mark.parametrize(("number", "white"), [(0, 255), (1, 255), (2, 235)])
def test_a_monochrome_video_is_of_limited_range_unless_it_says_otherwise(number, white):
    frame = av.VideoFrame.from_ndarray(np.full((416, 416), 235, np.uint8), "gray")
    frame.color_range = number
    slot = blank(FIT)

    video_frame_into(frame, slot, FIT)

    assert (slot == white).all()


def test_wide_samples_widen_the_picture():
    slot = blank(FIT)

    bgr_into(np.zeros((288, 352, 3), np.uint8), slot, FIT, sample_aspect=Fraction(16, 11))

    assert (slot[:234] == 0).all()
    assert (slot[234:] == 114).all()


def test_a_slot_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(416, 416, 3\)"):
        bgr_into(photo(64, 64), np.zeros((320, 416, 3), np.uint8), FIT)


def test_a_frame_that_nothing_converts_is_undecodable():
    with pytest.raises(UndecodableError, match="bayer_bggr8"):
        video_frame_into(av.VideoFrame(64, 48, "bayer_bggr8"), blank(FIT), FIT)


def test_threads_convert_side_by_side_without_disturbing_one_another():
    frames = [frame_of(np.full((270, 480, 3), grey, np.uint8), "yuv420p") for grey in range(40, 240, 25)]
    wrong: list[int] = []

    def work(frame: av.VideoFrame, grey: int) -> None:
        slot = blank(FIT)
        for _ in range(20):
            video_frame_into(frame, slot, FIT)
            if np.abs(slot[:234].astype(int) - grey).max() > 4:
                wrong.append(grey)

    threads = [threading.Thread(target=work, args=(f, 40 + 25 * i)) for i, f in enumerate(frames)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize(
    "clip",
    [
        "intel_one-by-one-person-detection.mp4",
        "intel_classroom_h264_pingpong4.mp4",
        "intel_store-aisle_1080p_h264.mp4",
        "intel_store-aisle_mjpeg.avi",
    ],
)
def test_natural_clips_differ_from_the_golden_loops_conversion_by_little(clip):
    with av.open(str(asset(f"clips/{clip}"))) as container:
        frames = [frame for _, frame in zip(range(5), container.decode(video=0), strict=False)]
    slot = blank(FIT)

    for frame in frames:
        video_frame_into(frame, slot, FIT, color_space=ColorSpace.BT601)
        assert difference(slot, reference(frame, FIT)) < 1.5


def raw_planes(pixels: np.ndarray, pixel_format: PixelFormat, padding: int) -> list[np.ndarray]:
    height, width = pixels.shape[:2]
    if pixel_format is PixelFormat.BGR24:
        return [padded(pixels, padding)]
    if pixel_format is PixelFormat.RGB24:
        return [padded(pixels[..., ::-1], padding)]
    frame = frame_of(pixels, "yuv420p")
    half = ((height + 1) // 2, (width + 1) // 2)
    luma, *chroma = [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        for plane, (rows, columns) in zip(frame.planes, [(height, width), half, half], strict=True)
    ]
    if pixel_format is PixelFormat.NV12:
        return [padded(luma, padding), padded(np.stack(chroma, axis=-1), padding)]
    return [padded(luma, padding), *(padded(plane, padding) for plane in chroma)]


def padded(plane: np.ndarray, padding: int) -> np.ndarray:
    """Copy a plane to where its rows are so many pixels apart from one another."""
    memory = np.zeros((plane.shape[0], plane.shape[1] + padding, *plane.shape[2:]), np.uint8)
    memory[:, : plane.shape[1]] = plane
    return memory[:, : plane.shape[1]]
