"""A GPU's decoder keeps what the CPU's promises: the same pictures, the same order, one answer for each packet.

The library is a fake of PyNvVideoCodec over FFmpeg and a simulated device (`support_nvdec.py`): no hardware ran this.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_nvdec import hardware
from support_video import RECIPES, Clip, clip, collect, truth
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.decode.bitstream.inspect import open_reader
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.nvdec_picture import SurfacePicture
from vedette_server.errors import PictureTooLargeError
from vedette_server.picture.scratch import plane_views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_nvdec import Hardware
    from vedette_server.decode.video import VideoDecoder

VIDEO = [Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.MPEG4]


@pytest.fixture
def gpu() -> Iterator[Hardware]:
    with hardware() as found:
        yield found


def true_pictures(name: str, clean: dict[int, str]) -> bool:
    expected = truth(name)
    return {number: expected[number] for number in clean} == clean


@pytest.mark.parametrize("name", RECIPES)
def test_every_packet_is_answered_with_the_pictures_of_the_cpu_in_presentation_order(gpu: Hardware, name: str) -> None:
    source = clip(name)
    outcome = gpu.run(source, source.packets)
    assert outcome.clean == truth(name)
    times = {packet.sequence: packet.pts for packet in source.packets}
    assert [times[number] for number in outcome.order] == sorted(times.values())
    assert gpu.module.made == 1
    assert not any(gpu.figures.fallbacks.values())


@pytest.mark.parametrize("name", ["h264-b", "hevc-b", "av1-b", "mpeg4-b", "vp9-altref"])
def test_a_picture_answers_its_own_packet_without_any_times(gpu: Hardware, name: str) -> None:
    source = clip(name)
    untimed = [replace(packet, pts=None, dts=None, duration=None) for packet in source.packets]
    assert gpu.run(source, untimed).clean == truth(name)


@pytest.mark.parametrize(("name", "latency"), [("h264", "LOW"), ("hevc", "LOW"), ("vp9", "LOW"), ("h264-b", "NATIVE")])
def test_what_cannot_be_reordered_is_decoded_without_delay(gpu: Hardware, name: str, latency: str) -> None:
    source = clip(name)
    decoder = gpu.decoder(source)
    delays = []
    for packet in source.packets:
        delays += [packet.sequence - answer.packet.sequence for answer in closed(decoder.decode(packet))]
    assert (max(delays) == 0) == (latency == "LOW")
    assert gpu.module.latencies == [latency]
    closed(decoder.flush())
    decoder.close()


def closed(answers: Any) -> Any:
    for answer in answers:
        if answer.picture is not None:
            answer.picture.close()
    return answers


def test_a_stream_that_reorders_though_its_headers_do_not_say_so_is_sorted_from_the_next_keyframe_on(
    gpu: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vedette_server.decode.nvdec as module  # noqa: PLC0415

    real = module.probe
    monkeypatch.setattr(module, "probe", lambda *a: replace(real(*a), reorder_depth=0))
    source = clip("h264-b")
    late = {0: 2, 1: 1, 2: 0}
    shuffled = [replace(packet, pts=late.get(packet.sequence, packet.pts), dts=None) for packet in source.packets]
    gpu.run(source, shuffled)
    assert gpu.module.latencies == ["LOW", "NATIVE"]


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "mpeg4"])
@pytest.mark.parametrize("told", [True, False])
def test_the_size_may_change_in_mid_stream(gpu: Hardware, codec: str, told: bool) -> None:
    small, large = clip(codec), clip(codec, 192, 128)
    packets = [replace(p, sequence=n) for n, p in enumerate([*small.packets, *large.packets, *small.packets])]
    for packet in packets:
        packet.pts = packet.dts = packet.sequence
    packets[30].discontinuity = packets[60].discontinuity = told
    outcome = gpu.run(small, packets)
    assert not outcome.skipped
    assert outcome.sizes == [(128, 96)] * 30 + [(192, 128)] * 30 + [(128, 96)] * 30
    assert gpu.module.made == 3


@pytest.mark.parametrize("codec", ["h264-mp4", "hevc-mp4", "mpeg4-mp4"])
def test_a_packet_may_bring_a_new_configuration(gpu: Hardware, codec: str) -> None:
    small, large = clip(codec), clip(codec, 192, 128)
    packets = [replace(p, sequence=n) for n, p in enumerate([*small.packets, *large.packets])]
    packets[len(small.packets)].extradata = large.fmt.extradata
    outcome = gpu.run(small, packets)
    assert not outcome.skipped
    assert outcome.sizes == [(128, 96)] * 30 + [(192, 128)] * 30


@pytest.mark.parametrize("size", [(130, 98), (129, 97)])
def test_odd_sizes_keep_their_last_row_and_column(gpu: Hardware, size: tuple[int, int]) -> None:
    source = clip("vp9", *size)
    decoder = gpu.decoder(source)
    answers = [*decoder.decode(source.packets[0]), *decoder.flush()]
    picture = answers[0].picture
    assert isinstance(picture, SurfacePicture)
    on_cpu = source.decoder().decode(source.packets[0])[0].picture
    assert on_cpu is not None
    for got, wanted in zip(plane_views(picture.frame), plane_views(on_cpu.frame), strict=True):  # type: ignore[attr-defined]
        assert np.array_equal(got, wanted)
    picture.close()
    decoder.close()


@pytest.mark.parametrize("name", ["h264", "h264-b", "hevc-open", "av1-b", "vp9", "mpeg4-b", "h264-mp4"])
def test_without_any_packet_no_broken_picture_is_clean(name: str) -> None:
    source = clip(name)
    for lost in range(0, len(source.packets), 3):
        with hardware() as gpu:
            outcome = gpu.run(source, source.packets[:lost] + source.packets[lost + 1 :])
            assert true_pictures(name, outcome.clean)


@pytest.mark.parametrize("name", ["h264", "hevc", "av1", "vp9", "mpeg4"])
def test_a_discontinuity_is_believed_until_the_next_keyframe(gpu: Hardware, name: str) -> None:
    source = clip(name)
    packets = list(source.packets)
    packets[5] = replace(packets[5], discontinuity=True)
    outcome = gpu.run(source, packets)
    assert sorted(outcome.skipped) == list(range(5, 12))
    assert outcome.skipped[5] == ("LOST_REFERENCE", "the client says that packets are missing")


@pytest.mark.parametrize("name", ["h264-b", "hevc-b", "av1", "mpeg4-b"])
def test_shedding_what_nothing_refers_to_changes_no_other_picture(gpu: Hardware, name: str) -> None:
    source = clip(name)
    reader = open_reader(source.fmt.codec, source.fmt.extradata)
    disposable = {n for n, packet in enumerate(source.packets) if reader.read(packet.data).disposable}
    assert len(disposable) >= 5

    def shed(decoder: VideoDecoder, packet: Packet) -> Any:
        shed_it = packet.sequence in disposable
        return decoder.drop(packet, SkipReason.OVERLOAD) if shed_it else decoder.decode(packet)

    outcome = gpu.run(source, source.packets, shed)
    assert outcome.clean == {n: p for n, p in truth(name).items() if n not in disposable}


@pytest.mark.parametrize("name", ["h264", "h264-mp4", "hevc", "av1", "vp9", "mpeg4"])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(gpu: Hardware, name: str) -> None:
    source = clip(name)
    decoder = gpu.decoder(source, PictureLimits(127, 4096))
    with pytest.raises(PictureTooLargeError, match="128x96"):
        decoder.decode(source.packets[0])
    outcome = collect(decoder.flush())
    assert outcome.skipped[0][0] == "UNDECODABLE"
    assert gpu.module.made == 0
    decoder.close()


def test_parameter_sets_may_come_in_a_packet_of_their_own(gpu: Hardware) -> None:
    source = clip("h264-b")
    start = source.packets[0].data
    cut = start.index(b"\0\0\1\x65")
    packets = [
        replace(source.packets[0], data=start[:cut], sequence=100, pts=-9, dts=-9),
        replace(source.packets[0], data=b"\0" + start[cut:]),
        *source.packets[1:],
    ]
    outcome = gpu.run(source, packets)
    assert outcome.clean == truth("h264-b")
    assert outcome.skipped[100][0] == "NO_FRAME"
    assert gpu.module.made == 1


def test_a_flushed_decoder_is_told_the_parameter_sets_that_came_only_once(gpu: Hardware) -> None:
    source = clip("h264-plain")
    packets = list(source.packets)
    for key in (12, 24):
        whole = packets[key].data
        packets[key] = replace(packets[key], data=whole[whole.index(b"\0\0\1\x65") :])
    packets[5] = replace(packets[5], discontinuity=True)
    outcome = gpu.run(source, packets)
    assert sorted(outcome.skipped) == list(range(5, 12))
    assert true_pictures("h264-plain", outcome.clean)


@pytest.mark.parametrize("name", ["h264", "h264-b", "hevc-b", "vp9"])
def test_a_picture_that_never_comes_is_no_frame(name: str) -> None:
    with hardware(silent=frozenset({4})) as gpu:
        source = clip(name)
        outcome = gpu.run(source, source.packets)
        assert [reason for reason, _ in outcome.skipped.values()] == ["NO_FRAME"]


@pytest.mark.parametrize("codec", VIDEO)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_answered_once_and_never_raise(codec: Codec, data: st.DataObject) -> None:
    source = clip(codec.name.lower())
    whole = st.sampled_from([packet.data for packet in source.packets])
    beginning = st.builds(lambda a, b: a[: 1 + len(a) // 3] + b, whole, st.binary(max_size=40))
    bodies = data.draw(st.lists(st.one_of(st.binary(max_size=60), whole, beginning), max_size=10))
    wild = Clip(VideoFormat(codec, data.draw(st.binary(max_size=60))), ())
    with hardware() as gpu:
        decoder, answers = gpu.decoder(wild), []
        for number, body in enumerate(bodies):
            try:
                answers += decoder.decode(Packet(number, body, pts=number))
            except PictureTooLargeError:
                continue
        answers += closed(decoder.flush())
        decoder.close()
        closed(answers)
        assert sorted(answer.packet.sequence for answer in answers) == list(range(len(bodies)))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_accounts_close_whatever_is_lost_shed_or_fails(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["h264", "h264-b", "hevc-b", "vp9", "h264-mp4"]))
    source = clip(name)
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    packets = [packet for packet in source.packets if rng.random() > 0.08]
    fails = data.draw(st.one_of(st.none(), st.integers(0, 25)))
    room = data.draw(st.sampled_from([0, 1 << 16, 1 << 30]))

    def step(decoder: VideoDecoder, packet: Packet) -> Any:
        kind = rng.random()
        if kind < 0.05:
            return decoder.drop(packet, SkipReason.OVERLOAD)
        if kind < 0.08:
            return [*decoder.flush(), *decoder.decode(packet)]
        return decoder.decode(packet)

    with hardware(surface_bytes=room, fail_after=lambda number: fails if number == 1 else None) as gpu:
        assert true_pictures(name, gpu.run(source, packets, step).clean)
