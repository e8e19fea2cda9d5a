"""What is kept for a resume, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from support_fakeserver import Toy
from support_toyvideo import packet, stills, video
from vedette.v1 import stream_pb2
from vedette_client.buffer import Kept, ReplayBuffer

if TYPE_CHECKING:
    from vedette_client.sources.base import SourcePacket


def filled(packets: list[SourcePacket], *, intra: bool = False, max_packets: int = 1000) -> ReplayBuffer:
    buffer = ReplayBuffer(max_packets, 1 << 30, intra=intra)
    for sequence, item in enumerate(packets):
        buffer.append(Kept(sequence, item))
    return buffer


def first_kept(buffer: ReplayBuffer) -> int:
    return buffer.from_sequence(0)[0].sequence


def decodes(packets: list[SourcePacket], first: int) -> set[int]:
    """Which sequence numbers a fresh decoder can decode when it starts at `first`."""
    toy, good = Toy(delay=0), set()
    for sequence, item in list(enumerate(packets))[first:]:
        wire = stream_pb2.Packet(sequence=sequence, data=item.data, keyframe=item.keyframe)
        good |= {p.sequence for p, ok in toy.feed(wire) if ok}
    return good


def test_a_group_is_dropped_when_the_next_one_can_be_decoded_without_it() -> None:
    closed = video(groups=3, length=4, b_pictures=0)
    buffer = filled(closed[:6])
    for sequence in range(5):
        buffer.settle(sequence)
    assert first_kept(buffer) == 4


def test_a_group_is_kept_while_a_leading_picture_of_the_next_is_not_settled() -> None:
    # I0 P3 b1 b2 | I6 b4 b5 P9
    packets = video(groups=2, length=6)[:8]
    assert [p.pts for p in packets] == [0, 3, 1, 2, 6, 4, 5, 9]
    buffer = filled(packets)
    for sequence in (0, 1, 2, 3, 4, 5):
        buffer.settle(sequence)
    assert first_kept(buffer) == 0
    buffer.settle(6)
    assert first_kept(buffer) == 4


def test_a_group_is_kept_while_a_leading_picture_of_the_next_may_still_come() -> None:
    packets = video(groups=2, length=6)[:5]
    buffer = filled(packets)
    for sequence in range(5):
        buffer.settle(sequence)
    assert first_kept(buffer) == 0


def test_without_presentation_times_one_more_group_is_kept() -> None:
    packets = video(groups=3, length=3, b_pictures=0)
    for item in packets:
        item.pts = None
    buffer = filled(packets)
    for sequence in range(len(packets)):
        buffer.settle(sequence)
    assert first_kept(buffer) == 3


def test_of_stills_only_those_without_a_verdict_are_kept() -> None:
    buffer = filled(stills(5), intra=True)
    for sequence in (0, 1, 2):
        buffer.settle(sequence)
    assert first_kept(buffer) in {2, 3}


def test_a_packet_is_settled_once() -> None:
    buffer = filled(stills(2), intra=True)
    assert buffer.settle(0) is not None
    assert buffer.settle(0) is None
    assert buffer.settle(7) is None


def test_the_bound_in_packets_counts_those_without_a_verdict() -> None:
    buffer = filled(video(groups=1, length=12, b_pictures=0), max_packets=12)
    assert buffer.full
    buffer.settle(5)
    assert not buffer.full


def test_the_bound_in_bytes_leaves_room_for_what_a_decoder_holds_back() -> None:
    buffer = ReplayBuffer(1000, 100)
    for sequence in range(31):
        buffer.append(Kept(sequence, packet(sequence, (), keyframe=sequence == 0, padding=50)))
    assert not buffer.full
    buffer.append(Kept(31, packet(31, (), padding=50)))
    assert buffer.full


def test_above_the_bound_what_is_settled_goes_and_the_rest_cannot_be_restarted() -> None:
    packets = video(groups=1, length=12, b_pictures=0)
    buffer = ReplayBuffer(4, 1 << 30)
    for sequence, item in enumerate(packets):
        buffer.append(Kept(sequence, item))
        if sequence >= 2:
            buffer.settle(sequence - 2)
    assert len(buffer) <= 4
    entries, lost = buffer.from_start()
    assert entries == []
    assert [entry.sequence for entry in lost] == [10, 11]
    assert buffer.unsettled == 0
    assert len(buffer) == 0
    assert buffer.bytes == 0


def test_a_group_that_lost_its_keyframe_can_never_be_started() -> None:
    buffer = ReplayBuffer(1, 1 << 30)
    for sequence, item in enumerate(video(groups=1, length=3, b_pictures=0)):
        buffer.append(Kept(sequence, item))
        buffer.settle(sequence)
    buffer.append(Kept(3, packet(3, (2,))))
    entries, lost = buffer.from_start()
    assert entries == []
    assert [entry.sequence for entry in lost] == [3]


def test_everything_up_to_a_packet_is_settled_at_once() -> None:
    buffer = filled(video(groups=2, length=6))
    buffer.settle(1)
    assert [entry.sequence for entry in buffer.settle_through(3)] == [0, 2, 3]


@given(data=st.data(), groups=st.integers(1, 5), length=st.sampled_from([3, 6, 9]), b_pictures=st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_a_fresh_decoder_can_decode_all_that_has_no_verdict_and_all_to_come(
    data: st.DataObject, groups: int, length: int, b_pictures: int
) -> None:
    packets = video(groups, length, b_pictures=b_pictures, open_groups=data.draw(st.booleans()))
    whole = decodes(packets, 0)
    buffer = ReplayBuffer(1000, 1 << 30)
    open_ones: list[int] = []
    for sequence, item in enumerate(packets):
        buffer.append(Kept(sequence, item))
        open_ones.append(sequence)
        for _ in range(data.draw(st.integers(0, 3))):
            if open_ones:
                settled = open_ones.pop(data.draw(st.integers(0, min(2, len(open_ones) - 1))))
                assert buffer.settle(settled) is not None
        entries, lost = buffer.from_start()
        assert not lost
        wanted = set(open_ones) | set(range(sequence + 1, len(packets)))
        assert wanted <= set(range(entries[0].sequence, len(packets)))
        assert wanted & whole <= decodes(packets, entries[0].sequence)
        assert len(buffer) <= 3 * length + 3 or len(open_ones) > length
