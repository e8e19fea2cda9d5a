"""What stands around a node in the graph that really ran, as far as advice needs it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

_WEIGHTED = {"Conv", "FusedConv", "QLinearConv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "QLinearMatMul"}
_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node's surroundings.

    Attributes:
        before: Operators of what makes its inputs; constants and the graph's inputs are not among them.
        after: Operators of what takes its outputs.
        attributes: Its whole numbers and texts, by name.
        groups: Groups of a convolution.
        opening: It stands before the first layer with weights: it prepares the input.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    attributes: Mapping[str, int | str] = field(default_factory=dict)
    groups: int = 1
    opening: bool = False

    @property
    def is_island(self) -> bool:
        """Whether it runs in float between quantised neighbours: dequantised for it alone, and quantised again."""
        return (
            bool(self.before) and bool(self.after)
            and set(self.before) == {_DEQUANTISE}
            and set(self.after) == {_QUANTISE}
        )  # fmt: skip


def facts_of(model: ModelProto) -> dict[str, NodeFacts]:
    """Gather the surroundings of all nodes of the main graph, by name."""
    nodes = list(model.graph.node)
    makers = {output: node for node in nodes for output in node.output if output}
    takers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    opening = _opening(model, takers)
    return {
        node.name: NodeFacts(
            tuple(makers[name].op_type for name in node.input if name in makers and makers[name].op_type != "Constant"),
            tuple(taker.op_type for name in node.output for taker in takers.get(name, ())),
            _attributes(node),
            int(_attributes(node).get("group", 1)),
            id(node) in opening,
        )
        for node in nodes
    }


def _opening(model: ModelProto, takers: Mapping[str, list[NodeProto]]) -> set[int]:
    """Follow the input up to the first layers with weights; without any such layer nothing is an opening."""
    constants = {tensor.name for tensor in model.graph.initializer}
    waiting = deque(value.name for value in model.graph.input if value.name not in constants)
    found: set[int] = set()
    ended = False
    while waiting:
        for node in takers.get(waiting.popleft(), ()):
            if node.op_type in _WEIGHTED:
                ended = True
            elif id(node) not in found:
                found.add(id(node))
                waiting.extend(node.output)
    # Where a way around the weights exists, all of the graph is reached: then nothing can be said.
    return found if ended and len(found) < len(model.graph.node) / 4 else set()


def _attributes(node: NodeProto) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for attribute in node.attribute:
        if attribute.type == attribute.INT:
            found[attribute.name] = attribute.i
        elif attribute.type == attribute.STRING:
            found[attribute.name] = attribute.s.decode("utf-8", "replace")
    return found
