"""Bring an engine into the form that is quantised: constants as initializers, batch norms folded, every node named.

ONNX Runtime's own preparation (`quant_pre_process`) is not used: its optimiser also merges a grafted multiplication
into the convolution before it, which then would be quantised, and it may forget that the batch is dynamic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper, shape_inference

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.lower.plan import WEIGHTED_OPS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_FOLDS_INTO = {"Conv": 0, "ConvTranspose": 1}


def read_engine(content: bytes) -> ModelProto:
    """Read an engine.

    Raises:
        ImportInputError: It is no ONNX file.
    """
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ImportInputError(f"the engine is not an ONNX file: {error}") from error
    if not model.graph.node:
        raise ImportInputError("the engine is not an ONNX file: it holds no graph")
    return model


def load_engine(content: bytes) -> ModelProto:
    """Read an engine and prepare it.

    Raises:
        ImportInputError: It is no ONNX file, or is quantised or of half precision already.
    """
    model = read_engine(content)
    quantised = next(
        (node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}), None
    )
    if quantised is not None:
        raise ImportInputError(f"the engine is quantised already (node {quantised.name}); give the float32 one")
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise ImportInputError("the engine has float16 weights; give the float32 one")
    constants_to_initializers(model.graph)
    name_nodes(model.graph)
    _fold_batch_norms(model.graph)
    return shape_inference.infer_shapes(model)


def is_grafted(node: NodeProto) -> bool:
    """Whether a node was grafted on: it stays as it is."""
    return bool(node.name.startswith(PREFIX))


def weighted_nodes(graph: GraphProto) -> list[NodeProto]:
    """List the model's own nodes that carry weights, in their order."""
    return [node for node in graph.node if node.op_type in WEIGHTED_OPS and not is_grafted(node)]


def idle_nodes(graph: GraphProto, quantised: Collection[str]) -> set[str]:
    """Name the nodes without weights that eight bits would do nothing for.

    Those are all that do not lead from one of the quantised layers (or from the picture) to another: rounding there
    costs accuracy and saves nothing. What stands behind the last layer of a branch is among them.
    """
    leads_on = _leading_to(graph, quantised)
    constants = {tensor.name for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    comes_from: set[str] = set()
    idle: set[str] = set()
    for node in graph.node:
        sources = [made.get(name) for name in node.input if name and name not in constants]
        picture = all(source is None or is_grafted(source) for source in sources)
        begun = picture or any(name in comes_from for name in node.input)
        if node.name in quantised or (_between(node) and begun):
            comes_from.update(node.output)
        if _between(node) and not (begun and any(output in leads_on for output in node.output)):
            idle.add(node.name)
    return idle


def last_outputs(graph: GraphProto) -> set[str]:
    """Name what the last layer of each branch gives: the model's answer, as logits or offsets."""
    layers = weighted_nodes(graph)
    leads_on = _leading_to(graph, {node.name for node in layers})
    return {node.output[0] for node in layers if node.output[0] not in leads_on}


def _leading_to(graph: GraphProto, layers: Collection[str]) -> set[str]:
    """Name the tensors from which a way leads to one of these layers."""
    leads_on: set[str] = set()
    for node in reversed(graph.node):
        if node.name in layers or (_between(node) and any(output in leads_on for output in node.output)):
            leads_on.update(node.input)
    return leads_on


def _between(node: NodeProto) -> bool:
    return node.op_type not in WEIGHTED_OPS and not is_grafted(node)


def float_activations(model: ModelProto, op_types: Iterable[str]) -> list[str]:
    """List the float32 tensors that the model's own nodes of these types take and give, in order of their making."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    floats = {
        value.name
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    wanted = set(op_types)
    touched: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in wanted and not is_grafted(node):
            touched.update(dict.fromkeys([*node.input, *node.output]))
    return [name for name in touched if name in floats and name not in constants]


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own; one that has it keeps it."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{number}"
        while name in taken:
            name = f"{name}_{number}"
        node.name = name
        taken.add(name)


def constants_to_initializers(graph: GraphProto) -> None:
    """Turn `Constant` nodes into initializers: only those are looked at as weights."""
    kept = []
    for node in graph.node:
        value = _constant_value(node)
        if value is None:
            kept.append(node)
        else:
            value.name = node.output[0]
            graph.initializer.append(value)
    nodes = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _constant_value(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    value: Any = helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            copied = onnx.TensorProto()
            copied.CopyFrom(value)
            return copied
        case "value_float" | "value_floats":
            return numpy_helper.from_array(np.asarray(value, np.float32))
        case "value_int" | "value_ints":
            return numpy_helper.from_array(np.asarray(value, np.int64))
    return None


def _copy(node: NodeProto) -> NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _fold_batch_norms(graph: GraphProto) -> None:
    """Merge each batch norm into the convolution before it (Jacob et al. 2018, section 3.2)."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    uses = _use_counts(graph)
    for node in list(graph.node):
        before = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is None or is_grafted(before) or is_grafted(node) or uses[node.input[0]] != 1:
            continue
        if before.op_type not in _FOLDS_INTO or _attribute(node, "training_mode", 0):
            continue
        if not all(name in constants for name in [*before.input[1:], *node.input[1:]] if name):
            continue
        if before.op_type == "ConvTranspose" and _attribute(before, "group", 1) != 1:
            continue
        _fold(graph, before, node, constants)


def _fold(graph: GraphProto, conv: NodeProto, norm: NodeProto, constants: Mapping[str, TensorProto]) -> None:
    weight = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
    gamma, beta, mean, variance = (_array(constants, name) for name in norm.input[1:5])
    factor = gamma / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
    bias = _array(constants, conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros_like(factor)
    axes = [1] * weight.ndim
    axes[_FOLDS_INTO[conv.op_type]] = -1
    names = [f"{norm.name}/folded_weight", f"{norm.name}/folded_bias"]
    folded = [weight * factor.reshape(axes), beta + (bias - mean) * factor]
    for name, value in zip(names, folded, strict=True):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    conv.input[:] = [conv.input[0], *names]
    conv.output[0] = norm.output[0]
    graph.node.remove(norm)
    used = set(_use_counts(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    copies = []
    for tensor in kept:
        copied = onnx.TensorProto()
        copied.CopyFrom(tensor)
        copies.append(copied)
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _array(constants: Mapping[str, TensorProto], name: str) -> NDArray[np.float64]:
    return numpy_helper.to_array(constants[name]).astype(np.float64)


def _attribute(node: NodeProto, name: str, default: float) -> float:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return float(helper.get_attribute_value(found)) if found is not None else default


def _use_counts(graph: GraphProto) -> dict[str, int]:
    uses: dict[str, int] = {}
    names = [name for node in graph.node for name in node.input] + [value.name for value in graph.output]
    for name in names:
        uses[name] = uses.get(name, 0) + 1
    return uses
