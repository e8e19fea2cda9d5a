"""The ring of packets: its bounds, its keyframes, and what a clip finds in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_evidence import EPOCH_S, motion_jpeg, ring_of, sent_once, source, timed
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.evidence.ring import OVERHEAD_BYTES, PacketRing

FORMAT = VideoFormat(Codec.VP9)


def feed(ring: PacketRing, keys: list[bool], sizes: list[int], fps: float = 10.0) -> list[Packet]:
    packets = timed((Packet(0, bytes(size), pts=n) for n, size in enumerate(sizes)), fps)
    for packet, key in zip(packets, keys, strict=True):
        ring.feed(packet, keyframe=key)
    return packets


streams = st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), min_size=1, max_size=150)


@settings(max_examples=120, deadline=None)
@given(streams, st.floats(0.0, 8.0), st.integers(1, 60_000))
def test_a_ring_never_exceeds_its_bounds_and_always_begins_at_a_keyframe(
    stream: list[tuple[bool, int]], max_s: float, max_bytes: int
) -> None:
    ring = PacketRing(max_s, max_bytes)
    ring.begin(FORMAT)
    for number, (key, size) in enumerate(stream):
        packet = Packet(number, bytes(size), pts=number, received_s=1 + number / 10, received_wall_ns=number * 10**8)
        ring.feed(packet, keyframe=key)
        kept = ring.read(0, 1000)
        assert ring.size_bytes == sum(len(k.packet.data) + OVERHEAD_BYTES for k in kept) <= max_bytes
        if not kept:
            continue
        assert kept[0].keyframe
        assert [k.index for k in kept] == list(range(kept[0].index, kept[0].index + len(kept)))
        second = next((k for k in kept[1:] if k.keyframe), None)
        # What lies before the second keyframe is needed to go back as far as was promised.
        assert second is None or kept[-1].time_s - second.time_s < max_s or max_s == 0


@settings(max_examples=120, deadline=None)
@given(streams, st.floats(0.5, 8.0), st.floats(0.0, 1.0), st.floats(0.0, 5.0))
def test_any_window_that_lies_inside_is_covered_from_a_keyframe(
    stream: list[tuple[bool, int]], max_s: float, where: float, pre_s: float
) -> None:
    ring = PacketRing(max_s, 1 << 30)
    ring.begin(FORMAT)
    feed(ring, [True, *(key for key, _ in stream[1:])], [size for _, size in stream])
    kept = ring.read(0, 1000)
    at_s = kept[0].time_s + where * (kept[-1].time_s - kept[0].time_s)
    begin = ring.read(ring.find_start(at_s, pre_s), 1)[0]
    assert begin.keyframe
    assert begin.time_s <= max(at_s - pre_s, kept[0].time_s)
    later = [k for k in kept if k.keyframe and begin.time_s < k.time_s <= at_s - pre_s]
    assert later == [], "a keyframe nearer to the pre-roll was passed over"
    # As far back as was promised, nothing is missing.
    newest_s, promised = kept[-1].time_s, (len(stream) - 1) / 10
    assert newest_s - kept[0].time_s >= min(max_s, promised) - 1e-6


def test_the_bytes_are_not_copied() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    assert all(kept.packet.data is packet.data for kept, packet in zip(ring.read(0, 100), packets, strict=True))


def test_packets_before_the_first_keyframe_are_dropped() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[5:])
    assert ring.dropped == 7
    assert ring.read(0, 1)[0].packet.sequence == 12


def test_a_packet_that_was_sent_again_is_kept_once() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, [*packets[:20], *packets[12:]])
    assert [kept.packet.sequence for kept in ring.read(0, 100)] == list(range(30))


def test_after_a_discontinuity_the_next_keyframe_goes_on_behind_a_gap() -> None:
    fmt, packets = source("h264")
    packets[15] = replace(packets[15], discontinuity=True)
    kept = ring_of(fmt, packets).read(0, 100)
    assert [k.packet.sequence for k in kept] == [*range(15), *range(24, 30)]
    assert [k.packet.sequence for k in kept if k.gap] == [0, 24]


def test_new_extradata_begins_another_generation() -> None:
    fmt, packets = source("h264-mp4")
    packets[12] = replace(packets[12], extradata=fmt.extradata)
    packets[24] = replace(packets[24], extradata=fmt.extradata + b"\0")
    kept = ring_of(fmt, packets).read(0, 100)
    assert [k.generation for k in kept] == [1] * 24 + [2] * 6
    assert kept[-1].extradata == fmt.extradata + b"\0"


def test_a_clip_never_begins_with_other_parameters_than_its_event_has() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    ring.begin(replace(fmt, rotation_degrees=90))
    for packet in timed(packets, start_s=EPOCH_S + 10):
        ring.feed(packet)
    start = ring.read(ring.find_start(EPOCH_S + 10.1, 30.0), 1)[0]
    assert (start.generation, start.time_s) == (2, pytest.approx(EPOCH_S + 10))
    assert ring.read(ring.find_start(EPOCH_S + 1, 30.0), 1)[0].generation == 1


def test_another_session_of_the_same_format_goes_on_behind_a_gap() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    ring.begin(fmt)
    for packet in timed(packets, start_s=EPOCH_S + 10):
        ring.feed(packet)
    kept = ring.read(0, 100)
    assert len(kept) == 60
    assert {k.generation for k in kept} == {1}
    assert [k.index for k in kept if k.gap] == [0, 30]


def test_a_client_that_calls_every_packet_a_keyframe_is_not_believed() -> None:
    fmt, packets = source("h264")
    kept = ring_of(fmt, [replace(packet, keyframe=True) for packet in packets]).read(0, 100)
    assert [k.packet.sequence for k in kept if k.keyframe] == [0, 12, 24]


def test_every_still_is_a_keyframe() -> None:
    fmt, packets = motion_jpeg()
    assert all(kept.keyframe for kept in ring_of(fmt, packets).read(0, 100))


def test_parameter_sets_sent_once_are_remembered_for_later_keyframes() -> None:
    fmt, packets = source("h264")
    kept = ring_of(fmt, sent_once(packets)).read(0, 100)
    assert kept[0].parameters == b""
    assert kept[12].keyframe
    assert kept[12].parameters[4] & 31 == 7


@pytest.mark.parametrize(
    ("name", "delimiter"), [("h264", b""), ("h264", b"\0\0\0\1\x09\xf0"), ("hevc", b"\0\0\0\1\x46\x01\x50")]
)
def test_parameter_sets_are_seen_also_where_no_keyframe_is_claimed(name: str, delimiter: bytes) -> None:
    fmt, packets = source(name)
    packets = [replace(p, data=delimiter + p.data, keyframe=False) for p in packets]
    kept = ring_of(fmt, packets).read(0, 100)
    assert [k.packet.sequence for k in kept if k.keyframe] == [n for n, p in enumerate(source(name)[1]) if p.keyframe]


def test_a_ring_without_a_format_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="begin"):
        PacketRing(1, 1000).feed(Packet(0, b"x"))
    with pytest.raises(ValueError, match="0 bytes"):
        PacketRing(1, 0)


def test_a_cleared_ring_holds_nothing_and_a_closed_one_takes_nothing() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:12])
    ring.clear()
    assert (ring.read(0, 9), ring.size_bytes, ring.span_s) == ([], 0, 0.0)
    ring.feed(packets[12])
    assert len(ring.read(0, 9)) == 1
    ring.close()
    ring.feed(packets[13])
    assert len(ring.read(0, 9)) == 1


def test_what_has_left_the_ring_is_not_read_whatever_is_asked_for() -> None:
    ring = ring_of(*motion_jpeg())
    assert ring.read(3, 0) == []
    assert ring.read(3, -5) == []
