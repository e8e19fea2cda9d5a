"""The picture of a packet, out of the ring: the very one that decoding the whole stream gives, or a word why not."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from support_evidence import EPOCH_S, LIMITS, motion_jpeg, raw_pictures, ring_of, sent_once, source, timed
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.decode.opening import open_decoder
from vedette_server.errors import EvidenceError
from vedette_server.evidence.picturing import PictureFinder
from vedette_server.evidence.pixels import upright_bgr
from vedette_server.evidence.ring import PacketRing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CODED = [
    "h264",
    "h264-b",
    "h264-mp4",
    "hevc-b",
    "hevc-mp4",
    "av1",
    "av1-b",
    "vp9",
    "vp9-altref",
    "mpeg4-b",
    "mpeg4-mp4",
]
OPEN = ["h264-open", "hevc-open"]


def find(ring: PacketRing, index: int) -> NDArray[np.uint8]:
    with closing(PictureFinder(ring, index, LIMITS)) as finder:
        while (pixels := finder.step()) is None:
            pass
        assert finder.time_s >= EPOCH_S
        return pixels


def whole(fmt: VideoFormat, packets: Sequence[Packet]) -> dict[int, NDArray[np.uint8]]:
    """Decode all, and give the picture of each packet by its sequence."""
    decoder = open_decoder(fmt, LIMITS)
    found = {}
    answers = [answer for packet in packets for answer in decoder.decode(packet)]
    for answer in [*answers, *decoder.flush()]:
        if answer.picture is not None:
            found[answer.packet.sequence] = upright_bgr(answer.picture, fmt.sample_aspect)
            answer.picture.close()
    decoder.close()
    return found


@cache
def stream(name: str) -> tuple[VideoFormat, tuple[Packet, ...], dict[int, NDArray[np.uint8]]]:
    fmt, packets = {"jpeg": motion_jpeg, "raw": raw_pictures}.get(name, lambda: source(name))()
    return fmt, tuple(packets), whole(fmt, packets)


@pytest.mark.parametrize("name", [*CODED, *OPEN, "jpeg", "raw"])
def test_every_packet_of_a_stream_gives_the_picture_that_decoding_all_of_it_gives(name: str) -> None:
    fmt, packets, truth = stream(name)
    ring = ring_of(fmt, packets)
    assert len(truth) >= len(packets) - 2
    for packet in packets:
        index = ring.index_of(packet.sequence)
        assert index is not None
        if packet.sequence in truth:
            assert np.array_equal(find(ring, index), truth[packet.sequence]), packet.sequence
        else:
            with pytest.raises(EvidenceError, match="cannot be decoded"):
                find(ring, index)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3), Fraction(8, 9)])
def test_a_picture_is_upright_with_square_samples(rotation: int, aspect: Fraction) -> None:
    fmt, packets, _ = stream("h264-b")
    turned = replace(fmt, rotation_degrees=rotation, sample_aspect=aspect)
    truth = whole(turned, packets)
    pixels = find(ring_of(turned, packets), 5)
    assert np.array_equal(pixels, truth[5])
    wide = (round(128 * aspect), 96)
    assert pixels.shape[:2] == (wide if rotation in {90, 270} else wide[::-1])


def test_parameter_sets_that_came_once_are_given_to_a_decoder_that_begins_later() -> None:
    fmt, packets, truth = stream("h264")
    ring = ring_of(fmt, sent_once(packets))
    assert np.array_equal(find(ring, 29), truth[29])


def test_new_parameters_in_mid_stream_go_with_the_packets_behind_them() -> None:
    fmt, packets, truth = stream("h264-mp4")
    other, others, other_truth = stream("h264-b")
    # The other stream's size is the same, its coding is not: with the parameters of the first it is refuse.
    behind = timed(others, start_s=EPOCH_S + 5, first=len(packets))
    behind[0] = replace(behind[0], extradata=other.extradata or b"")
    ring = ring_of(fmt, [*packets, *behind])
    last = max(sequence for sequence in truth)
    assert np.array_equal(find(ring, last), truth[last])
    index = ring.index_of(len(packets) + 3)
    assert index is not None
    assert np.array_equal(find(ring, index), other_truth[3])


def test_the_same_number_in_another_session_is_another_picture() -> None:
    fmt, packets, truth = stream("h264-b")
    ring = ring_of(fmt, packets)
    ring.begin(fmt)
    other = timed(packets[12:], start_s=EPOCH_S + 20)
    for packet in other:
        ring.feed(packet)
    index = ring.index_of(4)
    assert index is not None
    assert np.array_equal(find(ring, index), truth[16])
    assert np.array_equal(find(ring, 4), truth[4]), "what came before stays"
    assert ring.index_of(len(other)) is None, "of the session that is over no number is found"


def test_what_the_ring_has_dropped_is_not_found_whether_before_or_after_it_was_asked_for() -> None:
    fmt, packets, _ = stream("h264")
    ring = ring_of(fmt, packets, max_bytes=sum(len(packet.data) + 400 for packet in packets[12:]))
    assert ring.index_of(3) is None
    with pytest.raises(EvidenceError, match="not held"):
        PictureFinder(ring, 3, LIMITS)
    with pytest.raises(EvidenceError, match="not held"):
        PictureFinder(ring, 1000, LIMITS)
    finder = PictureFinder(ring, 20, LIMITS)
    ring.clear()
    while (pixels := finder.step()) is None:
        pass
    assert pixels.shape == (96, 128, 3)
    finder.close()
    finder.close()
    with pytest.raises(EvidenceError, match="not held"):
        PictureFinder(PacketRing(5, 1000), 0, LIMITS)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1\x65", b"\xff" * 500])
def test_a_packet_that_cannot_be_decoded_says_so_and_gives_no_other_picture(data: bytes) -> None:
    fmt, packets, _ = stream("h264")
    broken = list(packets)
    broken[5] = replace(broken[5], data=data)
    with pytest.raises(EvidenceError, match="cannot be decoded"):
        find(ring_of(fmt, broken), 5)


def test_a_broken_still_says_so_and_the_next_is_found() -> None:
    fmt, packets = motion_jpeg()
    packets[4] = replace(packets[4], data=packets[4].data[:200])
    packets[6] = replace(packets[6], data=b"no picture")
    ring = ring_of(fmt, packets)
    for index in (4, 6):
        with pytest.raises(EvidenceError, match="cannot be decoded"):
            find(ring, index)
    assert find(ring, 7).shape == (48, 64, 3)


def test_a_picture_that_is_too_large_is_refused() -> None:
    big = bytes(simplejpeg.encode_jpeg(np.zeros((2200, 64, 3), np.uint8), 50, "BGR"))
    ring = ring_of(VideoFormat(Codec.JPEG), timed([Packet(0, big, pts=0, keyframe=True)]))
    with pytest.raises(EvidenceError, match="cannot be decoded"):
        find(ring, 0)


@settings(max_examples=30, deadline=None)
@given(lost=st.sets(st.integers(1, 29), max_size=6), wanted=st.integers(0, 29))
def test_whatever_is_lost_on_the_way_no_other_packets_picture_is_given(lost: set[int], wanted: int) -> None:
    fmt, packets, truth = stream("h264")
    left = [
        replace(packet, discontinuity=packet.sequence - 1 in lost) for packet in packets if packet.sequence not in lost
    ]
    ring = ring_of(fmt, left)
    index = ring.index_of(wanted)
    if index is None:
        return
    key = wanted // 12 * 12
    assert not lost & set(range(key, wanted + 1)), "behind a gap the ring waits for a keyframe"
    assert np.array_equal(find(ring, index), truth[wanted])
