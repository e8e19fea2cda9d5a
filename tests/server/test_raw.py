from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_pictures import photo
from vedette_server.data.format import Codec, PixelFormat, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.raw import RawDecoder, lay_out
from vedette_server.errors import InvalidError, PictureTooLargeError, UndecodableError
from vedette_server.picture.convert import bgr_into
from vedette_server.picture.letterbox import Letterbox

FIT = Letterbox(416, 416)


def raw(width: int, height: int, pixel_format: PixelFormat, *strides: int, rotation: int = 0) -> VideoFormat:
    return VideoFormat(
        Codec.RAW,
        width=width,
        height=height,
        pixel_format=pixel_format,
        strides_bytes=strides,
        rotation_degrees=rotation,
    )


def decode(fmt: VideoFormat, data: bytes):
    (answer,) = RawDecoder(fmt, PictureLimits()).decode(Packet(0, data, pts=5))
    return answer


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_raw_picture_lands_in_the_slot(rotation):
    pixels = photo(640, 360)
    expected, slot = np.zeros((416, 416, 3), np.uint8), np.ones((416, 416, 3), np.uint8)
    bgr_into(pixels, expected, FIT, rotation)

    answer = decode(raw(640, 360, PixelFormat.BGR24, rotation=rotation), pixels.tobytes())
    answer.picture.letterbox_into(slot, FIT)

    assert np.array_equal(slot, expected)
    assert answer.pts == 5
    assert (answer.picture.width, answer.picture.height) == ((360, 640) if rotation in {90, 270} else (640, 360))


@settings(max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(list(PixelFormat)),
    st.lists(st.integers(0, 9), min_size=3, max_size=3),
)
def test_the_planes_are_where_the_strides_say(width, height, pixel_format, padding):
    packed = lay_out(raw(width, height, pixel_format))
    strides = [plane.row_bytes + extra for plane, extra in zip(packed, padding, strict=False)]
    layout = lay_out(raw(width, height, pixel_format, *strides))
    data = bytearray(b"\xee" * sum(plane.shape[0] * plane.stride_bytes for plane in layout))
    rng = np.random.default_rng(1)
    planes = [rng.integers(0, 200, plane.shape, np.uint8) for plane in layout]
    position = 0
    for plane, stride in zip(planes, strides, strict=True):
        for row in plane:
            data[position : position + row.size] = row.tobytes()
            position += stride

    for plane, place in zip(planes, layout, strict=True):
        assert np.array_equal(place.view(bytes(data)), plane)
    assert layout[-1].end_bytes <= len(data)


@pytest.mark.parametrize(
    ("pixel_format", "size"),
    [
        (PixelFormat.BGR24, 5 * 3 * 3),
        (PixelFormat.RGB24, 5 * 3 * 3),
        (PixelFormat.GRAY8, 15),
        (PixelFormat.NV12, 15 + 12),
        (PixelFormat.I420, 15 + 12),
    ],
)
def test_the_length_must_fit_the_format_and_both_numbers_are_told(pixel_format, size):
    fmt = raw(5, 3, pixel_format)

    assert decode(fmt, bytes(size)).picture is not None
    for wrong in (0, size - 1, size + 1):
        answer = decode(fmt, bytes(wrong))
        assert answer.reason is SkipReason.UNDECODABLE
        assert f"{wrong} bytes" in answer.detail
        assert answer.detail.endswith(f"has {size}")


def test_the_last_row_need_not_be_padded():
    fmt = raw(10, 4, PixelFormat.GRAY8, 16)

    assert decode(fmt, bytes(64)).picture is not None
    assert decode(fmt, bytes(58)).picture is not None
    assert decode(fmt, bytes(57)).picture is None


def test_nothing_is_copied_before_the_picture_is_wanted():
    data = photo(64, 64).tobytes()
    layout = lay_out(raw(64, 64, PixelFormat.BGR24))

    view = layout[0].view(data)

    assert not view.flags.owndata
    assert view.ctypes.data == np.frombuffer(data, np.uint8).ctypes.data


@pytest.mark.parametrize(
    ("fmt", "message"),
    [
        (raw(0, 4, PixelFormat.GRAY8), "0x4"),
        (VideoFormat(Codec.RAW, width=4, height=4), "None"),
        (raw(4, 4, PixelFormat.NV12, 4), "1 strides; NV12 has 2 planes"),
        (raw(4, 4, PixelFormat.BGR24, 11), "is 11 bytes; its rows have 12"),
    ],
)
def test_a_format_that_cannot_be_is_refused(fmt, message):
    with pytest.raises(InvalidError, match=message):
        RawDecoder(fmt, PictureLimits())


def test_a_format_over_the_limit_is_refused():
    with pytest.raises(PictureTooLargeError, match="641x10"):
        RawDecoder(raw(641, 10, PixelFormat.GRAY8), PictureLimits(640, 480))


def test_a_closed_picture_has_no_pixels():
    picture = decode(raw(4, 4, PixelFormat.GRAY8), bytes(16)).picture
    picture.close()
    picture.close()

    with pytest.raises(UndecodableError, match="closed"):
        picture.letterbox_into(np.zeros((416, 416, 3), np.uint8), FIT)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_every_pixel_format_reaches_the_slot(pixel_format):
    fmt = raw(33, 17, pixel_format)
    grey = decode(fmt, bytes([128]) * sum(plane.end_bytes - plane.offset_bytes for plane in lay_out(fmt)))
    slot = np.zeros((416, 416, 3), np.uint8)

    grey.picture.letterbox_into(slot, FIT)

    assert np.abs(slot[:214].astype(int) - 128).max() <= 3
    assert (slot[214:] == 114).all()
