"""DETR and its kin (Deformable DETR, DINO, RT-DETR, D-FINE, RF-DETR): a class and a box for each query.

Sources: Carion et al., "End-to-End Object Detection with Transformers", arXiv:2005.12872 (a softmax, its last column
for no object); Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", arXiv:2304.08069 (a sigmoid of each
class, trained with a focal loss). Boxes are centre and size as fractions of the input.

One row for each query, of its best class. RT-DETR's postprocessor takes the best pairs of query and class instead, so
that a query may stand twice; the lower of the two is what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Background, Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

# Boxes of a trained model may leave the picture, but not by this much of it.
_BEYOND = 0.5


class DetrHead:
    """Two outputs: logits `[N, Q, C]` or `[N, Q, C + 1]`, boxes `[N, Q, 4]`."""

    name = "detr"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by boxes and class scores of the same number of queries, and by the names that exporters give."""
        wants = "wants two outputs, logits [N, queries, classes] and boxes [N, queries, 4]"
        if pairs.tell_apart(signature.outputs) is None:
            return Fit(0, wants)
        boxes, logits = pairs.split(signature.outputs, signature)
        if len(logits.shape) != 3:
            return Fit(0, wants)
        named = pairs.calls(logits, "logits") or (boxes.name, logits.name) == ("dets", "labels")
        reason = f"boxes in {boxes.name}, logits in {logits.name}, {boxes.shape[1]} queries"
        return Fit(logits.shape[2], reason, named)

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Tell probabilities from logits and pixels from fractions by their range, and look for a no-object class.

        Raises:
            ImportInputError: There is one label less than columns, and the last column is not clearly for no object.
        """
        boxes, logits = pairs.split(raw, signature)
        background = options.background or self._measure_background(options.classes, logits)
        start, end = steps.class_columns(logits.shape[2], background)
        return HeadOptions(
            steps.settle_activated(options.activated, logits),
            steps.settle_normalised(options.normalised, boxes),
            options.box_format or "cxcywh",
            background,
            classes=end - start,
        )

    def _measure_background(self, labels: int | None, logits: NDArray[Any]) -> Background:
        columns = logits.shape[2]
        if labels != columns - 1:
            return "none"
        if float((logits.argmax(axis=2) == columns - 1).mean()) > 0.5:
            return "last"
        raise ImportInputError(
            f"there are {labels} labels for {columns} columns of class scores, and the last column is not the largest "
            "of most queries, as one for no object would be; say --background last, or give the missing label"
        )

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        """Doubt boxes that are no fractions, and boxes whose four numbers look like corners."""
        boxes, _ = pairs.split(raw, signature)
        low, high = float(boxes.min()), float(boxes.max())
        if low < -_BEYOND or high > 1 + _BEYOND:
            return f"boxes go from {low:.3g} to {high:.3g}, but should be fractions of the input"
        if (boxes[..., 2:] >= boxes[..., :2]).all():
            return "each box's third and fourth numbers are no smaller than its first two: corners"
        return ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then gather the K best queries of both outputs."""
        boxes, logits = (steps.as_float32(graph, tensor) for tensor in pairs.split(outputs, context.signature))
        columns = pairs.split(context.signature.outputs, context.signature)[1].shape[2]
        scores = steps.class_scores(graph, logits, columns, context)
        best = steps.best_anchors(graph, scores.best, context)
        best_boxes = steps.pixel_corners(graph, steps.gather_anchors(graph, boxes, best, 4), context)
        best_class = steps.best_class(graph, steps.gather_anchors(graph, scores.rows, best, scores.count))
        return steps.assemble(graph, best_boxes, best.scores, best_class, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every query and every class."""
        boxes, logits = (value.astype(np.float32) for value in pairs.split(raw, context.signature))
        return Reading(steps.read_class_scores(logits, context), steps.read_corners(boxes, context))
