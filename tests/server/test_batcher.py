"""When a batch leaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.batch.batcher import Batcher


def test_an_empty_batcher_is_never_due() -> None:
    batcher: Batcher[int] = Batcher(4, 0.05)
    assert batcher.due_at() is None
    assert batcher.take(1e9) == []


def test_a_lone_item_leaves_when_its_wait_is_over() -> None:
    batcher: Batcher[str] = Batcher(4, 0.05)
    batcher.put("a", now=10.0)
    assert batcher.due_at() == 10.05
    assert batcher.take(10.04) == []
    assert batcher.take(10.05) == ["a"]
    assert len(batcher) == 0


def test_a_full_batch_leaves_at_once() -> None:
    batcher: Batcher[int] = Batcher(2, 1.0)
    batcher.put(1, now=5.0)
    batcher.put(2, now=5.1)
    due_at = batcher.due_at()
    assert due_at is not None
    assert due_at <= 5.1
    assert batcher.take(5.1) == [1, 2]


def test_what_is_left_after_a_full_batch_waits_for_its_own_time() -> None:
    batcher: Batcher[int] = Batcher(2, 1.0)
    for item in range(3):
        batcher.put(item, now=5.0 + item)
    assert batcher.take(7.0) == [0, 1]
    assert batcher.due_at() == 8.0
    assert batcher.take(7.9) == []
    assert batcher.take(8.0) == [2]


def test_without_a_wait_whatever_is_there_leaves() -> None:
    batcher: Batcher[int] = Batcher(8, 0.0)
    batcher.put(1, now=5.0)
    batcher.put(2, now=5.0)
    assert batcher.take(5.0) == [1, 2]


def test_draining_takes_everything_due_or_not() -> None:
    batcher: Batcher[int] = Batcher(2, 1.0)
    for item in range(5):
        batcher.put(item, now=0.0)
    assert batcher.drain() == [0, 1, 2, 3, 4]
    assert len(batcher) == 0
    assert batcher.due_at() is None


@pytest.mark.parametrize(("max_batch", "max_wait_s"), [(0, 0.1), (1, -0.1), (1, float("inf")), (1, float("nan"))])
def test_numbers_out_of_range_are_refused(max_batch: int, max_wait_s: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Batcher(max_batch, max_wait_s)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 0.2)), max_size=100),
    max_batch=st.integers(1, 5),
    max_wait_s=st.floats(0, 0.5),
)
def test_items_leave_once_in_order_and_never_wait_longer_than_allowed(
    steps: list[tuple[bool, float]], max_batch: int, max_wait_s: float
) -> None:
    batcher: Batcher[int] = Batcher(max_batch, max_wait_s)
    arrived: list[float] = []
    left: list[int] = []
    now = 100.0
    for is_put, wait_s in steps:
        end = now + wait_s
        while (due_at := batcher.due_at()) is not None and due_at <= end:  # a timer that is kept
            now = max(now, due_at)
            batch = batcher.take(now)
            assert 1 <= len(batch) <= max_batch
            assert len(batch) == max_batch or now - arrived[batch[0]] >= max_wait_s * (1 - 1e-12) - 1e-12
            assert all(now - arrived[item] <= max_wait_s + 1e-9 for item in batch)
            left += batch
        now = end
        assert batcher.take(now) == []
        if is_put:
            batcher.put(len(arrived), now)
            arrived.append(now)
    left += batcher.drain()
    assert left == list(range(len(arrived)))
