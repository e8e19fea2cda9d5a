from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from support_bundles import HEIGHT, WIDTH, toy_bundle
from vedette_engines.cli import app
from vedette_engines.errors import LoadError
from vedette_engines.manifest import EmbedderOutput, EngineFile, Task
from vedette_engines.profiling.advice import node_advice, operator_advice, profile_advice
from vedette_engines.profiling.graph import NodeFacts, facts_of
from vedette_engines.profiling.measure import ProfileRequest, from_events, profile_onnxruntime, profile_openvino
from vedette_engines.profiling.profile import Measured, NodeCost, Profile
from vedette_engines.profiling.text import advices, to_json
from vedette_engines.profiling.trace import trace
from vedette_engines.repository import EngineRepository, boxed_root

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.profiling.advice import Advice

FLOAT = ("float [1, 8, 40, 40]",)
INT8 = ("uint8 [1, 8, 40, 40]",)


def cost(op: str, seconds: float = 1.0, **more: Any) -> NodeCost:
    return NodeCost(more.pop("name", f"{op}_0"), op, seconds, **{"inputs": FLOAT, "outputs": FLOAT, **more})


def measured(*nodes: NodeCost, facts: dict[str, NodeFacts] | None = None, **more: Any) -> Measured:
    """Make a profile of these nodes and one of 4 s that nothing can be said about."""
    everything = tuple(sorted((*nodes, cost("Relu", 4.0)), key=lambda node: -node.seconds))
    total = sum(node.seconds for node in everything)
    about = {"batch": 1, "run_s": total, **more}
    profile = Profile("toy 1 fp32", "ONNX Runtime", "fp32", threads=1, runs=1, nodes=everything, **about)
    return Measured(profile, facts or {})


def said_of(node: NodeCost, facts: NodeFacts | None = None, *others: NodeCost, **more: Any) -> Advice:
    advice = node_advice(node, measured(node, *others, facts={node.name: facts or NodeFacts()}, **more))
    assert advice is not None
    assert advice.about == node.name
    return advice


ISLAND = NodeFacts(before=("DequantizeLinear", "DequantizeLinear"), after=("QuantizeLinear",))
Q = cost("QuantizeLinear", 0.2)


@pytest.mark.parametrize(
    ("node", "facts", "do", "why"),
    [
        (cost("Conv"), None, "quantise the engine to INT8", "runs in float32"),
        (cost("Conv"), NodeFacts(groups=8), "quantise the engine to INT8", "with 8 groups .* INT8 wins less"),
        (cost("FusedConv"), None, "quantise the engine to INT8", r"FusedConv to float \[1, 8, 40, 40\]"),
        (cost("Add"), ISLAND, "quantise it, too", "Add_0 .* is between DequantizeLinear and QuantizeLinear"),
        (cost("Conv"), ISLAND, "quantise it, too", "runs in float"),
        (cost("Gemm", weight_bytes=8 << 20), None, "run larger batches", r"reads 8.4 MB of weights .*GB/s"),
        (cost("Resize"), NodeFacts(attributes={"mode": "linear"}), "nearest neighbours", "interpolates .linear."),
        (cost("Resize"), None, "whole factor", "copies pixels .nearest."),
        (cost("NonMaxSuppression"), None, "take it out of the graph", "frame by frame"),
        (cost("TopK"), None, "--max-candidates", r"sorts all anchors \(float \[1, 8, 40, 40\]\)"),
        (cost("GatherElements"), None, "--max-candidates", "one by one"),
        (cost("Sigmoid"), NodeFacts(after=("Mul",)), "fuses activations", r"SiLU \(Sigmoid, then Mul\)"),
        (cost("Sigmoid"), None, "fuses activations", "is Sigmoid"),
        (cost("Sub"), NodeFacts(opening=True), "fold scale, mean", "before the first layer"),
        (cost("Loop"), None, "without control flow", "a graph of its own"),
    ],
)
def test_a_costly_node_gets_the_advice_that_its_kind_and_its_place_speak_for(
    node: NodeCost, facts: NodeFacts | None, do: str, why: str
) -> None:
    advice = said_of(node, facts)

    assert do in advice.do
    assert re.search(why, advice.why), advice.why
    assert advice.share == pytest.approx(0.2)


