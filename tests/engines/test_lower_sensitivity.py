"""Finding the layers that suffer most, and leaving out as few as it takes."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from support_lower import frames, model_of, scores_of, small_engine
from vedette_engines.errors import ImportInputError
from vedette_engines.lower.int8 import open_quantiser
from vedette_engines.lower.plan import CalibrationPlan, Target
from vedette_engines.lower.sensitivity import OutputLoss, auto_exclude, rank, sensitivities

CALIBRATION, OTHERS = frames(8, 3), frames(6, 5)
LAYERS = ("stem", "block1", "block2", "down", "fc")


def silent(line: str) -> None:
    del line


@cache
def lame_engine() -> bytes:
    """Make an engine whose layer `block2` has one weight that is a thousand times the others of its channel.

    With one scale for all of it nothing is left of the others.
    """
    changes = {
        "block2.w": lambda weight: weight[:, 0, 0, 0].fill(400),
        # The channel that the large weight multiplies is always 0 behind its ReLU.
        "block1.b": lambda bias: bias[:1].fill(-20),
        "fc.w": lambda weight: np.multiply(weight, 8, out=weight),
    }
    model = model_of(small_engine(width=16))
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            array = onnx.numpy_helper.to_array(tensor).copy()
            changes[tensor.name](array)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


def measure(content: bytes) -> float:
    return float(np.abs(scores_of(content, OTHERS) - scores_of(lame_engine(), OTHERS)).max())


def test_the_lame_layer_is_found() -> None:
    found = sensitivities(lame_engine(), CALIBRATION, CalibrationPlan("minmax"), "onnxruntime", measure, silent)
    assert sorted(entry.node for entry in found) == sorted(LAYERS)
    assert found[0].node == "block2"
    assert found[0].loss > 3 * found[1].loss
    assert all(one.loss >= other.loss for one, other in pairwise(found))


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_the_lame_layer_is_left_out_and_no_other(target: Target) -> None:
    said: list[str] = []
    plan = CalibrationPlan("minmax")
    quantised, excluded = auto_exclude(lame_engine(), CALIBRATION, plan, target, measure, 0.08, said.append)
    assert excluded == ("block2",)
    assert quantised.kept_nodes == ("block2",)
    assert measure(quantised.content) <= 0.04
    assert any(line.startswith("0 layers left out") for line in said)
    assert sum("calibrating" in line for line in said) == 4, "calibrated more than once"


def test_where_several_layers_are_needed_as_many_again_are_left_out_as_a_reserve() -> None:
    def needs_two(content: bytes) -> float:
        return 0.0 if kept_float(content) >= 2 else 1.0

    plan = CalibrationPlan("minmax")
    quantised, excluded = auto_exclude(lame_engine(), CALIBRATION, plan, "onnxruntime", needs_two, 0.5, silent)
    assert len(excluded) == len(quantised.kept_nodes) == 4
    assert "block2" in excluded[:2]


def kept_float(content: bytes) -> int:
    """Count the layers of an engine whose weights are float32."""
    graph = model_of(content).graph
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return sum(node.op_type in {"Conv", "Gemm"} and node.input[1] in weights for node in graph.node)


def test_nothing_is_left_out_of_an_engine_that_is_good_enough() -> None:
    plan = CalibrationPlan("minmax")
    quantised, excluded = auto_exclude(lame_engine(), CALIBRATION, plan, "onnxruntime", measure, 2.0, silent)
    assert excluded == ()
    assert quantised.kept_nodes == ()


def test_a_goal_that_cannot_be_reached_gives_the_best_there_is_and_says_so() -> None:
    said: list[str] = []
    plan = CalibrationPlan("minmax", exclude=("fc",))
    quantised, excluded = auto_exclude(lame_engine(), CALIBRATION, plan, "onnxruntime", measure, -1.0, said.append)
    assert "fc" not in excluded
    assert "block2" in excluded
    assert "fc" in quantised.kept_nodes
    assert "the aim was not reached" in said[-1]


def test_the_budget_bounds_what_is_measured() -> None:
    measured: list[int] = []

    def counting(content: bytes) -> float:
        measured.append(len(content))
        return 1.0

    auto_exclude(lame_engine(), CALIBRATION, CalibrationPlan("minmax"), "onnxruntime", counting, 0.5, silent, budget=3)
    assert len(measured) == 3


def test_layers_of_a_long_model_are_measured_in_blocks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette_engines.lower.sensitivity._SINGLE_LAYERS", 4)
    quantiser = open_quantiser(lame_engine(), CALIBRATION, CalibrationPlan("minmax"), "onnxruntime", silent)
    said: list[str] = []
    found = rank(quantiser, measure, said.append)
    assert sorted(entry.node for entry in found) == sorted(LAYERS)
    assert found[0].node == "block2"
    assert found[0].block == 1
    assert {entry.block for entry in found} >= {1, 3} or {entry.block for entry in found} >= {1, 2}
    assert "blocks of 3 layers" in said[0]


def test_the_output_loss_of_the_engine_itself_is_nothing() -> None:
    assert OutputLoss(lame_engine(), CALIBRATION)(lame_engine()) == 0


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ImportInputError, match="no frames"):
        sensitivities(lame_engine(), [], CalibrationPlan(), "onnxruntime", measure, silent)


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("layer", LAYERS)
def test_onnx_runtime_does_not_quantise_what_was_left_out(target: Target, layer: str) -> None:
    """It would, at load, when the layer stands between a DequantizeLinear and a QuantizeLinear."""
    plan = CalibrationPlan("minmax")
    quantiser = open_quantiser(lame_engine(), CALIBRATION, plan, target, silent)
    content = quantiser.quantise((layer,)).content
    plain, optimised = (
        run(content, level)
        for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    )
    np.testing.assert_allclose(optimised, plain, atol=0.02)


def run(content: bytes, level: ort.GraphOptimizationLevel) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"frames": np.stack([sample.pixels for sample in OTHERS])})[0]
