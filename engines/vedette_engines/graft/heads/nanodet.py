"""NanoDet-Plus: class scores, and the distance to each side of the box as a distribution over whole cells.

Sources: Li et al., "Generalized Focal Loss", arXiv:2006.04388 (the distribution's mean is the distance), and
`NanoDetPlusHead` of RangiLyu's repository: an anchor stands at its cell's corner, (gx * stride, gy * stride), and the
grids of stride 8, 16, 32, 64 round up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import grids, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

REG_MAX = 7


class NanoDetHead:
    """One output `[N, A, C + 4 * (reg_max + 1)]`: C class scores, then left, top, right, bottom.

    Args:
        strides: Pixels per cell of each grid, in the output's order; cells are row-major.
    """

    name = "nanodet"
    task: Task = "detector"
    preset = Preprocessing(order="bgr", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395))
    extras: tuple[str, ...] = ()

    def __init__(self, strides: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        self.strides = strides

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 3 with exactly the grids' number of anchors."""
        wanted = len(grids.cells(signature, self.strides, ceil=True))
        shape, least = signature.outputs[0].shape, 4 * (REG_MAX + 1)
        if len(signature.outputs) == 1 and len(shape) == 3 and shape[1] == wanted and shape[2] > 8:
            classes = max(1, shape[2] - least)
            # Narrower than that it is one with another --reg-max.
            return Fit(
                classes,
                f"{wanted} anchors of strides {self.strides}, {classes} classes + {least}",
                auto=shape[2] > least,
            )
        return Fit(0, f"wants one output [N, {wanted}, classes + {least}] at {signature.width}x{signature.height}")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits by their range; reg_max is 7 unless it was said.

        Raises:
            ImportInputError: It leaves no column for a class.
        """
        reg_max = REG_MAX if options.reg_max is None else options.reg_max
        columns = raw[0].shape[2]
        classes = columns - 4 * (reg_max + 1)
        if classes < 1:
            raise ImportInputError(
                f"--reg-max is {reg_max}; allowed is 1..{(columns - 1) // 4 - 1} with {columns} columns"
            )
        activated = steps.settle_activated(options.activated, raw[0][..., :classes])
        return HeadOptions(activated, reg_max=reg_max, classes=classes)

    def doubt(
        self,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> str:
        """Doubt distributions whose logarithms are pixels."""
        largest = float(raw[0].max())
        return f"columns reach {largest:.3g}, too much for scores and logarithms" if largest > 80 else ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then take the means of the K best anchors' distributions only."""
        columns, bins = context.signature.outputs[0].shape[2], (context.options.reg_max or REG_MAX) + 1
        classes = columns - 4 * bins
        raw = steps.as_float32(graph, outputs[0])
        scores = graph.reduce_max(graph.slice(raw, 0, classes, 2), 2)
        if not context.options.activated:
            scores = graph.add("Sigmoid", scores)
        best = steps.best_anchors(graph, scores, context)
        rows = steps.gather_anchors(graph, raw, best, columns)
        sides = graph.constant([0, context.max_candidates, 4, bins])
        shares = graph.add("Softmax", graph.add("Reshape", graph.slice(rows, classes, columns, 2), sides), axis=3)
        mean = graph.add("MatMul", shares, graph.constant(np.arange(bins, dtype=np.float32)[:, None]))
        table = grids.cells(context.signature, self.strides, ceil=True)
        cells = graph.add("Gather", graph.constant(table), best.index, axis=0)
        stride = graph.slice(cells, 2, 3, 2)
        distance = graph.add("Mul", graph.squeeze(mean, 3), stride)
        point = graph.add("Mul", graph.slice(cells, 0, 2, 2), stride)
        boxes = graph.add(
            "Concat",
            graph.add("Sub", point, graph.slice(distance, 0, 2, 2)),
            graph.add("Add", point, graph.slice(distance, 2, 4, 2)),
            axis=2,
        )
        best_class = steps.best_class(graph, graph.slice(rows, 0, classes, 2))
        return steps.assemble(graph, boxes, best.scores, best_class, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        values, bins = raw[0].astype(np.float32), (context.options.reg_max or REG_MAX) + 1
        classes = values.shape[2] - 4 * bins
        scores = values[..., :classes]
        if not context.options.activated:
            scores = steps.sigmoid(scores)
        shares = steps.softmax(values[..., classes:].reshape(*values.shape[:2], 4, bins))
        table = grids.cells(context.signature, self.strides, ceil=True)
        left, top, right, bottom = np.moveaxis((shares * np.arange(bins)).sum(axis=-1) * table[:, 2:], -1, 0)
        x, y = (table[:, :2] * table[:, 2:]).T
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=-1)
        return Reading(scores, boxes.astype(np.float32))
