"""Half precision: what is converted, what is not and why, and that it still says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from support_lower import frames, matrix_engine, model_of, scores_of, small_engine
from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.lower.fp16 import raise_opset, to_fp16
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

FRAMES = frames(6, 4)


def silent(line: str) -> None:
    del line


def halved(content: bytes) -> tuple[bytes, list[str]]:
    said: list[str] = []
    written = to_fp16(content, FRAMES, said.append)
    return written, [line for line in said if "stays float32" in line]


def changed(content: bytes, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> bytes:
    model = model_of(content)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return model.SerializeToString()


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_the_engine_in_half_says_nearly_what_the_engine_says(opset: int) -> None:
    content = small_engine(opset)
    written, kept = halved(content)
    assert np.abs(scores_of(written, FRAMES) - scores_of(content, FRAMES)).max() < 2e-3
    assert len(written) < 0.55 * len(content)
    assert kept == []


def test_matrices_and_norms_are_converted_too() -> None:
    content = matrix_engine()
    written, _ = halved(content)
    assert np.abs(scores_of(written, FRAMES) - scores_of(content, FRAMES)).max() < 5e-3
    types = {tensor.data_type for tensor in model_of(written).graph.initializer if len(tensor.dims) == 2}
    assert types == {TensorProto.FLOAT16}


def test_borders_and_grafted_nodes_stay_float32_and_the_batch_dynamic() -> None:
    content = small_engine()
    written, _ = halved(content)
    before, after = model_of(content).graph, model_of(written).graph
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)
    grafted = [node for node in after.node if node.name.startswith(PREFIX)]
    assert [node.op_type for node in grafted] == ["Cast", "Transpose", "Mul", "Softmax"]
    inferred = onnx.shape_inference.infer_shapes(model_of(written), strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    assert all(types.get(node.output[0], TensorProto.FLOAT) == TensorProto.FLOAT for node in grafted)
    assert types["stem_relu:0"] == TensorProto.FLOAT16
    onnx.checker.check_model(model_of(written), full_check=True)
    together = scores_of(written, FRAMES[:3])
    single = np.concatenate([scores_of(written, [sample]) for sample in FRAMES[:3]])
    np.testing.assert_allclose(together, single, atol=1e-3)


def test_a_layer_whose_values_do_not_fit_stays_float32_and_is_said() -> None:
    loud = changed(small_engine(), "block1.w", lambda weight: weight * 1e5)
    quiet = changed(loud, "block2.w", lambda weight: weight / 1e5)
    written, kept = halved(quiet)
    assert np.abs(scores_of(written, FRAMES) - scores_of(quiet, FRAMES)).max() < 2e-3
    assert any(line.startswith("block1 stays float32: block1:0 reaches ") for line in kept)
    assert any(line.startswith("block2 stays float32") for line in kept)
    assert not any(line.startswith(("stem ", "down ", "fc ")) for line in kept)


def test_weights_too_small_or_too_large_for_half_stay_float32() -> None:
    tiny = changed(small_engine(), "fc.b", lambda bias: bias * 1e-7)
    assert any("fc stays float32: fc.b has" in line for line in halved(tiny)[1])
    huge = changed(small_engine(), "fc.b", lambda bias: bias * 0 + 1e5)
    assert any("fc stays float32: fc.b has 1e+05" in line for line in halved(huge)[1])


def test_no_frames_are_needed() -> None:
    written = to_fp16(small_engine(), (), silent)
    assert len(written) < 0.55 * len(small_engine())


def test_an_engine_of_int8_becomes_a_mix_that_onnx_runtime_loads(tmp_path: Path) -> None:
    content = small_engine(opset=17)
    int8 = to_int8(content, FRAMES, CalibrationPlan(), "tensorrt", tmp_path, silent).content
    mixed, _ = halved(int8)
    graph = model_of(mixed).graph
    types = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 1}
    assert types == {TensorProto.INT8}
    scales = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    assert scales <= halves
    assert next(entry.version for entry in model_of(mixed).opset_import) >= 19
    assert np.abs(scores_of(mixed, FRAMES) - scores_of(int8, FRAMES)).max() < 0.02


def test_what_is_half_already_or_no_model_is_refused() -> None:
    written, _ = halved(small_engine())
    with pytest.raises(ImportInputError, match="float16 weights already"):
        halved(written)
    with pytest.raises(ImportInputError, match="not an ONNX file"):
        halved(b"")


def test_an_engine_that_gives_no_numbers_is_refused() -> None:
    broken = changed(small_engine(), "fc.b", lambda bias: bias * np.float32("nan"))
    with pytest.raises(ImportRefusedError, match="no numbers"):
        halved(broken)


def test_an_opset_that_cannot_be_raised_is_said() -> None:
    with pytest.raises(ImportInputError, match="opset 17 cannot be converted to 999"):
        raise_opset(model_of(small_engine(17)), 999)
