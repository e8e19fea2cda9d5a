from __future__ import annotations

import itertools
from fractions import Fraction

import av
import pytest

from support_sources import ASSETS, decode, needs_assets, write_clip
from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources import open_source


def read(spec, **options):
    source = open_source(str(spec), **options)
    form = source.open()
    packets = list(source.packets())
    source.close()
    return form, packets


@pytest.mark.parametrize(
    ("encoder", "suffix", "codec", "decoder"),
    [
        ("libx264", "mp4", media_pb2.CODEC_H264, "h264"),
        ("libx264", "mkv", media_pb2.CODEC_H264, "h264"),
        ("libx264", "ts", media_pb2.CODEC_H264, "h264"),
        ("libx264", "h264", media_pb2.CODEC_H264, "h264"),
        ("libx265", "mp4", media_pb2.CODEC_HEVC, "hevc"),
        ("mpeg4", "avi", media_pb2.CODEC_MPEG4, "mpeg4"),
        ("mpeg4", "mp4", media_pb2.CODEC_MPEG4, "mpeg4"),
        ("libvpx-vp9", "webm", media_pb2.CODEC_VP9, "vp9"),
        ("libsvtav1", "mp4", media_pb2.CODEC_AV1, "libdav1d"),
        ("mjpeg", "avi", media_pb2.CODEC_JPEG, "mjpeg"),
    ],
)
def test_every_packet_leaves_as_the_container_has_it(tmp_path, encoder, suffix, codec, decoder):
    quiet = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}.get(encoder)
    path = write_clip(tmp_path / f"clip.{suffix}", codec=encoder, options=quiet)
    form, packets = read(path, pace=False)
    assert form.codec == codec
    assert (form.width, form.height) == (128, 96)
    assert len(packets) == 24
    assert packets[0].keyframe
    assert all(packet.due_s is None for packet in packets)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        expected = [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in container.demux(stream) if p.size]
        assert form.extradata == (stream.codec_context.extradata or b"")
        assert form.time_base == stream.time_base
    assert [(p.pts, p.dts, p.keyframe, p.data) for p in packets] == expected
    assert len(decode(decoder, form.extradata, [packet.data for packet in packets])) == 24


def test_a_paced_file_is_due_by_its_clock_in_decoding_order(tmp_path):
    _, packets = read(write_clip(tmp_path / "clip.mp4", fps=12))
    assert [packet.due_s for packet in packets] == pytest.approx([index / 12 for index in range(24)])


def test_a_rate_of_ones_own_replaces_the_files_clock(tmp_path):
    _, packets = read(write_clip(tmp_path / "clip.mp4", fps=12), fps=50)
    assert [packet.due_s for packet in packets] == pytest.approx([index / 50 for index in range(24)])


def test_a_raw_stream_without_timestamps_is_paced_by_its_rate(tmp_path):
    path = write_clip(tmp_path / "clip.h264", bframes=0)
    _, packets = read(path)
    assert all(packet.pts is None and packet.dts is None for packet in packets)
    steps = [b.due_s - a.due_s for a, b in itertools.pairwise(packets)]
    assert steps == pytest.approx([1 / 12] * 23)


def test_a_looped_file_goes_on_in_time_and_begins_again_at_a_keyframe(tmp_path):
    source = open_source(str(write_clip(tmp_path / "clip.mp4")), loop=True)
    form = source.open()
    packets = list(itertools.islice(source.packets(), 24 * 3))
    source.close()
    dts = [packet.dts for packet in packets]
    assert dts == sorted(set(dts))
    assert len({packet.pts for packet in packets}) == len(packets)
    assert all(packet.pts >= packet.dts for packet in packets)
    assert [i for i, packet in enumerate(packets) if packet.discontinuity] == [24, 48]
    assert packets[24].keyframe
    assert packets[48].keyframe
    assert [packet.due_s for packet in packets] == pytest.approx([index / 12 for index in range(72)])
    ticks_of_a_round = 2 / form.time_base
    assert [packets[24 + i].pts - packets[i].pts for i in range(24)] == [ticks_of_a_round] * 24


