"""Join model, preprocessing and head into one graph that keeps the engine contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, compose, helper, shape_inference

from vedette_engines.errors import ImportRefusedError
from vedette_engines.graft.batch import BATCH
from vedette_engines.graft.builder import GraphBuilder
from vedette_engines.graft.head import classes_of, extras_of
from vedette_engines.graft.source import opset_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

    from vedette_engines.graft.head import Head, HeadContext
    from vedette_engines.graft.preprocess import Preprocessing

FRAMES = "frames"
OUTPUT_NAMES = {"detector": "candidates", "classifier": "scores", "embedder": "embedding"}
_OWN_PREFIX = "model/"


def graft(
    model: ModelProto, head: Head, preprocessing: Preprocessing, context: HeadContext, *, fixed_batch: bool = False
) -> ModelProto:
    """Return a copy of the model with preprocessing in front and the head behind.

    Args:
        model: Opset 13 or later, one image input.
        head: Decodes its outputs.
        preprocessing: What it wants of a pixel.
        context: Sizes and settled options.
        fixed_batch: The model takes one frame per run and no more.

    Raises:
        ImportRefusedError: The result is no valid ONNX model.
    """
    grafted = onnx.ModelProto()
    grafted.CopyFrom(model)
    border = context.signature
    result_name = OUTPUT_NAMES[head.task]
    input_name, outputs = border.input_name, [output.name for output in border.outputs]
    if _names(grafted.graph) & {FRAMES, result_name}:
        grafted = compose.add_prefix(grafted, _OWN_PREFIX)
        input_name, outputs = _OWN_PREFIX + input_name, [_OWN_PREFIX + name for name in outputs]
    graph = grafted.graph
    front, back = GraphBuilder(opset_of(grafted), "preprocess"), GraphBuilder(opset_of(grafted), head.name)
    front.rename(preprocessing.build(front, FRAMES, border), input_name)
    back.rename(head.build(back, outputs, context), result_name)
    front.write_into(graph, front=True)
    back.write_into(graph, front=False)
    batch = 1 if fixed_batch else BATCH
    row = [classes_of(head, context)]
    if head.task == "detector":
        row = [context.max_candidates, 6 + len(extras_of(head, context))]
    _set_border(graph, [batch, border.height, border.width, 3], result_name, [batch, *row])
    return _checked(grafted)


def _set_border(graph: GraphProto, frames_shape: list[int | str], result: str, result_shape: list[int | str]) -> None:
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, frames_shape))
    graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, result_shape))


def _checked(model: ModelProto) -> ModelProto:
    try:
        onnx.checker.check_model(model, full_check=True)
        return shape_inference.infer_shapes(model)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ImportRefusedError(f"the grafted model is not valid ONNX: {reason}") from error


def _names(graph: GraphProto) -> set[str]:
    """Collect the names of all tensors of the outer graph."""
    names = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names.update(node.output)
    return names
