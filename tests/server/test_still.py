from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from support_pictures import asset, photo
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.still import StillDecoder
from vedette_server.errors import PictureTooLargeError, UndecodableError
from vedette_server.picture.convert import bgr_into
from vedette_server.picture.letterbox import Letterbox

FIT = Letterbox(416, 416)
LIMITS = PictureLimits(2000, 1500)


def encode(pixels: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).convert(mode).save(memory, kind, **options)
    return memory.getvalue()


def decode(data: bytes, codec: Codec, **options: object):
    decoder = StillDecoder(VideoFormat(codec, **options), LIMITS)
    (answer,) = decoder.decode(Packet(0, data, pts=11))
    return answer


def slot_of(data: bytes, codec: Codec, fit: Letterbox = FIT, **options: object) -> np.ndarray:
    slot = np.full((fit.height, fit.width, 3), 7, np.uint8)
    answer = decode(data, codec, **options)
    assert answer.reason is None, answer.detail
    answer.picture.letterbox_into(slot, fit)
    return slot


def expected(pixels: np.ndarray, fit: Letterbox = FIT, **options: object) -> np.ndarray:
    slot = np.full((fit.height, fit.width, 3), 7, np.uint8)
    bgr_into(pixels, slot, fit, **options)
    return slot


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(cv2.absdiff(one, other).mean())


STILLS = {
    "jpeg": (Codec.JPEG, "JPEG", "RGB", {"quality": 95}),
    "progressive jpeg": (Codec.JPEG, "JPEG", "RGB", {"quality": 95, "progressive": True}),
    "4:4:4 jpeg": (Codec.JPEG, "JPEG", "RGB", {"quality": 95, "subsampling": "4:4:4"}),
    "cmyk jpeg": (Codec.JPEG, "JPEG", "CMYK", {"quality": 95}),
    "png": (Codec.PNG, "PNG", "RGB", {}),
    "png with alpha": (Codec.PNG, "PNG", "RGBA", {}),
    "lossy webp": (Codec.WEBP, "WEBP", "RGB", {"quality": 95}),
    "lossless webp": (Codec.WEBP, "WEBP", "RGB", {"lossless": True}),
}


@pytest.mark.parametrize("kind", STILLS)
@pytest.mark.parametrize("size", [(640, 360), (333, 217), (1920, 1080), (33, 700)])
def test_a_still_of_every_kind_is_decoded_to_the_picture_it_shows(kind, size):
    codec, name, mode, options = STILLS[kind]
    pixels = photo(*size)

    slot = slot_of(encode(pixels, name, mode, **options), codec)

    assert difference(slot, expected(pixels)) < 3.0


@pytest.mark.parametrize(("codec", "name"), [(Codec.JPEG, "JPEG"), (Codec.PNG, "PNG"), (Codec.WEBP, "WEBP")])
def test_a_grey_still_comes_out_grey(codec, name):
    pixels = np.repeat(photo(480, 270)[..., :1], 3, axis=2)

    slot = slot_of(encode(pixels, name, "L"), codec)

    assert difference(slot, expected(pixels)) < 2.5


def test_a_palette_png_and_a_16_bit_png_become_8_bit_colours():
    pixels = photo(480, 270)
    deep = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    palette = encode(pixels, "PNG", "P")

    assert difference(slot_of(deep, Codec.PNG), expected(pixels)) < 0.5
    assert difference(slot_of(palette, Codec.PNG), expected(pixels)) < 30


def test_decoding_does_no_more_than_read_the_header():
    # A header and nothing behind it: whoever decodes it now would notice.
    answer = decode(encode(photo(640, 360), "JPEG")[:700], Codec.JPEG)

    assert (answer.picture.width, answer.picture.height) == (640, 360)
    assert answer.pts == 11
    with pytest.raises(UndecodableError, match="truncated JPEG of 700 bytes"):
        answer.picture.letterbox_into(expected(photo(64, 64)), FIT)


@pytest.mark.parametrize("kind", STILLS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_still_is_no_picture(kind, share):
    codec, name, mode, options = STILLS[kind]
    data = encode(photo(640, 360), name, mode, **options)

    answer = decode(data[: int(len(data) * share)], codec)

    if answer.picture is None:
        assert answer.reason is SkipReason.UNDECODABLE
    else:
        with pytest.raises(UndecodableError, match=r"truncated|damaged"):
            answer.picture.letterbox_into(np.zeros((416, 416, 3), np.uint8), FIT)


def test_a_jpeg_that_lacks_only_its_end_marker_is_a_picture():
    data = encode(photo(640, 360), "JPEG")

    assert np.array_equal(slot_of(data[:-2], Codec.JPEG), slot_of(data, Codec.JPEG))


def test_a_jpeg_padded_with_zeros_is_a_picture():
    data = encode(photo(640, 360), "JPEG")

    assert np.array_equal(slot_of(data + bytes(9), Codec.JPEG), slot_of(data, Codec.JPEG))


def test_a_png_with_a_damaged_byte_is_no_picture():
    data = bytearray(encode(photo(640, 360), "PNG"))
    data[len(data) // 2] ^= 0x55

    with pytest.raises(UndecodableError, match="damaged"):
        slot_of(bytes(data), Codec.PNG)


@pytest.mark.parametrize("codec", [Codec.JPEG, Codec.PNG, Codec.WEBP])
@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"garbage" * 40, bytes(300), b"RIFF\0\0\0\0WEBPXXXX" + bytes(40)])
def test_bytes_that_are_no_still_are_answered_and_not_raised(codec, data):
    answer = decode(data, codec)

    assert answer.picture is None
    assert answer.reason is SkipReason.UNDECODABLE
    assert answer.detail


