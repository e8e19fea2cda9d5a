"""Write an engine's own arithmetic in float16; its borders and what was grafted on stay float32.

What each operator can take is read from ONNX's schemas. What would not fit into float16 stays float32, and is said:
values above its range or far below it, squares of large values, and operators that know float32 only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.frames import made_samples
from vedette_engines.graft.session import Session
from vedette_engines.graft.source import opset_of
from vedette_engines.lower.prepare import (
    constants_to_initializers,
    float_activations,
    is_grafted,
    name_nodes,
    read_engine,
)
from vedette_engines.lower.ranges import measure_extremes
from vedette_engines.lower.shield import part_biases
from vedette_engines.manifest import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from vedette_engines.graft.frames import Sample
    from vedette_engines.lower.ranges import Range

# Half of the largest float16: other frames may go further than those that were seen.
_LARGEST = 65504 / 2
# Below this a float16 loses more than a hundredth of a value.
_SMALLEST = 6e-6
_HALF, _FLOAT = "tensor(float16)", "tensor(float)"
# These square what they are given.
_SQUARING = frozenset(
    {"LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization", "LpNormalization"}
    | {"ReduceSumSquare", "ReduceL2", "ReduceLogSumExp", "Pow"}
)
# From here on a Q/DQ pair may have float16 on its outside.
_HALF_QDQ_OPSET = 19
_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def to_fp16(content: bytes, frames: Sequence[Sample], say: Callable[[str], None]) -> bytes:
    """Convert an engine to float16; one that was quantised for TensorRT becomes a mix of int8 and float16.

    Args:
        content: An engine of float32, or of int8 and float32.
        frames: What shows how large its values become; without any, made pictures do.
        say: Takes a line for what stays float32.

    Raises:
        ImportInputError: It is no ONNX file, is of half precision already, or its opset cannot be raised.
        ImportRefusedError: It cannot be run, before or afterwards.
    """
    model = _load(content)
    samples = list(frames) or _made(model)
    floats = _float_tensors(model)
    own = float_activations(model, {node.op_type for node in model.graph.node})
    extremes, _ = measure_extremes(model, own, samples, say, finite=False)
    kept = _kept_nodes(model, extremes, floats)
    for name, reason in kept.items():
        if reason:
            say(f"{name} stays float32: {reason}")
    graph = model.graph
    _Writer(graph, floats, set(kept), opset_of(model)).write()
    del graph.value_info[:]
    written = model.SerializeToString()
    _try(written, samples)
    return written


def _load(content: bytes) -> ModelProto:
    model = read_engine(content)
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise ImportInputError("the engine has float16 weights already; give the float32 one")
    if any(node.op_type in _QDQ for node in model.graph.node) and opset_of(model) < _HALF_QDQ_OPSET:
        model = raise_opset(model, _HALF_QDQ_OPSET)
    constants_to_initializers(model.graph)
    name_nodes(model.graph)
    part_biases(model.graph)
    return shape_inference.infer_shapes(model)


def raise_opset(model: ModelProto, opset: int) -> ModelProto:
    """Convert a model to a later opset.

    Raises:
        ImportInputError: ONNX's converter cannot.
    """
    try:
        raised = version_converter.convert_version(model, opset)
    except Exception as error:  # the converter's C++ exceptions share no base but this
        raise ImportInputError(
            f"opset {opset_of(model)} cannot be converted to {opset}: {str(error).strip().splitlines()[0][:200]}"
        ) from error
    raised.ir_version = max(raised.ir_version, 9)
    return raised


def _made(model: ModelProto) -> list[Sample]:
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return made_samples(InputSpec(width=dims[2], height=dims[1]))


def _float_tensors(model: ModelProto) -> list[str]:
    """List all float32 tensors of the outer graph, constants included."""
    graph = model.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    names = [value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    constants = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    return list(dict.fromkeys([*names, *constants]))


def _kept_nodes(model: ModelProto, extremes: Mapping[str, Range], floats: Sequence[str]) -> dict[str, str]:
    """Name the nodes that stay float32, each with its reason; empty: it goes without saying."""
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    opset, known = opset_of(model), set(floats)
    kept: dict[str, str] = {}
    for node in model.graph.node:
        if is_grafted(node):
            kept[node.name] = ""
            continue
        reason = _unable(node, opset, known) or _misfit(node, extremes, constants)
        if reason:
            kept[node.name] = reason
    return kept


def _unable(node: NodeProto, opset: int, floats: set[str]) -> str:
    """Tell why an operator cannot take float16 at all."""
    if not floats & {*node.input, *node.output}:
        return ""
    if any(attribute.HasField("g") for attribute in node.attribute):
        return f"{node.op_type} holds a graph"
    schema = _schema(node, opset)
    if schema is None:
        return f"{node.domain}.{node.op_type} is not of ONNX's own operators"
    slots = _slots(schema, node)
    flexible = [name for name, can in slots if name in floats and can]
    if not flexible or not any(name in floats for name in node.output):
        return f"{node.op_type} of opset {opset} knows no float16" if not flexible else ""
    return ""


def _misfit(node: NodeProto, extremes: Mapping[str, Range], constants: Mapping[str, NDArray[Any]]) -> str:
    """Tell which value of a node does not fit."""
    limit = np.sqrt(_LARGEST) if node.op_type in _SQUARING else _LARGEST
    for name in [*node.input, *node.output]:
        if name in extremes:
            largest = float(np.abs(extremes[name]).max())
            if not largest <= (limit if name in node.input else _LARGEST):  # NaN neither
                return f"{name} reaches {largest:.4g}, allowed is {limit:.4g} for {node.op_type}"
        elif name in constants and constants[name].size:
            sizes = np.abs(constants[name])
            if sizes.max() > _LARGEST:
                return f"{name} has {sizes.max():.4g}, allowed is {_LARGEST:.4g}"
            if 0 < sizes.max() < _SMALLEST or (node.op_type in _QDQ and sizes.min() < _SMALLEST):
                return f"{name} has {sizes.min():.4g}, which float16 cannot tell from 0 or its neighbours"
    return ""


def _schema(node: NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in {"", "ai.onnx"} or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return None
    return onnx.defs.get_schema(node.op_type, max_inclusive_version=opset)


def _slots(schema: onnx.defs.OpSchema, node: NodeProto) -> list[tuple[str, bool]]:
    """List a node's inputs and outputs, and whether each may be float16."""
    allowed = {entry.type_param_str: set(entry.allowed_type_strs) for entry in schema.type_constraints}

    def flexible(formal: Sequence[Any], index: int) -> bool:
        return _HALF in allowed.get(formal[min(index, len(formal) - 1)].type_str, set())

    inputs = [(name, flexible(schema.inputs, i)) for i, name in enumerate(node.input)]
    return inputs + [(name, flexible(schema.outputs, i)) for i, name in enumerate(node.output)]


