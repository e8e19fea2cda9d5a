"""The readers of headers, and the judges of references that stand on them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_video import RECIPES, clip, run
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.decode.bitstream import nal
from vedette_server.decode.bitstream.bits import BitReader, HeaderError
from vedette_server.decode.bitstream.inspect import inspect, open_reader
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.references.gaps import TimeGaps
from vedette_server.decode.video import VideoDecoder

VIDEO = [Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.MPEG4]


class BitWriter:
    """Writes the bits of a hand-made header."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, value: int, count: int) -> BitWriter:
        self.bits += format(value, f"0{count}b") if count else ""
        return self

    def ue(self, *values: int) -> BitWriter:
        for value in values:
            code = format(value + 1, "b")
            self.bits += "0" * (len(code) - 1) + code
        return self

    def aligned(self) -> BitWriter:
        self.bits += "0" * (-len(self.bits) % 8)
        return self

    def raw(self, data: bytes) -> BitWriter:
        self.bits += "".join(format(byte, "08b") for byte in data)
        return self

    def nal(self, header: int) -> bytes:
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        body = int(bits, 2).to_bytes(len(bits) // 8, "big")
        escaped, zeros = bytearray(), 0
        for byte in body:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(escaped)


def field_parameters() -> bytes:
    """A stream of 16x32 pixels in fields: baseline tools, order by decoding (`pic_order_cnt_type` 2)."""
    sps = BitWriter().u(77, 8).u(0, 8).u(30, 8).ue(0, 0, 2, 1).u(0, 1).ue(0, 0).u(0, 1).u(0, 1).u(1, 1).u(0, 2)
    pps = BitWriter().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(0, 3)
    return sps.nal(0x67) + pps.nal(0x68)


def field(number: int, *, bottom: bool, idr: bool, value: int) -> bytes:
    """One field of one macroblock of plain samples (I_PCM)."""
    bits = BitWriter().ue(0, 7, 0).u(number, 4).u(1, 1).u(int(bottom), 1)
    if idr:
        bits.ue(0).u(0, 2)
    else:
        bits.u(0, 1)
    bits.ue(0, 25).aligned().raw(bytes([value]) * 384)
    return bits.nal(0x65 if idr else 0x61)


def field_stream() -> list[Packet]:
    fields = [
        field_parameters() + field(0, bottom=False, idr=True, value=40),
        field(0, bottom=True, idr=False, value=80),
    ]
    for number in range(1, 5):
        fields.append(field(number, bottom=False, idr=False, value=40 + number))
        fields.append(field(number, bottom=True, idr=False, value=80 + number))
    return [Packet(n, data, pts=n, dts=n, duration=1) for n, data in enumerate(fields)]


def decode_fields(packets: list[Packet]) -> tuple[dict[int, tuple[int, int]], dict[int, str]]:
    decoder = VideoDecoder(VideoFormat(Codec.H264), PictureLimits())
    answers = [a for packet in packets for a in decoder.decode(packet)]
    answers += decoder.flush()
    assert sorted(a.packet.sequence for a in answers) == sorted(p.sequence for p in packets)
    shown = {}
    for answer in answers:
        if answer.picture is not None:
            pixels = answer.picture.frame.to_ndarray()
            shown[answer.packet.sequence] = (int(pixels[0, 0]), int(pixels[1, 0]))
    return shown, {a.packet.sequence: a.reason.name for a in answers if a.reason is not None}


def test_two_packets_with_a_field_each_are_one_picture_and_one_packet_without() -> None:
    shown, skipped = decode_fields(field_stream())
    assert sorted(shown.values()) == [(40 + n, 80 + n) for n in range(5)]
    assert len(shown) == len(skipped) == 5
    assert set(skipped.values()) == {"NO_FRAME"}


def test_a_lost_field_is_a_lost_reference() -> None:
    whole, _ = decode_fields(field_stream())
    for lost in range(2, 10):
        shown, _ = decode_fields([p for p in field_stream() if p.sequence != lost])
        assert set(shown.values()) <= set(whole.values())


@pytest.mark.parametrize("name", RECIPES)
def test_the_headers_of_an_encoded_stream_are_read_whole(name: str) -> None:
    source = clip(name)
    reader = open_reader(source.fmt.codec, source.fmt.extradata)
    for packet in source.packets:
        unit = reader.read(packet.data)
        assert not unit.error
        assert unit.shows_picture
        assert (unit.width, unit.height) in {(128, 96), (0, 0)}
        assert unit.keyframe == packet.keyframe


@pytest.mark.parametrize("name", ["h264-b", "h264-mp4", "hevc-b", "hevc-mp4", "av1-b", "vp9-layers", "mpeg4-b"])
def test_leaving_out_disposable_packets_without_a_word_never_shows_a_broken_picture(name: str) -> None:
    source = clip(name)
    reader = open_reader(source.fmt.codec, source.fmt.extradata)
    kept = [packet for packet in source.packets if not reader.read(packet.data).disposable]
    assert len(kept) < len(source.packets)
    whole = run(source, source.packets).clean
    outcome = run(source, kept)
    assert {n: whole[n] for n in outcome.clean} == outcome.clean


@pytest.mark.parametrize("codec", VIDEO)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_bytes_make_a_reader_raise(codec: Codec, data: st.DataObject) -> None:
    whole = b"".join(packet.data for packet in clip(codec.name.lower()).packets[:2])
    extradata = data.draw(st.binary(max_size=80))
    reader = open_reader(codec, extradata)
    for _ in range(3):
        broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)):
            if at < len(broken):
                broken[at] = value
        reader.read(bytes(broken))
        unit = reader.read(data.draw(st.binary(max_size=80)))
        assert not (unit.error and (unit.keyframe or unit.disposable))


