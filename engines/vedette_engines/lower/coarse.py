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

# Of half of the channels. With YOLOX-nano 7 dB at the worst, behind its first layer, and 26 to 45 dB nearly everywhere.
_LEAST_DB = 25.0
# Share of the layers that may stay float32 for this; there may be models of which all is coarse, and eight bits were
# asked for.
_MOST = 0.08


def coarse_layers(
    graph: GraphProto,
    layers: Sequence[str],
    ranges: Mapping[str, Range],
    variances: Mapping[str, NDArray[np.float64]],
) -> tuple[str, ...]:
    """Name the layers that take or give what eight bits hardly hold, the worst first.

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
    return tuple(found[: math.floor(_MOST * len(layers))])


def signal_to_noise(variances: NDArray[np.float64], ends: Range) -> float:
    """Tell how far the noise of rounding is below the signal, in dB; for the channel in the middle.

    Not the mean of them: a channel that is always 0 loses nothing.
    """
    step = (max(ends[1], 0.0) - min(ends[0], 0.0)) / (LEVELS - 1)
    middle = float(np.median(variances))
    if not (step > 0 and middle > 0):
        return math.inf
    return 10 * math.log10(middle / (step * step / 12))


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
