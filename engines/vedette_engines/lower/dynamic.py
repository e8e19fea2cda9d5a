"""Quantise an engine of matrices to eight bits without calibrating: ranges are measured in every run.

For transformers, whose activations differ so much from picture to picture that a fixed range serves none of them. The
range of a tensor is taken over the whole batch, so that a frame's result depends a little on those beside it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, add_infer_metadata

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.session import Session
from vedette_engines.lower.int8 import quiet
from vedette_engines.lower.plan import Quantised
from vedette_engines.lower.prepare import is_grafted, load_engine, weighted_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def to_int8_dynamic(
    content: bytes, say: Callable[[str], None], exclude: Sequence[str] = (), *, per_channel: bool = True
) -> Quantised:
    """Quantise the matrices of an engine; convolutions stay float32.

    Args:
        content: A float32 engine.
        say: Takes a line when it is done.
        exclude: Names of nodes that stay float32.
        per_channel: One scale for each column of a matrix.

    Raises:
        ImportInputError: It has no matrices of weights, or a node to leave out does not exist.
        ImportRefusedError: The result cannot be run.
    """
    started = time.monotonic()
    model = load_engine(content)
    names = {node.name for node in model.graph.node}
    unknown = [name for name in exclude if name not in names]
    if unknown:
        raise ImportInputError(f"node {unknown[0]!r} is to be left out, but there is none")
    _split_gemms(model.graph, set(exclude))
    constants = {tensor.name for tensor in model.graph.initializer}
    wanted = [
        node.name
        for node in weighted_nodes(model.graph)
        if node.op_type == "MatMul" and node.input[1] in constants and node.name not in set(exclude)
    ]
    if not wanted:
        raise ImportInputError("nothing to quantise: the engine has no MatMul or Gemm with weights; take static int8")
    layers = [node.name for node in weighted_nodes(model.graph)]
    written = _quantise(model, wanted, per_channel=per_channel)
    _try(written, model)
    done = [name for name in layers if name in set(wanted)]
    say(f"dynamic int8: {len(done)} matrices quantised, {len(written) / len(content):.0%} of the size")
    kept = tuple(name for name in layers if name not in set(wanted))
    return Quantised(written, tuple(done), kept, round(time.monotonic() - started, 3))


def _quantise(model: ModelProto, wanted: list[str], *, per_channel: bool) -> bytes:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    add_infer_metadata(copied)
    with quiet():
        quantizer = ONNXQuantizer(
            copied,
            per_channel,
            False,
            QuantizationMode.IntegerOps,
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            wanted,
            [node.name for node in copied.graph.node if is_grafted(node)],
            ["MatMul"],
            {"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    written = quantizer.model.model
    del written.graph.value_info[:]
    return bytes(written.SerializeToString())


def _split_gemms(graph: GraphProto, excluded: set[str]) -> None:
    """Write each `Gemm` of weights as a `MatMul` and an `Add`: only the former has an integer form."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        nodes += _split(graph, copied, constants) if _splits(node, constants, excluded) else [copied]
    del graph.node[:]
    graph.node.extend(nodes)


def _splits(node: NodeProto, constants: dict[str, TensorProto], excluded: set[str]) -> bool:
    if node.op_type != "Gemm" or is_grafted(node) or node.name in excluded or node.input[1] not in constants:
        return False
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)


def _split(graph: GraphProto, node: NodeProto, constants: dict[str, TensorProto]) -> list[NodeProto]:
    weight = node.input[1]
    if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        turned = np.ascontiguousarray(numpy_helper.to_array(constants[weight]).T)
        weight = f"{node.name}/turned"
        graph.initializer.append(numpy_helper.from_array(turned, weight))
    if len(node.input) < 3 or not node.input[2]:
        return [helper.make_node("MatMul", [node.input[0], weight], [node.output[0]], name=node.name)]
    product = f"{node.name}/product"
    return [
        helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name),
        helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}/bias"),
    ]


def _try(content: bytes, model: ModelProto) -> None:
    shape = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    try:
        outputs = Session(content, "the engine in dynamic int8").run({FRAMES: np.full(shape, 114, np.uint8)})
    except ImportInputError as error:
        raise ImportRefusedError(str(error)) from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise ImportRefusedError("the engine in dynamic int8 gives values that are no numbers")
