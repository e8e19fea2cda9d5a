from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.picture.slots import SlotPool


def test_slots_are_aligned_contiguous_and_do_not_overlap():
    pool = SlotPool(5, width=33, height=17)
    slots = [pool.acquire() for _ in range(5)]

    for number, slot in enumerate(slots):
        assert slot.pixels.shape == (17, 33, 3)
        assert slot.pixels.flags.c_contiguous
        assert slot.pixels.ctypes.data % 64 == 0
        slot.pixels[:] = number
    assert [int(slot.pixels.max()) for slot in slots] == [0, 1, 2, 3, 4]
    assert [int(slot.pixels.min()) for slot in slots] == [0, 1, 2, 3, 4]


def test_an_exhausted_pool_gives_none_until_a_slot_comes_back():
    pool = SlotPool(1, 4, 4)
    slot = pool.acquire()

    assert pool.acquire() is None
    slot.release()
    assert pool.acquire() is slot


def test_a_slot_cannot_be_released_twice():
    pool = SlotPool(2, 4, 4)
    slot = pool.acquire()
    pool.release(slot)

    with pytest.raises(ValueError, match="slot 0 was released already"):
        pool.release(slot)
    assert pool.in_use == 0


def test_a_slot_cannot_be_released_to_another_pool():
    slot = SlotPool(1, 4, 4).acquire()

    with pytest.raises(ValueError, match="another pool"):
        SlotPool(1, 4, 4).release(slot)


def test_a_slot_used_in_a_with_block_comes_back_when_the_block_fails():
    pool = SlotPool(1, 4, 4)

    with pytest.raises(KeyError), pool.acquire():
        raise KeyError

    assert pool.in_use == 0


def test_a_leak_can_be_named():
    pool = SlotPool(3, 4, 4)
    first, _second = pool.acquire(), pool.acquire()
    pool.release(first)

    assert pool.in_use == 1
    assert pool.indices_in_use == (1,)


def test_memory_comes_from_the_allocator_that_was_given():
    pinned = np.zeros(2 * 3 * 4 * 3, np.uint8)
    taken = []

    def allocate(size_bytes: int) -> np.ndarray:
        taken.append(size_bytes)
        return pinned[:size_bytes] if len(taken) == 1 else pinned[size_bytes:]

    pool = SlotPool(2, width=3, height=4, allocate=allocate)

    assert taken == [36, 36]
    pool.acquire().pixels[:] = 9
    assert (pinned[:36] == 9).all()


@pytest.mark.parametrize("numbers", [(0, 4, 4), (1, 0, 4), (1, 4, 0)])
def test_an_empty_pool_is_refused(numbers):
    with pytest.raises(ValueError, match="allowed is 1 and up"):
        SlotPool(*numbers)


@settings(max_examples=100)
@given(st.integers(1, 6), st.lists(st.integers(-1, 5), max_size=60))
def test_no_slot_is_ever_owned_twice_and_none_is_lost(count, steps):
    pool = SlotPool(count, 2, 2)
    owned = []
    for step in steps:
        if step < 0 or not owned:
            slot = pool.acquire()
            assert (slot is None) == (len(owned) == count)
            if slot is not None:
                assert slot not in owned
                owned.append(slot)
        else:
            pool.release(owned.pop(step % len(owned)))
        assert pool.in_use == len(owned)
        assert set(pool.indices_in_use) == {slot.index for slot in owned}


def test_threads_share_a_pool_without_sharing_a_slot():
    pool = SlotPool(3, 8, 8)
    spoilt: list[int] = []

    def work(mark: int) -> None:
        for _ in range(300):
            slot = pool.acquire()
            if slot is None:
                continue
            slot.pixels[:] = mark
            if (slot.pixels != mark).any():
                spoilt.append(mark)
            slot.release()

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert spoilt == []
    assert pool.in_use == 0
