from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_bundles import toy_manifest, toy_model
from support_plans import H100, RTX_3090, machine, plan_of
from vedette_engines.bundle import Bundle, write_bundle
from vedette_engines.cli_page import page
from vedette_engines.cuda.opening import Library
from vedette_engines.manifest import Backend, EngineFile, Precision
from vedette_engines.runners.verdicts import Forecaster

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.plans.environment import Environment

TRT = "10.13.2.6"
ONNX = EngineFile("model.onnx")
PARSABLE = EngineFile("model.int8.tensorrt.onnx", Backend.TENSORRT, Precision.INT8)
H100_PLAN = EngineFile("h100.plan", Backend.TENSORRT, max_batch=32, plan=plan_of())
RTX_PLAN = EngineFile("3090.plan", Backend.TENSORRT, plan=plan_of(targets=("sm_86",), gpu=RTX_3090.name))
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
GPU_BOX = machine(H100, tensorrt=TRT)
WITH, WITHOUT = Library("cuda-bindings", "13.0", ""), Library("cuda-bindings", "", "not installed")


def bundle(root: Path, *files: EngineFile) -> Bundle:
    contents: dict[str, Path | bytes] = {
        file.path: b"a plan" if file.plan else toy_model().SerializeToString() for file in files
    }
    return write_bundle(root, toy_manifest(files=files), contents)


def forecaster(here: Environment, *providers: str, cuda: Library = WITH) -> Forecaster:
    return Forecaster(lambda modules=True: here, lambda: providers or None, lambda: (cuda,))


def said(forecaster: Forecaster, bundle: Bundle) -> dict[str, tuple[str, bool]]:
    return {v.file.path: (v.backend or v.reason, v.default) for v in forecaster.verdicts(bundle)}


def test_on_a_gpu_box_the_plan_that_fits_is_the_default_and_each_file_says_what_would_run_it(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, PARSABLE, RTX_PLAN, H100_PLAN)
    found = said(forecaster(GPU_BOX, CUDA, CPU), engine)
    assert found["h100.plan"] == (f"tensorrt:{TRT}", True)
    assert found["model.onnx"] == (f"onnxruntime:{CUDA}", False)
    assert found["model.int8.tensorrt.onnx"] == ("plans are made of it: vedette engine plan", False)
    reason, default = found["3090.plan"]
    assert reason.startswith("built for sm_86 with tensorrt")
    assert f"here: sm_90, {H100.name}" in reason
    assert not default
    assert forecaster(GPU_BOX, CUDA, CPU).summary(engine) == f"tensorrt:{TRT}"


def test_without_a_gpu_a_build_for_cuda_runs_the_onnx_file_on_the_cpu(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, H100_PLAN)
    here = forecaster(machine(), CUDA, CPU)
    assert said(here, engine)["model.onnx"] == (f"onnxruntime:{CPU}", True)
    assert "no GPU, no usable tensorrt" in said(here, engine)["h100.plan"][0]
    assert here.summary(engine) == f"onnxruntime:{CPU}"


def test_where_the_plans_are_for_other_machines_loading_is_refused_until_it_is_allowed_to_fall_back(
    tmp_path: Path,
) -> None:
    engine = bundle(tmp_path, ONNX, RTX_PLAN)
    here = forecaster(GPU_BOX, CUDA, CPU)
    assert [verdict.default for verdict in here.verdicts(engine)] == [False, False]
    assert here.summary(engine) == "nothing"


def test_without_a_cuda_library_a_plan_that_fits_does_not_run(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, H100_PLAN)
    found = said(forecaster(GPU_BOX, CUDA, CPU, cuda=WITHOUT), engine)
    assert found["h100.plan"][0].startswith("cuda-bindings: not installed; pip install")


def test_without_a_runtime_the_extra_is_named(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX)
    assert said(forecaster(machine()), engine)["model.onnx"][0].endswith("pip install 'vedette[cpu]'")


def test_tensorrt_is_not_looked_for_where_there_is_no_plan(tmp_path: Path) -> None:
    def look(*, modules: bool = True) -> Environment:
        if modules:
            pytest.fail("TensorRT was looked for")
        return machine()

    assert Forecaster(look, lambda: (CPU,)).summary(bundle(tmp_path, ONNX, PARSABLE)) == f"onnxruntime:{CPU}"


def test_the_page_says_it_below_each_file(tmp_path: Path) -> None:
    text = page(bundle(tmp_path, ONNX, RTX_PLAN, H100_PLAN), forecaster(GPU_BOX, CUDA, CPU))
    lines = [line.split(None, 2)[2] for line in text.splitlines() if line.startswith("  runs here")]
    assert lines[0] == f"onnxruntime:{CUDA}"
    assert lines[1].startswith("no: built for sm_86")
    assert lines[2] == f"tensorrt:{TRT}, unless another is asked for"
