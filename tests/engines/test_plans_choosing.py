from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_bundles import toy_answer, toy_frames, toy_manifest, toy_model
from support_plans import H100, H100_PCIE, RTX_3090, machine, plan_of
from vedette_engines.bundle import Bundle, write_bundle
from vedette_engines.errors import BundleError, LoadError, MissingRuntimeError
from vedette_engines.manifest import Backend, EngineFile, Precision
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.choosing import choices, choose_file
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.cuda.base import Device
    from vedette_engines.plans.environment import Environment

TRT = "10.13.2.6"
ONNX = EngineFile("model.onnx")
ONNX_FP16 = EngineFile("model.fp16.onnx", precision=Precision.FP16)
PARSABLE = EngineFile("model.int8.tensorrt.onnx", Backend.TENSORRT, Precision.INT8)
H100_PLAN = EngineFile("h100.plan", Backend.TENSORRT, max_batch=32, plan=plan_of())
H100_FP16 = EngineFile("h100.fp16.plan", Backend.TENSORRT, Precision.FP16, max_batch=32, plan=plan_of())
RTX_PLAN = EngineFile("3090.plan", Backend.TENSORRT, plan=plan_of(targets=("sm_86",), gpu=RTX_3090.name))
GPU_BOX = machine(H100, tensorrt=TRT)
OTHER_BOX = machine(RTX_3090, tensorrt="10.14.1.48")
CPU_BOX = machine()


def bundle(root: Path, *files: EngineFile) -> Bundle:
    contents: dict[str, Path | bytes] = {
        file.path: b"a plan" if file.plan else toy_model().SerializeToString() for file in files
    }
    return write_bundle(root, toy_manifest(files=files), contents)


def wish(*backends: Backend, fallback: bool = False, **settings: Any) -> RunnerSettings:
    return RunnerSettings(backends=backends, fallback=fallback, **settings)


def chosen(bundle: Bundle, settings: RunnerSettings, here: Environment) -> tuple[str, Backend, tuple[str, ...]]:
    choice = choose_file(bundle, settings, here)
    return choice.file.path, choice.backend, choice.passed_over


def test_a_plan_that_fits_comes_before_the_onnx_file(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, PARSABLE, RTX_PLAN, H100_FP16, H100_PLAN)
    assert chosen(engine, wish(), GPU_BOX) == ("h100.plan", Backend.TENSORRT, ())
    assert chosen(engine, wish(precision=Precision.FP16), GPU_BOX) == ("h100.fp16.plan", Backend.TENSORRT, ())


@pytest.mark.parametrize("here", [CPU_BOX, machine(H100), machine(tensorrt=TRT)], ids=["bare", "no TensorRT", "no GPU"])
def test_without_gpu_or_tensorrt_the_onnx_file_is_run_and_nothing_is_said(tmp_path: Path, here: Environment) -> None:
    engine = bundle(tmp_path, ONNX, PARSABLE, H100_PLAN)
    assert chosen(engine, wish(), here) == ("model.onnx", Backend.ONNXRUNTIME, ())


def test_a_bundle_without_plans_is_run_from_onnx_on_a_gpu_box_too(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, ONNX_FP16, PARSABLE)
    assert chosen(engine, wish(), GPU_BOX) == ("model.onnx", Backend.ONNXRUNTIME, ())
    assert chosen(engine, wish(Backend.TENSORRT, Backend.ONNXRUNTIME), GPU_BOX)[0] == "model.onnx"


def test_tensorrt_is_not_even_looked_for_without_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vedette_engines.runners.choosing as module  # noqa: PLC0415

    monkeypatch.setattr(module, "find_environment", lambda: pytest.fail("looked for"))
    assert choose_file(bundle(tmp_path, ONNX, PARSABLE), wish()).file.path == "model.onnx"


def test_a_plan_of_another_gpu_is_refused_with_both_machines(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, H100_PLAN)
    with pytest.raises(LoadError) as raised:
        choices(engine, wish(), OTHER_BOX)
    assert str(raised.value) == (
        f"engine toy 1: plan h100.plan is refused: built for sm_90 with tensorrt {TRT} on {H100.name} (linux-x86_64); "
        f"here: sm_86, {RTX_3090.name}, tensorrt 10.14.1.48"
    )


def test_only_when_told_to_the_next_file_is_run_and_the_reason_kept(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, ONNX_FP16, H100_PLAN)
    path, backend, passed_over = chosen(engine, wish(fallback=True), OTHER_BOX)
    assert (path, backend) == ("model.onnx", Backend.ONNXRUNTIME)
    (reason,) = passed_over
    assert reason.startswith("plan h100.plan is refused: built for sm_90")


