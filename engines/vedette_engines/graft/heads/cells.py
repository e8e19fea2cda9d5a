"""FastestDet: one object for each cell of one grid.

Source: `handle_preds` of the FastestDet repository (dog-qiuqiu): channels are objectness, x, y, w, h, C classes;
cx = (tanh(x) + gx) / columns, w = s(w) of the whole picture, score = objectness^0.6 * class^0.4.
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

OBJECT_POWER = 0.6
CLASS_POWER = 0.4


class CellsHead:
    """One output `[N, 5 + C, H, W]`: objectness, x, y, w, h, C class scores."""

    name = "cells"
    task: Task = "detector"
    preset = Preprocessing(order="bgr", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 4 with more than one cell."""
        shape = signature.outputs[0].shape
        if len(signature.outputs) == 1 and len(shape) == 4 and shape[1] > 5 and shape[2] * shape[3] > 1:
            return Fit(shape[1] - 5, f"a grid of {shape[3]}x{shape[2]} cells, {shape[1] - 5} classes + 5")
        return Fit(0, "wants one output [N, 5 + classes, rows, columns]")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits by their range; of the box nothing can be said."""
        scores = np.concatenate([raw[0][:, :1], raw[0][:, 5:]], axis=1)
        return HeadOptions(steps.settle_activated(options.activated, scores))

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then decode the K best cells only."""
        _, height, rows, columns = context.signature.outputs[0].shape
        flat = graph.add("Reshape", steps.as_float32(graph, outputs[0]), graph.constant([0, height, rows * columns]))
        objectness, classes = graph.slice(flat, 0, 1, 1), graph.slice(flat, 5, height, 1)
        if not context.options.activated:
            objectness, classes = graph.add("Sigmoid", objectness), graph.add("Softmax", classes, axis=1)
        share = graph.add("Relu", graph.squeeze(objectness, 1))
        best_class_score = graph.add("Relu", graph.reduce_max(classes, 1))
        score = graph.add(
            "Mul",
            graph.add("Pow", share, graph.scalar(OBJECT_POWER)),
            graph.add("Pow", best_class_score, graph.scalar(CLASS_POWER)),
        )
        best = steps.best_anchors(graph, score, context)
        picked = steps.gather_anchor_columns(graph, flat, best, height)
        table = graph.constant(grids.grid(columns, rows, 1)[:, :2])
        moved = graph.add("Tanh", graph.slice(picked, 1, 3, 2))
        centre = graph.add("Add", moved, graph.add("Gather", table, best.index, axis=0))
        side = np.asarray([context.signature.width, context.signature.height], np.float32)
        cell = side / np.asarray([columns, rows], np.float32)
        centre = graph.add("Mul", centre, graph.constant(cell))
        size = graph.add("Mul", graph.add("Sigmoid", graph.slice(picked, 3, 5, 2)), graph.constant(side))
        best_class = steps.best_class(graph, graph.slice(picked, 5, height, 2))
        return steps.assemble(graph, steps.corners(graph, centre, size), best.scores, best_class, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every cell and every class."""
        _, height, rows, columns = context.signature.outputs[0].shape
        values = raw[0].astype(np.float32).reshape(len(raw[0]), height, -1).transpose(0, 2, 1)
        objectness, classes = values[..., :1], values[..., 5:]
        if not context.options.activated:
            objectness, classes = steps.sigmoid(objectness), steps.softmax(classes)
        scores = np.maximum(objectness, 0) ** OBJECT_POWER * np.maximum(classes, 0) ** CLASS_POWER
        gx, gy = grids.grid(columns, rows, 1)[:, :2].T
        x = (np.tanh(values[..., 1]) + gx) / columns * context.signature.width
        y = (np.tanh(values[..., 2]) + gy) / rows * context.signature.height
        w = steps.sigmoid(values[..., 3]) * context.signature.width
        h = steps.sigmoid(values[..., 4]) * context.signature.height
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)
        return Reading(scores.astype(np.float32), boxes.astype(np.float32))
