"""What stays of an exporter's notes about where a node comes from."""

from __future__ import annotations

from onnx import ModelProto, helper

from vedette_engines.graft.notes import shorten_notes
from vedette_engines.plans.explaining import source_of

STACK = """File "/home/somebody/models/net.py", line 12, in forward
    return self.neck(x)
  File "/opt/python/site-packages/torch/nn/modules/container.py", line 253, in forward
    input = module(input)
"""


def model_with(**notes: str) -> ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    for key, value in notes.items():
        node.metadata_props.add(key=key.replace("__", "."), value=value)
    return helper.make_model(helper.make_graph([node], "graph", [], []))


def test_layer_and_line_stay_and_paths_and_classes_go() -> None:
    model = model_with(
        namespace="net.Net/neck: net.Neck/relu",
        pkg__torch__onnx__stack_trace=STACK,
        pkg__torch__onnx__name_scopes="['', 'neck', 'neck.det', 'relu']",
        pkg__torch__onnx__class_hierarchy="['net.Net', 'net.Neck', 'aten.relu']",
        pkg__torch__onnx__fx_node="%relu : call_function",
    )
    before = source_of(model.graph.node[0])
    shorten_notes(model)
    content = model.SerializeToString()
    assert b"/home" not in content
    assert b"class_hierarchy" not in content
    assert b"fx_node" not in content
    assert before.startswith("layer neck.det, /home/somebody/models/net.py:12")
    assert source_of(model.graph.node[0]) == "layer neck.det, net.py:12"


def test_notes_of_others_and_nodes_without_any_stay() -> None:
    model = model_with(mine="kept", pkg__torch__onnx__name_scopes="not a list")
    shorten_notes(model)
    assert {entry.key: entry.value for entry in model.graph.node[0].metadata_props} == {"mine": "kept"}
    plain = model_with()
    shorten_notes(plain)
    assert plain == model_with()


def test_nodes_within_others_are_shortened_too() -> None:
    inner = model_with(pkg__torch__onnx__fx_node="long").graph
    outer = helper.make_node("If", ["c"], ["z"], name="choice", then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([outer], "outer", [], []))
    shorten_notes(model)
    assert b"fx_node" not in model.SerializeToString()
