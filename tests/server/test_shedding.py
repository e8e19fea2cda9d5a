"""What shedding knows of packets, and what an inbox makes of it with real streams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support_video import clip
from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.decode.bitstream.inspect import open_reader
from vedette_server.decode.shedding import PacketKinds
from vedette_server.session.inbox import Inbox, InboxLimits, ShedLevel

LIMITS = InboxLimits(max_packets=64, max_bytes=1 << 24, drop_disposable_after_s=0.3, jump_after_s=10.0)
SOON = InboxLimits(max_packets=64, max_bytes=1 << 24, drop_disposable_after_s=0.3, jump_after_s=1.0)


def shed_at_level_2(packets: list[Packet], fmt: VideoFormat) -> set[int]:
    """Let packets wait long enough for level 2, and tell which are dropped."""
    inbox = Inbox(LIMITS, DeliveryPolicy.LIVE, PacketKinds(fmt))
    for packet in packets:
        inbox.put(packet, 0.0)
    # The first keyframe is taken before there is any hurry: the test for disposable pictures never sees it.
    assert inbox.take(0.0).packet is packets[0]
    dropped: set[int] = set()
    while len(inbox):
        dropped |= {packet.sequence for packet, _ in inbox.take(5.0).shed}
    assert inbox.level is not ShedLevel.TO_KEYFRAME
    return dropped


def disposable(packets: list[Packet], fmt: VideoFormat) -> set[int]:
    """Tell which packets nothing refers to, but the newest one."""
    reader = open_reader(fmt.codec, fmt.extradata)
    return {packet.sequence for packet in packets if reader.read(packet.data).disposable}


@pytest.mark.parametrize("name", ["h264-b", "hevc-b", "h264-b-flat"])
def test_parameter_sets_in_the_stream_itself_are_enough_to_see_what_can_be_left_out(name: str):
    source = clip(name)
    packets = list(source.packets)
    fmt = replace(source.fmt, extradata=b"")
    expected = disposable(packets, fmt)
    assert len(expected) >= 5

    assert shed_at_level_2(packets, fmt) == expected - {packets[-1].sequence}


def test_a_reader_that_missed_the_beginning_takes_what_it_cannot_read_for_needed():
    source = clip("h264-b")
    kinds = PacketKinds(replace(source.fmt, extradata=b""))
    some = next(packet for packet in source.packets if packet.sequence in disposable(list(source.packets), source.fmt))
    assert not kinds.is_disposable(some)
    kinds.learn(source.packets[0])
    assert kinds.is_disposable(some)


def test_a_new_decoder_configuration_holds_from_its_packet_on():
    source = clip("h264-b")
    kinds = PacketKinds(replace(source.fmt, extradata=b""))
    first = replace(source.packets[0], keyframe=False, extradata=source.packets[0].data)
    kinds.learn(first)
    some = next(packet for packet in source.packets if packet.sequence in disposable(list(source.packets), source.fmt))
    assert kinds.is_disposable(some)


def test_stills_that_nobody_called_keyframes_do_not_black_out():
    inbox = Inbox(SOON, DeliveryPolicy.LIVE, PacketKinds(VideoFormat(Codec.JPEG)))
    for sequence in range(3):
        inbox.put(Packet(sequence, b"still"), 0.0)
    late = inbox.take(9.0)
    assert late.packet is not None
    assert late.packet.sequence == 2
    for sequence in range(3, 6):
        inbox.put(Packet(sequence, b"still"), 9.0)
    assert not inbox.awaits_keyframe
    assert [inbox.take(9.0).packet is not None for _ in range(3)] == [True] * 3


def test_video_whose_sender_names_no_keyframe_goes_on_at_the_next_one_all_the_same():
    source = clip("h264-b")
    packets = [replace(packet, keyframe=False) for packet in source.packets]
    starts = [packet.sequence for packet in source.packets if packet.keyframe]
    assert len(starts) >= 2
    inbox = Inbox(SOON, DeliveryPolicy.LIVE, PacketKinds(source.fmt))
    for packet in packets[1:5]:
        inbox.put(packet, 0.0)
    assert inbox.take(9.0).packet is None
    for packet in packets[5 : starts[1] + 2]:
        inbox.put(packet, 9.0)
    taken = inbox.take(9.0).packet
    assert taken is not None
    assert taken.sequence == starts[1]
