"""What was lowered for TensorRT is taken by TensorRT-RTX's parser and built, without a GPU."""

from __future__ import annotations

import pytest

from support_lower import frames, small_engine
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.lower.int8 import open_quantiser
from vedette_engines.lower.plan import CalibrationPlan

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt_rtx_bindings is not installed")

FRAMES = frames(4, 3)


def silent(line: str) -> None:
    del line


def build(content: bytes) -> int:
    """Parse and build with one profile, and return the plan's size."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(content), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("frames", (1, 32, 32, 3), (2, 32, 32, 3), (4, 32, 32, 3))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return len(bytes(plan))


@pytest.fixture(scope="module")
def quantised() -> dict[str, bytes]:
    quantiser = open_quantiser(small_engine(), FRAMES, CalibrationPlan(), "tensorrt", silent)
    return {"whole": quantiser.quantise().content, "partial": quantiser.quantise(("block1",)).content}


@pytest.mark.parametrize("which", ["whole", "partial"])
def test_int8_is_built(quantised: dict[str, bytes], which: str) -> None:
    assert build(quantised[which]) > 0


@pytest.mark.parametrize("which", ["whole", "partial"])
def test_a_mix_of_int8_and_float16_is_built(quantised: dict[str, bytes], which: str) -> None:
    assert build(to_fp16(quantised[which], FRAMES, silent)) > 0


def test_float16_is_built() -> None:
    assert build(to_fp16(small_engine(), FRAMES, silent)) > 0


def test_int8_for_onnx_runtime_is_not_for_tensorrt() -> None:
    content = open_quantiser(small_engine(), FRAMES, CalibrationPlan(), "onnxruntime", silent).quantise().content
    with pytest.raises(AssertionError):
        build(content)
