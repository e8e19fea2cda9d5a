"""YOLOv8-pose and its kin (YOLO11-pose): a box and keypoints for each anchor.

Source: Ultralytics' `Pose` head as exported: `[N, 4 + C + 3 * P, A]`, centre and size in input pixels, class scores,
then x, y in input pixels and visibility, 0..1, of each of P keypoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

# COCO's, in its order.
PERSON = ("nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                    for side in ("left", "right")))  # fmt: skip


class YoloV8PoseHead:
    """One output `[N, 4 + C + 3 * P, A]`; one class unless `--keypoints` names P of them."""

    name = "yolov8-pose"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 3 that is longer than it is high, with whole keypoints beside one class."""
        shape = signature.outputs[0].shape
        if len(signature.outputs) == 1 and len(shape) == 3 and 8 <= shape[1] <= shape[2]:
            points, rest = divmod(shape[1] - 5, 3)
            reason = f"{shape[2]} anchors, {points} keypoints of one class" if not rest else f"{shape[2]} anchors"
            return Fit(1, reason, auto=not rest)
        return Fit(0, "wants one output [N, 4 + classes + 3 * keypoints, anchors]")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Take the keypoints' names as said, COCO's for 17, else numbers; tell the rest by its range.

        Raises:
            ImportInputError: The rows do not come out even.
        """
        rows = raw[0].shape[1]
        names = self._settle_names(options, rows)
        classes = rows - 4 - 3 * len(names)
        extras = tuple(f"kpt:{name}:{part}" for name in names for part in ("x", "y", "score"))
        return HeadOptions(
            steps.settle_activated(options.activated, raw[0][:, 4 : 4 + classes]),
            steps.settle_normalised(options.normalised, raw[0][:, :4]),
            options.box_format or "cxcywh",
            keypoints=names,
            classes=classes,
            extras=extras,
        )

    def _settle_names(self, options: HeadOptions, rows: int) -> tuple[str, ...]:
        names = options.keypoints
        if names is None:
            points, rest = divmod(rows - 5, 3)
            if rest:
                raise ImportInputError(
                    f"--keypoints: not given; {rows} rows are no whole keypoints beside one class: name them"
                )
            return PERSON if points == len(PERSON) else tuple(f"{number}" for number in range(points))
        if not names or rows - 4 - 3 * len(names) < 1:
            raise ImportInputError(
                f"--keypoints names {len(names)}; allowed is 1..{(rows - 5) // 3} with {rows} rows, one at least for a "
                "class"
            )
        return names

    def doubt(
        self,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> str:
        """Doubt keypoints that all lie within one pixel: those are scores of classes."""
        places = np.concatenate([raw[0][:, 5::3], raw[0][:, 6::3]], axis=1)
        fractions = steps.are_fractions(raw[0][:, :4])
        return "the keypoints would all lie in one pixel" if not fractions and places.max() < 2 else ""

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then turn the K best columns into rows."""
        height, end = context.signature.outputs[0].shape[1], 4 + (context.options.classes or 1)
        raw = steps.as_float32(graph, outputs[0])
        scores = graph.reduce_max(graph.slice(raw, 4, end, 1), 1)
        if not context.options.activated:
            scores = graph.add("Sigmoid", scores)
        best = steps.best_anchors(graph, scores, context)
        rows = steps.gather_anchor_columns(graph, raw, best, height)
        boxes = steps.pixel_corners(graph, graph.slice(rows, 0, 4, 2), context)
        classes = steps.best_class(graph, graph.slice(rows, 4, end, 2))
        points = graph.slice(rows, end, height, 2)
        if context.options.normalised:
            points = graph.add("Mul", points, graph.constant(self._factors(context)))
        return steps.assemble(graph, boxes, best.scores, classes, context, points)

    def _factors(self, context: HeadContext) -> NDArray[np.float32]:
        """Tell what turns each keypoint column into pixels, as `float32 [3 * P]`."""
        size = [context.signature.width, context.signature.height, 1]
        return np.asarray(size * len(context.options.keypoints or ()), np.float32)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        values, end = raw[0].astype(np.float32).transpose(0, 2, 1), 4 + (context.options.classes or 1)
        scores = values[..., 4:end] if context.options.activated else steps.sigmoid(values[..., 4:end])
        points = values[..., end:].copy()
        if context.options.normalised:
            points[..., 0::3] *= context.signature.width
            points[..., 1::3] *= context.signature.height
        return Reading(scores, steps.read_corners(values[..., :4], context), points)
