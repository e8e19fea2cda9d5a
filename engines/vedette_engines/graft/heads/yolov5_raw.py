"""YOLOv5 and YOLOv7 as exported without their decoding: one grid of raw numbers for each stride.

Source: Ultralytics' `Detect.forward` of YOLOv5, which YOLOv7 shares: with s the sigmoid,
cx = (2 s(o0) - 0.5 + gx) * stride, w = (2 s(o2))^2 * anchor width, score = s(objectness) * s(class).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Pair, Reading, Task
from vedette_engines.graft.heads import grids, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

PER_CELL = 3
# Those of the published configurations; a model trained with `autoanchor` may have others.
ANCHOR_SETS: Mapping[str, tuple[Pair, ...]] = {
    "yolov5": ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)),
    "yolov7": ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401)),
}


class YoloV5RawHead:
    """Several outputs `[N, 3, H, W, 5 + C]`, one for each stride, in the order of the anchors."""

    name = "yolov5-raw"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", scale=1 / 255)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by outputs of rank 5 with three anchors in each cell and the same columns."""
        shapes = [output.shape for output in signature.outputs]
        if not all(len(shape) == 5 and shape[1] == PER_CELL and shape[4] > 5 for shape in shapes):
            return Fit(0, "wants outputs [N, 3, height, width, 5 + classes], one for each stride")
        if len({shape[4] for shape in shapes}) > 1 or not all(self._strides(signature)):
            return Fit(0, "wants outputs [N, 3, height, width, 5 + classes] whose cells are square, with equal classes")
        strides = ", ".join(f"{stride:g}" for stride in self._strides(signature))
        return Fit(shapes[0][4] - 5, f"grids of stride {strides}, {shapes[0][4] - 5} classes + 5")

    def _strides(self, signature: Signature) -> list[float]:
        """Tell each grid's pixels per cell; 0 where width and height disagree."""
        pairs = [
            (signature.height / output.shape[2], signature.width / output.shape[3]) for output in signature.outputs
        ]
        return [across if across == down else 0 for across, down in pairs]

    def table(self, context: HeadContext) -> NDArray[np.float32]:
        """Tabulate every anchor's column, row, stride, width and height, as `float32 [A, 5]`."""
        anchors = np.asarray(context.options.anchors, np.float32).reshape(-1, PER_CELL, 2)
        parts = []
        for output, stride, level in zip(
            context.signature.outputs, self._strides(context.signature), anchors, strict=True
        ):
            cells = grids.grid(output.shape[3], output.shape[2], stride)
            parts += [np.concatenate([cells, np.broadcast_to(pair, (len(cells), 2))], axis=1) for pair in level]
        return np.concatenate(parts).astype(np.float32)

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Tell probabilities from logits by their range; the anchors must be said.

        Raises:
            ImportInputError: They were not, or there are too few or too many.
        """
        wanted = PER_CELL * len(raw)
        if options.anchors is None or len(options.anchors) != wanted:
            have = "not given" if options.anchors is None else f"{len(options.anchors)} pairs"
            raise ImportInputError(
                f"--anchors: {have}; the head {self.name} wants {wanted} pairs of width and height, three for each of "
                f"{len(raw)} outputs, or the name of a published set: {', '.join(ANCHOR_SETS)}"
            )
        scores = np.concatenate([value.reshape(len(value), -1) for value in raw], axis=1)
        return HeadOptions(steps.settle_activated(options.activated, scores), anchors=options.anchors)

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Join the grids, reduce over the classes, then decode the K best boxes only."""
        columns = context.signature.outputs[0].shape[4]
        flat = [
            graph.add("Reshape", steps.as_float32(graph, tensor), graph.constant([0, -1, columns]))
            for tensor in outputs
        ]
        raw = graph.add("Concat", *flat, axis=1) if len(flat) > 1 else flat[0]
        objectness = self._squashed(graph, graph.squeeze(graph.slice(raw, 4, 5, 2), 2), context)
        best_class_score = self._squashed(graph, graph.reduce_max(graph.slice(raw, 5, columns, 2), 2), context)
        best = steps.best_anchors(graph, graph.add("Mul", objectness, best_class_score), context)
        rows = steps.gather_anchors(graph, raw, best, columns)
        table = graph.add("Gather", graph.constant(self.table(context)), best.index, axis=0)
        shares = graph.add("Mul", self._squashed(graph, graph.slice(rows, 0, 4, 2), context), graph.scalar(2))
        moved = graph.add("Sub", graph.slice(shares, 0, 2, 2), graph.scalar(0.5))
        centre = graph.add("Mul", graph.add("Add", moved, graph.slice(table, 0, 2, 2)), graph.slice(table, 2, 3, 2))
        factor = graph.slice(shares, 2, 4, 2)
        size = graph.add("Mul", graph.add("Mul", factor, factor), graph.slice(table, 3, 5, 2))
        classes = steps.best_class(graph, graph.slice(rows, 5, columns, 2))
        return steps.assemble(graph, steps.corners(graph, centre, size), best.scores, classes, context)

    def _squashed(self, graph: GraphBuilder, tensor: str, context: HeadContext) -> str:
        return tensor if context.options.activated else graph.add("Sigmoid", tensor)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        columns = context.signature.outputs[0].shape[4]
        values = np.concatenate([value.astype(np.float32).reshape(len(value), -1, columns) for value in raw], axis=1)
        shares = values if context.options.activated else steps.sigmoid(values)
        table = self.table(context)
        centre = (2 * shares[..., 0:2] - 0.5 + table[:, 0:2]) * table[:, 2:3]
        size = (2 * shares[..., 2:4]) ** 2 * table[:, 3:5]
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1, dtype=np.float32)
        return Reading(shares[..., 4:5] * shares[..., 5:], boxes)
