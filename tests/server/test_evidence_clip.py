"""Clips: what is remuxed shows the source's pictures; what is masked shows nothing that is hidden."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest

from support_evidence import (
    EPOCH_S,
    Steps,
    motion_jpeg,
    raw_pictures,
    read_file,
    ring_of,
    sent_once,
    source,
    store_in,
    timed,
    whole_clip,
    writer,
)
from support_video import RECIPES, clip, plain
from vedette_server.data.event import EvidenceState
from vedette_server.data.format import Codec
from vedette_server.data.rules import EvidencePolicy, Mask, MaskKind, WatchConfig
from vedette_server.decode.limits import PictureLimits
from vedette_server.evidence.clip import ClipLimits, ClipWriter
from vedette_server.evidence.pixels import hidden
from vedette_server.evidence.ring import Kept, PacketRing
from vedette_server.evidence.showing import kept_under

if TYPE_CHECKING:
    from pathlib import Path

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CODEC_NAMES = {Codec.H264: "h264", Codec.HEVC: "hevc", Codec.AV1: "av1", Codec.VP9: "vp9", Codec.MPEG4: "mpeg4"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_clip_shows_the_pictures_of_its_packets(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source(name)
    made = whole_clip(store, fmt, packets)
    assert made.evidence.state is EvidenceState.READY, made.evidence.detail
    shown = read_file(store.find(made.path))
    assert shown.digests == plain(clip(name))
    assert shown.keyframe_first
    assert shown.codec == CODEC_NAMES[fmt.codec]
    assert shown.times_s == pytest.approx([n / 25 for n in range(len(shown.digests))], abs=1e-4)
    assert shown.duration_s == pytest.approx(len(packets) / 25, abs=1 / 25)


@pytest.mark.parametrize("name", ["h264-b", "h264-b-flat", "hevc-b", "hevc-layers", "mpeg4-b", "h264-mp4"])
def test_missing_decoding_times_are_invented(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source(name)
    made = whole_clip(store, fmt, [replace(packet, dts=None) for packet in packets])
    shown = read_file(store.find(made.path))
    assert shown.digests == plain(clip(name))
    assert shown.times_s == pytest.approx([n / 25 for n in range(len(shown.digests))], abs=1e-4)


def test_without_any_times_the_wall_clock_places_the_pictures(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    made = whole_clip(store, fmt, [replace(p, dts=None, pts=None, capture_wall_ns=None) for p in packets])
    shown = read_file(store.find(made.path))
    assert shown.digests == plain(clip("h264"))
    assert shown.times_s == pytest.approx([n / 25 for n in range(30)], abs=1e-4)


@pytest.mark.parametrize("name", ["h264-open", "hevc-open"])
def test_pictures_that_refer_before_the_clip_are_left_out(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source(name)
    second = [n for n, packet in enumerate(packets) if packet.keyframe][1]
    start = packets[second].pts
    made = whole_clip(store, fmt, packets[second:])
    shown = read_file(store.find(made.path))
    assert start is not None
    assert shown.digests == plain(clip(name))[start:]
    assert shown.times_s[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("policy", [EvidencePolicy.ORIGINAL, EvidencePolicy.MASKED])
def test_a_clip_begins_at_a_keyframe_whose_parameter_sets_came_long_before(
    policy: EvidencePolicy, tmp_path: Path
) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, sent_once(packets), max_s=0.3)
    ring.close()
    assert ring.read(0, 1)[0].packet.sequence == 12
    steps.run(writer(ring, store, steps, EPOCH_S + 1, policy))
    shown = read_file(store.find(steps.done[0].path))
    assert len(shown.digests) == 18
    assert policy is EvidencePolicy.MASKED or shown.digests == plain(clip("h264"))[12:]


def test_the_hash_and_the_size_are_those_of_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *source("h264-b"))
    data = store.find(made.path).read_bytes()
    assert made.evidence.sha256 == hashlib.sha256(data).hexdigest()
    assert made.evidence.size_bytes == len(data) == store.total_bytes("gate")
    assert made.evidence.media_type == "video/mp4"
    assert made.keyframes_s == pytest.approx((EPOCH_S, EPOCH_S + 0.48, EPOCH_S + 0.96))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_the_turn_that_makes_a_picture_upright_is_in_the_file(turn: int, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    made = whole_clip(store, replace(fmt, rotation_degrees=turn), packets)
    assert -read_file(store.find(made.path)).rotation % 360 == turn


def test_the_aspect_of_samples_is_in_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    made = whole_clip(store, replace(fmt, sample_aspect=Fraction(4, 3)), packets)
    with av.open(str(store.find(made.path))) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_a_clip_begins_at_the_keyframe_before_its_pre_roll_and_ends_behind_its_post_roll(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264-b")
    job = writer(ring_of(fmt, packets), store, steps, EPOCH_S + 0.7, limits=ClipLimits(pre_s=0.1, post_s=0.2))
    job.end(EPOCH_S + 0.7)
    steps.run(job)
    (made,) = steps.done
    shown = read_file(store.find(made.path))
    truth = plain(clip("h264-b"))
    assert shown.keyframe_first
    assert made.start_s == pytest.approx(EPOCH_S + 12 / 25)
    # All that is shown up to 0.9 s, that is picture 22; one that had to be decoded by then may follow.
    assert shown.digests[:11] == truth[12:23]
    assert len(shown.digests) <= 14


def test_a_clip_goes_on_as_long_as_its_event_and_as_packets_come(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:5])
    job = writer(ring, store, steps, EPOCH_S + 0.1, limits=ClipLimits(post_s=0.2))
    for packet in packets[5:20]:
        assert job.step() is not None
        ring.feed(packet)
    job.end(EPOCH_S + 0.6)
    job.end(EPOCH_S + 0.3)
    for packet in packets[20:]:
        ring.feed(packet)
    steps.run(job)
    assert len(read_file(store.find(steps.done[0].path)).digests) == 21


def test_a_clip_of_an_endless_event_ends_at_the_limit_and_says_so(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    job = writer(ring_of(fmt, packets), store, steps, EPOCH_S, limits=ClipLimits(max_s=0.5))
    steps.run(job)
    assert "0.5 s" in steps.done[0].evidence.detail
    assert len(read_file(store.find(steps.done[0].path)).digests) == 13


def test_a_clip_of_a_channel_that_fell_silent_ends_and_says_so(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    steps.run(writer(ring_of(*source("h264")), store, steps, EPOCH_S))
    assert steps.now_s >= 10
    assert "sent nothing for 10 s" in steps.done[0].evidence.detail
    assert len(read_file(store.find(steps.done[0].path)).digests) == 30


def test_two_clips_share_one_ring(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    ring = ring_of(*source("hevc"))
    ring.close()
    jobs = [writer(ring, store, steps, EPOCH_S, event_id=f"e{number}") for number in range(2)]
    for job in jobs:
        steps.run(job)
    first, second = (store.find(made.path).read_bytes() for made in steps.done)
    assert first == second


def test_new_parameters_end_a_clip_and_that_is_said(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    ring.begin(source("hevc")[0])
    for packet in timed(source("hevc")[1], start_s=EPOCH_S + 2):
        ring.feed(packet)
    ring.close()
    steps.run(writer(ring, store, steps, EPOCH_S))
    assert "parameters changed" in steps.done[0].evidence.detail
    assert len(read_file(store.find(steps.done[0].path)).digests) == 30


def test_a_gap_is_as_long_in_the_file_as_it_was(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    again = timed([replace(p, pts=(p.pts or 0) + 90000) for p in packets], first=30)
    late = [
        replace(p, capture_wall_ns=int((EPOCH_S + 5 + n / 25) * 1e9), discontinuity=n == 0) for n, p in enumerate(again)
    ]
    shown = read_file(store.find(whole_clip(store, fmt, [*packets, *late]).path))
    assert len(shown.times_s) == 60
    assert shown.times_s[29:32] == pytest.approx([29 / 25, 5.0, 5.04], abs=0.05)


@pytest.mark.parametrize("name", ["h264-b", "hevc-b"])
@pytest.mark.parametrize("with_dts", [True, False])
def test_no_picture_is_lost_on_either_side_of_a_gap(name: str, with_dts: bool, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source(name)
    late = timed(packets, start_s=EPOCH_S + 5, first=30)
    both = [*packets, replace(late[0], discontinuity=True), *late[1:]]
    if not with_dts:
        both = [replace(packet, dts=None) for packet in both]
    shown = read_file(store.find(whole_clip(store, fmt, both).path))
    assert shown.digests == plain(clip(name)) * 2
    assert shown.times_s[30] - shown.times_s[29] > 3.5
    assert shown.times_s == sorted(shown.times_s)


def test_a_clock_of_the_stream_that_jumps_back_does_not_break_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    moved = [replace(p, pts=(p.pts or 0) - 10**6, dts=(p.dts or 0) - 10**6) for p in timed(packets, first=30)]
    moved = [replace(p, capture_wall_ns=int((EPOCH_S + 1.2 + n / 25) * 1e9)) for n, p in enumerate(moved)]
    shown = read_file(store.find(whole_clip(store, fmt, [*packets, *moved]).path))
    assert len(shown.times_s) == 60
    assert np.diff(shown.times_s).max() < 0.1


def test_packets_that_the_ring_dropped_unread_are_a_gap_that_is_told(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:6], max_s=0.1)
    job = writer(ring, store, steps, EPOCH_S)
    job.step()
    for packet in packets[6:]:
        ring.feed(packet)
    ring.close()
    steps.run(job)
    assert "18 packets are missing" in steps.done[0].evidence.detail
    assert len(read_file(store.find(steps.done[0].path)).digests) == 12


def test_motion_jpeg_is_kept_byte_by_byte(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = motion_jpeg()
    made = whole_clip(store, fmt, packets)
    with av.open(str(store.find(made.path))) as container:
        assert [bytes(p) for p in container.demux(video=0) if p.size] == [p.data for p in packets]


@pytest.mark.parametrize("codec", [Codec.RAW, Codec.PNG, Codec.WEBP])
def test_what_mp4_cannot_hold_becomes_motion_jpeg(codec: Codec, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = raw_pictures()
    if codec is not Codec.RAW:
        fmt = replace(fmt, codec=codec, pixel_format=None)
        pictures = [np.frombuffer(p.data, np.uint8).reshape(48, 64, 3) for p in packets]
        coded = [cv2.imencode(f".{codec.name.lower()}", picture)[1].tobytes() for picture in pictures]
        packets = [replace(p, data=data) for p, data in zip(packets, coded, strict=True)]
    shown = read_file(store.find(whole_clip(store, replace(fmt, rotation_degrees=90), packets).path))
    assert shown.codec == "mjpeg"
    assert shown.rotation == 0
    greys = [int(frame.to_ndarray(format="gray").mean()) for frame in shown.frames]
    assert greys == pytest.approx([20 * n for n in range(10)], abs=3)
    assert (shown.frames[0].width, shown.frames[0].height) == (48, 64)


@pytest.mark.parametrize("name", ["h264-b", "hevc-open", "vp9", "av1-mp4", "mpeg4-b"])
@pytest.mark.parametrize("turn", [0, 90])
def test_a_masked_clip_is_black_where_it_is_hidden_in_every_picture(name: str, turn: int, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source(name)
    made = whole_clip(store, replace(fmt, rotation_degrees=turn), packets, EvidencePolicy.MASKED, [LEFT_HALF])
    assert made.evidence.state is EvidenceState.READY, made.evidence.detail
    shown = read_file(store.find(made.path))
    assert shown.codec == "h264"
    assert len(shown.frames) == 30
    assert shown.rotation == 0
    for frame in shown.frames:
        pixels = frame.to_ndarray(format="rgb24")
        width = pixels.shape[1]
        assert pixels.shape[:2] == ((96, 128) if turn == 0 else (128, 96))
        assert pixels[:, : width // 2].max() <= 24
        assert pixels[:, width // 2 + 8 :].mean() > 60
    # The unhidden half is the source's.
    if turn == 0:
        truth = cv2.cvtColor(shown.frames[-1].to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY)[:, 80:]
        first = cv2.cvtColor(shown.frames[0].to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY)[:, 80:]
        assert np.abs(truth.astype(int) - first).mean() > 2, "the clip moves"


def test_no_original_packet_of_a_masked_channel_is_in_any_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    made = whole_clip(store, fmt, packets, EvidencePolicy.MASKED, [LEFT_HALF])
    assert made.evidence.policy == kept_under([LEFT_HALF])
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept
    assert not any(packet.data[-48:] in kept for packet in packets)
    original = whole_clip(store, fmt, packets, hidden=[LEFT_HALF])
    assert original.evidence.policy == "original", "nothing is blackened, whatever masks there are"
    assert packets[0].data[-48:] in store.find(original.path).read_bytes()


def test_a_masked_clip_of_stills_is_masked_as_well(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *raw_pictures(), EvidencePolicy.MASKED, [LEFT_HALF])
    frames = read_file(store.find(made.path)).frames
    assert len(frames) == 10
    assert max(frame.to_ndarray(format="rgb24")[:, :32].max() for frame in frames) <= 24


def test_a_channel_that_keeps_nothing_has_no_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *source("h264"), policy=EvidencePolicy.NONE)
    assert made.evidence.state is EvidenceState.FAILED
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_only_privacy_masks_of_a_masked_channel_hide() -> None:
    masks = (Mask(MaskKind.PRIVACY, LEFT_HALF), Mask(MaskKind.DETECTION, LEFT_HALF), Mask(MaskKind.MOTION, LEFT_HALF))
    assert hidden(WatchConfig(masks=masks, evidence=EvidencePolicy.MASKED)) == (LEFT_HALF,)
    assert hidden(WatchConfig(masks=masks)) == ()


def test_a_stream_whose_bytes_are_no_video_fails_the_clip_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("h264")
    ring = ring_of(fmt, [])
    for packet in packets:
        ring.feed(replace(packet, data=b"\0\0\0\1\x65" + bytes(40)), keyframe=True)
    ring.close()
    steps = Steps()
    steps.run(writer(ring, store, steps, EPOCH_S))
    assert steps.done[0].evidence.state is EvidenceState.FAILED
    assert steps.done[0].evidence.detail
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["h264", "hevc-b"])
def test_pictures_over_the_limit_fail_a_masked_clip_in_words(name: str, tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source(name)
    ring = ring_of(fmt, packets)
    ring.close()
    job = ClipWriter(
        ring, store, "gate", "e", EPOCH_S, EvidencePolicy.MASKED, (), PictureLimits(64, 64), ClipLimits(),
        steps.done.append,
    )  # fmt: skip
    steps.run(job)
    assert steps.done[0].evidence.state is EvidenceState.FAILED
    assert "128x96" in steps.done[0].evidence.detail
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_clip_that_fails_for_an_unknown_reason_is_told_as_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(PacketRing):
        def read(self, index: int, limit: int) -> list[Kept]:
            raise RuntimeError("unheard of")

    store, steps = store_in(tmp_path), Steps()
    steps.run(writer(Broken(1, 1000), store, steps, EPOCH_S))
    assert steps.done[0].evidence.detail == "RuntimeError: unheard of"
    assert "given up" in caplog.text


def test_a_clip_that_the_servers_end_cuts_short_is_whole_and_says_so(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    job = writer(ring_of(*source("h264")), store, steps, EPOCH_S)
    job.step()
    job.abort()
    assert "the server stopped" in steps.done[0].evidence.detail
    assert len(read_file(store.find(steps.done[0].path)).digests) == 30


def test_a_clip_for_which_nothing_comes_fails_in_words(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    steps.run(writer(ring_of(source("h264")[0], []), store, steps, EPOCH_S))
    assert "no packet came" in steps.done[0].evidence.detail