def test_a_loop_that_starts_between_keyframes_goes_on_at_the_first_one(tmp_path):
    nals = write_clip(tmp_path / "whole.h264", bframes=0).read_bytes()
    with av.open(str(tmp_path / "whole.h264")) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    cut = tmp_path / "cut.h264"
    cut.write_bytes(b"".join(packets[3:]))
    assert len(nals) > cut.stat().st_size
    source = open_source(str(cut), loop=True, pace=False)
    source.open()
    seen = list(itertools.islice(source.packets(), 21 + 16))
    source.close()
    assert [packet.keyframe for packet in seen[:6]] == [False] * 5 + [True]
    assert seen[21].keyframe
    assert seen[21].discontinuity


@pytest.mark.parametrize(("counter_clockwise", "clockwise"), [(90, 270), (180, 180), (-90, 90)])
def test_a_lying_picture_tells_how_to_turn_it(tmp_path, counter_clockwise, clockwise):
    form, packets = read(write_clip(tmp_path / "clip.mp4", rotation_ccw=counter_clockwise), pace=False)
    assert form.rotation_degrees == clockwise
    assert len(packets) == 24


def test_capture_times_are_those_of_the_recording(tmp_path):
    form, packets = read(write_clip(tmp_path / "clip.mp4", fps=10))
    assert form.capture_clock == media_pb2.CAPTURE_CLOCK_FILE
    assert sorted(packet.capture_time_ns for packet in packets)[:3] == [0, 100_000_000, 200_000_000]


def test_sound_is_left_out(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=48_000)
        for index in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(video.encode(frame))
            noise = av.AudioFrame("s16", "mono", 1024)
            noise.sample_rate, noise.pts, noise.time_base = 48_000, index * 1024, Fraction(1, 48_000)
            output.mux(sound.encode(noise))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    _, packets = read(path, pace=False)
    assert len(packets) == 5


def test_an_unsupported_codec_is_named_beside_those_that_are_supported(tmp_path):
    path = write_clip(tmp_path / "clip.avi", codec="mpeg2video")
    with pytest.raises(SourceError, match=r"clip\.avi: its video is mpeg2video; supported are h264, hevc"):
        read(path)


def test_a_file_without_video_says_what_it_found(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame("s16", "mono", 800)
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        output.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="no video in it"):
        read(path)


@pytest.mark.parametrize(("content", "message"), [(b"", "the file is empty"), (b"\x07noise" * 999, "cannot be opened")])
def test_what_is_no_video_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"odd.mp4: {message}"):
        read(path)


def test_packets_before_open_are_refused(tmp_path):
    with pytest.raises(SourceError, match="before it was opened"):
        next(open_source(str(write_clip(tmp_path / "clip.mp4"))).packets())


def test_closing_ends_an_endless_walk_and_may_be_done_twice(tmp_path):
    source = open_source(str(write_clip(tmp_path / "clip.mp4")), loop=True, pace=False)
    source.open()
    count = 0
    for count, _ in enumerate(source.packets(), start=1):
        if count == 30:
            source.close()
            source.close()
    assert count == 30


@needs_assets
@pytest.mark.parametrize(
    ("name", "packets"),
    [
        ("car_truncated_60pct.mp4", 220),
        ("car_ts_loss2pct.ts", 376),
        ("single_frame.mp4", 1),
        ("jpeg_named_mp4.mp4", 1),
        ("no_idr_no_sps.h264", 49),
        ("resolution_change_480x270_to_1280x720.h264", 100),
    ],
)
def test_broken_files_give_as_many_packets_as_there_are(name, packets):
    form, given = read(ASSETS / "broken" / name, pace=False)
    assert len(given) == packets
    assert form.codec == (media_pb2.CODEC_JPEG if "jpeg" in name else media_pb2.CODEC_H264)


@needs_assets
def test_packets_of_a_transport_stream_with_losses_say_so():
    _, packets = read(ASSETS / "broken" / "car_ts_loss2pct.ts", pace=False)
    assert any(packet.discontinuity for packet in packets)


@needs_assets
@pytest.mark.parametrize("name", ["empty.mp4", "garbage_random.mp4"])
def test_hopeless_files_are_refused(name):
    with pytest.raises(SourceError, match=name):
        read(ASSETS / "broken" / name)
