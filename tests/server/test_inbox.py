"""What waits for a decoder, and what is shed when it waits too long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_kinds import LetterKinds
from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.session.inbox import Inbox, InboxFullError, InboxLimits, ShedLevel, Taken

LIMITS = InboxLimits(max_packets=50, max_bytes=10_000, drop_disposable_after_s=0.4, jump_after_s=1.0)
LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME


def packet(sequence: int, kind: str, size: int = 100) -> Packet:
    """Build a packet whose kind is its first byte: K keyframe, P referred to, B not referred to."""
    data = kind.encode().ljust(size, b".")
    return Packet(sequence, data, keyframe=kind == "K", decode_only=kind.islower())


def inbox_of(kinds: str, now: float = 0.0, limits: InboxLimits = LIMITS, policy: DeliveryPolicy = LIVE) -> Inbox:
    """Build an inbox in which a packet of each kind waits since `now`; lower case: to be decoded only."""
    inbox = Inbox(limits, policy, LetterKinds())
    for sequence, kind in enumerate(kinds):
        inbox.put(packet(sequence, kind), now)
    return inbox


def sequences(taken: Taken) -> tuple[list[int], int | None]:
    """Tell what was shed and what is to be decoded."""
    assert all(reason is SkipReason.OVERLOAD for _, reason in taken.shed)
    return [packet.sequence for packet, _ in taken.shed], taken.packet and taken.packet.sequence


def test_an_empty_inbox_gives_nothing_to_do() -> None:
    assert inbox_of("").take(5.0) == Taken(None, [], False)


def test_packets_leave_in_order_while_the_decoder_keeps_up() -> None:
    inbox = inbox_of("KPB")
    assert len(inbox) == 3
    assert inbox.bytes == 300
    assert [sequences(inbox.take(0.3)) for _ in range(3)] == [([], 0), ([], 1), ([], 2)]
    assert inbox.bytes == len(inbox) == 0


def test_the_oldest_wait_is_told() -> None:
    inbox = inbox_of("K", now=1.0)
    inbox.put(packet(1, "P"), 2.0)
    assert inbox.oldest_wait(2.5) == 1.5
    inbox.take(2.5)
    assert inbox.oldest_wait(2.5) == 0.5
    inbox.take(2.5)
    assert inbox.oldest_wait(2.5) == 0.0


def test_above_the_first_threshold_pictures_that_nothing_refers_to_are_dropped() -> None:
    inbox = inbox_of("PBBPBP")
    assert sequences(inbox.take(0.5)) == ([], 0)
    assert inbox.level is ShedLevel.DISPOSABLE
    assert sequences(inbox.take(0.5)) == ([1, 2], 3)
    assert sequences(inbox.take(0.5)) == ([4], 5)


def test_dropping_goes_on_until_the_wait_is_half_the_threshold() -> None:
    inbox = inbox_of("P")
    for sequence, (kind, now) in enumerate([("B", 0.25), ("P", 0.26), ("B", 0.5), ("P", 0.5)], start=1):
        inbox.put(packet(sequence, kind), now)
    assert sequences(inbox.take(0.5)) == ([], 0)
    assert sequences(inbox.take(0.5)) == ([1], 2), "0.25 s is below the threshold, but above half of it"
    assert sequences(inbox.take(0.5)) == ([], 3)
    assert inbox.level is ShedLevel.NOTHING


def test_what_came_lately_is_not_dropped_for_what_waited_long() -> None:
    inbox = inbox_of("B")
    for sequence, kind in enumerate("BP", start=1):
        inbox.put(packet(sequence, kind), 0.45)
    assert sequences(inbox.take(0.5)) == ([0], 1)
    assert inbox.level is ShedLevel.NOTHING


def test_below_the_threshold_dropping_does_not_begin() -> None:
    assert sequences(inbox_of("BP").take(0.3)) == ([], 0)


def test_where_no_picture_refers_to_another_the_newest_one_is_left() -> None:
    assert sequences(inbox_of("BBBB").take(0.5)) == ([0, 1, 2], 3)


def test_above_the_second_threshold_the_newest_keyframe_is_next() -> None:
    inbox = inbox_of("PPKPKPP")
    assert sequences(inbox.take(1.1)) == ([0, 1, 2, 3], 4)
    assert inbox.level is ShedLevel.TO_KEYFRAME
    assert not inbox.awaits_keyframe


def test_without_a_keyframe_everything_goes_until_one_comes() -> None:
    inbox = inbox_of("PPB")
    assert inbox.take(1.1).keyframe_request
    inbox.put(packet(3, "P"), 1.2)
    inbox.put(packet(4, "B"), 1.2)
    assert sequences(inbox.take(1.2)) == ([3, 4], None)
    inbox.put(packet(5, "K"), 1.3)
    inbox.put(packet(6, "P"), 1.3)
    assert sequences(inbox.take(1.3)) == ([], 5)
    assert sequences(inbox.take(1.3)) == ([], 6)
    assert inbox.level is ShedLevel.NOTHING


def test_a_keyframe_is_asked_for_once_a_second_while_it_is_awaited() -> None:
    inbox = inbox_of("PP")
    asked = [inbox.take(1.1 + tenths / 10).keyframe_request for tenths in range(25)]
    assert [tenths for tenths, ask in enumerate(asked) if ask] == [0, 10, 20]
    inbox.put(packet(2, "K"), 4.0)
    assert not inbox.take(9.0).keyframe_request


def test_a_keyframe_that_waits_first_is_decoded_however_late_so_that_no_channel_starves() -> None:
    inbox = inbox_of("KPP")
    assert sequences(inbox.take(9.0)) == ([], 0)
    taken = inbox.take(9.0)
    assert sequences(taken) == ([1, 2], None)
    assert taken.keyframe_request


def test_jumps_go_on_until_the_wait_is_half_the_threshold() -> None:
    inbox = inbox_of("PK")
    assert sequences(inbox.take(1.1)) == ([0], 1)
    inbox.put(packet(2, "P"), 1.2)
    inbox.put(packet(3, "K"), 1.3)
    assert sequences(inbox.take(1.9)) == ([2], 3), "0.7 s is below the threshold, but above half of it"
    inbox.put(packet(4, "P"), 2.0)
    inbox.put(packet(5, "K"), 2.0)
    assert sequences(inbox.take(2.3)) == ([], 4)


def test_a_sender_is_not_believed_about_keyframes_where_the_bytes_are_read() -> None:
    class SharpKinds(LetterKinds):
        def is_keyframe(self, packet: Packet) -> bool:
            return packet.data[:1] == b"K"

    inbox = Inbox(LIMITS, LIVE, SharpKinds())
    lying = packet(1, "P")
    lying.keyframe = True
    for each in (packet(0, "P"), lying):
        inbox.put(each, 0.0)
    assert sequences(inbox.take(2.0)) == ([0, 1], None)


def test_a_live_channel_over_its_packets_jumps_at_once() -> None:
    limits = InboxLimits(4, 10_000, 0.4, 1.0)
    inbox = inbox_of("PKPPP", limits=limits)
    assert sequences(inbox.take(0.1)) == ([0], 1)


def test_a_live_channel_over_its_bounds_keeps_the_keyframe_alone_when_that_is_the_oldest() -> None:
    limits = InboxLimits(3, 10_000, 0.4, 1.0)
    inbox = inbox_of("KPPPP", limits=limits)
    assert inbox.awaits_keyframe
    taken = inbox.take(0.1)
    assert sequences(taken) == ([], 0)
    assert taken.keyframe_request
    assert sequences(inbox.take(0.1)) == ([1, 2, 3, 4], None)


def test_a_live_channel_over_its_bytes_without_a_keyframe_sheds_everything() -> None:
    limits = InboxLimits(50, 450, 0.4, 1.0)
    inbox = inbox_of("PPPPP", limits=limits)
    assert sequences(inbox.take(0.1)) == ([0, 1, 2, 3, 4], None)


def test_a_packet_larger_than_the_bound_is_taken_alone() -> None:
    for policy in (LIVE, EVERY_FRAME):
        inbox = inbox_of("", policy=policy)
        inbox.put(packet(0, "K", size=50_000), 0.0)
        assert sequences(inbox.take(0.1)) == ([], 0)


def test_the_bytes_of_many_shed_packets_are_let_go_before_they_are_told() -> None:
    inbox = inbox_of("")
    for sequence in range(500):
        inbox.put(packet(sequence, "P", size=1000), 0.0)
    assert len(inbox) == 500
    assert inbox.bytes <= LIMITS.max_bytes
    assert sequences(inbox.take(0.0)) == (list(range(500)), None)
    assert inbox.bytes == len(inbox) == 0


def test_a_flood_that_no_decoder_can_hear_of_ends_the_channel() -> None:
    inbox = inbox_of("", limits=InboxLimits(2, 1000, 0.4, 1.0))
    with pytest.raises(InboxFullError, match="shed and not yet told"):
        for sequence in range(20_000):
            inbox.put(packet(sequence, "P", size=1), 0.0)
    assert len(inbox) < 10_000


def test_a_recording_never_sheds_however_long_it_waits() -> None:
    inbox = inbox_of("PBBPB", policy=EVERY_FRAME)
    assert [sequences(inbox.take(99.0)) for _ in range(5)] == [([], sequence) for sequence in range(5)]


@pytest.mark.parametrize("limits", [InboxLimits(3, 10_000, 1, 1), InboxLimits(50, 350, 1, 1)])
def test_a_recording_over_its_bounds_has_exceeded_its_credits(limits: InboxLimits) -> None:
    inbox = inbox_of("KPP", limits=limits, policy=EVERY_FRAME)
    with pytest.raises(InboxFullError, match="packet 3 finds no room: 3 packets, 300 bytes wait") as caught:
        inbox.put(packet(3, "P"), 0.0)
    assert caught.value.reason == "INBOX_FULL"
    assert len(inbox) == 3


def test_packets_to_be_decoded_only_are_never_shed_and_keep_their_place() -> None:
    inbox = inbox_of("kpPbP")
    assert sequences(inbox.take(9.0)) == ([], 0)
    assert sequences(inbox.take(9.0)) == ([], 1)
    assert sequences(inbox.take(9.0)) == ([2], 3)
    assert sequences(inbox.take(9.0)) == ([4], None)


def test_packets_to_be_decoded_only_have_a_bound_of_their_own() -> None:
    inbox = inbox_of("k" * 60, policy=EVERY_FRAME)
    inbox.put(packet(60, "P"), 0.0)
    with pytest.raises(InboxFullError, match="to be decoded only"):
        for sequence in range(61, 200):
            inbox.put(packet(sequence, "k"), 0.0)
    assert inbox.bytes <= LIMITS.max_bytes + 100


def test_a_channel_that_turns_to_every_frame_stops_shedding() -> None:
    inbox = inbox_of("PP")
    inbox.take(2.0)
    inbox.set_policy(EVERY_FRAME)
    inbox.put(packet(2, "P"), 2.0)
    assert sequences(inbox.take(99.0)) == ([], 2)


def test_draining_gives_back_everything_in_order() -> None:
    inbox = inbox_of("pKPPPP", limits=InboxLimits(3, 10_000, 0.4, 1.0))
    assert [packet.sequence for packet in inbox.drain()] == [0, 1, 2, 3, 4, 5]
    assert len(inbox) == inbox.bytes == 0
    assert inbox.oldest_wait(9.0) == 0.0


@pytest.mark.parametrize("numbers", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, -1, 1), (1, 1, 2, 1)])
def test_limits_out_of_range_are_refused(numbers: tuple[int, int, float, float]) -> None:
    with pytest.raises(ValueError, match=r"room for a packet|must hold"):
        InboxLimits(*numbers)


def decodes_cleanly(history: list[tuple[str, bool]]) -> bool:
    """Whether, in sequence order, no packet was decoded whose reference was dropped."""
    broken = False
    for kind, decoded in history:
        if decoded:
            if kind == "K":
                broken = False
            elif broken:
                return False
        elif kind in "KP":
            broken = True
    return True


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("KPPPBBB"), st.integers(0, 300)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(0, 15)),
    ),
    max_size=200,
)


@settings(deadline=None)
@given(STEPS)
def test_whatever_comes_each_packet_leaves_once_in_order_within_bounds_and_nothing_broken_is_decoded(
    steps: list[tuple[str, int]],
) -> None:
    limits = InboxLimits(max_packets=8, max_bytes=1500, drop_disposable_after_s=0.4, jump_after_s=1.0)
    inbox = inbox_of("", limits=limits)
    kinds: list[str] = []
    left: list[tuple[int, bool]] = []
    now = 10.0

    def take() -> None:
        taken = inbox.take(now)
        left.extend((packet.sequence, False) for packet, _ in taken.shed)
        if taken.packet is not None:
            left.append((taken.packet.sequence, True))
        assert not taken.keyframe_request or inbox.awaits_keyframe

    for step, number in steps:
        if step == "wait":
            now += number / 10
        elif step == "take":
            for _ in range(number):
                take()
        else:
            inbox.put(packet(len(kinds), step, number), now)
            kinds.append(step)
        assert inbox.bytes <= 2 * 1500 + 300
        assert len(inbox) == len(kinds) - len(left)
    while len(inbox):
        take()
    assert [sequence for sequence, _ in left] == list(range(len(kinds)))
    assert decodes_cleanly([(kinds[sequence], decoded) for sequence, decoded in left])


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.05, 2.0), st.floats(0.1, 3.0))
def test_an_overloaded_live_channel_stays_fresh_and_is_not_starved(
    gop: int, gop_s: float, decode_every_s: float
) -> None:
    """A camera that sends groups of pictures, and a decoder that takes one packet every so often."""
    limits = InboxLimits(max_packets=100, max_bytes=10**6, drop_disposable_after_s=0.4, jump_after_s=1.0)
    inbox = inbox_of("", limits=limits)
    sent = decoded = 0
    next_take = 0.0
    received: dict[int, float] = {}
    while sent * gop_s / gop < 20 * max(gop_s, decode_every_s):
        now = sent * gop_s / gop
        while next_take <= now:
            if (taken := inbox.take(next_take).packet) is not None:
                decoded += 1
                # A keyframe is decoded however late; what follows it is not.
                limit_s = 1.0 if not taken.keyframe else max(gop_s, decode_every_s) + 1.0
                assert next_take - received[taken.sequence] <= limit_s + decode_every_s + 1e-6
            next_take += decode_every_s
        inbox.put(packet(sent, "PB"[sent % 2] if sent % gop else "K", size=1), now)
        received[sent] = now
        sent += 1
    assert decoded >= 3


def test_packets_sent_again_after_a_lost_state_find_room_and_are_not_shed() -> None:
    limits = InboxLimits(max_packets=4, max_bytes=1 << 20, drop_disposable_after_s=1.0, jump_after_s=2.0)
    inbox = Inbox(limits, DeliveryPolicy.EVERY_FRAME, LetterKinds())
    inbox.expect_again()

    for sequence in range(20):
        inbox.put(Packet(sequence, b"x"), now=0.0)

    taken = [inbox.take(now=9.0) for _ in range(20)]
    assert [one.packet.sequence for one in taken if one.packet is not None] == list(range(20))
    assert not any(one.shed for one in taken)
