"""Preprocessing, batch and joining: the parts of the graft around the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from support_models import LABELS, SIDE, Draft, classifier, resized, stubborn, yolov8, yolox
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.batch import has_dynamic_batch, open_batch
from vedette_engines.graft.builder import GraphBuilder
from vedette_engines.graft.frames import made_samples
from vedette_engines.graft.prepare import prepare
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.graft.probe import Probe
from vedette_engines.graft.session import Session, measure_signature
from vedette_engines.graft.signature import Signature
from vedette_engines.graft.source import opset_of, read_model
from vedette_engines.manifest import InputSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

SPEC = InputSpec(SIDE, SIDE)


def run_preprocessing(want: Preprocessing, signature: Signature, frames: NDArray[np.uint8]) -> NDArray[Any]:
    graph = GraphBuilder(17, "test")
    graph.rename(want.build(graph, "frames", signature), "tensor")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "preprocess",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *frames.shape[1:]])],
            [helper.make_tensor_value_info("tensor", signature.elem_type, ["N", "A", "B", "C"])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return Session(model.SerializeToString(), "preprocess").run({"frames": frames})[0]


triples = st.tuples(*[st.floats(-3, 3)] * 3)
spreads = st.tuples(*[st.floats(0.05, 300)] * 3)


@given(
    order=st.sampled_from(["bgr", "rgb"]),
    scale=st.sampled_from([1.0, 1 / 255, 2 / 255]),
    mean=triples,
    std=spreads,
    layout=st.sampled_from(["nchw", "nhwc"]),
)
@settings(max_examples=25, deadline=None)
def test_graph_and_numpy_prepare_a_frame_alike(order: Any, scale: float, mean: Any, std: Any, layout: Any) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3), np.uint8)
    signature = Signature("x", TensorProto.FLOAT, layout, 7, 5, ())
    want = Preprocessing(order, scale, mean, std)
    in_graph, in_numpy = run_preprocessing(want, signature, frames), want.apply(frames, signature)
    assert in_graph.shape == in_numpy.shape
    np.testing.assert_allclose(in_graph, in_numpy, rtol=1e-5, atol=1e-4)


def test_a_red_frame_is_red_for_a_model_that_wants_rgb() -> None:
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 2] = 255
    signature = Signature("x", TensorProto.FLOAT, "nchw", 2, 2, ())
    tensor = run_preprocessing(Preprocessing("rgb", 1 / 255), signature, red)
    np.testing.assert_allclose(tensor[0, :, 0, 0], [1, 0, 0], atol=1e-6)


def test_a_model_in_half_precision_gets_half_precision() -> None:
    frames = np.full((1, 2, 2, 3), 255, np.uint8)
    signature = Signature("x", TensorProto.FLOAT16, "nchw", 2, 2, ())
    want = Preprocessing("bgr", 1 / 255)
    tensor = run_preprocessing(want, signature, frames)
    assert tensor.dtype == np.float16
    np.testing.assert_array_equal(tensor, want.apply(frames, signature))


def probe_of(model: ModelProto) -> Probe:
    session = Session(model.SerializeToString(), "tiny")
    return Probe(session, measure_signature(session, None), Preprocessing(scale=1 / 255), made_samples(SPEC, 2))


@pytest.mark.parametrize(
    "model", [yolox(), yolox(opset=11), classifier(), resized()], ids=["yolox", "old", "class", "resize"]
)
def test_a_batch_of_one_is_opened_and_each_frame_keeps_its_result(model: ModelProto) -> None:
    said: list[str] = []
    probe = probe_of(model)
    prepared = prepare(model, probe, said.append)
    assert "batch made dynamic" in said
    assert not prepared.fixed_batch
    assert has_dynamic_batch(prepared.model)
    opened = Session(prepared.model.SerializeToString(), "opened")
    three = opened.run({"images": np.concatenate(probe.inputs[:3])})[0]
    for row, raw in zip(three, probe.raw[:3], strict=True):
        np.testing.assert_allclose(row, raw[0][0], rtol=1e-4, atol=1e-5)


def test_a_resize_by_sizes_becomes_one_by_factors() -> None:
    resize = next(node for node in open_batch(resized()).graph.node if node.op_type == "Resize")
    assert len(resize.input) == 3
    assert resize.input[2]


def test_a_batch_that_cannot_be_opened_stays_fixed_and_says_why() -> None:
    said: list[str] = []
    prepared = prepare(stubborn(), probe_of(stubborn()), said.append)
    assert prepared.fixed_batch
    assert any(line.startswith("the batch stays fixed at 1: ") for line in said)


def test_a_batch_that_is_declared_dynamic_but_held_to_one_by_a_reshape_is_opened() -> None:
    model = yolox()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    said: list[str] = []
    assert not prepare(model, probe_of(model), said.append).fixed_batch
    assert said == ["batch made dynamic"]


def test_a_batch_that_is_declared_dynamic_but_mixes_its_frames_is_not_believed() -> None:
    draft = Draft()
    mixed = draft.add("Add", "images", draft.add("ReduceMean", "images", axes=[0], keepdims=1))
    pooled = draft.add("GlobalAveragePool", draft.conv(mixed, 3, 8, 4.0))
    draft.add("Reshape", pooled, draft.shape(0, 3), name="logits")
    model = draft.model({"logits": [3]}, "N")
    said: list[str] = []
    assert prepare(model, probe_of(model), said.append).fixed_batch
    assert "off by" in said[-1]


def test_an_old_opset_is_converted_and_a_new_one_kept() -> None:
    said: list[str] = []
    old = yolox(opset=11)
    assert opset_of(prepare(old, probe_of(old), said.append).model) == 19
    assert "opset 11 converted to 19" in said
    new = yolov8(opset=18)
    assert opset_of(prepare(new, probe_of(new), said.append).model) == 18


def test_a_simplifier_that_fails_leaves_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: object) -> None:
        raise KeyError("no such node")

    monkeypatch.setattr("onnxslim.slim", fail)
    model = yolox()
    probe = probe_of(model)
    said: list[str] = []
    prepared = prepare(model, probe, said.append, simplify=True)
    assert prepared == prepare(model, probe, said.append)
    assert any("onnxslim failed" in line for line in said)


def test_simplifying_keeps_the_results() -> None:
    said: list[str] = []
    model = yolox()
    probe = probe_of(model)
    prepared = prepare(model, probe, said.append, simplify=True)
    assert any(line.startswith("simplified from ") for line in said)
    assert not probe.disagreement(Session(prepared.model.SerializeToString(), "slim"), 3)


def test_a_model_that_leaves_its_size_open_needs_one_and_takes_it() -> None:
    draft = Draft()
    pooled = draft.add("GlobalAveragePool", draft.conv("images", len(LABELS), 8, 1.0))
    draft.add("Reshape", pooled, draft.shape(0, len(LABELS)), name="logits")
    session = Session(draft.model({"logits": [3]}, "N", ("H", "W")).SerializeToString(), "open.onnx")
    with pytest.raises(ImportInputError, match=r"leaves its input size open .*--input-size WxH"):
        measure_signature(session, None)
    signature = measure_signature(session, (96, 32))
    assert (signature.width, signature.height, signature.shapes) == (96, 32, "logits [1, 3]")


def test_a_fixed_size_cannot_be_changed() -> None:
    session = Session(yolox().SerializeToString(), "tiny.onnx")
    with pytest.raises(ImportInputError, match=r"--input-size is 32x32, but tiny.onnx takes 64x64 only"):
        measure_signature(session, (32, 32))


@pytest.mark.parametrize(
    ("elem", "shape", "message"),
    [
        (TensorProto.FLOAT, [1, 1, 8, 8], r"is \[1, 1, 8, 8\]; allowed is \[N, 3, height, width\]"),
        (TensorProto.DOUBLE, [1, 3, 8, 8], r"is tensor\(double\); allowed is tensor\(float\)"),
        (TensorProto.FLOAT, [4, 3, 8, 8], "batch is fixed at 4; allowed is 1 or dynamic"),
    ],
)
def test_an_input_that_is_no_picture_is_refused(elem: int, shape: list[int], message: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "odd",
        [helper.make_tensor_value_info("x", elem, shape)],
        [helper.make_tensor_value_info("y", elem, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    with pytest.raises(ImportInputError, match=message):
        measure_signature(Session(model.SerializeToString(), "odd.onnx"), None)


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", bytes(range(256)) * 40])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(ImportInputError, match=r"odd.onnx: not an ONNX file"):
        read_model(path)


def test_an_output_without_a_batch_is_refused_as_after_nms() -> None:
    draft = Draft()
    pooled = draft.add("GlobalAveragePool", draft.conv("images", 6, 8, 1.0))
    draft.add("Expand", draft.add("Reshape", pooled, draft.shape(1, 6)), draft.shape(100, 6), name="dets")
    model = draft.model({"dets": [6]}, "N")
    with pytest.raises(
        ImportInputError, match=r"output dets \[100, 6\] does not start with the batch.*without its NMS"
    ):
        measure_signature(Session(model.SerializeToString(), "nms.onnx"), None)


def test_made_frames_are_the_same_every_time_and_unlike_each_other() -> None:
    first, second = made_samples(SPEC), made_samples(SPEC)
    for one, other in zip(first, second, strict=True):
        assert one.pixels.dtype == np.uint8
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert len({sample.pixels.tobytes() for sample in first}) == len(first)
