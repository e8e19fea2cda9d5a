"""Detectors with two outputs: boxes, and scores per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Output, Signature

T = TypeVar("T")


def tell_apart(outputs: Sequence[Output]) -> tuple[int, int] | None:
    """Find which output holds the boxes and which the scores; None when it cannot be told.

    Where both could be boxes (`[N, A, 4]` twice: four classes), their names decide.
    """
    if len(outputs) != 2:
        return None
    ways = [
        (boxes, scores)
        for boxes, scores in ((0, 1), (1, 0))
        if _are_boxes(outputs[boxes].shape) and _are_scores(outputs[scores].shape, outputs[boxes].shape)
    ]
    if len(ways) > 1:
        ways = [way for way in ways if "box" in outputs[way[0]].name.lower()]
    return ways[0] if len(ways) == 1 else None


def _are_boxes(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 4


def _are_scores(shape: tuple[int, ...], boxes: tuple[int, ...]) -> bool:
    return len(shape) in {2, 3} and shape[1] == boxes[1]


class BoxesScoresHead:
    """Two outputs: boxes `[N, A, 4]`, scores `[N, A, C]`, or `[N, A]` for one class."""

    name = "boxes-scores"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by two outputs with the same number of anchors, one of them four wide."""
        ways = tell_apart(signature.outputs)
        if ways is None:
            return Fit(0, "wants two outputs, boxes [N, anchors, 4] and scores [N, anchors, classes] or [N, anchors]")
        boxes, scores = (signature.outputs[i] for i in ways)
        classes = scores.shape[2] if len(scores.shape) == 3 else 1
        return Fit(classes, f"boxes in {boxes.name}, scores in {scores.name}, {boxes.shape[1]} anchors")

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Tell probabilities from logits, and pixels from fractions, by their range."""
        boxes, scores = self._split(raw, signature)
        normalised = options.normalised
        activated = steps.settle_activated(options.activated, scores)
        if normalised is None:
            normalised = steps.are_fractions(boxes)
        return HeadOptions(activated, normalised, options.box_format or "xyxy")

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then gather the K best rows of both outputs."""
        boxes, scores = (steps.as_float32(graph, tensor) for tensor in self._split(outputs, context.signature))
        shape = self._split(context.signature.outputs, context.signature)[1].shape
        if len(shape) == 2:
            scores = graph.unsqueeze(scores, 2)
        classes = shape[2] if len(shape) == 3 else 1
        best_score = graph.reduce_max(scores, 2)
        if not context.options.activated:
            best_score = graph.add("Sigmoid", best_score)
        best = steps.best_anchors(graph, best_score, context)
        best_boxes = steps.pixel_corners(graph, steps.gather_anchors(graph, boxes, best, 4), context)
        best_class = steps.best_class(graph, steps.gather_anchors(graph, scores, best, classes))
        return steps.assemble(graph, best_boxes, best.scores, best_class, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        boxes, scores = (value.astype(np.float32) for value in self._split(raw, context.signature))
        if scores.ndim == 2:
            scores = scores[..., None]
        if not context.options.activated:
            scores = steps.sigmoid(scores)
        return Reading(scores, steps.read_corners(boxes, context))

    def _split(self, things: Sequence[T], signature: Signature) -> tuple[T, T]:
        ways = tell_apart(signature.outputs)
        if ways is None:
            raise ValueError(f"the outputs {signature.shapes} are not boxes and scores")
        return things[ways[0]], things[ways[1]]
