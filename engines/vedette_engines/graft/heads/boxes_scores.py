"""Detectors with two outputs: boxes, and scores per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature


class BoxesScoresHead:
    """Two outputs: boxes `[N, A, 4]`, scores `[N, A, C]`, or `[N, A]` for one class."""

    name = "boxes-scores"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by two outputs with the same number of anchors, one of them four wide."""
        if pairs.tell_apart(signature.outputs) is None:
            return Fit(0, "wants two outputs, boxes [N, anchors, 4] and scores [N, anchors, classes] or [N, anchors]")
        boxes, scores = pairs.split(signature.outputs, signature)
        classes = scores.shape[2] if len(scores.shape) == 3 else 1
        named = pairs.calls(scores, "score", "conf", "prob")
        return Fit(classes, f"boxes in {boxes.name}, scores in {scores.name}, {boxes.shape[1]} anchors", named)

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Tell probabilities from logits, and pixels from fractions, by their range."""
        boxes, scores = pairs.split(raw, signature)
        background = options.background
        columns = scores.shape[2] if scores.ndim == 3 else 1
        start, end = steps.class_columns(columns, background)
        return HeadOptions(
            steps.settle_activated(options.activated, scores),
            steps.settle_normalised(options.normalised, boxes),
            options.box_format or "xyxy",
            background,
            classes=end - start,
        )

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        """Doubt corners in the wrong order."""
        boxes, _ = pairs.split(raw, signature)
        turned = float((boxes[..., 2:] < boxes[..., :2]).any(axis=-1).mean())
        return f"{turned:.0%} of the boxes would have their corners the wrong way round" if turned > 0.01 else ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then gather the K best rows of both outputs."""
        boxes, raw = (steps.as_float32(graph, tensor) for tensor in pairs.split(outputs, context.signature))
        shape = pairs.split(context.signature.outputs, context.signature)[1].shape
        if len(shape) == 2:
            raw = graph.unsqueeze(raw, 2)
        scores = steps.class_scores(graph, raw, shape[2] if len(shape) == 3 else 1, context)
        best = steps.best_anchors(graph, scores.best, context)
        best_boxes = steps.pixel_corners(graph, steps.gather_anchors(graph, boxes, best, 4), context)
        best_class = steps.best_class(graph, steps.gather_anchors(graph, scores.rows, best, scores.count))
        return steps.assemble(graph, best_boxes, best.scores, best_class, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        boxes, scores = (value.astype(np.float32) for value in pairs.split(raw, context.signature))
        if scores.ndim == 2:
            scores = scores[..., None]
        return Reading(steps.read_class_scores(scores, context), steps.read_corners(boxes, context))
