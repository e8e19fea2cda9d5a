from __future__ import annotations

import io
import itertools

import pytest
from PIL import Image

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources import open_source
from vedette_client.sources.huffman import with_huffman_tables
from vedette_client.sources.stills import natural_key


def still(path, kind="JPEG", shade=0, **options):
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(path, kind, **options)
    return path.read_bytes()


def test_stills_come_in_natural_order_at_their_rate(tmp_path):
    wanted = [still(tmp_path / f"frame{number}.jpg", shade=number) for number in (2, 9, 10, 100)]
    source = open_source(str(tmp_path), fps=4)
    form = source.open()
    packets = list(source.packets())
    assert form.codec == media_pb2.CODEC_JPEG
    assert (form.width, form.height, form.fps) == (40, 30, 4)
    assert [packet.data for packet in packets] == wanted
    assert [packet.due_s for packet in packets] == [0, 0.25, 0.5, 0.75]
    assert [packet.pts * form.time_base for packet in packets] == [0, 0.25, 0.5, 0.75]
    assert all(packet.keyframe for packet in packets)


@pytest.mark.parametrize(
    ("suffix", "kind", "codec"),
    [
        ("jpeg", "JPEG", media_pb2.CODEC_JPEG),
        ("PNG", "PNG", media_pb2.CODEC_PNG),
        ("webp", "WEBP", media_pb2.CODEC_WEBP),
    ],
)
def test_a_single_still_is_a_stream_of_one(tmp_path, suffix, kind, codec):
    data = still(tmp_path / f"one.{suffix}", kind)
    source = open_source(str(tmp_path / f"one.{suffix}"), pace=False)
    assert source.open().codec == codec
    packets = list(source.packets())
    assert [packet.data for packet in packets] == [data]
    assert packets[0].due_s is None


def test_the_kind_is_told_by_the_bytes_not_by_the_name(tmp_path):
    still(tmp_path / "named.jpg", "PNG")
    assert open_source(str(tmp_path / "named.jpg")).open().codec == media_pb2.CODEC_PNG


def test_looped_stills_go_on_in_time(tmp_path):
    for number in range(3):
        still(tmp_path / f"{number}.png", "PNG", number)
    source = open_source(str(tmp_path), loop=True, fps=10)
    source.open()
    packets = list(itertools.islice(source.packets(), 7))
    assert packets[6].data == packets[0].data
    assert [packet.due_s for packet in packets] == pytest.approx([index / 10 for index in range(7)])


def test_a_broken_still_among_good_ones_is_sent_as_it_is(tmp_path):
    still(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8broken")
    (tmp_path / "3.jpg").write_bytes(b"nothing like a picture")
    source = open_source(str(tmp_path))
    source.open()
    assert [len(packet.data) for packet in source.packets()][1:] == [8, 22]


def test_two_kinds_in_one_directory_are_refused_with_an_example_of_each(tmp_path):
    still(tmp_path / "a.jpg")
    still(tmp_path / "b.png", "PNG")
    with pytest.raises(SourceError, match=r"a\.jpg is JPEG, b\.png is PNG"):
        open_source(str(tmp_path)).open()


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no stills in this directory"):
        open_source(str(tmp_path)).open()


def test_a_first_still_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing like a picture")
    with pytest.raises(SourceError, match="not a JPEG, PNG or WebP"):
        open_source(str(tmp_path)).open()


def test_a_turned_photograph_says_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    still(tmp_path / "phone.jpg", exif=exif)
    assert open_source(str(tmp_path / "phone.jpg")).open().rotation_degrees == 90


def test_a_jpeg_with_further_pictures_behind_it_is_a_jpeg(tmp_path):
    pictures = [Image.new("RGB", (40, 30), (shade, 0, 0)) for shade in (0, 99)]
    pictures[0].save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=pictures[1:])
    with Image.open(tmp_path / "two.jpg") as image:
        assert image.format == "MPO"
    source = open_source(str(tmp_path / "two.jpg"))
    assert source.open().codec == media_pb2.CODEC_JPEG
    assert len(list(source.packets())) == 1


def test_stills_that_lie_differently_are_refused_by_name(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    still(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8 broken, and of no turn")
    still(tmp_path / "3.jpg", exif=turned)
    with pytest.raises(SourceError, match=r"1\.jpg is to be turned by 0 degrees and 3\.jpg by 90"):
        open_source(str(tmp_path)).open()


def test_numbers_in_names_sort_by_value():
    assert sorted(["b2", "a10", "a9", "2", "10"], key=natural_key) == ["2", "10", "a9", "a10", "b2"]


def test_a_picture_without_huffman_tables_gets_the_standard_ones():
    buffer = io.BytesIO()
    Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 20).convert("RGB").save(buffer, "JPEG", optimize=False)
    whole = buffer.getvalue()
    bare = whole
    while (start := bare.find(b"\xff\xc4")) >= 0:
        bare = bare[:start] + bare[start + 2 + int.from_bytes(bare[start + 2 : start + 4], "big") :]
    assert bare != whole
    mended = Image.open(io.BytesIO(with_huffman_tables(bare)))
    assert mended.tobytes() == Image.open(io.BytesIO(whole)).tobytes()
    assert with_huffman_tables(whole) is whole


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"noise"])
def test_what_is_no_jpeg_passes_unchanged(data):
    assert with_huffman_tables(data) == data
