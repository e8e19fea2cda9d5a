"""Verdicts are numbered without gaps and kept until acknowledged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.session.ledger import VerdictLedger


def ledger_of(count: int, capacity: int = 100, start_index: int = 0) -> VerdictLedger[str]:
    ledger: VerdictLedger[str] = VerdictLedger(capacity, start_index)
    for _ in range(count):
        ledger.append(lambda index: f"v{index}")
    return ledger


def test_indices_are_dense_from_the_start_index() -> None:
    ledger: VerdictLedger[str] = VerdictLedger(10, start_index=7)
    assert [ledger.append("a"), ledger.append("b")] == [7, 8]
    assert ledger.next_index == 9
    assert ledger.unsent() == [(7, "a"), (8, "b")]


def test_a_factory_is_told_the_index() -> None:
    assert ledger_of(2, start_index=3).unsent() == [(3, "v3"), (4, "v4")]


def test_a_factory_that_fails_uses_up_no_index() -> None:
    ledger = ledger_of(1)

    def fail(index: int) -> str:
        raise RuntimeError(str(index))

    with pytest.raises(RuntimeError, match="1"):
        ledger.append(fail)
    assert ledger.append("next") == 1


def test_what_was_sent_is_not_sent_again_but_kept() -> None:
    ledger = ledger_of(3)
    assert ledger.unsent(limit=2) == [(0, "v0"), (1, "v1")]
    assert ledger.send_cursor == 2
    assert ledger.unsent() == [(2, "v2")]
    assert ledger.unsent() == []
    assert ledger.unacknowledged == 3
    assert ledger.since(1) == [(1, "v1"), (2, "v2")]


def test_acknowledged_verdicts_are_forgotten() -> None:
    ledger = ledger_of(4)
    ledger.unsent()
    ledger.acknowledge(1)
    assert ledger.unacknowledged == 2
    assert ledger.first_kept == 2
    ledger.acknowledge(0)
    assert ledger.unacknowledged == 2
    with pytest.raises(ValueError, match="verdict 1 is not kept; 2 to 4"):
        ledger.since(1)


def test_what_was_acknowledged_before_it_was_sent_is_not_sent() -> None:
    ledger = ledger_of(3)
    ledger.acknowledge(1)
    assert ledger.unsent() == [(2, "v2")]


def test_a_verdict_that_was_never_numbered_cannot_be_acknowledged() -> None:
    ledger = ledger_of(2)
    with pytest.raises(ValueError, match="verdict 2 was acknowledged, but the next one to be numbered is 2"):
        ledger.acknowledge(2)
    assert ledger.unacknowledged == 2


def test_a_client_that_comes_back_gets_again_what_it_misses() -> None:
    ledger = ledger_of(5)
    ledger.unsent()
    ledger.acknowledge(1)
    ledger.rewind(3)
    assert ledger.unsent() == [(3, "v3"), (4, "v4")]
    ledger.rewind(5)
    assert ledger.unsent() == []


@pytest.mark.parametrize("index", [0, 1, 6])
def test_rewinding_to_what_is_not_kept_is_refused(index: int) -> None:
    ledger = ledger_of(5)
    ledger.acknowledge(1)
    with pytest.raises(ValueError, match=f"verdict {index} is not kept"):
        ledger.rewind(index)


def test_a_full_ledger_says_so_and_loses_nothing() -> None:
    ledger = ledger_of(2, capacity=2)
    assert ledger.full
    ledger.append("late")
    assert ledger.unacknowledged == 3
    ledger.acknowledge(1)
    assert not ledger.full


@pytest.mark.parametrize(("capacity", "start_index"), [(0, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(capacity: int, start_index: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        VerdictLedger(capacity, start_index)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["append", "send", "lose", "acknowledge"]), st.integers(0, 40)), max_size=150)
)
def test_a_client_gets_every_verdict_once_in_order_however_often_it_is_cut_off(steps: list[tuple[str, int]]) -> None:
    ledger: VerdictLedger[int] = VerdictLedger(10, start_index=5)
    received: list[int] = []
    wire: list[tuple[int, int]] = []
    appended = 5
    for step, number in steps:
        if step == "append":
            assert ledger.append(lambda index: index) == appended
            appended += 1
        elif step == "send":
            wire += ledger.unsent(limit=number)
        elif step == "acknowledge" and received:
            ledger.acknowledge(received[-1] - number % 3 if received[-1] > 10 else received[-1])
        elif step == "lose":  # part of what is on the wire arrives, then the connection is gone, and it comes back
            arriving = wire[: number % (len(wire) + 1)]
            received += [value for _, value in arriving]
            wire = []
            following = received[-1] + 1 if received else 5
            ledger.acknowledge(following - 1)
            ledger.rewind(following)
        assert ledger.unacknowledged == appended - ledger.first_kept
        assert ledger.full == (ledger.unacknowledged >= 10)
    received += [value for _, value in wire + ledger.unsent()]
    assert received == list(range(5, appended))