def test_plans_for_other_machines_are_no_reason_where_one_fits(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, RTX_PLAN, H100_FP16)
    assert chosen(engine, wish(), GPU_BOX) == ("h100.fp16.plan", Backend.TENSORRT, ())


def test_a_wish_for_plans_only_says_what_the_bundle_has_instead(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, PARSABLE)
    with pytest.raises(BundleError, match=r"no file for tensorrt; it has onnxruntime/fp32, tensorrt/int8, of which"):
        choose_file(engine, wish(Backend.TENSORRT), GPU_BOX)
    assert chosen(engine, wish(Backend.TENSORRT, fallback=True), GPU_BOX)[0] == "model.onnx"


def test_the_order_of_backends_is_the_users(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, H100_PLAN)
    assert chosen(engine, wish(Backend.ONNXRUNTIME, Backend.TENSORRT), GPU_BOX)[1] is Backend.ONNXRUNTIME
    assert chosen(engine, wish(Backend.OPENVINO), GPU_BOX)[:2] == ("model.onnx", Backend.OPENVINO)


def test_a_wish_for_plans_where_none_fits_and_no_other_file_is_there(tmp_path: Path) -> None:
    engine = bundle(tmp_path, H100_PLAN)
    with pytest.raises(LoadError, match="no GPU, no usable tensorrt; there is nothing to fall back to"):
        choose_file(engine, wish(Backend.TENSORRT, fallback=True), CPU_BOX)
    with pytest.raises(BundleError, match=r"no file for onnxruntime; it has tensorrt/fp32 \(plan\)"):
        choose_file(engine, wish(), CPU_BOX)


def test_a_precision_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no file for onnxruntime/int8"):
        choose_file(bundle(tmp_path, ONNX, PARSABLE), wish(precision=Precision.INT8, fallback=True), CPU_BOX)


def test_an_opened_engine_tells_its_file_and_why_it_is_not_the_plan(tmp_path: Path) -> None:
    engine = bundle(tmp_path, ONNX, H100_PLAN)
    with open_engine(engine, wish(fallback=True), OTHER_BOX) as opened:
        assert opened.file.path == "model.onnx"
        assert opened.fallback.startswith("plan h100.plan is refused: built for sm_90")
        lane, frames = opened.open_lane(), toy_frames(2)
        np.testing.assert_array_equal(lane.run(frames), [toy_answer(frame) for frame in frames])
        lane.close()
    with open_engine(engine, wish(), CPU_BOX) as opened:
        assert (opened.file.path, opened.fallback) == ("model.onnx", "")


def test_a_plan_that_fits_wants_a_device_that_opens(tmp_path: Path) -> None:
    class NoDevice:
        def device(self, index: int) -> Device:
            raise LoadError(f"GPU {index} cannot be opened: it fell out")

    engine = bundle(tmp_path, ONNX, H100_PLAN)
    with pytest.raises(LoadError, match="GPU 0 cannot be opened: it fell out"):
        open_engine(engine, wish(), GPU_BOX, NoDevice())
    with open_engine(engine, wish(fallback=True), GPU_BOX, NoDevice()) as opened:
        assert (opened.file.path, opened.on_device) == ("model.onnx", None)
        assert opened.fallback == "GPU 0 cannot be opened: it fell out"


def test_a_missing_runtime_is_passed_over_only_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vedette_engines.runners.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine = bundle(tmp_path, ONNX)
    options = {"openvino": {"PERFORMANCE_HINT": "LATENCY"}}
    with pytest.raises(MissingRuntimeError, match=r"pip install 'vedette\[openvino\]'"):
        open_engine(engine, wish(Backend.OPENVINO, provider_options=options))
    with open_engine(engine, wish(Backend.OPENVINO, fallback=True, provider_options=options)) as opened:
        assert opened.backend == "onnxruntime:CPUExecutionProvider"
        assert "needs OpenVINO" in opened.fallback


def test_when_all_files_fail_every_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vedette_engines.runners.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine = bundle(tmp_path, ONNX)
    settings = wish(Backend.OPENVINO, fallback=True, providers=("NoSuchExecutionProvider",))
    with pytest.raises(LoadError, match=r"none of the engine's files can be run: .*needs OpenVINO.*; .*NoSuch"):
        open_engine(engine, settings)


def test_a_bundle_carries_plans_for_many_machines(tmp_path: Path) -> None:
    pcie = EngineFile("pcie.plan", Backend.TENSORRT, plan=plan_of(gpu=H100_PCIE.name))
    engine = bundle(tmp_path, ONNX, H100_PLAN, pcie, RTX_PLAN)
    found = {gpu.name: chosen(engine, wish(), machine(gpu, tensorrt=TRT))[0] for gpu in (H100, H100_PCIE, RTX_3090)}
    assert list(found.values()) == ["h100.plan", "pcie.plan", "3090.plan"]
