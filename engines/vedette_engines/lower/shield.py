"""Keep what was left in float32 from being quantised after all.

ONNX Runtime quantises the weights of every `Conv` and `Gemm` that stands between a `DequantizeLinear` and a
`QuantizeLinear` when it loads a file (its `WeightBiasQuantization`), with one scale for all channels. A layer that was
left out because it is sensitive would come off worse than with the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onnx import GraphProto, NodeProto

# What ONNX Runtime looks through on its way to the next QuantizeLinear.
_SEEN_THROUGH = frozenset({"Relu", "Clip"})
_QUANTISED_AT_LOAD = frozenset({"Conv", "ConvTranspose", "Gemm"})
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh"})

SHIELD = "shield/"


def activations_of(graph: GraphProto, names: Iterable[str]) -> set[str]:
    """Name the activations behind these nodes, SiLU's two parts included: they stay in float32 with them."""
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for given in node.input:
            consumers.setdefault(given, []).append(node)
    wanted = set(names)
    found: set[str] = set()
    for node in graph.node:
        if node.name not in wanted:
            continue
        own = node.output[0]
        behind = [other for other in consumers.get(own, []) if other.op_type in _ACTIVATIONS]
        found.update(other.name for other in behind)
        gates = {other.output[0] for other in behind}
        found.update(
            other.name for other in consumers.get(own, []) if other.op_type == "Mul" and gates & set(other.input)
        )
    return found


def shield(graph: GraphProto, names: Iterable[str]) -> int:
    """Put a `Max` with the least value that the next `QuantizeLinear` can hold behind each of these nodes.

    It changes nothing, since what is less becomes that value anyway; and ONNX Runtime does not look through it.

    Returns:
        How many were put in.
    """
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for given in node.input:
            consumers.setdefault(given, []).append(node)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    wanted = set(names)
    ends = [
        _quantiser_behind(node, consumers)
        for node in graph.node
        if node.name in wanted and node.op_type in _QUANTISED_AT_LOAD
    ]
    placed = {end.name: end for end in ends if end is not None}
    for end in placed.values():
        scale, point = (numpy_helper.to_array(constants[name]) for name in end.input[1:3])
        least = (np.iinfo(point.dtype).min - point.astype(np.float32)) * scale
        name = f"{SHIELD}{end.name}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(least, np.float32), f"{name}/least"))
        node = helper.make_node("Max", [end.input[0], f"{name}/least"], [f"{name}/max"], name=name)
        end.input[0] = node.output[0]
        graph.node.insert(_place(graph, end.name), node)
    return len(placed)


def _quantiser_behind(node: NodeProto, consumers: Mapping[str, list[NodeProto]]) -> NodeProto | None:
    current = node
    while True:
        behind = consumers.get(current.output[0], [])
        if len(behind) != 1:
            return None
        if behind[0].op_type == "QuantizeLinear":
            return behind[0]
        if behind[0].op_type not in _SEEN_THROUGH:
            return None
        current = behind[0]


def _place(graph: GraphProto, name: str) -> int:
    return next(i for i, node in enumerate(graph.node) if node.name == name)


def part_biases(graph: GraphProto) -> int:
    """Add the biases of quantised convolutions and matrices in a node of their own.

    ONNX Runtime quantises a bias that stands in the layer itself when it loads a file (`WeightBiasQuantization`), and
    counts in float16 where the engine does: the quotients it takes are beyond float16's range.

    Returns:
        How many were parted.
    """
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    parted = 0
    for node in list(graph.node):
        if node.op_type not in _QUANTISED_AT_LOAD or not set(node.input[:2]) <= dequantised:
            continue
        if len(node.input) < 3 or node.input[2] not in constants:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]])
        if node.op_type != "Gemm":
            bias = bias.reshape(-1, *[1] * (_rank(graph, node.input[1]) - 2))
        names = f"{node.name}/bias", f"{node.name}/product"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias), names[0]))
        added = helper.make_node("Add", [names[1], names[0]], [node.output[0]], name=f"{node.name}/add_bias")
        node.output[0] = names[1]
        del node.input[2:]
        graph.node.insert(_place(graph, node.name) + 1, added)
        parted += 1
    return parted


def _rank(graph: GraphProto, weight: str) -> int:
    """Count the dimensions of a dequantised weight."""
    given = next(node.input[0] for node in graph.node if weight in node.output)
    return next(len(tensor.dims) for tensor in graph.initializer if tensor.name == given)