def test_a_float_layer_in_a_quantised_file_is_asked_after_instead() -> None:
    assert "left out of the quantisation" in said_of(cost("Conv"), None, Q).do


@pytest.mark.parametrize(
    "node",
    [
        cost("Conv", 0.01),  # too little time
        cost("QLinearConv", inputs=INT8),  # quantised already
        cost("Conv", inputs=("float16 [1, 8, 40, 40]",)),
        cost("Sub"),  # not before the first layer
        cost("Relu", name="other"),
    ],
)
def test_where_the_figures_speak_for_nothing_nothing_is_said(node: NodeCost) -> None:
    assert node_advice(node, measured(node)) is None


def test_a_large_layer_in_a_batch_is_not_told_to_be_batched() -> None:
    node = cost("Gemm", weight_bytes=8 << 20)

    assert "quantise" in said_of(node, None, batch=8).do


def test_alike_nodes_of_an_operator_count_together_even_where_none_matters_alone() -> None:
    many = [cost("Conv", 0.02, name=f"c{index}") for index in range(20)]
    whole = measured(*many)

    advice = operator_advice("Conv", whole)

    assert all(node_advice(node, whole) is None for node in many)
    assert advice is not None
    assert advice.share == pytest.approx(0.4 / 4.4)
    assert advice.why.endswith("; and 19 more like it")
    assert operator_advice("Relu", whole) is None


@pytest.mark.parametrize(
    ("ops", "do"),
    [
        (("Transpose", "Transpose"), "one layout throughout"),
        (("Cast",), "one precision"),
        (("ReorderInput", "ReorderOutput"), "plain layout"),
        (("Slice", "Concat"), "simplify the graph"),
        (("Add", "Mul", "Where"), "fuses them"),
        (("QuantizeLinear", "DequantizeLinear"), "quantise longer chains"),
    ],
)
def test_kinds_of_nodes_are_spoken_about_by_their_share_together(ops: tuple[str, ...], do: str) -> None:
    nodes = [cost(op, name=f"{op}{index}") for index, op in enumerate(ops)]

    (advice,) = profile_advice(measured(*nodes))

    assert do in advice.do
    assert advice.share == pytest.approx(len(ops) / (len(ops) + 4))
    assert f"take {advice.share:.0%}" in advice.why
    assert profile_advice(measured(*(replace(node, seconds=0.01) for node in nodes))) == ()


def test_quantising_around_float_islands_names_the_islands() -> None:
    whole = measured(replace(Q, seconds=0.5), cost("Add", 0.3, name="lonely"), facts={"lonely": ISLAND})

    (advice,) = profile_advice(whole)

    assert advice.do == "quantise what runs in float between them"
    assert "lonely (Add)" in advice.why
    assert advice.share == pytest.approx(0.8 / 4.8)


def test_time_that_no_node_has_is_told() -> None:
    (advice,) = profile_advice(measured(cost("Neg", 1e-6), run_s=8.0))

    assert advice.about == "between the nodes"
    assert advice.share == pytest.approx(0.5)
    assert "1 of 2 nodes take less than 20 us" in advice.why


def test_nodes_that_a_gpu_left_to_the_cpu_are_told() -> None:
    gpu, cpu = cost("Relu", 3.0, name="a", provider="CUDAExecutionProvider"), "CPUExecutionProvider"

    (advice,) = profile_advice(measured(gpu, cost("Unique", 1.0, provider=cpu)))

    assert advice.about == "nodes left to the CPU"
    assert "Unique" in advice.why


def test_advice_stands_in_order_of_what_there_is_to_win() -> None:
    found = advices(measured(cost("Transpose", 2.0), cost("Conv", 1.0), cost("Resize", 3.0)))

    assert [advice.about for advice in found] == ["Resize", "Transpose", "Conv"]


def event(name: str, start: int, took: int, **about: Any) -> dict[str, Any]:
    args = {"op_name": name.rstrip("0123456789"), "provider": "CPUExecutionProvider", **about}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": took, "ph": "X", "args": args}


