"""A sender that may lose nothing is slowed, and never stuck."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.session.credits import CreditExceededError, Credits, CreditWindow


def test_the_first_credits_are_one_window() -> None:
    window = CreditWindow(4, 1000)
    assert window.to_tell() == Credits(3, 1000)
    assert window.to_tell() is None


def test_credits_go_on_from_the_next_packet_of_a_resumed_session() -> None:
    assert CreditWindow(4, 1000, next_sequence=100).to_tell() == Credits(103, 1000)


def test_credit_is_given_back_when_a_decoder_takes_the_packet() -> None:
    window = CreditWindow(4, 1000)
    window.to_tell()
    window.received(0, 300)
    assert window.to_tell() is None
    assert (window.waiting_packets, window.waiting_bytes) == (1, 300)
    window.taken(300)
    assert window.to_tell() == Credits(4, 1300)


def test_little_is_not_worth_telling() -> None:
    window = CreditWindow(16, 16_000, max_packet_bytes=1000)
    window.to_tell()
    told = []
    for sequence in range(16):
        window.received(sequence, 100)
        window.taken(100)
        told.append(window.to_tell())
    assert [news is not None for news in told] == [False, False, False, True] * 4


def test_a_packet_beyond_the_credit_is_refused() -> None:
    window = CreditWindow(2, 1000)
    window.received(0, 10)
    window.received(1, 10)
    with pytest.raises(CreditExceededError, match="packet 2 is beyond the credit, which ends with packet 1") as caught:
        window.received(2, 10)
    assert caught.value.reason == "CREDIT_EXCEEDED"


def test_bytes_beyond_the_credit_are_refused() -> None:
    window = CreditWindow(10, 1000)
    window.received(0, 900)
    with pytest.raises(CreditExceededError, match="1001 bytes of 1000 allowed"):
        window.received(1, 101)


def test_the_largest_packet_fits_although_the_window_was_asked_to_be_smaller() -> None:
    window = CreditWindow(10, 1000, max_packet_bytes=5000)
    assert window.bytes == 5000
    window.received(0, 5000)


def test_packets_sent_again_to_be_decoded_only_are_limited_by_their_bytes() -> None:
    window = CreditWindow(2, 1000, next_sequence=50)
    for sequence in range(40, 50):
        window.received(sequence, 100)
    assert window.granted_through_sequence == 51
    with pytest.raises(CreditExceededError):
        window.received(50, 1)
    for _ in range(10):
        window.taken(100)
    assert window.to_tell() == Credits(51, 2000)
    window.received(50, 1)
    window.received(51, 1)
    with pytest.raises(CreditExceededError):
        window.received(52, 1)


def test_packets_that_wait_from_an_earlier_connection_count() -> None:
    window = CreditWindow(4, 1000, next_sequence=10, waiting_packets=3, waiting_bytes=600)
    assert window.to_tell() == Credits(10, 400)
    for _ in range(3):
        window.taken(200)
    assert window.to_tell() == Credits(13, 1000)


def test_more_waiting_than_a_window_is_worked_off_before_there_is_credit() -> None:
    window = CreditWindow(2, 100, next_sequence=10, waiting_packets=4, waiting_bytes=400)
    assert window.to_tell() == Credits(9, 0)
    for _ in range(3):
        window.taken(100)
    assert window.to_tell() == Credits(10, 0)
    window.taken(100)
    assert window.to_tell() == Credits(11, 100)


@pytest.mark.parametrize(("packets", "size"), [(0, 1), (1, 0)])
def test_a_window_that_lets_nothing_pass_is_refused(packets: int, size: int) -> None:
    with pytest.raises(ValueError, match="lets nothing pass"):
        CreditWindow(packets, size)


@settings(deadline=None)
@given(
    packets=st.integers(1, 9),
    window_bytes=st.integers(1, 3000),
    max_packet_bytes=st.integers(1, 3000),
    sizes=st.lists(st.integers(0, 3000), max_size=60),
    replayed=st.integers(0, 12),
    greed=st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_a_sender_that_keeps_to_its_credits_sends_everything_and_never_has_more_than_a_window_waiting(
    packets: int, window_bytes: int, max_packet_bytes: int, sizes: list[int], replayed: int, greed: list[bool]
) -> None:
    """The sender sends, the decoder takes, in any order; whoever cannot leaves it to the other."""
    first = 20
    window = CreditWindow(packets, window_bytes, max_packet_bytes=max_packet_bytes, next_sequence=first)
    known = window.to_tell()
    assert known is not None
    unsent = deque(enumerate((min(size, max_packet_bytes) for size in sizes), start=first - replayed))
    waiting: deque[tuple[int, int]] = deque()
    sent_bytes = turn = 0
    while unsent or waiting:
        may_send = bool(unsent) and (
            unsent[0][0] <= known.send_through_sequence and sent_bytes + unsent[0][1] <= known.send_through_bytes
        )
        assert may_send or waiting, f"stuck before a packet of {unsent[0][1]} bytes with {known}"
        turn += 1
        if may_send and (greed[turn % len(greed)] or not waiting):
            waiting.append(unsent.popleft())
            sent_bytes += waiting[-1][1]
            window.received(*waiting[-1])
        else:
            window.taken(waiting.popleft()[1])
        told = window.to_tell()
        if told is not None:
            assert told.send_through_sequence >= known.send_through_sequence
            assert told.send_through_bytes >= known.send_through_bytes
            known = told
        assert sum(sequence >= first for sequence, _ in waiting) <= packets
        assert sum(size for _, size in waiting) <= max(window_bytes, max_packet_bytes)
