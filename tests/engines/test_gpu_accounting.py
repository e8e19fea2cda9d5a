"""Every batch that is taken is told once, whatever fails and whoever comes and goes; a GPU is shared by weight."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_gpu import COLUMNS, SHAPE, Endless, Rig, Store, sums
from support_gpu_mutants import MutantDevice, Mutations
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.simulated_engine import SimulatedEngine

if TYPE_CHECKING:
    from vedette_engines.gpu.base import Outcome
    from vedette_engines.gpu.executor import Member

FAULTS = [
    ("done", "Lane.done"),
    ("record", "Lane.enqueue"),
    ("record", "Lane._mark"),
    ("record", "Lane.drain"),
    ("record", "Anchors._set"),
    ("synchronize", "Lane.synchronize"),
]
ACTIONS = ("add", "remove", "put", "put", "put", "pass", "pass", "pass", "fault", "refuse", "raise", "lose")


class Moody(SimulatedEngine):
    """An engine that refuses so many of the next runs."""

    refusals = 0

    def open_programs(self, *arguments: Any) -> Any:
        programs = super().open_programs(*arguments)
        for program in programs:
            program.enqueue = self._moody(program.enqueue)  # type: ignore[method-assign]
        return programs

    def _moody(self, enqueue: Any) -> Any:
        def run(stream: Any) -> None:
            if self.refusals:
                self.refusals -= 1
                raise RunError("not in the mood")
            enqueue(stream)

        return run


@dataclass
class Entry:
    """One member with its source."""

    member: Member
    store: Store
    engine: Moody


class World:
    """An executor to which everything happens."""

    def __init__(self) -> None:
        self.mutations = Mutations()
        self.inner = SimulatedDevice(copy_s=lambda _, size: 1e-3)
        self.rig = Rig(MutantDevice(self.inner, self.mutations), on_lost=self._lost)
        self.entries: list[Entry] = []
        self.stores: list[Store] = []
        self.lost = 0
        self._raises = False

    def _lost(self, _: object) -> None:
        self.lost += 1

    def act(self, action: str, number: int) -> None:
        if action in {"put", "remove", "refuse"} and not self.entries:
            action = "add"
        getattr(self, f"do_{action}")(number)

    def do_add(self, number: int) -> None:
        engine = Moody(self.inner, SHAPE, (COLUMNS,), sums, lambda size: 1e-3 * size, max_batch=number % 6 + 1)
        store = Store(self.rig.device)
        try:
            member = self.rig.add(store, engine, weight=number + 1.0, lanes=number % 3 + 1, graphs=bool(number % 2))
        except LoadError:
            assert self.lost
            return
        self.entries.append(Entry(member, store, engine))
        self.stores.append(store)

    def do_remove(self, number: int) -> None:
        entry = self.entries.pop(number % len(self.entries))
        assert self.rig.executor.remove(entry.member)
        assert entry.member.in_flight == 0

    def do_put(self, number: int) -> None:
        if not self.inner.is_alive:
            return
        entry = self.entries[number % len(self.entries)]
        # One too many, or none, now and then.
        entry.store.put(number % (entry.member.max_batch + 2), self.rig.clock() + number % 3 * 1e-3, self._then)
        self.rig.executor.nudge()

    def do_pass(self, number: int) -> None:
        for _ in range(number):
            wait_s = self.rig.executor.step()
            self.rig.clock.sleep(min(wait_s or 1e-3, 1e-3))

    def do_fault(self, number: int) -> None:
        self.mutations.fail(*FAULTS[number % len(FAULTS)])

    def do_refuse(self, number: int) -> None:
        self.entries[number % len(self.entries)].engine.refusals += 1

    def do_raise(self, number: int) -> None:
        self._raises = True

    def do_lose(self, number: int) -> None:
        # Seldom: nothing happens after it.
        if number == 0:
            self.inner.lose()

    def _then(self, _: Outcome) -> None:
        raises, self._raises = self._raises, False
        if raises:
            raise ValueError("a bug in whoever is told")

    def check(self) -> None:
        present = [told for entry in self.entries for told in entry.store.told]
        self.rig.run(lambda: all(told.outcomes for told in present))
        self.rig.executor.close()
        for store in self.stores:
            untaken = [told for told in store.told if not told.outcomes]
            assert len(untaken) == store.drop()
            for told in store.told:
                if told.outcomes and not told.outcome.error:
                    told.check()
                assert len(told.outcomes) <= 1
            if self.inner.is_alive:
                assert store.problems == []
        assert self.lost == int(self.rig.executor.lost is not None)
        self.inner.close()


@settings(max_examples=150, deadline=None)
@given(actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9)), min_size=5, max_size=60))
def test_each_batch_is_told_once_and_nothing_is_left_open(actions: list[tuple[str, int]]) -> None:
    # What fails is logged each time; here it fails on purpose.
    logging.disable(logging.CRITICAL)
    try:
        world = World()
        for action, number in actions:
            world.act(action, number)
        world.check()
    finally:
        logging.disable(logging.NOTSET)


def compute_s(source: Endless, since_s: float) -> float:
    """How long the batches of a source computed since a moment."""
    times = [outcome.times for outcome in source.outcomes]
    assert all(entry is not None for entry in times)
    return sum(entry.compute[1] - entry.compute[0] for entry in times if entry and entry.compute[0] >= since_s)


def shares(
    weights: list[float], durations_s: list[float], lanes: int, *, alone_s: float = 0.0
) -> tuple[list[float], Rig]:
    """Let engines that always have work share a GPU for a while; the first one is alone there before."""
    device = SimulatedDevice(copy_s=lambda _, size: 1e-4)
    rig = Rig(device)
    sources = [Endless(device) for _ in weights]
    for index, source in enumerate(sources):
        if index == 1 and alone_s:
            rig.run(lambda: rig.clock() > alone_s)
        engine = rig.engine(lambda _, index=index: durations_s[index])
        rig.add(source, engine, weight=weights[index], lanes=lanes)
    began_s = rig.clock()
    rig.run(lambda: rig.clock() > began_s + 200 * max(durations_s))
    given_s = [compute_s(source, began_s) for source in sources]
    for source in sources:
        source.end()
    rig.run(lambda: all(not member.in_flight for member in rig.executor.members))
    for source in sources:
        source.pinned.close()
    rig.close()
    return given_s, rig


def bound_s(weights: list[float], durations_s: list[float], depth: int) -> float:
    """How far two engines' compute times may be apart, by their weights: SFQ(D), Jin, Chase and Kaur 2004.

    And once more for what is under way when the measuring begins and ends.
    """
    terms = sorted((duration_s / weight for duration_s, weight in zip(durations_s, weights, strict=True)), reverse=True)
    return (depth + 2) * (terms[0] + terms[1])


@settings(max_examples=20, deadline=None)
@given(
    engines=st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0, 10.0]), st.integers(1, 8)), min_size=2, max_size=3),
    lanes=st.integers(1, 3),
)
def test_engines_that_always_have_work_compute_by_their_weights(engines: list[tuple[float, int]], lanes: int) -> None:
    weights, durations_s = [weight for weight, _ in engines], [1e-3 * millis for _, millis in engines]
    given_s, _ = shares(weights, durations_s, lanes)
    by_weight = [seconds / weight for seconds, weight in zip(given_s, weights, strict=True)]
    assert max(by_weight) - min(by_weight) <= bound_s(weights, durations_s, lanes)


def test_who_was_idle_has_saved_nothing() -> None:
    given_s, _ = shares([1.0, 1.0], [4e-3, 4e-3], 3, alone_s=5.0)
    assert given_s[1] == pytest.approx(given_s[0], abs=bound_s([1.0, 1.0], [4e-3, 4e-3], 3))


def test_a_lone_engine_uses_all_its_lanes_and_two_no_more_than_one_has() -> None:
    device = SimulatedDevice(copy_s=lambda _, size: 1e-3)
    rig = Rig(device)
    sources = [Endless(device), Endless(device)]
    first = rig.add(sources[0], rig.engine(lambda _: 1e-3), lanes=3)
    rig.executor.step()
    assert first.in_flight == 3
    rig.add(sources[1], rig.engine(lambda _: 1e-3), lanes=2)
    for _ in range(50):
        rig.clock.sleep(rig.executor.step() or 0.0)
        assert rig.executor.figures().in_flight <= 3
    for source in sources:
        source.end()
    rig.run(lambda: rig.executor.figures().in_flight == 0)
    for source in sources:
        source.pinned.close()
    rig.close()


def test_no_more_are_under_way_than_is_allowed() -> None:
    device = SimulatedDevice(copy_s=lambda _, size: 1e-3)
    rig = Rig(device, max_in_flight=2)
    source = Endless(device, batches=20)
    rig.add(source, rig.engine(lambda _: 1e-3), lanes=4)
    while len(source.outcomes) < 20:
        rig.clock.sleep(rig.executor.step() or 0.0)
        assert rig.executor.figures().in_flight <= 2
    source.pinned.close()
    rig.close()


def test_what_may_not_begin_yet_does_not_keep_the_host_awake() -> None:
    rig = Rig(SimulatedDevice())
    rig.add(Store(rig.device), lanes=3)
    stores = [Store(rig.device) for _ in range(2)]
    for store in stores:
        rig.add(store, rig.engine(lambda _: 1.0), lanes=1)
        # Twice, so that it is known how long one takes.
        rig.settle([store.put(1)])
        store.put(1)
    turns = 0
    told = [told for store in stores for told in store.told]
    while not all(entry.outcomes for entry in told):
        wait_s = rig.executor.step()
        turns += 1
        rig.clock.sleep(wait_s or 0.0)
    assert turns < 40
    rig.close()