def test_runs_that_warm_up_are_left_out_and_a_node_costs_its_median() -> None:
    events: list[dict[str, Any]] = []
    for run, took in enumerate((900, 800, 10, 30, 20)):
        at = 1000 * run
        events.append({"cat": "Session", "name": "model_run", "ts": at, "dur": took + 5})
        events.append(event("Conv1", at + 1, took, parameter_size="16", input_type_shape=[{"float": [1, 3]}]))
        # As in a loop: three times within a run.
        events += [event("Add2", at + 2 + turn, 2) for turn in range(3)]
    request = ProfileRequest(EngineRepository([boxed_root()]).resolve("blobs"))

    profile = from_events(events, request, "ONNX Runtime", "fp32", 1)

    assert profile.runs == 3
    assert profile.run_s == pytest.approx(25e-6)
    assert [(node.name, node.op) for node in profile.nodes] == [("Conv1", "Conv"), ("Add2", "Add")]
    assert profile.nodes[0].seconds == pytest.approx(20e-6)
    assert profile.nodes[1].seconds == pytest.approx(6e-6)
    assert profile.nodes[0].inputs == ("float [1, 3]",)
    assert profile.nodes[0].weight_bytes == 16
    assert profile.spans[0].kind == "run"
    assert profile.spans[0].start_s == 0.0


