"""Channels that run the same engines share a fair queue; such groups take turns.

Groups take turns by virtual time, the group with the fewest picks per unit of its channels' weight first (Parekh &
Gallager 1993, weighted fair queueing with unit costs). A channel may change its group while its frames wait.

Threads: none of this locks; the pipeline holds its lock around every call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.batch.fair_queue import FairQueue

if TYPE_CHECKING:
    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Binding, Channel, Frame


@dataclass(slots=True, eq=False)
class Group:
    """The channels that run the same engines.

    Attributes:
        inferences: The engines.
        queue: The frames that wait for them.
        weight: Of all its channels together.
        virtual: Its picks so far per unit of weight.
    """

    inferences: tuple[InferenceClient, ...]
    queue: FairQueue[Frame] = field(default_factory=FairQueue)
    weight: int = 0
    virtual: float = 0.0


@dataclass(slots=True, eq=False)
class Entry:
    """What the pipeline knows of one channel.

    Attributes:
        channel: The channel.
        binding: What its frames run on whose turn comes now.
        group: Where they wait.
        weight: Its weight.
        queued: It waits for a worker.
        running: A worker decodes for it.
        again: It was woken meanwhile.
        starved: It waits until one of its pictures is taken.
    """

    channel: Channel
    binding: Binding
    group: Group
    weight: int
    queued: bool = False
    running: bool = False
    again: bool = False
    starved: bool = False


class Groups:
    """All groups that have a channel."""

    def __init__(self) -> None:
        self._groups: dict[tuple[InferenceClient, ...], Group] = {}

    def join(self, channel: Channel, weight: int, *, newest_wins: bool, capacity: int) -> Entry:
        """Take a channel in, with nothing that waits."""
        binding = channel.binding
        group = self._groups.setdefault(binding.inferences, Group(binding.inferences))
        group.queue.add(channel, weight, newest_wins, capacity)
        group.weight += weight
        return Entry(channel, binding, group, weight)

    def reweigh(self, entry: Entry, weight: int) -> None:
        """Give a channel another weight."""
        entry.group.weight += weight - entry.weight
        entry.weight = weight
        entry.group.queue.set_weight(entry.channel, weight)

    def move(self, entry: Entry) -> Group:
        """Put a channel and what it has waiting into the group of what it is bound to; return the one it left."""
        old, inferences = entry.group, entry.binding.inferences
        new = self._groups.setdefault(inferences, Group(inferences))
        self.catch_up(new)
        if new.weight == 0:
            # The first of those that move: their new group is no less far than the one that they shared.
            new.virtual = max(new.virtual, old.virtual)
        new.queue.take_over(entry.channel, old.queue)
        new.weight += entry.weight
        self._lighten(old, entry.weight)
        entry.group = new
        return old

    def leave(self, entry: Entry) -> list[Frame]:
        """Let a channel go, and return its frames that waited."""
        frames = entry.group.queue.remove(entry.channel)
        self._lighten(entry.group, entry.weight)
        return frames

    def catch_up(self, group: Group) -> None:
        """Let a group that had nothing to do earn no credit by it; called before something waits in it."""
        if not len(group.queue):
            floor = min((other.virtual for other in self._groups.values() if len(other.queue)), default=0.0)
            group.virtual = max(group.virtual, floor)

    def waiting(self) -> list[Group]:
        """Return the groups with frames that wait, the one whose turn it is first."""
        waiting = [group for group in self._groups.values() if len(group.queue)]
        if len(waiting) > 1:
            waiting.sort(key=lambda group: group.virtual)
        return waiting

    def _lighten(self, group: Group, weight: int) -> None:
        group.weight -= weight
        if group.weight == 0:
            self._groups.pop(group.inferences, None)
