"""One small example model for each head, as plain ONNX of a few convolutions with seeded weights.

`HEAD_EXAMPLES[name]()` is the model, `HEAD_REQUESTS[name]` what an `ImportRequest` must say beyond it (head, labels,
options). Input 64x64 (`[N, 3, 64, 64]`, float32, dynamic batch), three classes where the head has classes.
`HEAD_VARIANTS` are further forms of the same heads, each with its request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from support_models import CLASSES, LABELS, SIDE, Draft, boxes_scores, classifier, yolov8, yolox
from vedette_engines.graft.head import HeadOptions
from vedette_engines.graft.heads.yolov5_raw import ANCHOR_SETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

POINTS = 17


def _image(d: Draft, *, centred: bool = False) -> str:
    """Bring pixels of 0..1 to about -3..3, so that every output depends on them; centred ones stay."""
    return d.add("Identity", "images") if centred else _scaled(d, "images", 6, -3)


def _rows(d: Draft, tensor: str, channels: int, cells: int) -> str:
    """Turn `[N, channels, h, w]` into `[N, cells, channels]`."""
    return d.add("Transpose", d.add("Reshape", tensor, d.shape(0, channels, cells)), perm=[0, 2, 1])


def _scaled(d: Draft, tensor: str, factor: float, shift: float = 0.0) -> str:
    scaled = d.add("Mul", tensor, d.const(np.asarray(factor, d.dtype)))
    return d.add("Add", scaled, d.const(np.asarray(shift, d.dtype)))


def yolov5(*, normalised: bool = False, **draft: Any) -> ModelProto:
    """Make `[N, 192, 5 + 3]`: three boxes for each of 64 cells, decoded."""
    d = Draft(**draft)
    width = 5 + CLASSES
    raw = d.add("Reshape", d.conv(_image(d), 3 * width, 8, 2.0), d.shape(0, 3, width, 64))
    rows = d.add("Reshape", d.add("Transpose", raw, perm=[0, 1, 3, 2]), d.shape(0, 192, width))
    shares = d.add("Sigmoid", rows)
    boxes = _scaled(d, d.slice(shares, 0, 4, 2), 1 if normalised else SIDE)
    d.add("Concat", boxes, d.slice(shares, 4, width, 2), name="output", axis=2)
    return d.model({"output": [192, width]}, "N")


def yolov5_raw(**draft: Any) -> ModelProto:
    """Make `[N, 3, H, W, 5 + 3]` for the strides 8, 16 and 32."""
    d = Draft(**draft)
    width, image, outputs = 5 + CLASSES, _image(d), {}
    for stride in (8, 16, 32):
        side = SIDE // stride
        raw = d.add("Reshape", d.conv(image, 3 * width, stride, 1.0), d.shape(0, 3, width, side, side))
        name = d.add("Transpose", raw, name=f"grid{stride}", perm=[0, 1, 3, 4, 2])
        outputs[name] = [3, side, side, width]
    return d.model(outputs, "N")


def yolov8_pose(**draft: Any) -> ModelProto:
    """Make `[N, 4 + 1 + 51, 64]`: one class and 17 keypoints, decoded."""
    d = Draft(**draft)
    rows = 5 + 3 * POINTS
    flat = d.add("Reshape", d.conv(_image(d), rows, 8, 2.0), d.shape(0, rows, 64))
    factors = np.asarray([SIDE] * 4 + [1] + [SIDE, SIDE, 1] * POINTS, d.dtype)[:, None]
    d.add("Mul", d.add("Sigmoid", flat), d.const(factors), name="output0")
    return d.model({"output0": [rows, 64]}, "N")


def yolov10(*, three: bool = False, **draft: Any) -> ModelProto:
    """Make 20 rows of corners, score and class number, sorted: `[N, 20, 6]`, or boxes, scores and labels."""
    d = Draft(**draft)
    raw = _rows(d, d.conv(_image(d), 4 + CLASSES, 8, 2.0), 4 + CLASSES, 64)
    shares = d.add("Sigmoid", raw)
    low = _scaled(d, d.slice(shares, 0, 2, 2), SIDE / 2)
    high = d.add("Add", low, _scaled(d, d.slice(shares, 2, 4, 2), SIDE / 2))
    classes = d.slice(shares, 4, 4 + CLASSES, 2)
    best = d.add("ReduceMax", classes, axes=[2], keepdims=1)
    number = d.add("Cast", d.add("ArgMax", classes, axis=2, keepdims=1), to=d.elem)
    rows = d.add("Concat", low, high, best, number, axis=2)
    d.nodes.append(_top_k(d.add("Squeeze", best, d.shape(2)), d.shape(20)))
    index = d.add("Expand", d.add("Unsqueeze", "top_index", d.shape(2)), d.shape(1, 1, 6))
    if not three:
        d.add("GatherElements", rows, index, name="output0", axis=1)
        return d.model({"output0": [20, 6]}, "N")
    picked = d.add("GatherElements", rows, index, axis=1)
    d.add("Squeeze", d.slice(picked, 5, 6, 2), d.shape(2), name="labels")
    d.add("Identity", d.slice(picked, 0, 4, 2), name="boxes")
    d.add("Squeeze", d.slice(picked, 4, 5, 2), d.shape(2), name="scores")
    return d.model({"labels": [20], "boxes": [20, 4], "scores": [20]}, "N")


def _top_k(scores: str, count: str) -> Any:
    from onnx import helper  # noqa: PLC0415

    return helper.make_node("TopK", [scores, count], ["top_score", "top_index"], axis=1)


def detr(*, no_object: bool = False, names: tuple[str, str] = ("logits", "pred_boxes"), **draft: Any) -> ModelProto:
    """Make boxes as fractions and logits `[N, 64, 3]`, or with a last column for no object, mostly the largest."""
    d = Draft(**draft)
    columns = CLASSES + no_object
    rows = _rows(d, d.conv(_image(d), 4 + columns, 8, 2.0), 4 + columns, 64)
    bias = np.zeros(columns, d.dtype)
    bias[CLASSES:] = 8
    d.add("Add", d.slice(rows, 4, 4 + columns, 2), d.const(bias), name=names[0])
    d.add("Sigmoid", d.slice(rows, 0, 4, 2), name=names[1])
    return d.model({names[0]: [64, columns], names[1]: [64, 4]}, "N")


def ssd(*, priors: bool = True, classes: int = CLASSES, **draft: Any) -> ModelProto:
    """Make offsets `[N, 64, 4]`, logits `[N, 64, 1 + classes]`, and maybe priors `[1, 64, 4]`."""
    d = Draft(**draft)
    rows = _rows(d, d.conv(_image(d, centred=True), 5 + classes, 8, 2.0), 5 + classes, 64)
    d.add("Identity", d.slice(rows, 0, 4, 2), name="locations")
    d.add("Identity", d.slice(rows, 4, 5 + classes, 2), name="confidences")
    model = d.model({"locations": [64, 4], "confidences": [64, 1 + classes]}, "N")
    if priors:
        _add_constant_output(model, "priors", ssd_priors()[None])
    return model


def ssd_priors() -> Any:
    """Make the priors of `ssd`, centre and size as fractions: `float32 [64, 4]`."""
    rows, columns = np.mgrid[:8, :8].astype(np.float32)
    table = [(columns + 0.5) / 8, (rows + 0.5) / 8, np.full_like(rows, 0.2), np.full_like(rows, 0.3)]
    return np.stack(table, axis=-1).reshape(64, 4)


def _add_constant_output(model: ModelProto, name: str, value: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    model.graph.initializer.append(numpy_helper.from_array(value, f"{name}_table"))
    model.graph.node.append(helper.make_node("Identity", [f"{name}_table"], [name], name=f"n_{name}"))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))


def nanodet(*, reg_max: int = 7, **draft: Any) -> ModelProto:
    """Make `[N, 85, 3 + 4 * (reg_max + 1)]` of the strides 8, 16, 32 and 64, scores through their sigmoid."""
    d = Draft(**draft)
    width, image = CLASSES + 4 * (reg_max + 1), _image(d, centred=True)
    levels = [_rows(d, d.conv(image, width, stride, 2.0), width, (SIDE // stride) ** 2) for stride in (8, 16, 32, 64)]
    raw = d.add("Concat", *levels, axis=1)
    scores = d.add("Sigmoid", d.slice(raw, 0, CLASSES, 2))
    d.add("Concat", scores, d.slice(raw, CLASSES, width, 2), name="output", axis=2)
    return d.model({"output": [85, width]}, "N")


def cells(*, logits: bool = False, **draft: Any) -> ModelProto:
    """Make `[N, 5 + 3, 4, 4]`, objectness and classes through sigmoid and softmax."""
    d = Draft(**draft)
    raw = d.conv(_image(d), 5 + CLASSES, 16, 2.0)
    objectness, box, classes = (d.slice(raw, *ends, 1) for ends in ((0, 1), (1, 5), (5, 5 + CLASSES)))
    if not logits:
        objectness, classes = d.add("Sigmoid", objectness), d.add("Softmax", classes, axis=1)
    d.add("Concat", objectness, box, classes, name="preds", axis=1)
    return d.model({"preds": [5 + CLASSES, 4, 4]}, "N")


def centernet(*, names: tuple[str, str, str] = ("hm", "wh", "reg"), **draft: Any) -> ModelProto:
    """Make a heatmap `[N, 3, 16, 16]`, and size and offset `[N, 2, 16, 16]`."""
    d = Draft(**draft)
    image = _image(d, centred=True)
    d.add("Sigmoid", d.conv(image, CLASSES, 4, 2.0), name=names[0])
    d.add("Abs", d.conv(image, 2, 4, 3.0), name=names[1])
    d.add("Sigmoid", d.conv(image, 2, 4, 2.0), name=names[2])
    return d.model({names[0]: [CLASSES, 16, 16], names[1]: [2, 16, 16], names[2]: [2, 16, 16]}, "N")


def embedder(*, name: str = "embedding", **draft: Any) -> ModelProto:
    """Make `[N, 16]`."""
    d = Draft(**draft)
    pooled = d.add("GlobalAveragePool", d.add("Abs", d.conv("images", 16, 8, 4.0)))
    d.add("Reshape", _scaled(d, pooled, 1, -1), d.shape(0, 16), name=name)
    return d.model({name: [16]}, "N")


ANCHORS = HeadOptions(anchors=ANCHOR_SETS["yolov5"])
PRIORS = HeadOptions(priors=tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in ssd_priors()))

HEAD_EXAMPLES: dict[str, Callable[[], ModelProto]] = {
    "yolox": lambda: yolox(batch="N"),
    "yolov5": yolov5,
    "yolov5-raw": yolov5_raw,
    "yolov8": yolov8,
    "yolov8-pose": yolov8_pose,
    "yolov10": yolov10,
    "detr": detr,
    "ssd": ssd,
    "boxes-scores": boxes_scores,
    "nanodet": nanodet,
    "cells": cells,
    "centernet": centernet,
    "classifier": lambda: classifier(batch="N"),
    "embedder": embedder,
}

HEAD_REQUESTS: dict[str, dict[str, Any]] = {
    name: {"head": name, "labels": LABELS, "max_candidates": 15} for name in HEAD_EXAMPLES
}
HEAD_REQUESTS["yolov8-pose"]["labels"] = LABELS[:1]
HEAD_REQUESTS["yolov5-raw"]["options"] = ANCHORS
HEAD_REQUESTS["embedder"]["labels"] = ()

HEAD_VARIANTS: dict[str, tuple[Callable[[], ModelProto], dict[str, Any]]] = {
    "yolov5, fractions": (lambda: yolov5(normalised=True), HEAD_REQUESTS["yolov5"]),
    "yolov10, three outputs": (lambda: yolov10(three=True), HEAD_REQUESTS["yolov10"]),
    "detr, no-object class": (lambda: detr(no_object=True), HEAD_REQUESTS["detr"]),
    "ssd, priors said": (lambda: ssd(priors=False), {**HEAD_REQUESTS["ssd"], "options": PRIORS}),
    "nanodet, reg_max 10": (
        lambda: nanodet(reg_max=10),
        {**HEAD_REQUESTS["nanodet"], "options": HeadOptions(reg_max=10)},
    ),
    "cells, logits": (lambda: cells(logits=True), HEAD_REQUESTS["cells"]),
    "embedder, length 1": (embedder, {**HEAD_REQUESTS["embedder"], "options": HeadOptions(unit_length=True)}),
}
