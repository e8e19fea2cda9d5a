"""What of an ONNX graph is drawn: boxes and what flows between them; constants stand inside the box that takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto, NodeProto

_MOST_ELEMENTS_SHOWN = 4
_TENSOR_ATTRIBUTES = ("value",)


@dataclass(frozen=True, slots=True)
class Box:
    """One box.

    Attributes:
        kind: Its operator; `input` or `output` at the border.
        name: The node's or the tensor's.
        details: What it has of its own: weights, attributes; one line each.
    """

    kind: str
    name: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """One tensor from one box to another.

    Attributes:
        source: Index of the box that makes it.
        target: Index of the box that takes it.
        tensor: Its name.
        label: Element type and shape; empty: unknown.
    """

    source: int
    target: int
    tensor: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and flows; the boxes stand in an order in which every flow leads forward."""

    boxes: tuple[Box, ...]
    flows: tuple[Flow, ...]


def drawing_of(model: ModelProto) -> Drawing:
    """Gather what is drawn of a model's main graph.

    Constants, and nodes that take nothing but constants and turn them into other constants (dequantised weights), are
    named in the box that takes them: each would be a box of its own with one line to it. One that several boxes take
    is named in each.
    """
    graph = model.graph
    labels = dict(_labels(model))
    folded = _folded(graph)
    boxes: list[Box] = []
    makers: dict[str, int] = {}
    for value in graph.input:
        if value.name not in folded:
            makers[value.name] = len(boxes)
            boxes.append(Box("input", value.name, (labels.get(value.name, ""),)))
    flows: list[Flow] = []
    for node in graph.node:
        if all(output in folded for output in node.output if output) and any(node.output):
            continue
        index = len(boxes)
        boxes.append(Box(node.op_type, node.name or (node.output[0] if node.output else ""), _details(node, folded)))
        flows += [Flow(makers[n], index, n, labels.get(n, "")) for n in dict.fromkeys(node.input) if n in makers]
        makers |= dict.fromkeys((output for output in node.output if output), index)
    for value in graph.output:
        index = len(boxes)
        boxes.append(Box("output", value.name, (labels.get(value.name, ""), *_constant_output(value.name, folded))))
        if value.name in makers:
            flows.append(Flow(makers[value.name], index, value.name, labels.get(value.name, "")))
    return Drawing(tuple(boxes), tuple(flows))


def _folded(graph: onnx.GraphProto) -> dict[str, str]:
    """Name the tensors that are constant, each with what it is."""
    folded = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            folded[node.output[0]] = _constant(node)
        elif node.op_type == "DequantizeLinear" and all(name in folded for name in node.input if name):
            folded[node.output[0]] = f"{folded[node.input[0]]}, dequantised by {node.name or node.output[0]}"
    return folded


def _details(node: NodeProto, folded: Mapping[str, str]) -> tuple[str, ...]:
    constants = [f"{name}: {folded[name]}" for name in node.input if name in folded]
    attributes = [text for text in map(_attribute, node.attribute) if text]
    domain = [f"domain {node.domain}"] if node.domain not in {"", "ai.onnx"} else []
    return (*constants, *attributes, *domain)


def _constant_output(name: str, folded: Mapping[str, str]) -> tuple[str, ...]:
    return (folded[name],) if name in folded else ()


def _constant(node: NodeProto) -> str:
    for attribute in node.attribute:
        if attribute.name in _TENSOR_ATTRIBUTES:
            return _tensor(attribute.t)
    return ", ".join(_attribute(attribute).partition(" = ")[2] for attribute in node.attribute)


def _tensor(tensor: TensorProto) -> str:
    """Describe a constant; a short one by its values."""
    kind = _element(tensor.data_type)
    count = 1
    for dim in tensor.dims:
        count *= dim
    if count > _MOST_ELEMENTS_SHOWN or tensor.data_location == TensorProto.EXTERNAL:
        return f"{kind} {list(tensor.dims)}"
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in _values(tensor)]
    return f"{kind} [{', '.join(values)}]" if tensor.dims else f"{kind} {values[0]}"


def _values(tensor: TensorProto) -> list[Any]:
    found: list[Any] = onnx.numpy_helper.to_array(tensor).ravel().tolist()
    return found


def _element(number: int) -> str:
    """Name an element type as NumPy does."""
    name = TensorProto.DataType.Name(number).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _attribute(attribute: onnx.AttributeProto) -> str:
    """Describe an attribute; graphs and tensors are left out."""
    if attribute.type in {attribute.GRAPH, attribute.GRAPHS, attribute.TENSOR, attribute.TENSORS}:
        return ""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, float):
        value = f"{value:g}"
    elif not isinstance(value, int | str):
        value = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in value]
    return f"{attribute.name} = {value}"


def _labels(model: ModelProto) -> Iterator[tuple[str, str]]:
    """Tell element type and shape of each tensor, as far as shape inference finds out."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # noqa: BLE001  (the checker raises whatever it finds; a drawing does without shapes)
        graph = model.graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if not kind.elem_type:
            continue
        name = _element(kind.elem_type)
        dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim]
        yield value.name, f"{name} [{', '.join(dims)}]" if kind.HasField("shape") else name
