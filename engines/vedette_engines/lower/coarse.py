"""Tell from what calibration saw for which layers eight bits are too coarse.

One scale serves all channels of an activation. Where a few channels are much larger than the others, as behind the
first convolution of a detector, its steps are of the size of all that the others have to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.lower.prepare import weighted_nodes
from vedette_engines.lower.thresholds import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

    from vedette_engines.lower.ranges import Range

# Of a quarter of the channels the noise of rounding may be more than a hundredth of the variance.
_LEAST_DB = 20.0
_QUANTILE = 0.25
# Share of the layers that may stay float32 for this; there may be models of which all is coarse, and eight bits were
# asked for.
_MOST = 0.08
# Share of the weights that may stay float32 for this: a layer with more would cost the size that was asked for.
_MOST_WEIGHTS = 0.01


def coarse_layers(
    graph: GraphProto,
    layers: Sequence[str],
    ranges: Mapping[str, Range],
    variances: Mapping[str, NDArray[np.float64]],
) -> tuple[str, ...]:
    """Name the layers that take or give what eight bits hardly hold, the worst first.

    With a depthwise convolution goes the layer behind it: both are one separable convolution. Of YOLOX-nano's first
    one alone, the second half in eight bits takes a tenth of the detections.

    Args:
        graph: The float32 engine.
        layers: Names of those that are to be quantised.
        ranges: By tensor, what eight bits cover.
        variances: By tensor `float64 [C]`, of each channel.
    """
    decibels = {name: signal_to_noise(variances[name], ranges[name]) for name in variances if name in ranges}
    behind = silu_outputs(graph)
    wanted = set(layers)
    worst: dict[str, float] = {}
    for node in weighted_nodes(graph):
        if node.name in wanted:
            touched = (node.input[0], node.output[0], behind.get(node.output[0], ""))
            worst[node.name] = min(decibels.get(name, math.inf) for name in touched)
    found = sorted((name for name in worst if worst[name] < _LEAST_DB), key=lambda name: worst[name])
    second = _second_halves(graph, behind)
    both = [other for name in found for other in (name, second.get(name, name)) if other in wanted]
    few = tuple(dict.fromkeys(both))[: math.floor(_MOST * len(layers))]
    return _light(graph, few)


def _light(graph: GraphProto, layers: Sequence[str]) -> tuple[str, ...]:
    """Leave out the layers with which the others would hold too many of the weights."""
    counts = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    held = {node.name: sum(counts.get(name, 0) for name in node.input) for node in graph.node}
    left = _MOST_WEIGHTS * sum(counts.values())
    light = []
    for name in layers:
        if held[name] <= left:
            light.append(name)
            left -= held[name]
    return tuple(light)


def _second_halves(graph: GraphProto, behind: Mapping[str, str]) -> dict[str, str]:
    """Name the layer behind each depthwise convolution, where there is one alone and nothing but a SiLU between."""
    takers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        takers.setdefault(node.input[0] if node.input else "", []).append(node)
    found = {}
    for node in graph.node:
        if node.op_type == "Conv" and any(entry.name == "group" and entry.i > 1 for entry in node.attribute):
            after = takers.get(behind.get(node.output[0], node.output[0]), [])
            if len(after) == 1 and after[0].op_type == "Conv":
                found[node.name] = after[0].name
    return found


def signal_to_noise(variances: NDArray[np.float64], ends: Range) -> float:
    """Tell how far the noise of rounding is below the signal of the channel at the lower quartile, in dB.

    A channel that is always the same loses nothing and is not counted; the mean would be that of the large ones.
    """
    step = (max(ends[1], 0.0) - min(ends[0], 0.0)) / (LEVELS - 1)
    alive = variances[variances > 0]
    if not (step > 0 and len(alive)):
        return math.inf
    variance = float(np.quantile(alive, _QUANTILE))
    return 10 * math.log10(variance / (step * step / 12))


def silu_outputs(graph: GraphProto) -> dict[str, str]:
    """Name what each SiLU gives, `x * sigmoid(x)`, by what goes into it and nowhere else."""
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for given in node.input:
            consumers.setdefault(given, []).append(node)
    found = {}
    for given, nodes in consumers.items():
        gates = [node for node in nodes if node.op_type == "Sigmoid"]
        products = [node for node in nodes if node.op_type == "Mul"]
        if len(nodes) == 2 and gates and products and set(products[0].input) == {given, gates[0].output[0]}:
            found[given] = products[0].output[0]
    return found