def assert_opens(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Check what Perfetto and chrome://tracing want of a trace; give the complete events."""
    events = document["traceEvents"]
    for entry in events:
        assert {"ph", "name", "pid", "tid", "ts"} <= entry.keys()
        assert isinstance(entry["pid"], int)
        assert isinstance(entry["tid"], int)
    names = {entry["name"]: entry["args"]["name"] for entry in events if entry["ph"] == "M"}
    assert names.keys() == {"process_name", "thread_name"}
    assert all(names.values())
    complete = [entry for entry in events if entry["ph"] == "X"]
    assert len(complete) + 2 == len(events)
    for entry in complete:
        assert entry["ts"] >= 0
        assert entry["dur"] >= 0
        assert isinstance(entry["args"], dict)
    return complete


@pytest.mark.parametrize("profiler", [profile_onnxruntime, profile_openvino])
def test_a_trace_has_every_run_with_its_nodes_inside(profiler: Any) -> None:
    request = ProfileRequest(EngineRepository([boxed_root()]).resolve("blobs"), runs=3, batch=2)

    profile = profiler(request).profile
    events = assert_opens(json.loads(trace(profile)))

    assert (profile.runs, profile.batch) == (3, 2)
    assert profile.run_s > 0
    runs = [entry for entry in events if entry["cat"] == "run"]
    nodes = [entry for entry in events if entry["cat"] == "node"]
    assert len(runs) == 3
    assert len(nodes) >= 3 * 10
    assert all(entry["args"]["operator"] in entry["name"] for entry in nodes)
    slack = 2.0  # microseconds; the profiler rounds
    if profiler is profile_onnxruntime:
        for node in nodes:
            assert any(
                run["ts"] - slack <= node["ts"] and node["ts"] + node["dur"] <= run["ts"] + run["dur"] + slack
                for run in runs
            )
    assert abs(sum(profile.share(node.seconds) for node in profile.nodes) - 1) < 1e-6
    assert abs(sum(operator.share for operator in profile.operators) - 1) < 1e-6


def quantised_model() -> onnx.ModelProto:
    """Build an embedder with an Elu that stands alone in float between quantised layers."""
    random = np.random.default_rng(0)

    def array(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    constants = [
        array("scale", np.float32(0.02)), array("zero", np.uint8(128)),
        array("wscale", np.float32(0.01)), array("wzero", np.int8(0)),
        *(array(f"w{index}", random.integers(-90, 90, (3, 3), np.int8)) for index in range(2)),
        array("shape", np.array([-1, HEIGHT * WIDTH, 3])),
    ]  # fmt: skip
    quantum = ["scale", "zero"]
    nodes = [
        helper.make_node("Cast", ["frames"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["cast", "shape"], ["flat"], "reshape"),
        helper.make_node("QuantizeLinear", ["flat", *quantum], ["q0"], "q0"),
        helper.make_node("DequantizeLinear", ["q0", *quantum], ["d0"], "d0"),
        helper.make_node("DequantizeLinear", ["w0", "wscale", "wzero"], ["dw0"], "dw0"),
        helper.make_node("MatMul", ["d0", "dw0"], ["m0"], "m0"),
        helper.make_node("QuantizeLinear", ["m0", *quantum], ["q1"], "q1"),
        helper.make_node("DequantizeLinear", ["q1", *quantum], ["d1"], "d1"),
        helper.make_node("Elu", ["d1"], ["e"], "island"),
        helper.make_node("QuantizeLinear", ["e", *quantum], ["q2"], "q2"),
        helper.make_node("DequantizeLinear", ["q2", *quantum], ["d2"], "d2"),
        helper.make_node("DequantizeLinear", ["w1", "wscale", "wzero"], ["dw1"], "dw1"),
        helper.make_node("MatMul", ["d2", "dw1"], ["m1"], "m1"),
        helper.make_node("ReduceMax", ["m1"], ["embedding"], "last", axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def test_an_island_is_found_in_the_graph_that_really_ran(tmp_path: Path) -> None:
    bundle = toy_bundle(
        tmp_path, model=quantised_model(), task=Task.EMBEDDER, output=EmbedderOutput(3), labels=(),
        files=(EngineFile("model.onnx"),),
    )  # fmt: skip

    found = profile_onnxruntime(ProfileRequest(bundle, runs=2))

    assert [name for name, facts in found.facts.items() if facts.is_island] == ["island"]
    assert "island" in {node.name for node in found.profile.nodes}
    assert any(node.op == "QLinearMatMul" for node in found.profile.nodes)


def test_what_prepares_the_input_is_told_from_what_follows_the_first_layer() -> None:
    def node(op: str, made_of: list[str], name: str) -> onnx.NodeProto:
        return helper.make_node(op, made_of, [name], name)

    after = [node("Relu", [f"r{index - 1}" if index else "conv"], f"r{index}") for index in range(9)]
    graph = helper.make_graph(
        [
            node("Cast", ["frames"], "cast"), node("Mul", ["cast", "k"], "scaled"),
            node("Conv", ["scaled", "w"], "conv"), *after,
        ],
        "g", [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1])],
        [helper.make_tensor_value_info("r8", TensorProto.FLOAT, [1])],
    )  # fmt: skip

    facts = facts_of(helper.make_model(graph))

    assert [name for name, fact in facts.items() if fact.opening] == ["cast", "scaled"]
    assert facts["conv"].before == ("Mul",)
    assert facts["conv"].after == ("Relu",)


def test_figures_for_programs_hold_nodes_operators_and_advice() -> None:
    document = json.loads(to_json(measured(cost("Conv"))))

    assert [entry["op"] for entry in document["operators"]] == ["Relu", "Conv"]
    assert document["nodes"][1]["share"] == pytest.approx(0.2)
    assert document["advice"][0]["about"] == "Conv"


def test_what_cannot_be_profiled_is_told(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path, files=(EngineFile("model.onnx"),))

    with pytest.raises(LoadError, match=r"NoSuchExecutionProvider is not in this build of ONNX Runtime; it has .*CPU"):
        profile_onnxruntime(ProfileRequest(bundle, provider="NoSuchExecutionProvider"))
    model = onnx.load(str(bundle.path / "model.onnx"))
    del model.graph.initializer[:]
    (bundle.path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match=r"toy: ONNX Runtime refuses model\.onnx"):
        profile_onnxruntime(ProfileRequest(bundle))


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, ["profile", *map(str, words)])


def test_the_command_shows_operators_nodes_and_advice_and_writes_a_trace(tmp_path: Path) -> None:
    result = invoke("blobs", "--runs", 2, "--trace", tmp_path / "t.json", "--json", tmp_path / "p.json", "--threads", 1)

    assert result.exit_code == 0, result.stderr
    for part in ("operator", "TopK", "Costliest nodes", "A run takes", "medians of 2 runs"):
        assert part in result.stdout
    assert_opens(json.loads((tmp_path / "t.json").read_text()))
    assert json.loads((tmp_path / "p.json").read_text())["runs"] == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--runner", "torch"), 2, "--runner is 'torch'; allowed is onnxruntime or openvino"),
        (("--precision", "int4"), 2, "--precision is 'int4'; allowed is fp32 or fp16 or int8"),
        (("--precision", "int8"), 1, "engine blobs 1 has no file for onnxruntime/int8"),
        (("--batch", "0"), 2, "--batch is '0'"),
    ],
)
def test_a_wrong_option_gets_one_line(words: tuple[str, ...], code: int, says: str) -> None:
    result = invoke("blobs", *words)

    assert result.exit_code == code
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