@dataclass(slots=True)
class _Writer:
    """Rewrites a graph node by node, and knows which tensors are float16 by now."""

    graph: GraphProto
    floats: Sequence[str]
    kept: set[str]
    opset: int
    halves: set[str] = field(default_factory=set)
    nodes: list[NodeProto] = field(default_factory=list)
    copies: dict[tuple[str, int], str] = field(default_factory=dict)

    def write(self) -> None:
        constants = {tensor.name: tensor for tensor in self.graph.initializer}
        floats = set(self.floats)
        results = {value.name for value in self.graph.output}
        for old in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(old)
            half = node.name not in self.kept and bool(floats & {*node.input, *node.output})
            schema = _schema(node, self.opset)
            slots = _slots(schema, node) if half and schema is not None else []
            for index, name in enumerate(node.input):
                if name in floats:
                    wanted = bool(slots) and slots[index][1]
                    node.input[index] = self._as(name, constants, half=wanted)
            self.nodes.append(node)
            for index, name in enumerate(node.output):
                if name in floats and slots and slots[len(node.input) + index][1] and self._turns(node):
                    self._give(node, index, result=name in results)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        tensors = [tensor for tensor in self.graph.initializer if tensor.name in used]
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
        del self.graph.initializer[:]
        self.graph.initializer.extend(copies)

    def _turns(self, node: NodeProto) -> bool:
        """Tell whether a node's result becomes float16; where an attribute says its type, change it."""
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to":
                    attribute.i = TensorProto.FLOAT16
        return node.op_type not in {"ConstantOfShape", "RandomNormal", "RandomUniform", "EyeLike", "Multinomial"}

    def _give(self, node: NodeProto, index: int, *, result: bool) -> None:
        name = node.output[index]
        if not result:
            self.halves.add(name)
            return
        half = f"{name}/float16"
        node.output[index] = half
        cast = helper.make_node("Cast", [half], [name], name=f"{name}/to_float32", to=TensorProto.FLOAT)
        self.nodes.append(cast)

    def _as(self, name: str, constants: Mapping[str, TensorProto], *, half: bool) -> str:
        """Give a tensor in the wanted precision: itself, or a copy that is made once."""
        if (name in self.halves) == half:
            return name
        element = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        if (name, element) not in self.copies:
            copy = f"{name}/{'float16' if half else 'float32'}"
            self.copies[name, element] = copy
            if name in constants:
                value = numpy_helper.to_array(constants[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(value, copy))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], name=copy.removeprefix(PREFIX), to=element))
        return self.copies[name, element]


def _try(content: bytes, samples: Sequence[Sample]) -> None:
    try:
        outputs = Session(content, "the engine in float16").run({FRAMES: samples[0].pixels[None]})
    except ImportInputError as error:
        raise ImportRefusedError(str(error)) from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise ImportRefusedError(f"the engine in float16 gives values that are no numbers on {samples[0].label}")
