"""Static quantisation: what is quantised, what stays, and how far the result is from the float32 engine."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from support_lower import SPEC, frames, matrix_engine, model_of, scores_of, small_engine
from vedette_engines.bundle import sha256_of
from vedette_engines.contract import check_onnx
from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.graft.frames import Sample
from vedette_engines.lower.int8 import RANGES_FILE, Quantised, to_int8
from vedette_engines.lower.plan import CalibrationPlan, Method, Target
from vedette_engines.manifest import ClassifierOutput, EngineFile, Manifest, Task

if TYPE_CHECKING:
    from pathlib import Path

TARGETS: tuple[Target, ...] = ("onnxruntime", "tensorrt")
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")
WEIGHTED = ("stem", "block1", "block2", "down", "fc")
CALIBRATION, VALIDATION = frames(12, 3), frames(6, 4)


def quantise(
    tmp_path: Path, plan: CalibrationPlan | None = None, target: Target = "onnxruntime", content: bytes = b""
) -> Quantised:
    plan = plan or CalibrationPlan()
    return to_int8(content or engine(), CALIBRATION, plan, target, tmp_path, lambda line: None)


@cache
def engine() -> bytes:
    return small_engine()


def broken(value: float) -> bytes:
    """Make an engine whose layer `block1` gives this value somewhere."""
    model = model_of(engine())
    for tensor in model.graph.initializer:
        if tensor.name == "block1.b":
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[3] = value
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_the_quantised_engine_says_nearly_what_the_engine_says(tmp_path: Path, target: Target, method: Method) -> None:
    quantised = quantise(tmp_path, CalibrationPlan(method), target)
    expected, found = scores_of(engine(), VALIDATION), scores_of(quantised.content, VALIDATION)
    assert np.ptp(expected, axis=0).max() > 0.05, "the engine says the same of every frame"
    assert np.abs(found - expected).max() < 0.06
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.8
    assert quantised.quantised_nodes == WEIGHTED
    assert quantised.kept_nodes == ()


@pytest.mark.parametrize("target", TARGETS)
def test_the_file_is_less_than_a_third_of_it(tmp_path: Path, target: Target) -> None:
    large = small_engine(width=128)
    assert len(quantise(tmp_path, target=target, content=large).content) < 0.3 * len(large)


@pytest.mark.parametrize("target", TARGETS)
def test_nodes_that_are_left_out_keep_their_weights(tmp_path: Path, target: Target) -> None:
    quantised = quantise(tmp_path, CalibrationPlan(exclude=("block2", "fc")), target)
    assert quantised.quantised_nodes == ("stem", "block1", "down")
    assert quantised.kept_nodes == ("block2", "fc")
    graph = model_of(quantised.content).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    assert weights[nodes["block2"].input[1]] == weights[nodes["fc"].input[1]] == TensorProto.FLOAT
    assert nodes["block1"].input[1] not in weights


@pytest.mark.parametrize("target", TARGETS)
def test_grafted_nodes_stay_what_they_are(tmp_path: Path, target: Target) -> None:
    before = [node for node in model_of(engine()).graph.node if node.name.startswith(PREFIX)]
    graph = model_of(quantise(tmp_path, target=target).content).graph
    after = [node for node in graph.node if node.name.startswith(PREFIX)]
    assert [(node.name, node.op_type) for node in after] == [(node.name, node.op_type) for node in before]
    assert after[0].input[0] == "frames"
    for node in after[1:3]:
        assert node.input[0].startswith(PREFIX)


@pytest.mark.parametrize("target", TARGETS)
def test_three_frames_at_once_are_three_frames_one_by_one(tmp_path: Path, target: Target) -> None:
    content = quantise(tmp_path, target=target).content
    together = scores_of(content, VALIDATION[:3])
    single = np.concatenate([scores_of(content, [sample]) for sample in VALIDATION[:3]])
    np.testing.assert_allclose(together, single, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_the_result_keeps_the_contract(tmp_path: Path, target: Target) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(quantise(tmp_path, target=target).content)
    listed = EngineFile(file.name, sha256=sha256_of(file))
    labels = tuple("abcdefghij")
    check_onnx(file, listed, Manifest("small", "1", Task.CLASSIFIER, SPEC, ClassifierOutput(10), labels, (listed,)))
    onnx.checker.check_model(model_of(file.read_bytes()), full_check=True)


def test_onnx_runtime_gets_unsigned_activations_and_tensorrt_signed_ones_without_zero_point_or_bias(
    tmp_path: Path,
) -> None:
    def zero_points(target: Target) -> tuple[set[int], set[int]]:
        graph = model_of(quantise(tmp_path, target=target).content).graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        nodes = [node for node in graph.node if node.op_type.endswith("quantizeLinear") or "izeLinear" in node.op_type]
        points = [constants[node.input[2]] for node in nodes if len(node.input) > 2]
        values = {int(value) for point in points for value in onnx.numpy_helper.to_array(point).reshape(-1)}
        return {point.data_type for point in points}, values

    assert zero_points("tensorrt") == ({TensorProto.INT8}, {0})
    types, values = zero_points("onnxruntime")
    assert types == {TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32}
    assert len(values) > 1


def test_onnx_runtime_fuses_everything_between_the_ends(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(quantise(tmp_path).content, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert {"QLinearConv", "QLinearAdd", "QLinearMul", "QGemm"} <= set(left)
    assert not {"Conv", "Gemm", "Add", "Relu"} & set(left)


def test_a_wider_model_of_matrices_can_be_quantised(tmp_path: Path) -> None:
    content = matrix_engine()
    # Twelve frames are too few for its ranges: one value more or less moves the largest difference threefold.
    quantised = to_int8(content, frames(24, 3), CalibrationPlan(), "onnxruntime", tmp_path, lambda line: None)
    assert quantised.quantised_nodes == ("embed", "up0", "down0", "up1", "down1", "fc")
    differences = np.abs(scores_of(quantised.content, VALIDATION) - scores_of(content, VALIDATION))
    assert differences.mean() < 0.006
    assert differences.max() < 0.06


def test_the_ranges_that_were_found_are_written(tmp_path: Path) -> None:
    quantise(tmp_path, CalibrationPlan("minmax"))
    ranges = json.loads((tmp_path / RANGES_FILE).read_text())
    assert ranges["stem_relu:0"][0] == 0
    assert ranges["stem_relu:0"][1] > 0


def test_nothing_to_calibrate_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match="no frames to calibrate on"):
        to_int8(engine(), [], CalibrationPlan(), "onnxruntime", tmp_path, lambda line: None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_without_finite_values_is_named(tmp_path: Path, value: float) -> None:
    with pytest.raises(ImportRefusedError, match=r"tensor block1:0 takes a value that is no number or infinite"):
        quantise(tmp_path, content=broken(value))


def test_a_node_to_leave_out_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match=r"node 'blok1' is to be left out, but there is none; there are stem"):
        quantise(tmp_path, CalibrationPlan(exclude=("blok1",)))


def test_an_engine_that_is_quantised_already_or_no_engine_is_refused(tmp_path: Path) -> None:
    done = quantise(tmp_path).content
    with pytest.raises(ImportInputError, match="quantised already"):
        quantise(tmp_path, content=done)
    with pytest.raises(ImportInputError, match="not an ONNX file"):
        quantise(tmp_path, content=b"no model")
    with pytest.raises(ImportInputError, match="nothing to quantise"):
        quantise(tmp_path, CalibrationPlan(op_types=("Relu",)))


def test_progress_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    to_int8(engine(), CALIBRATION, CalibrationPlan(), "onnxruntime", tmp_path, said.append)
    assert said[0] == "calibrating, ranges: 0 of 12 frames"
    assert "calibrating, histograms: 9 of 12 frames" in said
    assert "5 nodes with weights quantised, 0 left in float32" in said[-1]


def test_a_dark_frame_calibrates_too(tmp_path: Path) -> None:
    dark = [Sample("black", np.zeros((32, 32, 3), np.uint8))]
    content = to_int8(engine(), dark, CalibrationPlan(), "onnxruntime", tmp_path, lambda line: None).content
    assert np.isfinite(scores_of(content, VALIDATION)).all()
