"""No broken picture passes for a clean one, whatever is missing or damaged."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_video import RECIPES, clip, run, truth
from vedette_server.data.outcome import SkipReason
from vedette_server.decode.bitstream.inspect import open_reader

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet
    from vedette_server.decode.video import VideoDecoder

# Whose headers tell a lost picture that nothing refers to from one that others need.
COUNTED = ["h264-b", "h264-b-flat", "h264-open", "h264-mp4", "hevc-b", "hevc-open", "hevc-mp4"]
# Whose decoder shows damage inside a packet; FFmpeg's HEVC decoder does not look for it.
SELF_CHECKING = [
    "h264",
    "h264-plain",
    "h264-plain-b",
    "h264-b-flat",
    "h264-refresh",
    "h264-mp4",
    "av1",
    "av1-b",
    "vp9",
    "mpeg4",
    "mpeg4-b",
]


def units(name: str) -> list:
    source = clip(name)
    reader = open_reader(source.fmt.codec, source.fmt.extradata)
    return [reader.read(packet.data) for packet in source.packets]


def assert_clean_pictures_are_true(name: str, clean: dict[int, str]) -> None:
    expected = truth(name)
    assert {n: expected[n] for n in clean} == clean


@pytest.mark.parametrize("name", RECIPES)
def test_without_any_one_packet_no_broken_picture_is_clean_and_the_next_group_is_whole(name: str) -> None:
    source = clip(name)
    keys = [n for n, unit in enumerate(units(name)) if unit.keyframe]
    for lost in range(len(source.packets)):
        outcome = run(source, source.packets[:lost] + source.packets[lost + 1 :])
        assert_clean_pictures_are_true(name, outcome.clean)
        following = next((key for key in keys if key > lost), None)
        if following is not None:
            assert following in outcome.clean or name == "h264-refresh"
            # Gradual refresh is whole six pictures after its start.
            assert source.packets[-1].sequence in outcome.clean or (name == "h264-refresh" and lost > 10)


@pytest.mark.parametrize("name", RECIPES)
def test_started_in_mid_group_nothing_is_clean_before_the_first_keyframe(name: str) -> None:
    source = clip(name)
    keys = [n for n, unit in enumerate(units(name)) if unit.keyframe]
    for start in range(1, len(source.packets)):
        outcome = run(source, source.packets[start:])
        assert_clean_pictures_are_true(name, outcome.clean)
        first = next((key for key in keys if key >= start), None)
        if first is not None:
            assert first in outcome.clean or name == "h264-refresh"
            assert all(n >= first for n in outcome.clean)
        else:
            assert not outcome.clean


@pytest.mark.parametrize(
    "name", ["h264", "h264-b", "hevc", "hevc-b", "hevc-open", "h264-open", "av1-b", "vp9", "mpeg4-b"]
)
def test_without_any_run_of_packets_no_broken_picture_is_clean(name: str) -> None:
    source = clip(name)
    rng = random.Random(11)
    for _ in range(25):
        lost = rng.randrange(1, len(source.packets))
        length = rng.choice([2, 3, 5, 11, 12, 13])
        outcome = run(source, source.packets[:lost] + source.packets[lost + length :])
        assert_clean_pictures_are_true(name, outcome.clean)


def test_a_lost_run_as_long_as_a_group_is_seen_by_its_time() -> None:
    """The counts go on as if nothing were missing: from the fifth of one group to the sixth of the next."""
    for name in ("h264", "hevc"):
        source = clip(name)
        outcome = run(source, source.packets[:17] + source.packets[29:])
        assert_clean_pictures_are_true(name, outcome.clean)
        assert 29 not in outcome.clean


@pytest.mark.parametrize("name", COUNTED)
def test_a_lost_picture_that_nothing_refers_to_costs_only_itself(name: str) -> None:
    source = clip(name)
    disposable = [n for n, unit in enumerate(units(name)) if unit.disposable]
    assert len(disposable) >= 5
    for lost in disposable:
        outcome = run(source, source.packets[:lost] + source.packets[lost + 1 :])
        assert outcome.clean == {n: p for n, p in truth(name).items() if n != lost}


@pytest.mark.parametrize("name", [*COUNTED, "av1", "av1-b", "vp9-layers", "mpeg4-b", "mpeg4-mp4"])
def test_shedding_all_that_nothing_refers_to_changes_no_other_picture(name: str) -> None:
    source = clip(name)
    disposable = {n for n, unit in enumerate(units(name)) if unit.disposable}
    assert len(disposable) >= 5

    def shed(decoder: VideoDecoder, packet: Packet) -> list:
        if packet.sequence in disposable:
            return list(decoder.drop(packet, SkipReason.OVERLOAD))
        return list(decoder.decode(packet))

    outcome = run(source, source.packets, shed)
    assert outcome.clean == {n: p for n, p in truth(name).items() if n not in disposable}
    assert {reason for reason, _ in outcome.skipped.values()} == {"OVERLOAD"}
    times = {packet.sequence: packet.pts for packet in source.packets}
    assert [times[n] for n in outcome.order] == sorted(times.values())


@pytest.mark.parametrize("name", RECIPES)
def test_shedding_a_picture_that_others_need_is_answered_in_place_and_breaks_them_until_the_next_start(
    name: str,
) -> None:
    source = clip(name)
    needed = [n for n, unit in enumerate(units(name)) if not unit.disposable and n > 0]
    for shed in needed[::3]:

        def step(decoder: VideoDecoder, packet: Packet, shed: int = shed) -> list:
            if packet.sequence == shed:
                return list(decoder.drop(packet, SkipReason.STALE))
            return list(decoder.decode(packet))

        outcome = run(source, source.packets, step)
        assert outcome.skipped[shed][0] == "STALE"
        assert_clean_pictures_are_true(name, outcome.clean)
        assert {reason for n, (reason, _) in outcome.skipped.items() if n != shed} <= {"LOST_REFERENCE"}


@pytest.mark.parametrize(("name", "at_most"), [("h264-b", 1), ("hevc-b", 9), ("av1", 1), ("vp9", 1), ("mpeg4-b", 1)])
def test_shedding_up_to_the_next_keyframe_soon_answers_what_the_decoder_held(name: str, at_most: int) -> None:
    source = clip(name)
    decoder = source.decoder()
    needed = next(n for n, unit in enumerate(units(name)) if n >= 6 and not unit.disposable)
    answers = [a for packet in source.packets[:needed] for a in decoder.decode(packet)]
    for number in range(at_most):
        # The same packet again and again: a group of pictures that does not end.
        shed = replace(source.packets[needed], sequence=100 + number)
        answers += decoder.drop(shed, SkipReason.OVERLOAD)
    assert {a.packet.sequence for a in answers if a.picture is not None} == set(range(needed))


@pytest.mark.parametrize("name", ["h264", "hevc", "av1", "vp9", "mpeg4"])
def test_a_discontinuity_is_believed_until_the_next_keyframe(name: str) -> None:
    source = clip(name)
    packets = list(source.packets)
    packets[5] = replace(packets[5], discontinuity=True)
    outcome = run(source, packets)
    assert sorted(outcome.skipped) == list(range(5, 12))
    assert outcome.skipped[5] == ("LOST_REFERENCE", "the client says that packets are missing")


@pytest.mark.parametrize("name", [*SELF_CHECKING, "hevc-mp4"])
def test_a_packet_cut_off_anywhere_is_never_clean_nor_what_refers_to_it(name: str) -> None:
    source = clip(name)
    rng = random.Random(5)
    for _ in range(30):
        hit = rng.randrange(len(source.packets))
        whole = source.packets[hit].data
        cut = replace(source.packets[hit], data=whole[: rng.randrange(max(len(whole) - 8, 1))])
        outcome = run(source, [*source.packets[:hit], cut, *source.packets[hit + 1 :]])
        assert_clean_pictures_are_true(name, outcome.clean)
        assert outcome.skipped[hit][0] in {"UNDECODABLE", "NO_FRAME"}


@pytest.mark.parametrize("name", ["h264-plain-b", "mpeg4-b"])
def test_a_damaged_picture_that_nothing_refers_to_leaves_no_trace_in_clean_ones(name: str) -> None:
    source = clip(name)
    for hit in [n for n, unit in enumerate(units(name)) if unit.disposable]:
        whole = source.packets[hit].data
        for length in (len(whole) // 3, len(whole) // 2, len(whole) - 4):
            cut = replace(source.packets[hit], data=whole[:length])
            outcome = run(source, [*source.packets[:hit], cut, *source.packets[hit + 1 :]])
            assert_clean_pictures_are_true(name, outcome.clean)


@pytest.mark.parametrize(
    ("name", "picture"),
    [("h264-plain", b"\0\0\1\x65"), ("mpeg4", b"\0\0\1\xb3"), ("av1", b"\x32")],
)
def test_a_replaced_decoder_knows_the_parameter_sets_that_came_only_once(name: str, picture: bytes) -> None:
    source = clip(name)
    packets = list(source.packets)
    for key in [n for n, unit in enumerate(units(name)) if unit.keyframe and n]:
        whole = packets[key].data
        packets[key] = replace(packets[key], data=whole[whole.index(picture) :])
        assert not open_reader(source.fmt.codec).read(packets[key].data).parameters
    packets[5] = replace(packets[5], data=packets[5].data[: len(packets[5].data) // 2])
    outcome = run(source, packets)
    assert sorted(outcome.skipped) == list(range(5, 12))
    assert_clean_pictures_are_true(name, outcome.clean)


@pytest.mark.parametrize(("name", "share"), [("h264", 0.75), ("av1-b", 0.6), ("vp9", 0.75), ("mpeg4", 0.4)])
def test_most_flipped_bits_are_seen_and_what_refers_to_a_seen_one_is_not_clean(name: str, share: float) -> None:
    source = clip(name)
    rng = random.Random(5)
    seen, tries = 0, 40
    for _ in range(tries):
        hit = rng.randrange(len(source.packets))
        data = bytearray(source.packets[hit].data)
        at = rng.randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
        flipped = replace(source.packets[hit], data=bytes(data))
        outcome = run(source, [*source.packets[:hit], flipped, *source.packets[hit + 1 :]])
        if hit not in outcome.clean:
            seen += 1
            assert_clean_pictures_are_true(name, outcome.clean)
    assert seen >= share * tries


def test_the_detail_of_a_broken_picture_is_in_words() -> None:
    source = clip("h264")
    cut = replace(source.packets[4], data=source.packets[4].data[:-40])
    outcome = run(source, [*source.packets[:4], cut, *source.packets[5:]])
    assert "error while decoding MB" in outcome.skipped[4][1]
    assert outcome.skipped[5][1].startswith("a picture before it is broken: error while decoding MB")
