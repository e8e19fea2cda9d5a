"""Tiny ONNX models with the outputs of each family, made of a few convolutions with seeded weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

SIDE = 64
CLASSES = 3
LABELS = ("person", "car", "dog")
CELLS = {8: 64, 16: 16, 32: 4}
ANCHORS = sum(CELLS.values())


@dataclass
class Draft:
    """A graph in the making."""

    opset: int = 17
    elem: int = TensorProto.FLOAT
    seed: int = 7
    nodes: list[Any] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    @property
    def dtype(self) -> Any:
        return np.float16 if self.elem == TensorProto.FLOAT16 else np.float32

    def const(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def shape(self, *sizes: int) -> str:
        return self.const(np.asarray(sizes, np.int64))

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"n_{name}", **attributes))
        return name

    def conv(self, tensor: str, channels: int, stride: int, spread: float) -> str:
        """Convolve with one kernel per cell: every output depends on every channel and pixel of its cell."""
        fan = 3 * stride * stride
        weight = self.rng.normal(0, spread / np.sqrt(fan), (channels, 3, stride, stride)).astype(self.dtype)
        bias = self.rng.normal(0, spread, channels).astype(self.dtype)
        return self.add("Conv", tensor, self.const(weight), self.const(bias), strides=[stride, stride])

    def slice(self, tensor: str, start: int, end: int, axis: int) -> str:
        return self.add("Slice", tensor, self.shape(start), self.shape(end), self.shape(axis))

    def model(
        self, outputs: dict[str, list[int | str]], batch: int | str, size: tuple[Any, Any] = (SIDE, SIDE)
    ) -> ModelProto:
        image = helper.make_tensor_value_info("images", self.elem, [batch, 3, *size])
        values = [helper.make_tensor_value_info(name, self.elem, [batch, *shape]) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "tiny", [image], values, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 9 if self.opset > 11 else 7
        onnx.checker.check_model(model)
        return model


def yolox(
    *,
    batch: int | str = 1,
    logits: bool = False,
    scale: float = 1 / 64,
    strides: tuple[int, ...] = (8, 16, 32),
    **draft: Any,
) -> ModelProto:
    """Make `[N, 84, 5 + 3]` of three grids, the reshapes fixed at one frame as PyTorch writes them."""
    d = Draft(**draft)
    image = d.add("Mul", "images", d.const(np.asarray(scale, d.dtype)))
    levels = []
    for stride in strides:
        raw = d.conv(image, 5 + CLASSES, stride, 0.7)
        box, score = d.slice(raw, 0, 4, 1), d.slice(raw, 4, 5 + CLASSES, 1)
        joined = d.add("Concat", box, score if logits else d.add("Sigmoid", score), axis=1)
        levels.append(d.add("Reshape", joined, d.shape(1 if batch == 1 else 0, 5 + CLASSES, -1)))
    d.add("Transpose", d.add("Concat", *levels, axis=2), name="output", perm=[0, 2, 1])
    return d.model({"output": [ANCHORS, 5 + CLASSES]}, batch)


def _decoded(d: Draft, image: str, *, logits: bool, normalised: bool) -> tuple[str, str]:
    """Boxes `[N, 4, 64]` (centre and size) and class scores `[N, 3, 64]` of one grid."""
    raw = d.conv(image, 4 + CLASSES, 8, 2.0)
    flat = d.add("Reshape", raw, d.shape(0, 4 + CLASSES, 64))
    boxes = d.add("Sigmoid", d.slice(flat, 0, 4, 1))
    if not normalised:
        boxes = d.add("Mul", boxes, d.const(np.asarray(SIDE, d.dtype)))
    scores = d.slice(flat, 4, 4 + CLASSES, 1)
    return boxes, scores if logits else d.add("Sigmoid", scores)


def yolov8(*, batch: int | str = "N", logits: bool = False, normalised: bool = False, **draft: Any) -> ModelProto:
    """Make `[N, 4 + 3, 64]`."""
    d = Draft(**draft)
    d.add("Concat", *_decoded(d, "images", logits=logits, normalised=normalised), name="output0", axis=1)
    return d.model({"output0": [4 + CLASSES, 64]}, batch)


def boxes_scores(
    *, batch: int | str = "N", logits: bool = False, normalised: bool = False, one_class: bool = False, **draft: Any
) -> ModelProto:
    """Make boxes `[N, 64, 4]` and scores `[N, 64, 3]`, or `[N, 64]`; the scores come first."""
    d = Draft(**draft)
    boxes, scores = _decoded(d, "images", logits=logits, normalised=normalised)
    if one_class:
        d.add("Squeeze", d.slice(scores, 0, 1, 1), d.shape(1), name="scores")
    else:
        d.add("Transpose", scores, name="scores", perm=[0, 2, 1])
    d.add("Transpose", boxes, name="boxes", perm=[0, 2, 1])
    return d.model({"scores": [64] if one_class else [64, CLASSES], "boxes": [64, 4]}, batch)


def classifier(*, batch: int | str = 1, softmax: bool = False, name: str = "logits", **draft: Any) -> ModelProto:
    """Make `[N, 3]`; fixed at one frame it reshapes to `[1, 3]`."""
    d = Draft(**draft)
    pooled = d.add("GlobalAveragePool", d.add("Abs", d.conv("images", CLASSES, 8, 4.0)))
    if not softmax:
        d.add("Reshape", pooled, d.shape(1 if batch == 1 else 0, CLASSES), name=name)
    else:
        d.add("Softmax", d.add("Reshape", pooled, d.shape(1 if batch == 1 else 0, CLASSES)), name=name, axis=1)
    return d.model({name: [CLASSES]}, batch)


def stubborn() -> ModelProto:
    """Make a classifier that joins a constant of one frame to its features, so that its batch cannot be opened."""
    d = Draft()
    pooled = d.add("GlobalAveragePool", d.conv("images", CLASSES - 1, 8, 2.0))
    flat = d.add("Reshape", pooled, d.shape(1, CLASSES - 1))
    d.add("Concat", flat, d.const(np.zeros((1, 1), np.float32)), name="logits", axis=1)
    return d.model({"logits": [CLASSES]}, 1)


def resized() -> ModelProto:
    """Make a classifier that resizes to sizes written for one frame."""
    d = Draft()
    features = d.conv("images", CLASSES, 8, 4.0)
    larger = d.add("Resize", features, "", "", d.shape(1, CLASSES, 16, 16), mode="nearest")
    d.add("Reshape", d.add("GlobalAveragePool", larger), d.shape(1, CLASSES), name="logits")
    return d.model({"logits": [CLASSES]}, 1)


def save(model: ModelProto, path: Path) -> Path:
    """Write a model and return where it is."""
    onnx.save(model, str(path))
    return path
