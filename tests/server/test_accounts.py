"""Every packet gets exactly one verdict, and the totals say so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.outcome import SkipReason
from vedette_server.session.accounts import Account, AccountingError


def test_a_new_account_is_closed_and_empty() -> None:
    account = Account()
    snapshot = account.snapshot()
    assert account.closed
    assert snapshot.closed
    assert snapshot.packets_received == snapshot.verdicts == snapshot.skipped_total == 0
    assert account.settled_through is None


def test_totals_tell_what_became_of_each_packet() -> None:
    account = Account()
    for sequence in range(5):
        account.receive(sequence, 100 + sequence)
    account.analyse(1)
    account.skip(0, SkipReason.STALE)
    account.skip(3, SkipReason.STALE)
    account.skip(2, SkipReason.OVERLOAD)
    account.drop_by_client(7)
    account.decode_picture()
    account.decode_picture(2)
    account.number_verdict(4)
    snapshot = account.snapshot()
    assert snapshot.packets_received == 5
    assert snapshot.bytes_received == 510
    assert snapshot.packets_pending == account.pending == 1
    assert snapshot.analysed == 1
    assert snapshot.skipped == {SkipReason.STALE: 2, SkipReason.OVERLOAD: 1}
    assert snapshot.skipped_total == 3
    assert snapshot.client_dropped == 7
    assert snapshot.pictures_decoded == 3
    assert snapshot.verdicts == 4
    assert not account.closed
    assert account.pending_sequences() == [4]
    assert account.is_pending(4)
    assert not account.is_pending(3)


def test_packets_to_be_decoded_only_are_counted_apart() -> None:
    account = Account(first_sequence=10)
    account.receive_decode_only(8, 500)
    account.receive_decode_only(9, 500)
    snapshot = account.snapshot()
    assert snapshot.decode_only == 2
    assert snapshot.packets_received == snapshot.bytes_received == 0
    assert snapshot.closed


def test_a_packet_without_its_verdict_cannot_come_to_be_decoded_only() -> None:
    account = Account()
    account.receive(0, 1)
    with pytest.raises(AccountingError, match=r"packet 0 .* no verdict yet"):
        account.receive_decode_only(0, 1)


def test_a_snapshot_does_not_change_afterwards() -> None:
    account = Account()
    account.receive(0, 1)
    account.receive(1, 1)
    account.skip(0, SkipReason.STALE)
    snapshot = account.snapshot()
    account.skip(1, SkipReason.STALE)
    assert snapshot.skipped == {SkipReason.STALE: 1}
    assert snapshot.packets_pending == 1
    with pytest.raises(TypeError):
        snapshot.skipped[SkipReason.STALE] = 5  # type: ignore[index]


def test_a_second_verdict_is_a_bug() -> None:
    account = Account()
    account.receive(0, 1)
    account.analyse(0)
    for judge in (lambda: account.analyse(0), lambda: account.skip(0, SkipReason.STALE)):
        with pytest.raises(AccountingError, match="packet 0 was judged, but already has its verdict"):
            judge()
    assert account.snapshot().analysed == 1
    assert account.snapshot().skipped_total == 0


def test_a_verdict_for_a_packet_that_never_came_is_a_bug() -> None:
    with pytest.raises(AccountingError, match="packet 3 was judged, but was never received"):
        Account().skip(3, SkipReason.STALE)


def test_a_packet_received_twice_is_a_bug() -> None:
    account = Account()
    account.receive(4, 1)
    for sequence in (4, 3):
        with pytest.raises(AccountingError, match=f"packet {sequence} was received after packet 4"):
            account.receive(sequence, 1)


def test_settled_through_stops_before_the_oldest_packet_without_a_verdict() -> None:
    account = Account()
    for sequence in range(3):
        account.receive(sequence, 1)
    account.analyse(1)
    assert account.settled_through is None
    account.analyse(0)
    assert account.settled_through == 1
    account.analyse(2)
    assert account.settled_through == 2


def test_a_session_that_starts_in_mid_count_has_settled_what_is_before_it() -> None:
    assert Account(first_sequence=10).settled_through == 9


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 30), st.sampled_from([None, *SkipReason]))),
        max_size=120,
    )
)
def test_received_is_pending_and_analysed_and_skipped_after_every_call(
    steps: list[tuple[int, SkipReason | None] | None],
) -> None:
    account = Account()
    judged: set[int] = set()
    received = 0
    for step in steps:
        if step is None:
            account.receive(received, 1)
            received += 1
        else:
            sequence, reason = step
            allowed = sequence < received and sequence not in judged
            try:
                account.analyse(sequence) if reason is None else account.skip(sequence, reason)
            except AccountingError:
                assert not allowed
            else:
                assert allowed
                judged.add(sequence)
        snapshot = account.snapshot()
        assert snapshot.packets_received == received
        assert received == snapshot.packets_pending + snapshot.analysed + snapshot.skipped_total
        assert snapshot.packets_pending == received - len(judged) == account.pending
        assert account.closed == (len(judged) == received)
        first_open = min(set(range(received + 1)) - judged)
        assert account.settled_through == (first_open - 1 if first_open else None)
