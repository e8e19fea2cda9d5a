"""Steps that the detectors' heads share: pick the best anchors first, then work on those alone.

Each step in the graph has its likeness in NumPy (`read_...`). Both are there for heads of your own, too: TensorRT takes
every operator that stands here, and none mixes the frames of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.head import Background, HeadContext

# Half precision rounds a sum of probabilities so far from 1.
ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Best:
    """The K best anchors of each frame.

    Attributes:
        scores: Tensor `float32 [N, K]`, falling.
        index: Tensor `int64 [N, K]`, the anchors' numbers.
    """

    scores: str
    index: str


def best_anchors(graph: GraphBuilder, scores: str, context: HeadContext) -> Best:
    """Take the K best of `float32 [N, A]`, best first."""
    top = graph.add("TopK", scores, graph.constant([context.max_candidates]), outputs=2, axis=1, largest=1, sorted=1)
    return Best(top, f"{top}:1")


def gather_anchors(graph: GraphBuilder, tensor: str, best: Best, width: int) -> str:
    """Take the best anchors' rows of `[N, A, width]`, as `[N, K, width]`."""
    index = graph.add("Expand", graph.unsqueeze(best.index, 2), graph.constant([1, 1, width]))
    return graph.add("GatherElements", tensor, index, axis=1)


def gather_anchor_columns(graph: GraphBuilder, tensor: str, best: Best, height: int) -> str:
    """Take the best anchors' columns of `[N, height, A]`, turned into rows `[N, K, height]`."""
    index = graph.add("Expand", graph.unsqueeze(best.index, 1), graph.constant([1, height, 1]))
    return graph.add("Transpose", graph.add("GatherElements", tensor, index, axis=2), perm=[0, 2, 1])


def best_class(graph: GraphBuilder, class_scores: str) -> str:
    """Find the best class of each row of `[N, K, C]`, as `float32 [N, K, 1]`."""
    return graph.float32(graph.add("ArgMax", class_scores, axis=2, keepdims=1))


def class_columns(columns: int, background: Background | None) -> tuple[int, int]:
    """Tell which of the columns of class scores are classes, as `start, end`: all but the one for the background."""
    return (1 if background == "first" else 0, columns - (1 if background == "last" else 0))


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What the class scores of all anchors say.

    Attributes:
        best: Tensor `float32 [N, A]`, the best class's probability.
        rows: Tensor `float32 [N, A, count]`, rising with the probabilities: which class is the best.
        count: How many classes there are.
    """

    best: str
    rows: str
    count: int


def class_scores(graph: GraphBuilder, raw: str, columns: int, context: HeadContext) -> ClassScores:
    """Read `float32 [N, A, columns]`: logits go through a softmax where there is a background, else a sigmoid each."""
    background = context.options.background
    activated = context.options.activated
    if not activated and background in {"first", "last"}:
        raw, activated = graph.add("Softmax", raw, axis=2), True
    start, end = class_columns(columns, background)
    rows = raw if (start, end) == (0, columns) else graph.slice(raw, start, end, 2)
    best = graph.reduce_max(rows, 2)
    return ClassScores(best if activated else graph.add("Sigmoid", best), rows, end - start)


def corners(graph: GraphBuilder, centre: str, size: str) -> str:
    """Turn centre and size, `[N, K, 2]` each, into corners `[N, K, 4]`."""
    half = graph.add("Mul", size, graph.scalar(0.5))
    return graph.add("Concat", graph.add("Sub", centre, half), graph.add("Add", centre, half), axis=2)


def pixel_corners(graph: GraphBuilder, boxes: str, context: HeadContext) -> str:
    """Turn `[N, K, 4]` boxes of either format and unit into corners in input pixels."""
    if context.options.normalised:
        size = (context.signature.width, context.signature.height)
        boxes = graph.add("Mul", boxes, graph.constant(np.asarray([*size, *size], np.float32)))
    if context.options.box_format == "xyxy":
        return boxes
    return corners(graph, graph.slice(boxes, 0, 2, 2), graph.slice(boxes, 2, 4, 2))


def assemble(graph: GraphBuilder, boxes: str, scores: str, classes: str, context: HeadContext, *extras: str) -> str:
    """Join the columns of the candidates; a score below the floor becomes 0.

    Args:
        graph: Takes the nodes.
        boxes: `float32 [N, K, 4]`.
        scores: `float32 [N, K]`.
        classes: `float32 [N, K, 1]`.
        context: Tells the floor.
        extras: Further columns, `float32 [N, K, *]`.
    """
    below = graph.add("Less", scores, graph.scalar(context.score_floor))
    floored = graph.add("Where", below, graph.scalar(0.0), scores)
    return graph.add("Concat", boxes, graph.unsqueeze(floored, 2), classes, *extras, axis=2)


def as_float32(graph: GraphBuilder, tensor: str) -> str:
    """Convert a raw output before any arithmetic is done on it."""
    return graph.cast(tensor, TensorProto.FLOAT)


def read_corners(boxes: NDArray[np.float32], context: HeadContext) -> NDArray[np.float32]:
    """Turn `float32 [N, A, 4]` boxes of either format and unit into corners in input pixels, in NumPy."""
    if context.options.normalised:
        width, height = context.signature.width, context.signature.height
        boxes = np.multiply(boxes, np.asarray([width, height, width, height], np.float32), dtype=np.float32)
    if context.options.box_format == "xyxy":
        return boxes
    centre, size = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1, dtype=np.float32)


def read_class_scores(values: NDArray[np.float32], context: HeadContext) -> NDArray[np.float32]:
    """Turn `float32 [N, A, columns]` into the classes' probabilities, in NumPy."""
    background = context.options.background
    if not context.options.activated:
        values = softmax(values) if background in {"first", "last"} else sigmoid(values)
    start, end = class_columns(values.shape[2], background)
    return values[..., start:end]


def softmax(values: NDArray[Any]) -> NDArray[np.float32]:
    """Turn logits along the last axis into shares of 1, in NumPy."""
    powers: NDArray[np.float32] = np.exp(values - values.max(axis=-1, keepdims=True)).astype(np.float32)
    shares: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(values: NDArray[Any]) -> NDArray[np.float32]:
    """Squash to 0..1, in NumPy, without overflow: by the hyperbolic tangent."""
    squashed: NDArray[np.float32] = (0.5 * (1 + np.tanh(0.5 * values.astype(np.float32)))).astype(np.float32)
    return squashed


def are_probabilities(values: NDArray[Any]) -> bool:
    """Whether every value lies in 0..1, but for rounding, as no set of logits worth the name does."""
    return bool(values.size and values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING)


def are_fractions(boxes: NDArray[Any]) -> bool:
    """Whether boxes are fractions of the input: none reaches two pixels, even beyond the border."""
    return bool(boxes.size and np.abs(boxes).max() < 2)


def settle_normalised(said: bool | None, boxes: NDArray[Any]) -> bool:
    """Tell whether boxes are fractions: as it was said, else by their range."""
    return are_fractions(boxes) if said is None else said


def settle_activated(said: bool | None, values: NDArray[Any]) -> bool:
    """Tell whether scores are probabilities: as it was said, else by their range.

    Raises:
        ImportInputError: It was said that they are, but they leave 0..1.
    """
    if said is None or not said:
        return are_probabilities(values) if said is None else False
    if not are_probabilities(values):
        raise ImportInputError(
            f"--activated was given, but the model's scores go from {values.min():.3g} to {values.max():.3g}; "
            "allowed is 0 to 1"
        )
    return True
