"""Who is next among the channels that wait for one engine."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.batch.fair_queue import FairQueue, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


def queue_of(*weights: int, newest_wins: bool = False, capacity: int = 4) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for key, weight in enumerate(weights):
        queue.add(key, weight, newest_wins, capacity)
    return queue


def picked(queue: FairQueue[int]) -> tuple[object, int]:
    pick = queue.pick()
    assert pick is not None
    return pick


def fill(queue: FairQueue[int], keys: Iterable[Hashable]) -> None:
    for key in keys:
        while queue.has_room(key):
            queue.offer(key, 0)


def test_an_empty_queue_gives_nothing() -> None:
    assert queue_of(1, 1).pick() is None


def test_a_channel_gives_its_items_in_order() -> None:
    queue = queue_of(10)
    for item in range(3):
        assert queue.offer(0, item) is None
    assert [queue.pick() for _ in range(4)] == [(0, 0), (0, 1), (0, 2), None]


def test_the_newest_item_displaces_the_one_before_and_takes_its_place_in_the_order() -> None:
    queue = queue_of(10, 10, newest_wins=True)
    queue.offer(0, 100)
    queue.offer(1, 200)
    assert queue.offer(0, 101) == 100
    assert len(queue) == 2
    assert [queue.pick(), queue.pick()] == [(0, 101), (1, 200)]


def test_a_full_fifo_says_so_and_refuses() -> None:
    queue = queue_of(10, capacity=2)
    queue.offer(0, 1)
    assert queue.has_room(0)
    queue.offer(0, 2)
    assert not queue.has_room(0)
    with pytest.raises(QueueFullError, match="2 items of at most 2"):
        queue.offer(0, 3)
    assert queue.pending(0) == 2


def test_a_channel_that_turns_to_newest_wins_gives_back_what_that_displaces() -> None:
    queue = queue_of(10)
    for item in range(3):
        queue.offer(0, item)
    assert queue.set_newest_wins(0, True) == [0, 1]
    assert queue.has_room(0)
    assert len(queue) == 1
    assert queue.set_newest_wins(0, False) == []
    assert queue.pick() == (0, 2)


def test_a_removed_channel_gives_back_what_was_pending_and_is_never_picked() -> None:
    queue = queue_of(10, 10)
    queue.offer(0, 1)
    queue.offer(0, 2)
    queue.offer(1, 3)
    assert queue.remove(0) == [1, 2]
    assert 0 not in queue
    assert len(queue) == 1
    queue.add(0, 10, False, 4)
    queue.offer(0, 4)
    assert {picked(queue), picked(queue)} == {(1, 3), (0, 4)}
    assert queue.pick() is None


def test_channels_that_come_and_go_without_a_pick_leave_nothing_behind() -> None:
    queue = queue_of(10)
    queue.offer(0, 0)
    for _ in range(1000):
        queue.add("passer-by", 10, True, 1)
        queue.offer("passer-by", 1)
        queue.remove("passer-by")
    assert len(queue._heap) < 4  # the one thing that could grow
    assert queue.pick() == (0, 0)


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_one_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match=f"weight of channel 'gate' is {weight}"):
        FairQueue[int]().add("gate", weight, True, 1)
    queue = queue_of(10)
    with pytest.raises(ValueError, match="at least 1"):
        queue.set_weight(0, weight)


def test_a_channel_cannot_be_added_twice() -> None:
    with pytest.raises(ValueError, match="added already"):
        queue_of(10).add(0, 10, True, 1)


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity of channel 0 is 0"):
        queue_of(10, capacity=0)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 3)),
        st.tuples(st.just("pick"), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 3)),
        st.tuples(st.just("flip"), st.integers(0, 3)),
        st.tuples(st.just("weigh"), st.integers(0, 3)),
    ),
    max_size=120,
)


def meddle(queue: FairQueue[int], operation: str, key: int, flags: dict[int, bool]) -> list[int]:
    """Change a channel in another way than by items; return what that throws out."""
    if operation == "flip":
        flags[key] = not flags[key]
        return queue.set_newest_wins(key, flags[key])
    if operation == "weigh":
        queue.set_weight(key, 1 + len(queue))
        return []
    items = queue.remove(key)
    queue.add(key, 10, flags[key], 3)
    return items


@settings(deadline=None)
@given(OPERATIONS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_every_item_leaves_once_whatever_happens(operations: list[tuple[str, int]], newest_wins: list[bool]) -> None:
    queue: FairQueue[int] = FairQueue()
    for key, flag in enumerate(newest_wins):
        queue.add(key, 10, flag, 3)
    flags = dict(enumerate(newest_wins))
    left: list[int] = []
    order: dict[int, list[int]] = {key: [] for key in range(4)}
    offered = 0
    for operation, key in operations:
        if operation == "offer" and queue.has_room(key):
            displaced = queue.offer(key, offered)
            left += [] if displaced is None else [displaced]
            offered += 1
        elif operation == "pick" and (pick := queue.pick()) is not None:
            order[int(str(pick[0]))].append(pick[1])
            left.append(pick[1])
        elif operation in {"remove", "flip", "weigh"}:
            left += meddle(queue, operation, key, flags)
        assert len(queue) == offered - len(left) == sum(queue.pending(key) for key in range(4))
    while (pick := queue.pick()) is not None:
        left.append(pick[1])
    assert sorted(left) == list(range(offered))
    assert all(items == sorted(items) for items in order.values())


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 100), min_size=2, max_size=6),
    others=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=400),
    seed=st.integers(0, 2**32),
)
def test_backlogged_channels_share_by_weight_within_one_turn_each_over_any_interval(
    weights: list[int], others: list[tuple[int, bool]], seed: int
) -> None:
    queue = queue_of(*weights, capacity=2)
    for key in range(4):
        queue.add(("other", key), 1 + random.Random(seed + key).randrange(100), True, 1)
    served = Counter[object]()
    pairs = list(combinations(range(len(weights)), 2))
    gaps: dict[tuple[int, int], list[Fraction]] = {pair: [Fraction(0)] for pair in pairs}
    for other, busy in [*others, *[(0, False)] * 200]:
        if busy:  # channels that come and go, or flood, beside the backlogged ones
            queue.offer(("other", other), 0)
        fill(queue, range(len(weights)))
        served[picked(queue)[0]] += 1
        for one, two in pairs:
            gaps[one, two].append(Fraction(served[one], weights[one]) - Fraction(served[two], weights[two]))
    for (one, two), history in gaps.items():
        # Any interval's difference is one between two points of the history. A millionth for the rounding of turns.
        bound = Fraction(1, weights[one]) + Fraction(1, weights[two])
        assert max(history) - min(history) <= bound + Fraction(1, 10**6)


@settings(deadline=None)
@given(others=st.integers(1, 30), warm_up=st.integers(0, 100))
def test_an_item_that_comes_to_an_idle_channel_waits_for_one_pick_of_each_other_at_most(
    others: int, warm_up: int
) -> None:
    queue = queue_of(*[10] * others, newest_wins=True)
    queue.add("late", 10, True, 1)
    for pick in range(warm_up + others + 1):
        for key in range(others):
            queue.offer(key, 0)
        if pick == warm_up:
            queue.offer("late", 0)
        if picked(queue)[0] == "late":
            return
    pytest.fail(f"no turn within {others + 1} picks")


def test_idling_earns_no_credit() -> None:
    queue = queue_of(10, 10)
    for _ in range(100):
        queue.offer(0, 0)
        queue.pick()
    served = Counter[object]()
    for _ in range(20):
        fill(queue, (0, 1))
        served[picked(queue)[0]] += 1
    assert abs(served[0] - served[1]) <= 2


def simulate(
    rates: dict[str, float], weights: dict[str, int], backlogged: Iterable[str] = (), seconds: float = 60.0
) -> Counter[object]:
    """Offer by jittered clocks and pick 35 times a second; count the picks per channel."""
    rng = random.Random(11)
    queue: FairQueue[int] = FairQueue()
    for key in [*rates, *backlogged]:
        queue.add(key, weights.get(key, 10), key in rates, 8)
    events = [(index / 35, "", 0.0) for index in range(int(seconds * 35))]
    for key, rate in rates.items():
        phase = rng.random() / rate
        events += [(phase + (index + rng.uniform(-0.4, 0.4)) / rate, key, rate) for index in range(int(seconds * rate))]
    served = Counter[object](dict.fromkeys([*rates, *backlogged], 0))
    for _, key, _ in sorted(events):
        if key:
            queue.offer(key, 0)
            continue
        fill(queue, backlogged)
        if (pick := queue.pick()) is not None:
            served[pick[0]] += 1
    return served


def test_live_cameras_of_one_weight_are_served_alike() -> None:
    served = simulate({f"camera-{n}": 15 for n in range(24)}, {})
    assert max(served.values()) <= 1.05 * min(served.values())
    assert sum(served.values()) > 60 * 34


def test_live_cameras_of_different_rates_above_their_share_are_served_alike() -> None:
    served = simulate({f"camera-{n}": 5 if n % 2 else 30 for n in range(24)}, {})
    assert max(served.values()) <= 1.05 * min(served.values())


def test_weights_act_on_live_cameras_although_each_has_one_picture_pending_at_most() -> None:
    weights = {f"camera-{n}": 40 if n % 2 else 10 for n in range(24)}
    served = simulate(dict.fromkeys(weights, 15), weights)
    heavy = sum(count for key, count in served.items() if weights[str(key)] == 40)
    assert 3.8 <= heavy / (sum(served.values()) - heavy) <= 4.2


def test_a_flood_gets_no_more_than_its_share() -> None:
    rates = {f"camera-{n}": 15.0 for n in range(23)}
    served = simulate({**rates, "flood": 2000.0}, {}, seconds=20)
    assert served["flood"] <= min(served.values()) + 2


def test_a_recording_cannot_starve_live_cameras_nor_they_it() -> None:
    served = simulate({f"camera-{n}": 15 for n in range(23)}, {}, backlogged=["recording"])
    assert max(served.values()) <= 1.05 * min(served.values())


def test_a_recording_gets_what_few_live_cameras_leave() -> None:
    served = simulate({"a": 5, "b": 5}, {}, backlogged=["recording"])
    assert served["a"] >= 60 * 5 - 2
    assert served["b"] >= 60 * 5 - 2
    assert served["recording"] >= 60 * (35 - 10) - 2


def ages_at_pick(picks_per_second: int, seconds: int = 30) -> tuple[list[float], Counter[object]]:
    """Offer times of arrival from 24 cameras of 15 fps; return the ages at the pick, and the picks per camera."""
    rng = random.Random(5)
    queue: FairQueue[float] = FairQueue()
    events = [(index / picks_per_second, "") for index in range(seconds * picks_per_second)]
    for number in range(24):
        queue.add(f"camera-{number}", 10, True, 1)
        phase = rng.random() / 15
        events += [(phase + (n + rng.uniform(-0.1, 0.1)) / 15, f"camera-{number}") for n in range(seconds * 15)]
    ages: list[float] = []
    served = Counter[object]()
    for now, key in sorted(events):
        if key:
            queue.offer(key, now)
        elif (pick := queue.pick()) is not None:
            ages.append(now - pick[1])
            served[pick[0]] += 1
    return sorted(ages), served


@pytest.mark.parametrize("picks_per_second", [35, 100])
def test_live_pictures_are_picked_fresh_and_still_fairly(picks_per_second: int) -> None:
    ages, served = ages_at_pick(picks_per_second)
    assert ages[len(ages) // 2] < 0.010
    assert ages[len(ages) * 95 // 100] < 0.035
    assert max(served.values()) <= 1.05 * min(served.values())


@given(st.lists(st.integers(1, 8), min_size=2, max_size=6), st.lists(st.integers(0, 5), max_size=120))
def test_live_channels_that_are_passed_over_share_by_weight_within_three_turns_each(
    weights: list[int], arrivals: list[int]
) -> None:
    queue = queue_of(*weights, newest_wins=True)
    served = [0] * len(weights)
    for key in range(len(weights)):
        queue.offer(key, 0)
    for arrival in arrivals:
        # One camera after the other brings something newer; all of them always have something pending.
        queue.offer(arrival % len(weights), 0)
        key = picked(queue)[0]
        assert isinstance(key, int)
        served[key] += 1
        queue.offer(key, 0)
    for one, other in combinations(range(len(weights)), 2):
        apart = abs(Fraction(served[one], weights[one]) - Fraction(served[other], weights[other]))
        assert apart <= 3 * (Fraction(1, weights[one]) + Fraction(1, weights[other]))


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    own=st.integers(1, 8),
    offers=st.lists(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=4), min_size=10, max_size=60),
)
def test_a_channel_that_queues_is_not_passed_over_however_fresh_the_others_are(
    weights: list[int], own: int, offers: list[list[tuple[int, bool]]]
) -> None:
    queue = queue_of(*weights, newest_wins=True)
    queue.add("queues", own, False, 100)
    for _ in offers:
        queue.offer("queues", 0)
    since: Counter[object] = Counter()
    for arrivals in offers:
        for key, fresh in arrivals:
            queue.offer(key % len(weights), 0, fresh=fresh)
        key, _ = picked(queue)
        since[key] += 1
        if key == "queues":
            since.clear()
        for other, count in since.items():
            assert count <= Fraction(weights[other], own) + 1 + Fraction(1, 1000)  # type: ignore[call-overload]


def test_an_item_that_was_old_when_it_came_lets_a_fresh_one_pass() -> None:
    queue = queue_of(10, 10, newest_wins=True)
    queue.offer(0, 1, fresh=False)
    queue.offer(1, 2)
    assert picked(queue) == (1, 2)
    assert picked(queue) == (0, 1)


def test_a_channel_whose_items_are_always_old_is_not_starved() -> None:
    queue = queue_of(10, 10, 10, 10, newest_wins=True)
    served = Counter[object]()
    for _ in range(100):
        for key in range(4):
            queue.offer(key, 0, fresh=key != 0)
        served[picked(queue)[0]] += 1
    assert served[0] >= 22


def test_a_channel_that_changes_its_queue_takes_all_that_waits_along_in_order() -> None:
    old, new = queue_of(10, 10), queue_of()
    for item in range(3):
        old.offer(0, item)
    old.offer(1, 100)
    new.take_over(0, old)
    assert (len(old), len(new)) == (1, 3)
    assert 0 not in old
    assert [new.pick() for _ in range(4)] == [(0, 0), (0, 1), (0, 2), None]
    assert [old.pick(), old.pick()] == [(1, 100), None]


def test_what_is_left_of_a_channel_in_its_old_queue_never_passes_for_what_it_has_in_the_new_one() -> None:
    """Both queues number their entries from 1."""
    old, new = queue_of(10, 10, 10), queue_of()
    for key in range(3):
        old.offer(key, key)
    for key in (2, 1, 0):
        new.take_over(key, old)
    assert old.pick() is None
    assert sorted(picked(new)[1] for _ in range(3)) == [0, 1, 2]


def test_a_channel_that_had_its_turn_waits_as_long_in_the_queue_that_it_changes_to() -> None:
    old, new = queue_of(10, 10), queue_of()
    for _ in range(3):
        old.offer(0, 0)
        old.offer(1, 1)
    assert picked(old)[0] == 0
    # The one that was served comes first into the new queue, and is yet behind the other.
    new.take_over(0, old)
    new.take_over(1, old)
    assert [picked(new)[0] for _ in range(4)] == [1, 0, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["offer", "pick", "move"])), max_size=80), st.booleans())
def test_every_item_leaves_once_whatever_queue_its_channel_is_in(steps: list[tuple[int, str]], newest: bool) -> None:
    queues = [queue_of(1, 2, 3, 4, 5, newest_wins=newest, capacity=200), queue_of()]
    at = dict.fromkeys(range(5), 0)
    left: list[tuple[Hashable, int]] = []
    for item, (key, step) in enumerate(steps):
        if step == "offer":
            displaced = queues[at[key]].offer(key, item)
            left += [] if displaced is None else [(key, displaced)]
        elif step == "move":
            queues[1 - at[key]].take_over(key, queues[at[key]])
            at[key] = 1 - at[key]
        else:
            left += [pick for queue in queues if (pick := queue.pick()) is not None]
    for queue in queues:
        while (pick := queue.pick()) is not None:
            left.append(pick)
    offered = [(key, item) for item, (key, step) in enumerate(steps) if step == "offer"]
    assert sorted(left, key=lambda one: one[1]) == offered
    for key in range(5):
        items = [item for whose, item in left if whose == key]
        assert items == sorted(items)
