from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_engines.benching.race import ROUNDS, Contestant, Laps, Race, percentile, ratio
from vedette_engines.errors import RunError


class Machine:
    """A clock that work moves on, by more while something else is busy."""

    def __init__(self) -> None:
        self.now = 0.0
        self.drag = 1.0
        self.ran: list[str] = []

    def clock(self) -> float:
        return self.now

    def contestant(self, name: str, seconds: float, frames: int = 1, group: int = 0) -> Contestant:
        def run() -> None:
            self.ran.append(name)
            self.now += seconds * self.drag

        return Contestant(run, frames, group)


def rounds_of(ran: list[str], names: set[str]) -> list[list[str]]:
    """Cut what ran into rounds: each has every name, in runs without a break."""
    slices = [name for index, name in enumerate(ran) if index == 0 or ran[index - 1] != name]
    rounds: list[list[str]] = [[]]
    for name in slices:
        if name in rounds[-1]:
            rounds.append([])
        rounds[-1].append(name)
    return rounds


def test_each_round_every_contestant_has_one_slice_in_an_order_that_changes() -> None:
    machine = Machine()
    race = Race({name: machine.contestant(name, 0.01) for name in "abcdef"}, 12.0, clock=machine.clock)

    laps = race.run()

    counts = {len(one.rates) for one in laps.values()}
    assert counts == {ROUNDS} or counts == {ROUNDS - 1}
    orders = {tuple(dict.fromkeys(machine.ran[start:])) for start in (0, len(machine.ran) // 3, len(machine.ran) // 2)}
    assert len(orders) > 1


@given(
    st.lists(st.floats(1e-3, 3.0), min_size=1, max_size=5),
    st.floats(0.01, 20.0),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_all_have_as_many_rounds_and_the_budget_is_kept_once_a_round_is_done(
    costs: list[float], budget_s: float, seed: int
) -> None:
    machine = Machine()
    field = {str(index): machine.contestant(str(index), cost) for index, cost in enumerate(costs)}

    laps = Race(field, budget_s, seed=seed, clock=machine.clock).run()

    rounds = {len(one.rates) for one in laps.values()}
    assert len(rounds) == 1
    assert rounds.pop() >= 1
    # One round and the warming up are run whatever they take; beyond them no round begins that would not fit.
    slices = sum(max(2 * cost, budget_s / len(costs) / ROUNDS + 2 * cost) for cost in costs)
    assert machine.now <= max(budget_s, sum(costs) + slices) * (1 + 1e-9)


@given(st.floats(1.2, 8.0), st.integers(0, 100), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_a_machine_that_is_slow_now_and_then_does_not_change_the_ratio(factor: float, seed: int, phase: int) -> None:
    machine = Machine()
    turns = Counter[str]()

    def disturbed(name: str, seconds: float) -> Contestant:
        inner = machine.contestant(name, seconds)

        def run() -> None:
            turns[name] += 1
            machine.drag = 6.0 if turns[name] % 3 == phase else 1.0  # a neighbour comes for a round and goes
            inner.run()

        return Contestant(run, 1)

    # Runs longer than a slice: every round is one run of each, and both meet the same neighbour.
    field = {"base": disturbed("base", 1.5 * factor), "fast": disturbed("fast", 1.5)}
    laps = Race(field, 2.0 * ROUNDS, seed=seed, clock=machine.clock).run()

    found = ratio(laps["fast"], laps["base"])
    assert found is not None
    assert (found.low, found.median, found.high) == pytest.approx((factor, factor, factor))


@pytest.mark.parametrize("settles", [False, True])
def test_a_first_run_that_is_dearer_whatever_it_takes_does_not_count_where_that_is_known(settles: bool) -> None:
    machine = Machine()
    before = [""]

    def planning() -> None:
        machine.now += 1.0 if before[0] == "plans" else 5.0  # anew when another one ran in between
        before[0] = "plans"

    def other() -> None:
        machine.now += 1.0
        before[0] = "other"

    field = {"plans": Contestant(planning, 1, settles=settles), "other": Contestant(other, 1)}
    laps = Race(field, 40.0, clock=machine.clock).run()

    # Slices of 2.2 s: of a run or two.
    assert (max(laps["plans"].runs_s) > 4.0) is not settles


def test_groups_run_close_together() -> None:
    machine = Machine()
    field = {
        f"{group}{name}": machine.contestant(f"{group}{name}", 1.0, group=group) for group in (0, 1) for name in "ab"
    }

    Race(field, 40.0, clock=machine.clock).run()

    for one in rounds_of(machine.ran[4:], set(field)):
        assert [name[0] for name in one] in (sorted(name[0] for name in one), sorted((n[0] for n in one), reverse=True))


def test_one_that_fails_is_taken_out_with_its_reason_and_the_others_go_on() -> None:
    machine = Machine()

    def fail() -> None:
        raise RunError("no room")

    laps = Race({"good": machine.contestant("good", 0.1), "bad": Contestant(fail, 1)}, 2.0, clock=machine.clock).run()

    assert laps["bad"] == Laps(failed="no room")
    assert laps["good"].rates
    assert ratio(laps["bad"], laps["good"]) is None


def test_a_race_of_which_all_fail_ends() -> None:
    def fail() -> None:
        raise RunError("no room")

    assert Race({"bad": Contestant(fail, 1)}, 2.0).run()["bad"].failed == "no room"


def test_rates_count_frames_not_runs() -> None:
    machine = Machine()

    laps = Race({"x": machine.contestant("x", 0.5, frames=8)}, 20.0, clock=machine.clock).run()

    assert laps["x"].rates == pytest.approx([16.0] * len(laps["x"].rates))
    assert laps["x"].runs_s == pytest.approx([0.5] * len(laps["x"].runs_s))


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value
    assert percentile([7.0], share) == 7.0
