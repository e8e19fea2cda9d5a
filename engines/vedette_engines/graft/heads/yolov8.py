"""YOLOv8 and its kin (v9, v11, v12): decoded boxes and class scores, anchors in the last axis.

Source: Ultralytics' `Detect` head as exported: `[N, 4 + C, A]`, centre and size in input pixels, no objectness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature


# A logit beyond this is a pixel.
LARGEST_LOGIT = 40


class YoloV8Head:
    """One output `[N, 4 + C, A]`: centre and size, then C class scores."""

    name = "yolov8"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 3 that is longer than it is high."""
        shape = signature.outputs[0].shape
        if len(signature.outputs) == 1 and len(shape) == 3 and 4 < shape[1] <= shape[2]:
            return Fit(shape[1] - 4, f"{shape[2]} anchors, {shape[1] - 4} classes + 4")
        return Fit(0, "wants one output [N, 4 + classes, anchors] with at least as many anchors as rows")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits, and pixels from fractions, by their range."""
        activated = steps.settle_activated(options.activated, raw[0][:, 4:])
        normalised = steps.settle_normalised(options.normalised, raw[0][:, :4])
        return HeadOptions(activated, normalised, options.box_format or "cxcywh")

    def doubt(
        self,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> str:
        """Doubt scores that are so large that they must be pixels: of keypoints, say."""
        largest = float(raw[0][:, 4:].max())
        return f"rows from 4 on reach {largest:.3g}, too much for scores" if largest > LARGEST_LOGIT else ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then turn the K best columns into rows."""
        height = context.signature.outputs[0].shape[1]
        raw = steps.as_float32(graph, outputs[0])
        scores = graph.reduce_max(graph.slice(raw, 4, height, 1), 1)
        if not context.options.activated:
            scores = graph.add("Sigmoid", scores)
        best = steps.best_anchors(graph, scores, context)
        rows = steps.gather_anchor_columns(graph, raw, best, height)
        boxes = steps.pixel_corners(graph, graph.slice(rows, 0, 4, 2), context)
        classes = steps.best_class(graph, graph.slice(rows, 4, height, 2))
        return steps.assemble(graph, boxes, best.scores, classes, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        values = raw[0].astype(np.float32).transpose(0, 2, 1)
        scores = values[..., 4:] if context.options.activated else steps.sigmoid(values[..., 4:])
        return Reading(scores, steps.read_corners(values[..., :4], context))
