"""The video decoder on whole streams, odd streams and nonsense."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_video import RECIPES, Clip, clip, collect, plain, run, truth
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.opening import open_decoder
from vedette_server.decode.video import VideoDecoder
from vedette_server.errors import InvalidError, PictureTooLargeError
from vedette_server.picture.letterbox import Letterbox

VIDEO = [Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.MPEG4]
LIMITS = PictureLimits(4096, 2160)


@pytest.mark.parametrize("name", RECIPES)
def test_every_packet_is_answered_and_the_pictures_are_those_of_ffmpeg_in_its_order(name: str) -> None:
    source = clip(name)
    outcome = run(source, source.packets)
    assert [outcome.clean[n] for n in outcome.order if n in outcome.clean] == plain(source)
    assert not outcome.skipped


@pytest.mark.parametrize("name", RECIPES)
def test_answers_come_in_presentation_order(name: str) -> None:
    source = clip(name)
    times = {packet.sequence: packet.pts for packet in source.packets}
    order = [times[n] for n in run(source, source.packets).order]
    assert order == sorted(order)


@pytest.mark.parametrize("name", ["h264-b", "hevc-b", "av1-b", "mpeg4-b", "vp9-altref"])
def test_a_picture_answers_its_own_packet_without_any_times(name: str) -> None:
    source = clip(name)
    untimed = [replace(packet, pts=None, dts=None, duration=None) for packet in source.packets]
    assert run(source, untimed).clean == truth(name)


def test_a_stream_without_b_frames_is_answered_packet_by_packet() -> None:
    source = clip("h264")
    decoder = source.decoder()
    decoder.decode(source.packets[0])
    for packet in source.packets[1:]:
        assert [answer.packet.sequence for answer in decoder.decode(packet)][-1] >= packet.sequence - 1


def test_a_packet_of_parameter_sets_alone_is_no_frame() -> None:
    source = clip("h264-mp4")
    first = Clip(source.fmt, source.packets)
    parameters = b"\0\0\0\1\x67\x42\0\x0a\xf8\x41\xa2\0\0\0\1\x68\xce\x38\x80"
    decoder = VideoDecoder(VideoFormat(Codec.H264), LIMITS)
    answers = list(decoder.decode(Packet(0, parameters)))
    assert [(a.packet.sequence, a.reason) for a in answers] == [(0, SkipReason.NO_FRAME)]
    assert run(first, first.packets).clean == truth("h264-mp4")


def test_parameter_sets_may_come_in_a_packet_of_their_own() -> None:
    source = clip("h264-b")
    start = source.packets[0].data
    cut = start.index(b"\0\0\1\x65")
    packets = [
        replace(source.packets[0], data=start[:cut], sequence=100, pts=-9, dts=-9),
        replace(source.packets[0], data=b"\0" + start[cut:]),
        *source.packets[1:],
    ]
    outcome = run(source, packets)
    assert outcome.clean == truth("h264-b")
    assert outcome.skipped[100][0] == "NO_FRAME"


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "mpeg4"])
def test_the_size_may_change_in_mid_stream(codec: str) -> None:
    small, large = clip(codec), clip(codec, 192, 128)
    packets = [replace(p, sequence=n) for n, p in enumerate([*small.packets, *large.packets])]
    packets[len(small.packets)].discontinuity = True
    outcome = run(small, packets)
    assert not outcome.skipped
    assert outcome.sizes == [(128, 96)] * 30 + [(192, 128)] * 30


@pytest.mark.parametrize("codec", ["h264-mp4", "hevc-mp4", "mpeg4-mp4"])
def test_a_packet_may_bring_a_new_configuration(codec: str) -> None:
    small, large = clip(codec), clip(codec, 192, 128)
    packets = [replace(p, sequence=n) for n, p in enumerate([*small.packets, *large.packets])]
    packets[len(small.packets)].extradata = large.fmt.extradata
    outcome = run(small, packets)
    assert not outcome.skipped
    assert outcome.sizes == [(128, 96)] * 30 + [(192, 128)] * 30


@pytest.mark.parametrize("name", ["h264", "h264-mp4", "hevc", "hevc-mp4", "av1", "vp9", "mpeg4"])
@pytest.mark.parametrize("limits", [PictureLimits(127, 4096), PictureLimits(4096, 95)])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(name: str, limits: PictureLimits) -> None:
    source = clip(name)
    decoder = VideoDecoder(source.fmt, limits)
    with pytest.raises(PictureTooLargeError, match="128x96"):
        decoder.decode(source.packets[0])
    outcome = collect(decoder.flush())
    assert outcome.order == [0]
    assert outcome.skipped[0][0] == "UNDECODABLE"


def test_what_came_before_a_picture_over_the_limit_is_still_answered() -> None:
    small, large = clip("h264-b"), clip("h264-b", 192, 128)
    decoder = VideoDecoder(small.fmt, PictureLimits(128, 96))
    answers = [a for packet in small.packets for a in decoder.decode(packet)]
    with pytest.raises(PictureTooLargeError):
        decoder.decode(replace(large.packets[0], sequence=30))
    outcome = collect([*answers, *decoder.flush()])
    assert outcome.clean == truth("h264-b")
    assert sorted(outcome.order) == list(range(31))


def test_a_format_over_the_limit_is_refused_at_once() -> None:
    with pytest.raises(PictureTooLargeError, match="8000x10"):
        open_decoder(VideoFormat(Codec.H264, width=8000, height=10), LIMITS)


def test_extradata_without_end_is_refused() -> None:
    with pytest.raises(InvalidError, match="2000000 bytes"):
        VideoDecoder(VideoFormat(Codec.H264, b"\0" * 2_000_000), LIMITS)


def test_extradata_without_end_in_mid_stream_makes_the_decoder_wait_for_a_keyframe() -> None:
    source = clip("h264")
    packets = list(source.packets)
    packets[3] = replace(packets[3], extradata=b"\0" * 2_000_000)
    outcome = run(source, packets)
    assert sorted(outcome.skipped) == list(range(3, 12))
    assert "2000000 bytes" in outcome.skipped[3][1]


@pytest.mark.parametrize("codec", VIDEO)
def test_nonsense_for_extradata_does_not_keep_a_stream_with_its_own_parameters_from_decoding(codec: Codec) -> None:
    source = clip(codec.name.lower())
    broken = Clip(replace(source.fmt, extradata=b"\1\2\3\4\xff\xff\xff\xff\xff"), source.packets)
    if codec in {Codec.H264, Codec.HEVC}:
        assert len(run(broken, broken.packets).order) == 30
    else:
        assert run(broken, broken.packets).clean == truth(codec.name.lower())


@pytest.mark.parametrize("codec", VIDEO)
def test_an_empty_packet_is_undecodable(codec: Codec) -> None:
    decoder = VideoDecoder(VideoFormat(codec), LIMITS)
    outcome = collect([*decoder.decode(Packet(7, b"")), *decoder.flush()])
    assert outcome.skipped == {7: ("UNDECODABLE", "the packet is empty")}


@pytest.mark.parametrize("codec", VIDEO)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_answered_once_and_never_raise(codec: Codec, data: st.DataObject) -> None:
    source = clip(codec.name.lower())
    whole = st.sampled_from([packet.data for packet in source.packets])
    beginning = st.builds(lambda a, b: a[: 1 + len(a) // 3] + b, whole, st.binary(max_size=40))
    bodies = data.draw(st.lists(st.one_of(st.binary(max_size=60), whole, beginning), max_size=12))
    extradata = data.draw(st.binary(max_size=60))
    decoder = VideoDecoder(VideoFormat(codec, extradata), LIMITS)
    answers = []
    for number, body in enumerate(bodies):
        try:
            answers += decoder.decode(Packet(number, body, pts=number))
        except PictureTooLargeError:
            continue
    answers += decoder.flush()
    assert sorted(answer.packet.sequence for answer in answers) == list(range(len(bodies)))


@pytest.mark.parametrize("codec", VIDEO)
def test_a_decoder_recovers_at_the_next_keyframe_after_a_flood_of_nonsense(codec: Codec) -> None:
    name = codec.name.lower()
    source = clip(name)
    rng = np.random.default_rng(3)
    noise = [Packet(100 + n, rng.bytes(200)) for n in range(60)]
    key = 12
    outcome = run(source, [*source.packets[:5], *noise, *source.packets[key:]])
    assert {n: p for n, p in outcome.clean.items() if n < 100} == {
        n: p for n, p in truth(name).items() if n < 5 or n >= key
    }
    assert all(n in outcome.skipped for n in range(100, 160))


def test_a_picture_is_upright_in_words_and_on_the_slot() -> None:
    source = clip("h264")
    decoder = source.decoder(rotation_degrees=90, sample_aspect=Fraction(1))
    answers = [*decoder.decode(source.packets[0]), *decoder.flush()]
    picture = answers[0].picture
    assert picture is not None
    assert (picture.width, picture.height, picture.rotation_degrees) == (96, 128, 90)
    slot = np.zeros((64, 64, 3), np.uint8)
    picture.letterbox_into(slot, Letterbox(64, 64))
    assert slot.std() > 5
    picture.close()
    picture.close()


def test_a_closed_decoder_may_be_closed_again() -> None:
    source = clip("h264")
    decoder = source.decoder()
    decoder.decode(source.packets[0])
    decoder.close()
    decoder.close()
    assert decoder.flush() == []


def test_a_held_picture_does_not_hold_its_packet() -> None:
    source = clip("h264")
    decoder = source.decoder()
    answers = [*decoder.decode(source.packets[0]), *decoder.flush()]
    picture = answers[0].picture
    assert isinstance(picture, object)
    assert picture is not None
    assert picture.frame.opaque is None
    assert isinstance(picture.frame, av.VideoFrame)
