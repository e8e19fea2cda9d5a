"""YOLOv5 and YOLOv7 with their boxes decoded (and YOLOv6, and YOLOX exported with its decoding): with objectness.

Source: Ultralytics' `Detect` of YOLOv5 as exported: `[N, A, 5 + C]`, centre and size in input pixels, objectness,
C class scores; score = objectness * class. Exports without the decoding: `yolov5-raw`.
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


class YoloV5Head:
    """The first output of rank 3 `[N, A, 5 + C]`; the undecoded grids that some exports add are left out."""

    name = "yolov5"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 3 that is no wider than it is long, beside none or grids of rank 5."""
        shape = signature.outputs[0].shape
        others = signature.outputs[1:]
        if len(shape) == 3 and 5 < shape[2] <= shape[1] and all(len(other.shape) == 5 for other in others):
            return Fit(shape[2] - 5, f"{shape[1]} anchors, {shape[2] - 5} classes + 5")
        return Fit(0, "wants an output [N, anchors, 5 + classes] with at least as many anchors as columns")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits, and pixels from fractions, by their range."""
        activated = steps.settle_activated(options.activated, raw[0][..., 4:])
        normalised = steps.settle_normalised(options.normalised, raw[0][..., :4])
        return HeadOptions(activated, normalised, options.box_format or "cxcywh")

    def doubt(
        self,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> str:
        """Doubt sizes below zero, scores that are no probabilities, and classes that are numbers."""
        boxes, scores = raw[0][..., :4], raw[0][..., 4:]
        if boxes[..., 2:].min() < 0:
            return f"widths and heights go down to {boxes[..., 2:].min():.3g}: the boxes are not decoded"
        if not steps.are_probabilities(scores):
            return f"objectness and class scores go from {scores.min():.3g} to {scores.max():.3g}, beyond 0 to 1"
        if (scores[..., 1:] == np.round(scores[..., 1:])).all():
            return "the class scores are whole numbers: rows that were selected already"
        return ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then gather the K best rows."""
        columns = context.signature.outputs[0].shape[2]
        raw = steps.as_float32(graph, outputs[0])
        objectness = graph.squeeze(graph.slice(raw, 4, 5, 2), 2)
        best_class_score = graph.reduce_max(graph.slice(raw, 5, columns, 2), 2)
        if not context.options.activated:
            objectness = graph.add("Sigmoid", objectness)
            best_class_score = graph.add("Sigmoid", best_class_score)
        best = steps.best_anchors(graph, graph.add("Mul", objectness, best_class_score), context)
        rows = steps.gather_anchors(graph, raw, best, columns)
        boxes = steps.pixel_corners(graph, graph.slice(rows, 0, 4, 2), context)
        classes = steps.best_class(graph, graph.slice(rows, 5, columns, 2))
        return steps.assemble(graph, boxes, best.scores, classes, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        values = raw[0].astype(np.float32)
        scores = values[..., 4:] if context.options.activated else steps.sigmoid(values[..., 4:])
        return Reading(scores[..., :1] * scores[..., 1:], steps.read_corners(values[..., :4], context))
