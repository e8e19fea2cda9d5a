"""Embedders: one vector for each frame, to compare with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

# A vector of zeros stays one.
SHORTEST = 1e-12


class EmbedderHead:
    """One output `[N, D]`, or `[N, D, 1, 1]`; the engine gives it as it is, or scaled to length 1."""

    name = "embedder"
    task: Task = "embedder"
    preset = Preprocessing(order="rgb", scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 2, or of rank 4 that is one pixel large."""
        output = signature.outputs[0]
        shape = output.shape
        if len(signature.outputs) == 1 and (len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))):
            return Fit(shape[1], f"a vector of {shape[1]} dimensions", pairs.calls(output, "embed", "feat"))
        return Fit(0, "wants one output [N, dimensions]")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],  # noqa: ARG002 - the seam gives it
        signature: Signature,
    ) -> HeadOptions:
        """Leave the length as it is unless it was said otherwise."""
        return HeadOptions(unit_length=bool(options.unit_length), classes=signature.outputs[0].shape[1])

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Divide by the length where that was asked for."""
        vector = steps.as_float32(graph, outputs[0])
        shape = context.signature.outputs[0].shape
        if len(shape) == 4:
            vector = graph.add("Reshape", vector, graph.constant([0, shape[1]]))
        if not context.options.unit_length:
            return vector
        # Scaled by its largest value first, so that no square overflows.
        largest = graph.unsqueeze(graph.reduce_max(graph.add("Abs", vector), 1), 1)
        share = graph.add("Div", vector, graph.add("Max", largest, graph.scalar(SHORTEST)))
        squares = graph.add("ReduceSum", graph.add("Mul", share, share), graph.constant([1]), keepdims=1)
        return graph.add("Div", share, graph.add("Sqrt", graph.add("Max", squares, graph.scalar(SHORTEST))))

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Read the vector, scaled where that was asked for."""
        vector = raw[0].astype(np.float64).reshape(len(raw[0]), -1)
        if context.options.unit_length:
            vector = vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), SHORTEST)
        return Reading(vector.astype(np.float32))
