"""Groups of channels take turns, also when channels change their group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from vedette_server.frame import Binding
from vedette_server.groups import Entry, Groups


@dataclass(eq=False)
class Named:
    """A channel, as far as groups know it."""

    name: str
    binding: Binding


def join(groups: Groups, name: str, engine: str, weight: int = 10) -> Entry:
    """Take in a channel that always has something waiting."""
    channel: Any = Named(name, bound(engine))
    entry = groups.join(channel, weight, newest_wins=False, capacity=1000)
    for item in range(500):
        entry.group.queue.offer(channel, item)  # type: ignore[arg-type]
    return entry


def bound(engine: str) -> Binding:
    inferences: Any = (engine,)
    reader: Any = None
    return Binding(inferences, reader)


def move(groups: Groups, entry: Entry, engine: str) -> None:
    entry.binding = bound(engine)
    groups.move(entry)


def picks(groups: Groups, count: int) -> Counter[str]:
    """Serve as the pipeline does, with slots for everybody; tell who was served how often."""
    served: Counter[str] = Counter()
    for _ in range(count):
        group = groups.waiting()[0]
        picked = group.queue.pick()
        assert picked is not None
        group.virtual += 1.0 / group.weight
        served[picked[0].name] += 1  # type: ignore[attr-defined]
    return served


def test_channels_that_go_over_together_neither_gain_nor_lose_turns():
    groups = Groups()
    moving = [join(groups, f"m{number}", "old") for number in range(3)]
    join(groups, "stays", "other")
    assert set(picks(groups, 80).values()) == {20}
    for entry in moving:
        move(groups, entry, "new")
    served = picks(groups, 80)
    assert max(served.values()) - min(served.values()) <= 1


def test_a_channel_that_goes_over_to_a_group_that_is_there_shares_as_the_others_do():
    groups = Groups()
    moving = join(groups, "moves", "old", weight=20)
    join(groups, "one", "old")
    join(groups, "two", "new")
    picks(groups, 40)
    move(groups, moving, "new")
    served = picks(groups, 80)
    assert abs(served["moves"] - 2 * served["two"]) <= 3
    assert abs(served["one"] - served["two"]) <= 2


def test_a_group_without_channels_is_gone_and_another_of_its_engines_begins_with_the_rest():
    groups = Groups()
    only, other = join(groups, "a", "old"), join(groups, "b", "other")
    picks(groups, 100)
    move(groups, only, "new")
    move(groups, only, "old")
    assert len(groups.waiting()) == 2
    served = picks(groups, 40)
    assert abs(served["a"] - served["b"]) <= 1
    assert len(groups.leave(only)) == 500 - 50 - served["a"]
    assert [group.inferences for group in groups.waiting()] == [other.group.inferences]
