"""One mistake in a head's graph, wherever it is made, is caught by the gate.

Every node that a head adds is spoilt in turn: another operator in its place, operands changed round, numbers that are
off. Each spoilt engine is compared with the original as an import does, and must be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from support_heads import HEAD_EXAMPLES, HEAD_REQUESTS, HEAD_VARIANTS
from support_models import save
from vedette_engines import parity
from vedette_engines.errors import EnginesError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.graft.session import Session
from vedette_engines.importing import ImportRequest, Made, make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = {**{name: (make, HEAD_REQUESTS[name]) for name, make in HEAD_EXAMPLES.items()}, **HEAD_VARIANTS}

ANOTHER = {
    "Add": "Sub",
    "Sub": "Add",
    "Mul": "Add",
    "Div": "Mul",
    "Max": "Min",
    "Sigmoid": "Tanh",
    "Tanh": "Sigmoid",
    "Exp": "Softplus",
    "Softmax": "Sigmoid",
    "ReduceMax": "ReduceMin",
    "ReduceSum": "ReduceMax",
    "ArgMax": "ArgMin",
    "MaxPool": "AveragePool",
    "Sqrt": "Identity",
    "Abs": "Identity",
    "Less": "Greater",
    "Pow": "Mul",
}
# Mistakes that change nothing in these models, by the operator, each with its reason.
HARMLESS = {
    # One class is the best and the worst.
    "yolov8-pose": {"ReduceMin for ReduceMax", "ArgMin for ArgMax"},
    # The vector is scaled by its largest value before it is by its length, so that nothing overflows: another factor
    # does as well. The least length matters to vectors of zeros alone.
    "embedder, length 1": {
        *("Identity for Abs", "ReduceMin for ReduceMax", "Min for Max", "Mul for Div"),
        "one more than the number 1e-12",
    },
}


# A head that adds few nodes cannot be spoilt in many ways.
FEWEST = {"classifier": 1, "embedder": 0}


def mutants(made: Made) -> Iterator[tuple[str, ModelProto]]:
    """Make a copy for each mistake, with the mistake in words."""
    model = onnx.load_from_string(made.content)
    scope = f"{PREFIX}{made.original.head.name}/"
    used = {name for node in model.graph.node if node.name.startswith(scope) for name in node.input}
    for index, node in enumerate(model.graph.node):
        if not node.name.startswith(scope):
            continue
        for what, spoilt in spoilt_nodes(node):
            copy = ModelProto()
            copy.CopyFrom(model)
            copy.graph.node[index].CopyFrom(spoilt)
            yield f"{node.name.removeprefix(scope)}: {what}", copy
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.name in used and tensor.name.startswith(scope) and tensor.data_type == onnx.TensorProto.FLOAT:
            copy = ModelProto()
            copy.CopyFrom(model)
            value = numpy_helper.to_array(tensor)
            copy.graph.initializer[index].CopyFrom(numpy_helper.from_array((value + 1).astype(np.float32), tensor.name))
            what = f"the number {value:g}" if not value.ndim else f"a table {list(value.shape)}"
            yield f"{tensor.name.removeprefix(scope)}: one more than {what}", copy


def spoilt_nodes(node: NodeProto) -> Iterator[tuple[str, NodeProto]]:
    if node.op_type in ANOTHER:
        spoilt = NodeProto()
        spoilt.CopyFrom(node)
        spoilt.op_type = ANOTHER[node.op_type]
        yield f"{spoilt.op_type} for {node.op_type}", spoilt
    if node.op_type in {"Concat", "Sub", "Div", "Pow"}:
        spoilt = NodeProto()
        spoilt.CopyFrom(node)
        spoilt.input[:] = list(node.input)[::-1]
        yield "changed round", spoilt
    if node.op_type == "TopK":
        spoilt = NodeProto()
        spoilt.CopyFrom(node)
        next(attribute for attribute in spoilt.attribute if attribute.name == "largest").i = 0
        yield "the worst", spoilt


@pytest.mark.parametrize("name", ALL)
def test_one_mistake_anywhere_in_a_heads_graph_is_caught(name: str, tmp_path: Path) -> None:
    make, said = ALL[name]
    # With rows above the floor and below it.
    said = {**said, "max_candidates": 3840, "score_floor": 0.55}
    request = ImportRequest(model=save(make(), tmp_path / "tiny.onnx"), name="tiny", version="1", root=tmp_path, **said)
    made = make_engine(request, lambda line: None)
    survived, count = [], 0
    for what, mutant in mutants(made):
        count += 1
        try:
            engine = Session(mutant.SerializeToString(), "the spoilt engine")
            parity.check_parity(engine, made.original, made.samples, [1, 3], parity.FLOAT32_TOLERANCE)
        except EnginesError:
            continue
        survived.append(what)
    assert count >= FEWEST.get(name, 5)
    assert {what.partition(": ")[2] for what in survived} <= HARMLESS.get(name, set()), survived
