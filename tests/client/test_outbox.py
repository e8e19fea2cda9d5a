"""Packets that wait to be sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support_toyvideo import packet, stills, video
from vedette_client.outbox import Outbox


def outbox(max_packets: int = 8, max_wait_s: float = 100.0, *, intra: bool = False) -> Outbox:
    return Outbox(max_packets, 1 << 20, max_wait_s, intra=intra)


def test_what_waits_leaves_in_order() -> None:
    box = outbox()
    for item in video(groups=1, length=3):
        box.put(item, 0.0)
    first = box.take()
    assert first.packet.keyframe
    assert not first.discontinuity
    assert len(box) == 0


def test_it_is_full_at_its_bound() -> None:
    box = outbox(2)
    box.put(packet(0, ()), 0.0)
    assert not box.full
    box.put(packet(1, ()), 0.0)
    assert box.full


def test_a_live_stream_drops_back_to_its_newest_keyframe() -> None:
    box = outbox(8)
    for item in video(groups=3, length=4, b_pictures=0)[:9]:
        box.put_live(item, 0.0)
    first = box.take()
    assert first.packet.pts == 8
    assert first.dropped_before == 8
    assert first.discontinuity
    assert box.dropped_total == 8


def test_without_a_keyframe_a_live_stream_drops_everything_up_to_the_next() -> None:
    box = outbox(4)
    packets = video(groups=2, length=8, b_pictures=0)
    dropped = [box.put_live(item, 0.0) for item in packets[:8]]
    assert dropped == [0, 0, 0, 0, 5, 1, 1, 1]
    assert len(box) == 0
    box.put_live(packets[8], 0.0)
    first = box.take()
    assert (first.packet.pts, first.dropped_before, first.discontinuity) == (8, 8, True)


def test_a_live_packet_does_not_wait_for_ever() -> None:
    box = outbox(100, max_wait_s=1.0)
    packets = video(groups=2, length=4, b_pictures=0)
    for item in packets[:4]:
        box.put_live(item, 0.0)
    assert box.put_live(packets[4], 2.0) == 4
    assert box.take().packet.pts == 4


def test_of_stills_only_the_oldest_go() -> None:
    box = outbox(3, intra=True)
    for item in stills(5):
        box.put_live(item, 0.0)
    assert [box.take().packet.pts for _ in range(3)] == [2, 3, 4]


def test_a_lone_packet_above_the_bound_in_bytes_is_sent() -> None:
    box = Outbox(8, 10, 1.0)
    assert box.put_live(packet(0, (), keyframe=True, padding=100), 0.0) == 0
    assert len(box) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.7])), max_size=60))
def test_every_packet_is_taken_or_counted_as_dropped(steps: list[tuple[bool, int, float]]) -> None:
    box = outbox(5, max_wait_s=1.0)
    now_s, told, taken = 0.0, 0, 0
    for pts, (keyframe, takes, later_s) in enumerate(steps):
        now_s += later_s
        box.put_live(packet(pts, (), keyframe=keyframe), now_s)
        assert len(box) <= 5
        for _ in range(takes):
            if box:
                waiting = box.take()
                told += waiting.dropped_before
                taken += 1
                assert waiting.discontinuity or not waiting.dropped_before
    while box:
        told += box.take().dropped_before
        taken += 1
    assert taken + box.dropped_total == len(steps)
    assert told <= box.dropped_total
