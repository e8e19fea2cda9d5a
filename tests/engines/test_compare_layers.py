"""Layer by layer: a spoilt layer is found, and the twins of a quantised file's tensors are."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from vedette_engines.compare.exposing import read_graph
from vedette_engines.compare.layers import LEAST_DB, MOST_DB, compare_layers, match_tensors
from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.frames import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

SIDE = 16
LAYERS = 4


def chain(*, half: bool = False, batch: int | str = "N") -> ModelProto:
    """Make four convolutions, each with its Relu, behind the cast of `frames`."""
    rng = np.random.default_rng(11)
    kind = np.float16 if half else np.float32
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], "cast", to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "small"], ["x0"], "scale"),
    ]
    constants = [numpy_helper.from_array(np.asarray(1 / 255, kind), "small")]
    for i in range(LAYERS):
        inputs, outputs = (3 if i == 0 else 8), 8
        weights = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3))
        constants.append(numpy_helper.from_array(weights.astype(kind), f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"], f"relu{i}"))
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{LAYERS}"], ["pooled"], "pool"))
    nodes.append(helper.make_node("Cast", ["pooled"], ["out"], "back", to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Flatten", ["out"], ["scores"], "flat"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 8])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def frames(count: int = 3) -> list[Sample]:
    rng = np.random.default_rng(2)
    return [Sample(f"noise {i}", rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for i in range(count)]


def changed(model: ModelProto, name: str, change: Any) -> bytes:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return model.SerializeToString()


def test_the_same_file_differs_nowhere() -> None:
    content = chain().SerializeToString()
    said: list[str] = []
    layers = compare_layers(content, content, frames(), say=said.append)
    assert {layer.signal_to_noise_db for layer in layers} == {MOST_DB}
    assert not any(layer.worst or layer.first_low for layer in layers)
    assert said == ["14 tensors were compared on 3 frames; 0 have no counterpart in the engine"]


@pytest.mark.parametrize("spoilt", range(LAYERS))
def test_the_layer_that_was_spoilt_is_the_first_low_one_wherever_it_stands(spoilt: int) -> None:
    wrong = changed(chain(), f"w{spoilt}", lambda weights: weights[::-1].copy())
    layers = compare_layers(chain().SerializeToString(), wrong, frames())
    (first,) = [layer for layer in layers if layer.first_low]
    assert (first.name, first.node, first.op) == (f"c{spoilt}", f"conv{spoilt}", "Conv")
    assert max(layers, key=lambda layer: layer.drop_db) == first
    before = layers[: layers.index(first)]
    assert {layer.signal_to_noise_db for layer in before} == {MOST_DB}
    assert "(the first below 20 dB)" in str(first)


def test_signal_to_noise_is_that_of_a_known_error() -> None:
    # A tenth more everywhere: noise of a tenth, 20 dB.
    louder = changed(chain(), "w0", lambda weights: weights * np.float32(1.1))
    layers = compare_layers(chain().SerializeToString(), louder, frames())
    for layer in layers:
        if layer.name in {"c0", "x1", "c3", "scores"}:
            assert layer.signal_to_noise_db == pytest.approx(20.0, abs=1e-3)
    (c0,) = [layer for layer in layers if layer.name == "c0"]
    assert c0.drop_db == pytest.approx(40.0, abs=1e-3)
    assert c0.largest == pytest.approx(0.1 * c0.largest_reference, rel=1e-4)


def test_values_that_overflow_are_found() -> None:
    huge = changed(chain(), "w2", lambda weights: weights * np.float32(np.inf))
    layers = compare_layers(chain().SerializeToString(), huge, frames())
    (first,) = [layer for layer in layers if layer.first_low]
    assert (first.name, first.signal_to_noise_db) == ("c2", LEAST_DB)
    assert first.mismatched > 0
    assert "NaN or infinite on one side only" in str(first)


def test_half_precision_is_compared_through_its_casts() -> None:
    layers = compare_layers(chain().SerializeToString(), chain(half=True).SerializeToString(), frames())
    assert len(layers) == 14
    assert all(layer.signal_to_noise_db > 50 for layer in layers)
    assert min(layer.signal_to_noise_db for layer in layers) < MOST_DB


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"frames": frame.pixels[None]} for frame in frames(8)]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("quantised")
    onnx.save(chain(), str(folder / "float.onnx"))
    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "int8.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return (folder / "int8.onnx").read_bytes()


def test_twins_of_a_quantised_files_tensors_are_behind_its_dequantising(quantised: bytes) -> None:
    candidate = read_graph(quantised, "int8")
    pairs = match_tensors(read_graph(chain().SerializeToString(), "float"), candidate)
    # ONNX Runtime lets the range do the Relu's work, and calls the convolution's output by the Relu's name.
    assert not any(node.op_type == "Relu" for node in candidate.tensors.values())
    assert pairs == {
        **{name: name for name in ("floats", "out", "scores")},
        **{name: f"{name}_DequantizeLinear_Output" for name in ("planes", "x0", "x1", "x2", "x3", "x4", "pooled")},
    }


def test_a_relu_in_the_range_behind_its_layer_is_found_under_the_layers_name_too(quantised: bytes) -> None:
    model = onnx.load_model_from_string(quantised)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [re.sub(r"^x([1-4])(?=$|_Deq)", lambda found: f"c{int(found[1]) - 1}", name) for name in names]
    pairs = match_tensors(
        read_graph(chain().SerializeToString(), "float"), read_graph(model.SerializeToString(), "int8")
    )
    for i in range(LAYERS):
        # What comes out of the range is the Relu's; the layer's own is before it.
        assert pairs[f"c{i}"] == f"c{i}"
        assert pairs[f"x{i + 1}"] == f"c{i}_DequantizeLinear_Output"
    for layer in compare_layers(chain().SerializeToString(), model.SerializeToString(), frames()):
        assert layer.signal_to_noise_db > 20, layer


def test_a_quantised_file_is_compared_layer_by_layer(quantised: bytes) -> None:
    said: list[str] = []
    layers = compare_layers(chain().SerializeToString(), quantised, frames(), say=said.append)
    assert said == ["10 tensors were compared on 3 frames; 4 have no counterpart in the engine"]
    assert all(20 < layer.signal_to_noise_db < 60 for layer in layers if layer.op == "Relu")


def test_what_stands_behind_a_sorting_is_left_out() -> None:
    model = chain()
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([3]), "three"))
    model.graph.node.extend(
        [
            helper.make_node("TopK", ["scores", "three"], ["best", "index"], "top", axis=1),
            helper.make_node("Neg", ["best"], ["after"], "after"),
        ]
    )
    content = model.SerializeToString()
    assert {"best", "after"}.isdisjoint(layer.name for layer in compare_layers(content, content, frames()))


def test_a_fixed_batch_is_filled() -> None:
    content = chain(batch=2).SerializeToString()
    assert len(compare_layers(content, content, frames(1))) == 14


def test_layers_are_plain_data_the_same_every_time() -> None:
    wrong = changed(chain(), "w1", lambda weights: weights * np.float32(1.01))

    def text() -> str:
        layers = compare_layers(chain().SerializeToString(), wrong, frames())
        return json.dumps([layer.to_json() for layer in layers], allow_nan=False)

    assert text() == text()
    assert all(math.isfinite(layer["signal_to_noise_db"]) for layer in json.loads(text()))


def test_files_that_have_nothing_in_common_are_refused() -> None:
    content = chain().SerializeToString()
    with pytest.raises(ImportInputError, match="without frames"):
        compare_layers(content, content, [])
    with pytest.raises(ImportInputError, match="not an ONNX file"):
        compare_layers(content, b"\xff nonsense", frames())
    renamed = chain()
    for node in renamed.graph.node:
        node.input[:] = [
            name if name in {"frames", "small"} or name[0] == "w" else f"other_{name}" for name in node.input
        ]
        node.output[:] = [f"other_{name}" for name in node.output]
    renamed.graph.output[0].name = "other_scores"
    with pytest.raises(ImportInputError, match="no tensor in common"):
        compare_layers(content, renamed.SerializeToString(), frames())
    small = [Sample("small", np.zeros((8, 8, 3), np.uint8))]
    with pytest.raises(ImportRefusedError, match="the reference: running it fails"):
        compare_layers(content, content, small)
