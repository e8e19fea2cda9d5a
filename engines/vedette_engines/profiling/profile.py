"""What a profiler measured, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.profiling.graph import NodeFacts


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node costs.

    Attributes:
        name: The node's, in the graph as the runtime runs it.
        op: Its operator.
        seconds: Per run, the median over the runs.
        provider: What ran it, as the runtime says.
        inputs: Element type and shape of each input, as text.
        outputs: Element type and shape of each output, as text.
        weight_bytes: Of its constant inputs.
    """

    name: str
    op: str
    seconds: float
    provider: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """What all nodes of one operator cost together.

    Attributes:
        op: The operator.
        nodes: How many.
        seconds: Per run.
        share: Of the time of all nodes, 0..1.
    """

    op: str
    nodes: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time, for a trace.

    Attributes:
        name: What.
        start_s: From the beginning of the trace.
        seconds: How long.
        kind: `run` or `node`.
        node: The node, for its details; None: a run.
    """

    name: str
    start_s: float
    seconds: float
    kind: str
    node: NodeCost | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profiled engine.

    Attributes:
        title: Engine, file and runner.
        runner: What ran it.
        precision: Of the file.
        batch: Frames per run.
        threads: Threads of a run.
        runs: How many runs were measured.
        run_s: How long a run takes, the median; with what is between the nodes, and where it can be told without the
            profiler's own cost.
        nodes: The costliest first.
        spans: Of the measured runs, in order of time.
    """

    title: str
    runner: str
    precision: str
    batch: int
    threads: int
    runs: int
    run_s: float
    nodes: tuple[NodeCost, ...]
    spans: tuple[Span, ...] = ()

    @property
    def nodes_s(self) -> float:
        """Time of all nodes per run."""
        return sum(node.seconds for node in self.nodes)

    def share(self, seconds: float) -> float:
        """Tell what part of the time of all nodes this is, 0..1."""
        total = self.nodes_s
        return seconds / total if total else 0.0

    def share_of(self, *ops: str) -> float:
        """Tell what part of the time the nodes of these operators take."""
        return self.share(sum(node.seconds for node in self.nodes if node.op in ops))

    @property
    def operators(self) -> tuple[OperatorCost, ...]:
        """The operators, the costliest first."""
        costs: dict[str, list[float]] = {}
        for node in self.nodes:
            costs.setdefault(node.op, []).append(node.seconds)
        found = [OperatorCost(op, len(each), sum(each), self.share(sum(each))) for op, each in costs.items()]
        return tuple(sorted(found, key=lambda cost: -cost.seconds))


@dataclass(frozen=True, slots=True)
class Measured:
    """A profile, and what stands around its nodes.

    Attributes:
        profile: What was measured.
        facts: Of the nodes, by name; empty where the runtime does not show the graph that it ran.
    """

    profile: Profile
    facts: Mapping[str, NodeFacts] = field(default_factory=dict)