@pytest.mark.parametrize(("codec", "name"), [(Codec.JPEG, "JPEG"), (Codec.PNG, "PNG"), (Codec.WEBP, "WEBP")])
@pytest.mark.parametrize("size", [(2001, 100), (100, 1501)])
def test_a_still_over_the_limit_is_refused_before_it_is_decoded(codec, name, size):
    data = encode(np.zeros((size[1], size[0], 3), np.uint8), name)

    with pytest.raises(PictureTooLargeError, match=f"{size[0]}x{size[1]}.*2000x1500"):
        decode(data, codec)


def test_a_png_bomb_is_refused_by_its_header_alone():
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60000).to_bytes(4) * 2 + b"\x08\x02\0\0\0" + bytes(4)

    with pytest.raises(PictureTooLargeError, match="60000x60000"):
        decode(header, Codec.PNG)


def test_a_webp_whose_frames_are_larger_than_its_canvas_is_no_picture():
    inner = encode(photo(640, 360), "WEBP")[12:]
    canvas = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + (63).to_bytes(3, "little") + (63).to_bytes(3, "little")
    body = b"WEBP" + canvas + inner
    data = b"RIFF" + len(body).to_bytes(4, "little") + body

    with pytest.raises(UndecodableError, match="WEBP"):
        slot_of(data, Codec.WEBP)


def test_exif_does_not_turn_a_picture_but_the_configuration_does():
    pixels = photo(640, 360)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = {codec: encode(pixels, codec.name, exif=exif) for codec in (Codec.JPEG, Codec.PNG, Codec.WEBP)}

    for codec, still in data.items():
        assert decode(still, codec).picture.width == 640
        assert difference(slot_of(still, codec), expected(pixels)) < 3.0
        turned = decode(still, codec, rotation_degrees=90).picture
        assert (turned.width, turned.height, turned.rotation_degrees) == (360, 640, 90)
        assert difference(slot_of(still, codec, rotation_degrees=90), expected(pixels, rotation_degrees=90)) < 3.0


def test_wide_samples_widen_a_still():
    pixels = photo(352, 288)

    slot = slot_of(encode(pixels, "PNG"), Codec.PNG, sample_aspect=Fraction(16, 11))

    assert np.array_equal(slot, expected(pixels, sample_aspect=Fraction(16, 11)))


def test_a_large_jpeg_serves_a_small_engine_first_and_a_large_one_after():
    pixels = photo(1920, 1080)
    picture = decode(encode(pixels, "JPEG", quality=95), Codec.JPEG).picture
    for fit in (Letterbox(128, 128), Letterbox(1280, 1280), Letterbox(416, 416, "centre")):
        slot = np.zeros((fit.height, fit.width, 3), np.uint8)
        picture.letterbox_into(slot, fit)
        assert difference(slot, expected(pixels, fit)) < 3.0


def test_pictures_that_live_side_by_side_do_not_share_their_pixels():
    photos = [photo(640, 360, seed) for seed in range(4)]
    pictures = [decode(encode(pixels, "JPEG", quality=95), Codec.JPEG).picture for pixels in photos]
    slot = np.zeros((416, 416, 3), np.uint8)
    for picture in pictures:
        picture.letterbox_into(slot, FIT)
    pictures[0].close()
    pictures[3].letterbox_into(slot, FIT)

    for picture, pixels in list(zip(pictures, photos, strict=True))[1:]:
        picture.letterbox_into(slot, FIT)
        assert difference(slot, expected(pixels)) < 3.0


def test_a_closed_picture_has_no_pixels():
    picture = decode(encode(photo(64, 64), "JPEG"), Codec.JPEG).picture
    picture.close()
    picture.close()

    with pytest.raises(UndecodableError):
        picture.letterbox_into(np.zeros((416, 416, 3), np.uint8), FIT)


def test_shedding_and_flushing_need_no_reading():
    decoder = StillDecoder(VideoFormat(Codec.JPEG), LIMITS)
    packet = Packet(4, b"unread", pts=9)

    (answer,) = decoder.drop(packet, SkipReason.OVERLOAD)

    assert (answer.packet, answer.pts, answer.reason) == (packet, 9, SkipReason.OVERLOAD)
    assert list(decoder.flush()) == []
    decoder.close()


def test_another_codec_is_refused():
    with pytest.raises(ValueError, match="H264"):
        StillDecoder(VideoFormat(Codec.H264), LIMITS)


def without_huffman_tables(jpeg: bytes) -> bytes:
    kept, position = bytearray(jpeg[:2]), 2
    while jpeg[position + 1] != 0xDA:
        length = int.from_bytes(jpeg[position + 2 : position + 4]) + 2
        if jpeg[position + 1] != 0xC4:
            kept += jpeg[position : position + length]
        position += length
    return bytes(kept + jpeg[position:])


def test_motion_jpeg_without_huffman_tables_is_decoded_with_the_standard_ones():
    data = encode(photo(640, 360), "JPEG")
    bare = without_huffman_tables(data)

    assert len(bare) < len(data) - 300
    assert np.array_equal(slot_of(bare, Codec.JPEG), slot_of(data, Codec.JPEG))


def test_every_frame_of_a_motion_jpeg_clip_is_decoded():
    with av.open(str(asset("clips/intel_store-aisle_mjpeg.avi"))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 67

    for data in packets:
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert difference(slot_of(data, Codec.JPEG), expected(whole)) < 1.0
