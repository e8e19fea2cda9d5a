"""The small picture of a decoded one: the same whatever the picture's layout, range and turn."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from support_pictures import photo
from vedette_server.data.format import Codec, PixelFormat, VideoFormat
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.raw import RawDecoder
from vedette_server.decode.still import StillDecoder
from vedette_server.decode.video_picture import VideoPicture
from vedette_server.monitor.luma import HEIGHT, LINES, WIDTH, luma_of, luma_of_array


def frame_of(pixels, layout, *, full=False):
    frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
    return frame.reformat(format=layout, dst_color_range="JPEG" if full else "MPEG")


def fmt(turn=0):
    return VideoFormat(Codec.H264, rotation_degrees=turn, sample_aspect=Fraction(1))


@pytest.mark.parametrize("layout", ["yuv420p", "nv12", "yuv422p", "yuv444p", "yuv420p10le", "gray", "bgr24"])
@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (481, 271), (64, 36)])
def test_it_is_the_picture_area_averaged(layout, size):
    pixels = photo(*size)
    plain = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    picture = VideoPicture(frame_of(pixels, layout, full=layout == "gray"), fmt())
    luma = luma_of(picture, lines=True)
    assert (luma.grey.shape, luma.grey.dtype, luma.grey.flags.c_contiguous) == ((HEIGHT, WIDTH), np.uint8, True)
    assert np.abs(luma.grey.astype(int) - plain).mean() < 4
    assert luma.lines is not None
    assert luma.lines.shape == (min(LINES, size[1]), size[0])
    picture.close()
    luma.grey.sum()  # its own memory
    luma.lines.sum()


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_it_is_upright(turn):
    pixels = photo(640, 360)
    upright = np.rot90(pixels, -turn // 90)
    expected = luma_of_array(np.ascontiguousarray(upright)).grey
    grey = luma_of(VideoPicture(frame_of(pixels, "yuv420p"), fmt(turn))).grey
    assert np.abs(grey.astype(int) - expected).mean() < 4


def test_black_is_0_and_white_255_in_either_range():
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, 80:] = 255
    for full in (False, True):
        grey = luma_of(VideoPicture(frame_of(pixels, "yuvj420p" if full else "yuv420p", full=full), fmt())).grey
        assert (grey[:, :40].max(), grey[:, 60:].min()) == (0, pytest.approx(255, abs=1))


def test_without_lines_there_are_none():
    assert luma_of(VideoPicture(frame_of(photo(64, 36), "yuv420p"), fmt())).lines is None


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("layout", [PixelFormat.BGR24, PixelFormat.RGB24, PixelFormat.GRAY8])
def test_raw_pictures_have_one(layout, lines):
    pixels = photo(320, 180)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    data = {PixelFormat.BGR24: pixels, PixelFormat.RGB24: pixels[..., ::-1], PixelFormat.GRAY8: grey}[layout].tobytes()
    decoder = RawDecoder(VideoFormat(Codec.RAW, width=320, height=180, pixel_format=layout), PictureLimits())
    luma = luma_of(decoder.open_picture(data), lines=lines)
    assert np.abs(luma.grey.astype(int) - luma_of_array(pixels).grey).mean() < 12
    assert (luma.lines is None) is not lines


def test_stills_have_one():
    pixels = photo(1280, 720)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    picture = StillDecoder(VideoFormat(Codec.JPEG), PictureLimits()).open_picture(data)
    luma = luma_of(picture, lines=True)
    assert np.abs(luma.grey.astype(int) - luma_of_array(pixels).grey).mean() < 4
