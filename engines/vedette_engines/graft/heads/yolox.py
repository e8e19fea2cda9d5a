"""YOLOX: raw grids of three strides, objectness and classes.

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430, and `demo_postprocess` of the
Megvii repository: cx = (o0 + gx) * s, w = exp(o2) * s, score = objectness * class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import grids, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature


# exp(8) cells of 8 pixels are 24,000 pixels.
LARGEST_LOG = 8


class YoloxHead:
    """One output `[N, A, 5 + C]`: x, y, log w, log h in units of the stride, objectness, C class scores.

    Args:
        strides: Pixels per cell of each grid, in the output's order; cells are row-major.
    """

    name = "yolox"
    task: Task = "detector"
    preset = Preprocessing(order="bgr")
    extras: tuple[str, ...] = ()

    def __init__(self, strides: tuple[int, ...] = (8, 16, 32)) -> None:
        self.strides = strides

    def cells(self, signature: Signature) -> NDArray[np.float32]:
        """Tabulate every anchor's column, row and stride, as `float32 [A, 3]`."""
        return grids.cells(signature, self.strides)

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 3 with exactly the grids' number of anchors."""
        wanted = len(self.cells(signature))
        shape = signature.outputs[0].shape
        if len(signature.outputs) == 1 and len(shape) == 3 and shape[1] == wanted and shape[2] > 5:
            return Fit(shape[2] - 5, f"{wanted} anchors of strides {self.strides}, {shape[2] - 5} classes + 5")
        return Fit(0, f"wants one output [N, {wanted}, 5 + classes] at {signature.width}x{signature.height}")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits by their range."""
        activated = steps.settle_activated(options.activated, raw[0][..., 4:])
        return HeadOptions(activated=activated)

    def doubt(
        self,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> str:
        """Doubt logarithms of sizes that no box has: those are decoded boxes."""
        largest = float(raw[0][..., 2:4].max())
        return f"columns 2 and 3 reach {largest:.3g}, too much for logarithms" if largest > LARGEST_LOG else ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then decode the K best boxes only."""
        columns = context.signature.outputs[0].shape[2]
        raw = steps.as_float32(graph, outputs[0])
        objectness = graph.squeeze(graph.slice(raw, 4, 5, 2), 2)
        best_class_score = graph.reduce_max(graph.slice(raw, 5, columns, 2), 2)
        if not context.options.activated:
            # The sigmoid rises with its argument: the best logit has the best probability.
            objectness = graph.add("Sigmoid", objectness)
            best_class_score = graph.add("Sigmoid", best_class_score)
        best = steps.best_anchors(graph, graph.add("Mul", objectness, best_class_score), context)
        rows = steps.gather_anchors(graph, raw, best, columns)
        cells = graph.add("Gather", graph.constant(self.cells(context.signature)), best.index, axis=0)
        stride = graph.slice(cells, 2, 3, 2)
        offset = graph.add("Add", graph.slice(rows, 0, 2, 2), graph.slice(cells, 0, 2, 2))
        centre = graph.add("Mul", offset, stride)
        size = graph.add("Mul", graph.add("Exp", graph.slice(rows, 2, 4, 2)), stride)
        boxes = steps.corners(graph, centre, size)
        classes = steps.best_class(graph, graph.slice(rows, 5, columns, 2))
        return steps.assemble(graph, boxes, best.scores, classes, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        values = raw[0].astype(np.float32)
        cells = self.cells(context.signature)
        stride = cells[:, 2:]
        centre = (values[..., 0:2] + cells[:, :2]) * stride
        size = np.exp(values[..., 2:4]) * stride
        scores = values[..., 4:] if context.options.activated else steps.sigmoid(values[..., 4:])
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1, dtype=np.float32)
        return Reading(scores[..., :1] * scores[..., 1:], boxes)
