from __future__ import annotations

import re
import socket
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from support_cli import interrupt, start
from vedette_engines.cli import app
from vedette_engines.errors import MissingRuntimeError
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.viewing.browser import show
from vedette_engines.viewing.graph import drawing_of
from vedette_engines.viewing.layout import GAP_X, lay_out, layers_of
from vedette_engines.viewing.svg import draw

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def boxed(name: str) -> onnx.ModelProto:
    bundle = EngineRepository([boxed_root()]).resolve(name)
    return onnx.load(str(bundle.path_of(bundle.manifest.files[0])))


def model_of(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4])],
        constants or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def boxes_of(text: str) -> dict[str, str]:
    """Name the boxes of a drawing, each with its operator; it must be XML."""
    found = [node for node in ET.fromstring(text).iter(f"{SVG}g") if node.get("class") == "node"]
    return {f"{node.attrib['data-op']} {node.attrib['data-name']}": node.attrib["data-op"] for node in found}


@pytest.mark.parametrize("name", ["blobs", "person"])
def test_every_node_of_an_engine_has_its_box_and_nothing_comes_from_outside(name: str) -> None:
    model = boxed(name)

    text = draw(model, f"{name} <1>")

    wanted = {f"{node.op_type} {node.name}" for node in model.graph.node if node.op_type != "Constant"}
    border = {f"{kind} {value.name}" for kind in ("input", "output") for value in getattr(model.graph, kind)}
    assert boxes_of(text).keys() == wanted | border
    assert "<title>" + name + " &lt;1&gt;</title>" in text
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme: dark" in text


def test_a_thousand_nodes_with_long_ways_round_are_drawn() -> None:
    nodes = [helper.make_node("Relu", ["frames"], ["t0"], "n0")]
    for index in range(1, 1000):
        # A way round over a hundred layers now and then.
        far = f"t{index - 100}" if index >= 100 and index % 50 == 0 else f"t{index - 1}"
        nodes.append(helper.make_node("Add", [f"t{index - 1}", far], [f"t{index}"], f"n{index}"))
    nodes.append(helper.make_node("Identity", ["t999"], ["out"], "last"))

    assert len(boxes_of(draw(model_of(nodes), "large"))) == 1000 + 1 + 2


def test_constants_stand_in_the_boxes_that_take_them() -> None:
    weights = numpy_helper.from_array(np.zeros((4, 4), np.int8), "weights")
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["weights", "scale"], ["w"], "dq"),
        helper.make_node("Constant", [], ["shift"], "c", value=helper.make_tensor("", TensorProto.FLOAT, [1], [0.25])),
        helper.make_node("Gemm", ["frames", "w"], ["a"], "first", transB=1, alpha=0.5),
        helper.make_node("Add", ["a", "shift"], ["b"], "second"),
        helper.make_node("Gemm", ["b", "w"], ["out"], "third"),
    ]

    drawing = drawing_of(model_of(nodes, [weights, scale]))

    assert [(box.kind, box.name) for box in drawing.boxes] == [
        ("input", "frames"), ("Gemm", "first"), ("Add", "second"), ("Gemm", "third"), ("output", "out"),
    ]  # fmt: skip
    assert drawing.boxes[1].details == ("w: int8 [4, 4], dequantised by dq", "alpha = 0.5", "transB = 1")
    assert drawing.boxes[2].details == ("shift: float32 [0.25]",)
    assert [(flow.source, flow.target) for flow in drawing.flows] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert {flow.label for flow in drawing.flows} == {"float32 [N, 4]"}


def test_a_graph_whose_shapes_cannot_be_told_is_drawn_without_them() -> None:
    nodes = [helper.make_node("Own", ["frames"], ["out"], "a<b>\x01", domain="our.own")]

    text = draw(model_of(nodes), "own")

    assert "Own a<b>" in boxes_of(text)
    assert "domain our.own" in text


graphs = st.integers(1, 25).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1]),
            max_size=40,
            unique=True,
        ),
    )
)


@given(graphs, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_lines_lead_down_and_no_two_boxes_overlap(graph: tuple[int, list[tuple[int, int]]], random: object) -> None:
    count, lines = graph
    sizes = [(random.uniform(20, 200), random.uniform(20, 60)) for _ in range(count)]  # type: ignore[attr-defined]

    placed = lay_out(sizes, lines)

    layers = layers_of(count, lines)
    for (source, target), bends in zip(lines, placed.bends, strict=True):
        assert layers[source] < layers[target]
        assert len(bends) == layers[target] - layers[source] - 1
        heights = [placed.centres[source][1], *(y for _, y in bends), placed.centres[target][1]]
        assert heights == sorted(heights)
    boxes = list(zip(placed.centres, sizes, strict=True))
    for index, ((x, y), (width, height)) in enumerate(boxes):
        assert width / 2 - 1e-6 <= x <= placed.width - width / 2 + 1e-6
        assert height / 2 <= y <= placed.height
        for (other_x, other_y), (other_width, other_height) in boxes[:index]:
            apart_x = abs(x - other_x) >= (width + other_width) / 2 + GAP_X - 1e-6
            apart_y = abs(y - other_y) >= (height + other_height) / 2
            assert apart_x or apart_y


def test_nothing_is_laid_out_as_nothing() -> None:
    assert lay_out([], []).centres == ()


def test_the_command_writes_an_svg(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["view", "blobs@1", "-o", str(tmp_path / "g.svg")])

    assert result.exit_code == 0, result.stderr
    assert "Cast Cast_0" in boxes_of((tmp_path / "g.svg").read_text())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("blobs", "--port", "99999"), 2, "--port is '99999'"),
        (("blobs", "--precision", "int8", "-o", "x.svg"), 1, "has no file for onnxruntime/int8"),
        (("blobs", "-o", "/no/such/x.svg"), 1, "/no/such/x.svg: cannot be written"),
        (("nobody",), 2, "no engine is named 'nobody'"),
    ],
)
def test_a_wrong_option_gets_one_line(words: tuple[str, ...], code: int, says: str) -> None:
    result = CliRunner().invoke(app, ["view", *words])

    assert result.exit_code == code
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_netron_the_error_names_the_extra_and_the_way_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)

    with pytest.raises(MissingRuntimeError, match=r"pip install 'vedette\[view\]'; or give -o FILE\.svg"):
        show(tmp_path / "m.onnx", 0, browser=False, say=print)


def test_netron_serves_the_model_on_the_loopback_until_ctrl_c() -> None:
    pytest.importorskip("netron", reason="netron is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = start("engine", "view", "blobs", "--no-browser", "--port", str(port))
    try:
        assert "<html" in _fetch(f"http://127.0.0.1:{port}/").lower()
    finally:
        said = interrupt(process)

    assert said.code == 0
    assert f"http://127.0.0.1:{port}" in said.out
    assert said.err == ""


def _fetch(url: str) -> str:
    """Read a page that may not be there yet."""
    deadline_s = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