@pytest.mark.parametrize("codec", VIDEO)
def test_a_packet_can_be_looked_at_on_its_own(codec: Codec) -> None:
    first, second = clip(codec.name.lower()).packets[:2]
    assert inspect(codec, first.data).keyframe
    assert not inspect(codec, second.data).keyframe


def test_lengths_that_look_like_start_codes_are_lengths() -> None:
    body = b"\x65" + b"\xaa" * 300
    data = len(body).to_bytes(4, "big") + body
    assert data.startswith(b"\0\0\1")
    assert nal.units_of(data, 4) == ([(4, 305)], 4, "")


def test_start_codes_are_found_where_lengths_were_promised() -> None:
    assert nal.units_of(b"\0\0\0\1\x65\xaa\xbb\0\0\1\x41\xcc", 4) == ([(4, 7), (10, 12)], 0, "")


def test_a_length_beyond_the_packet_is_told() -> None:
    assert nal.units_of(b"\0\0\0\x09\x65\xaa", 4)[2] == "a NAL unit of 9 bytes is cut off after 2"


@given(st.lists(st.one_of(st.integers(0, 70_000)), max_size=8))
def test_exponential_golomb_numbers_are_read_as_written(values: list[int]) -> None:
    writer = BitWriter().ue(*values)
    data = int("1" + writer.bits + "1" * (-(len(writer.bits) + 1) % 8), 2)
    reader = BitReader(data.to_bytes((data.bit_length() + 7) // 8, "big"))
    reader.skip(1)
    assert [reader.ue() for _ in values] == values


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 40])
def test_a_number_that_does_not_end_is_an_error(data: bytes) -> None:
    with pytest.raises(HeaderError):
        BitReader(data).ue()


def times(gaps: TimeGaps, steps: list[int], duration: int | None = 10, key_every: int = 100) -> list[bool]:
    now, found = 0, []
    for number, step in enumerate(steps):
        now += step
        packet = Packet(number, b"", pts=now, dts=now, duration=duration)
        found.append(bool(gaps.gap_before(packet, keyframe=number % key_every == 0)))
    return found


def test_a_gap_is_longer_than_the_tolerance() -> None:
    assert times(TimeGaps(1.5, reorders=False), [0, 10, 10, 20, 10]) == [False, False, False, True, False]
    assert times(TimeGaps(8, reorders=False), [0, 10, 80, 90]) == [False, False, False, True]


def test_without_durations_the_shortest_step_is_the_usual_one() -> None:
    assert times(TimeGaps(1.5, reorders=False), [0, 10, 10, 20], duration=None) == [False, False, False, True]


def test_a_gap_as_long_as_the_last_group_is_one_however_long_the_tolerance() -> None:
    steps = [0, 10, 10, 10, 10, 10, 10, 40, 10]
    assert times(TimeGaps(8, reorders=False), steps, key_every=3).index(True) == 7


def test_packets_of_uneven_duration_have_no_gaps() -> None:
    gaps = TimeGaps(1.5, reorders=False)
    now = 0
    for number, duration in enumerate([10, 40, 5, 100, 10]):
        packet = Packet(number, b"", pts=now, dts=now, duration=duration)
        assert not gaps.gap_before(packet, keyframe=False)
        now += duration
