from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from support_pipeline import FakeInference
from vedette_server.execute.claims import Claims

if TYPE_CHECKING:
    from vedette_server.picture.slots import Slot


def give_back(inferences: Any, slots: list[Slot]) -> None:
    for inference, slot in zip(inferences, slots, strict=True):
        inference.release(slot)


def test_slots_come_in_the_order_of_the_engines():
    first, second = FakeInference(1), FakeInference(1)
    engines: Any = (second, first)
    slots = Claims().take(engines)
    assert slots is not None
    assert [slot.belongs_to(engine.pool) for slot, engine in zip(slots, engines, strict=True)] == [True, True]


def test_a_group_keeps_what_it_got_until_it_has_the_rest():
    claims, a, b = Claims(), FakeInference(1), FakeInference(1)
    both: Any = (a, b)
    only_a: Any = (a,)
    busy = b.acquire()
    assert busy is not None
    assert claims.take(both) is None
    assert claims.take(only_a) is None
    b.release(busy)
    assert claims.take(both) is not None


def test_one_group_at_a_time_keeps_anything():
    claims, a, b, c = Claims(), FakeInference(2), FakeInference(1), FakeInference(1)
    for engine in (b, c):
        assert engine.acquire() is not None
    ab: Any = (a, b)
    ac: Any = (a, c)
    only_a: Any = (a,)
    assert claims.take(ab) is None
    assert claims.take(ac) is None
    assert claims.take(only_a) is not None


def test_a_group_with_nothing_more_to_run_gives_back_what_it_holds():
    claims, a, b = Claims(), FakeInference(1), FakeInference(1)
    assert b.acquire() is not None
    both: Any = (a, b)
    other: Any = (b, a)
    assert claims.take(both) is None
    assert not claims.drop(other)
    assert claims.drop(both)
    assert not claims.drop(both)
    assert a.pool.in_use == 0


@given(steps=st.lists(st.tuples(st.sampled_from([(0,), (1,), (0, 1), (1, 0), (0, 1, 2), (2,)]), st.booleans())))
def test_no_slot_is_lost_and_nobody_blocks_for_ever(steps: list[tuple[tuple[int, ...], bool]]):
    claims = Claims()
    engines = [FakeInference(2) for _ in range(3)]
    taken: list[tuple[Any, list[Slot]]] = []
    for numbers, release in steps:
        group: Any = tuple(engines[number] for number in numbers)
        slots = claims.take(group)
        if slots is not None:
            taken.append((group, slots))
        if release and taken:
            give_back(*taken.pop(0))
    for group, slots in taken:
        give_back(group, slots)
    # With all that was taken given back, whoever holds a part gets the rest.
    groups: list[Any] = [tuple(engines), tuple(engines[:2]), tuple(engines[1::-1]), (engines[2],)]
    for group in groups * 2:
        found = claims.take(group)
        if found is not None:
            give_back(group, found)
    assert [engine.pool.in_use for engine in engines] == [0, 0, 0]
