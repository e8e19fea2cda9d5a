"""Detectors that give finished rows (YOLOv10, YOLO26, and others exported end to end): box, score and class number.

Source: Wang et al., "YOLOv10: Real-Time End-to-End Object Detection", arXiv:2405.14458, and Ultralytics' exports:
`[N, K, 6]` with x1, y1, x2, y2, score, class. RT-DETR's deployed form is the same in three outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Output, Signature

T = TypeVar("T")
_MOST_ROWS = 1000
# What is larger, or no number at all, numbers no class.
_HIGHEST_CLASS = 100_000


class _Triple(NamedTuple):
    """Which output holds what."""

    boxes: int
    scores: int
    classes: int


def _triple(outputs: Sequence[Output]) -> _Triple | None:
    """Find boxes `[N, K, 4]`, and by their names scores and classes `[N, K]`; None when it cannot be told."""
    boxes = [i for i, output in enumerate(outputs) if len(output.shape) == 3 and output.shape[2] == 4]
    scores = [i for i, output in enumerate(outputs) if len(output.shape) == 2 and pairs.calls(output, "score", "conf")]
    classes = [
        i for i, output in enumerate(outputs) if len(output.shape) == 2 and pairs.calls(output, "label", "class")
    ]
    if len(outputs) != 3 or (len(boxes), len(scores), len(classes)) != (1, 1, 1) or scores == classes:
        return None
    triple = _Triple(boxes[0], scores[0], classes[0])
    return triple if len({outputs[i].shape[1] for i in triple}) == 1 else None


class YoloV10Head:
    """One output `[N, K, 6]`, or boxes `[N, K, 4]`, scores `[N, K]` and labels `[N, K]`."""

    name = "yolov10"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by few rows of six columns, or by the names of three outputs; how many classes there are stays open."""
        outputs = signature.outputs
        shape = outputs[0].shape
        if len(outputs) == 1 and len(shape) == 3 and shape[2] == 6 and shape[1] <= _MOST_ROWS:
            return Fit(1, f"{shape[1]} rows of box, score, class", counted=False)
        triple = _triple(outputs)
        if triple is not None:
            names = ", ".join(outputs[i].name for i in triple)
            return Fit(1, f"{shape[1]} rows of {names}", named=True, counted=False)
        return Fit(0, f"wants one output [N, rows, 6] of up to {_MOST_ROWS} rows, or boxes, scores and labels")

    def rows(self, raw: Sequence[NDArray[Any]], signature: Signature) -> NDArray[np.float32]:
        """Join the outputs to `float32 [N, K, 6]`."""
        triple = _triple(signature.outputs)
        if triple is None:
            return raw[0].astype(np.float32)
        boxes, scores, classes = (raw[i].astype(np.float32) for i in triple)
        return np.concatenate([boxes, scores[..., None], classes[..., None]], axis=2)

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Tell logits and fractions by their range; there are as many classes as labels.

        Raises:
            ImportInputError: A class number has no label, or is none.
        """
        rows = self.rows(raw, signature)
        classes = rows[..., 5]
        if not (np.abs(classes) <= _HIGHEST_CLASS).all() or (classes != np.round(classes)).any():
            raise ImportInputError(
                f"the head {self.name} wants whole class numbers beside the scores; what stands there goes from "
                f"{classes.min():.3g} to {classes.max():.3g}"
            )
        highest = int(classes.max())
        if options.classes is not None and highest >= options.classes:
            raise ImportInputError(f"there are {options.classes} labels, but the model gives class {highest}")
        settled = HeadOptions(
            steps.settle_activated(options.activated, rows[..., 4]),
            steps.settle_normalised(options.normalised, rows[..., :4]),
            options.box_format or "xyxy",
        )
        return replace(settled, classes=options.classes or highest + 1)

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        """Doubt classes that are no whole numbers."""
        classes = self.rows(raw, signature)[..., 5]
        whole = (classes == np.round(classes)).all() and classes.min() >= 0
        return "" if whole else "the sixth column holds other things than class numbers"

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Sort the rows by score, or take the best of them."""
        triple = _triple(context.signature.outputs)
        if triple is None:
            raw = steps.as_float32(graph, outputs[0])
        else:
            boxes, scores, classes = (steps.as_float32(graph, outputs[i]) for i in triple)
            raw = graph.add("Concat", boxes, graph.unsqueeze(scores, 2), graph.unsqueeze(classes, 2), axis=2)
        score = graph.squeeze(graph.slice(raw, 4, 5, 2), 2)
        if not context.options.activated:
            score = graph.add("Sigmoid", score)
        best = steps.best_anchors(graph, score, context)
        rows = steps.gather_anchors(graph, raw, best, 6)
        corners = steps.pixel_corners(graph, graph.slice(rows, 0, 4, 2), context)
        return steps.assemble(graph, corners, best.scores, graph.slice(rows, 5, 6, 2), context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Put each row's score in the column of its class."""
        rows = self.rows(raw, context.signature)
        score = rows[..., 4] if context.options.activated else steps.sigmoid(rows[..., 4])
        # Before the labels are counted there is room for whatever class stands there.
        count = context.options.classes or int(rows[..., 5].max()) + 1
        scores = np.where(rows[..., 5:] == np.arange(count), score[..., None], np.float32(0)).astype(np.float32)
        return Reading(scores, steps.read_corners(rows[..., :4], context))
