"""Open the batch dimension of a model that was exported for one frame.

What holds such a model to one frame is written in a few places only: the declared shapes, the constant
targets of `Reshape` and the constant `sizes` of `Resize`. They are rewritten here; whether the result
computes the same is for the caller to measure, since a graph can hide a batch of 1 in other ways.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

BATCH = "N"
Shape = tuple[int | None, ...]


def has_dynamic_batch(model: ModelProto) -> bool:
    """Whether every input leaves its first dimension open."""
    return all(not given.type.tensor_type.shape.dim[0].HasField("dim_value") for given in model.graph.input)


def open_batch(model: ModelProto) -> ModelProto:
    """Return a copy whose first dimension is dynamic, as far as that can be read from the graph."""
    shapes = _shapes(model)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _open_reshape(graph, node, constants[node.input[1]], shapes)
        elif node.op_type == "Resize" and len(node.input) == 4 and node.input[3] in constants:
            _open_resize(graph, node, shapes)
    return opened


def _open_reshape(graph: GraphProto, node: NodeProto, target: NDArray[np.int64], shapes: Mapping[str, Shape]) -> None:
    """Let a target that starts with 1 start with whatever the rest leaves."""
    if not len(target) or target[0] != 1:
        return
    rest = [int(size) for size in target[1:]]
    known = shapes.get(node.output[0])
    if known is not None and len(known) == len(target):
        rest = [size if size > 0 else known[i + 1] or size for i, size in enumerate(rest)]
    first = -1 if all(size > 0 for size in rest) else 0
    _replace_input(graph, node, 1, np.asarray([first, *rest], np.int64))


def _open_resize(graph: GraphProto, node: NodeProto, shapes: Mapping[str, Shape]) -> None:
    """Say a Resize by its factors instead of by its sizes, where the factors give the same sizes."""
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    if before is None or after is None:
        return
    pairs = list(zip(before[1:], after[1:], strict=True))
    if any(old is None or new is None for old, new in pairs):
        return
    scales = np.asarray([1.0, *(new / old for old, new in pairs if old and new)], np.float32)
    if len(scales) != len(before) or any(
        math.floor(old * float(scale)) != new for (old, new), scale in zip(pairs, scales[1:], strict=True) if old
    ):
        return
    node.input[3] = ""
    _replace_input(graph, node, 2, scales)
    del node.input[3:]


def _replace_input(graph: GraphProto, node: NodeProto, index: int, value: NDArray[np.generic]) -> None:
    name = f"vedette/batch/{node.output[0]}"
    graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[index] = name


def _constants(graph: GraphProto) -> dict[str, NDArray[np.int64]]:
    """Collect the integer constants that may be shapes, initializers and nodes alike."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _may_be_shape(tensor)}
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.name == "value" and _may_be_shape(value):
                found[node.output[0]] = numpy_helper.to_array(value)
            elif attribute.name == "value_ints":
                found[node.output[0]] = np.asarray(value, np.int64)
    return found


def _may_be_shape(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1)


def _shapes(model: ModelProto) -> dict[str, Shape]:
    """Infer the shapes of all tensors of a model, None where a size is not known."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
