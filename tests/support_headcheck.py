"""Run a head's part of the graph alone, and compare it with the head's plain reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from vedette_engines.graft.builder import GraphBuilder
from vedette_engines.graft.head import extras_of
from vedette_engines.graft.session import Session
from vedette_engines.graft.signature import Output, Signature
from vedette_engines.parity import Comparison, ParityReport, Tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.graft.head import Head, HeadContext

KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
}


def border(*outputs: tuple[str, tuple[int, ...]], side: int | tuple[int, int] = 64) -> Signature:
    """Make the border of a model; `side` is width and height, or both as one."""
    width, height = side if isinstance(side, tuple) else (side, side)
    return Signature("images", TensorProto.FLOAT, "nchw", width, height, tuple(Output(*output) for output in outputs))


def run_head(head: Head, context: HeadContext, raw: list[NDArray[Any]], opset: int = 17) -> NDArray[np.float32]:
    """Run only the head's part of the graph on given raw outputs."""
    graph = GraphBuilder(opset, "test")
    names = [output.name for output in context.signature.outputs]
    graph.rename(head.build(graph, names, context), "result")
    inputs = [
        helper.make_tensor_value_info(name, KINDS[value.dtype], ["N", *value.shape[1:]])
        for name, value in zip(names, raw, strict=True)
    ]
    result = helper.make_tensor_value_info(
        "result", TensorProto.FLOAT, ["N", "K", "M"] if head.task == "detector" else ["N", "C"]
    )
    proto = helper.make_graph(graph.nodes, "head", inputs, [result], graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return Session(model.SerializeToString(), "head").run(dict(zip(names, raw, strict=True)))[0]


def assert_same(head: Head, context: HeadContext, raw: list[NDArray[Any]], opset: int = 17) -> NDArray[np.float32]:
    """Compare graph and reading frame by frame, and return what the graph gives."""
    rows = run_head(head, context, raw, opset)
    report = ParityReport()
    for number in range(len(raw[0])):
        reading = head.read([value[number : number + 1] for value in raw], context)
        comparison = Comparison(Tolerance(), report, f"frame {number}", extras_of(head, context))
        if head.task == "detector":
            comparison.candidates(rows[number], reading, context.score_floor)
        else:
            comparison.vector(rows[number], reading.scores[0])
    assert report.rows == (rows.shape[0] * rows.shape[1] if head.task == "detector" else len(rows))
    return rows
