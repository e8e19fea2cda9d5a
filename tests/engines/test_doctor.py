"""The doctor on machines that are not this one: what it says, what it finds wrong, how it ends."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from support_doctor import GIB, H100, L4, NO_DRIVER, PACKAGES, FakeMachine, library, machine, rows_of_nothing
from vedette_engines.doctor.abilities import REQUIRABLE
from vedette_engines.doctor.check import Request, examine
from vedette_engines.doctor.page import show
from vedette_engines.doctor.report import Report, Severity, State
from vedette_engines.doctor.runs import run_blobs
from vedette_engines.errors import ImportInputError

pytest.importorskip("onnxruntime")


def without(*names: str, **more: str) -> dict[str, str]:
    kept = {name: version for name, version in PACKAGES.items() if name not in names}
    return kept | {name.replace("_", "-"): version for name, version in more.items()}


def report_of(
    fake: FakeMachine | None = None, packages: dict[str, str] | None = None, variables: Any = None, **request: Any
) -> Report:
    return examine(Request(**request), fake or FakeMachine(), packages or PACKAGES, variables or {})


def state(report: Report, name: str) -> State:
    return next(one.state for one in (*report.libraries, *report.trials) if one.name == name)


def can(report: Report) -> dict[str, bool]:
    return {ability.name: ability.available for ability in report.abilities}


def codes(report: Report) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in report.findings}


def page(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_on_an_h100_with_everything_all_backends_but_rtx_run_and_agree() -> None:
    report = report_of()
    tried = {trial.name: trial.state for trial in report.trials}
    assert tried == {
        "onnxruntime-cpu": State.WORKS,
        "onnxruntime-cuda": State.WORKS,
        "openvino": State.WORKS,
        "tensorrt": State.WORKS,
        "tensorrt-rtx": State.NOT_RUN,
        "cuda-bindings": State.WORKS,
        "pycuda": State.WORKS,
    }
    assert report.auto == {
        "engine_with_plan": "tensorrt",
        "engine_without_plan": "onnxruntime on CUDA",
        "cuda_library": "cuda-bindings",
        "decoder": "the CPU; NVDEC with engines.preprocess = device",
    }
    assert codes(report)["rtx-does-not-take-gpu"] is Severity.WARNING
    assert report.decoder["engines"] == 7
    assert report.exit_code == 0


def test_what_is_tried_is_what_is_meant() -> None:
    fake = FakeMachine(machine(H100, L4))
    report = report_of(fake, device=1)
    assert {arguments["device"] for _, arguments in fake.asked if "device" in arguments} == {1}
    assert "rtx-does-not-take-gpu" not in codes(report)
    assert state(report, "tensorrt-rtx") is State.WORKS


@pytest.mark.parametrize("device", [1, 7])
def test_a_gpu_that_is_not_there_is_a_wrong_command(device: int) -> None:
    with pytest.raises(ImportInputError, match=f"--device is {device}; CUDA sees 0 here"):
        report_of(device=device)


def test_without_a_driver_nothing_is_broken_and_all_is_told() -> None:
    fake = FakeMachine(
        NO_DRIVER,
        cuda__bindings={"version": "13.5.0", "works": False, "loads": True, "reason": "Ensure the driver is installed"},
        pycuda="ImportError: libcuda.so.1: cannot open shared object file",
        PyNvVideoCodec="RuntimeError: Failed to load NVENC library: libnvidia-encode.so.1: cannot open",
        nvidia__ml__py={"version": "13", "works": False, "loads": True, "reason": "NVML Shared Library Not Found"},
    )
    report = report_of(fake)
    assert report.exit_code == 0, report.problems
    idle = {facts.name for facts in report.libraries if facts.state is State.IDLE}
    assert idle == {"cuda-bindings", "pycuda", "tensorrt", "PyNvVideoCodec", "nvidia-ml-py"}
    assert {name for name, able in can(report).items() if able} == {"onnxruntime-cpu", "openvino"}
    assert state(report, "tensorrt-rtx") is State.NOT_RUN
    assert "provider" not in fake.questions()
    assert "There is no GPU here" in page(report)


def test_a_library_that_fails_for_another_reason_is_broken_without_a_gpu_too() -> None:
    report = report_of(FakeMachine(NO_DRIVER, pycuda="ImportError: numpy.core.multiarray failed to import"))
    assert state(report, "pycuda") is State.BROKEN
    assert report.exit_code == 1


def test_a_library_that_fails_on_a_gpu_is_broken_whatever_the_reason() -> None:
    report = report_of(FakeMachine(pycuda="ImportError: libcuda.so.1: undefined symbol: cuCtxCreate_v4"))
    assert state(report, "pycuda") is State.BROKEN
    assert "pycuda does not work" in report.problems
    assert can(report)["preprocess"]


def test_one_crash_costs_one_library() -> None:
    report = report_of(FakeMachine(tensorrt="crashed with SIGSEGV"))
    assert state(report, "tensorrt") is State.BROKEN
    assert state(report, "onnxruntime-cuda") is State.WORKS
    assert report.auto["engine_with_plan"] == "onnxruntime on CUDA"
    assert report.exit_code == 1


def shifted(backend: str, *, px: float = 0.0, score: float = 0.0, frame: int | None = None) -> dict[str, Any]:
    answer = run_blobs("onnxruntime-cpu")
    for number, rows in enumerate(answer["rows"]):
        for row in rows if frame in {None, number} else ():
            row[0] += px
            row[4] -= score
    return {**answer, "backend": backend}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (shifted("x", px=0.2), "box_px differs by 0.2, allowed is 0.1"),
        (shifted("x", score=0.01), "score differs by 0.01"),
        (shifted("x", px=0.2, frame=4), "box_px differs by 0.2"),
        ({"rows": rows_of_nothing(), "backend": "x"}, "0 squares were found, 8 are there"),
        ({"rows": rows_of_nothing()[:-1], "backend": "x"}, "4 frames came back of 5"),
        ({"rows": [[[float("nan")] * 6] * 24] * 5, "backend": "x"}, "24 rows are not numbers"),
        ("crashed with SIGSEGV", "crashed with SIGSEGV"),
        ("did not answer within 300 s and was ended", "did not answer"),
    ],
    ids=["box", "score", "the lone frame only", "nothing", "a frame less", "not numbers", "crash", "hang"],
)
def test_a_backend_that_gives_something_else_fails(answer: Any, says: str) -> None:
    fake = FakeMachine()
    fake.runs["tensorrt"] = answer
    report = report_of(fake)
    trial = next(trial for trial in report.trials if trial.name == "tensorrt")
    assert trial.state is State.BROKEN
    assert says in trial.reason
    assert report.exit_code == 1


def test_differences_within_the_bound_pass_and_are_told() -> None:
    fake = FakeMachine()
    fake.runs["tensorrt"] = shifted("tensorrt:11", px=0.05, score=0.001)
    report = report_of(fake)
    trial = next(trial for trial in report.trials if trial.name == "tensorrt")
    assert trial.state is State.WORKS
    assert trial.worst["box_px"] == pytest.approx(0.05, abs=1e-4)
    assert trial.against == "the CPU, float32"


def test_a_cpu_that_sees_nothing_fails_although_there_is_nothing_to_compare_it_with() -> None:
    fake = FakeMachine()
    fake.runs["onnxruntime-cpu"] = {"rows": rows_of_nothing(), "backend": "x"}
    report = report_of(fake)
    assert state(report, "onnxruntime-cpu") is State.BROKEN
    # The others are then held against what was drawn.
    assert state(report, "tensorrt") is State.WORKS


def test_bytes_that_come_back_wrong_fail_the_trial_of_a_cuda_library() -> None:
    wrong = {"wrong": {"copy": 0, "letterbox": 3}, "bytes": 1, "features": {}, "backend": "cuda-bindings"}
    report = report_of(FakeMachine(copies=wrong))
    assert state(report, "cuda-bindings") is State.WORKS
    failed = [trial for trial in report.trials if trial.state is State.BROKEN]
    assert {trial.name for trial in failed} == {"cuda-bindings", "pycuda"}
    assert "3 bytes of the letterbox" in failed[0].reason


FINDINGS = [
    ("two-onnxruntimes", Severity.WARNING, {}, without(onnxruntime="1.31.1"), {}),
    ("onnxruntime-without-cuda", Severity.WARNING, {}, without("onnxruntime-gpu", onnxruntime="1.31.1"), {}),
    ("two-opencvs", Severity.WARNING, {}, without(opencv_python="4", opencv_python_headless="4"), {}),
    ("two-tensorrts", Severity.WARNING, {}, without(tensorrt_cu12_libs="10.9", tensorrt_cu13_libs="11.4"), {}),
    ("pynvml-is-abandoned", Severity.NOTE, {}, without("nvidia-ml-py", pynvml="12"), {}),
    ("onnxruntime-wants-tensorrt-10", Severity.NOTE, {}, PACKAGES, {}),
    ("driver-too-old", Severity.ERROR, {"driver": machine(H100, cuda="12.8")}, PACKAGES, {}),
    ("cuda-stub", Severity.ERROR, {"driver": machine(failure="CUDA_ERROR_STUB_LIBRARY")}, PACKAGES, {}),
    ("driver-mismatch", Severity.ERROR, {"driver": machine(failure="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")}, PACKAGES, {}),
    (
        "tensorrt-stub",
        Severity.ERROR,
        {"tensorrt": "MissingRuntimeError: no TensorRT can be used here: has no Builder"},
        without("tensorrt-cu13-libs"),
        {},
    ),
    (
        "no-video-capability",
        Severity.ERROR,
        {"PyNvVideoCodec": "RuntimeError: Failed to load NVENC library: libnvidia-encode.so.1: cannot open shared"},
        PACKAGES,
        {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
    ),
    (
        "gpus-hidden",
        Severity.NOTE,
        {"driver": {**machine(H100), "gpus": [H100, {**L4, "index": -1}]}},
        PACKAGES,
        {"CUDA_VISIBLE_DEVICES": "0"},
    ),
]


@pytest.mark.parametrize(("code", "severity", "answers", "packages", "variables"), FINDINGS, ids=lambda v: str(v)[:30])
def test_what_people_stumble_over_is_found_where_it_is(
    code: str, severity: Severity, answers: dict[str, Any], packages: dict[str, str], variables: dict[str, str]
) -> None:
    report = report_of(FakeMachine(**answers), packages, variables, trials=False)
    assert codes(report).get(code) is severity
    assert (report.exit_code == 1) >= (severity is Severity.ERROR)


def test_where_all_is_in_order_nothing_is_found() -> None:
    fake = FakeMachine(machine(L4), tensorrt=library("10.13.2"))
    assert codes(report_of(fake, trials=False)) == {}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Failed to load libonnxruntime_providers_cuda.so: libcudnn.so.9: cannot open shared object file", "libcudnn"),
        ("cudaErrorInsufficientDriver", ""),
    ],
)
def test_a_cuda_provider_that_does_not_start_is_an_error_with_the_reason(said: str, code: str) -> None:
    fake = FakeMachine()
    fake.providers["CUDAExecutionProvider"] = said
    report = report_of(fake)
    finding = next(finding for finding in report.findings if finding.code == "cuda-provider-does-not-start")
    assert said in finding.text
    assert finding.remedy.startswith(code)
    assert state(report, "onnxruntime-cuda") is State.NOT_RUN
    assert report.exit_code == 1


def test_a_provider_that_starts_only_with_its_libraries_loaded_first_starts() -> None:
    fake = FakeMachine()
    fake.providers["CUDAExecutionProvider"] = "preload"
    report = report_of(fake)
    assert codes(report)["cuda-libraries-need-preload"] is Severity.NOTE
    assert can(report)["onnxruntime-cuda"]


@pytest.mark.parametrize("name", REQUIRABLE)
def test_what_is_required_and_there_is_met(name: str) -> None:
    report = report_of(FakeMachine(machine(L4)), require=(name,))
    assert [(one.name, one.met) for one in report.requirements] == [(name, True)]
    assert report.exit_code == 0


@pytest.mark.parametrize("name", sorted({*REQUIRABLE} - {"onnxruntime", "openvino"}))
def test_what_is_required_and_not_there_is_told_with_the_reason(name: str) -> None:
    report = report_of(FakeMachine(NO_DRIVER), require=(name,))
    (one,) = report.requirements
    assert not one.met
    assert one.reason
    assert report.exit_code == 1


def test_what_is_required_has_to_pass_its_trial() -> None:
    fake = FakeMachine()
    fake.runs["tensorrt"] = {"rows": rows_of_nothing(), "backend": "x"}
    (one,) = report_of(fake, require=("tensorrt",)).requirements
    assert not one.met
    assert "squares" in one.reason


def test_without_trials_nothing_is_run() -> None:
    fake = FakeMachine()
    report = report_of(fake, trials=False)
    assert report.trials == ()
    assert not {"run", "copies"} & set(fake.questions())


def test_a_gpu_in_parts_is_told() -> None:
    part = {**H100, "mig": "instance", "uuid": "MIG-1", "memory_bytes": 10 * GIB}
    assert "a MIG instance" in page(report_of(FakeMachine(machine(part)), trials=False), 120)


def test_a_jetson_without_nvml_is_in_order() -> None:
    orin = {**H100, "name": "Orin", "capability": "sm_87", "integrated": True, "free_bytes": None}
    answers = {**machine(orin, cuda="13.0"), "nvml": NO_DRIVER["nvml"]}
    fake = FakeMachine(
        answers, nvidia__ml__py={"works": False, "loads": True, "reason": "NVML Shared Library Not Found"}
    )
    report = report_of(fake, without("pynvvideocodec"))
    assert report.exit_code == 0, report.problems
    assert state(report, "nvidia-ml-py") is State.IDLE
    assert "shared with the host" in page(report, 120)


@pytest.mark.parametrize("fake", [FakeMachine(), FakeMachine(NO_DRIVER), FakeMachine(machine(H100, cuda="12.8"))])
@pytest.mark.parametrize("width", [80, 100])
def test_the_page_keeps_to_the_terminals_width_and_loses_no_word(fake: FakeMachine, width: int) -> None:
    report = report_of(fake)
    text = page(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    flat = "".join(text.split())
    for finding in report.findings:
        assert "".join(finding.text.split()) in flat


def test_scripts_find_the_keys_they_rely_on() -> None:
    data = report_of(require=("gpu",)).to_json()
    keys = ["schema", "platform", "python", "vedette", "device", "driver", "gpus", "libraries", "abilities", "auto"]
    assert list(data) == [*keys, "decoder", "findings", "trials", "requirements", "problems", "exit_code"]
    assert data["schema"] == 1
    assert set(data["gpus"][0]) == set(H100)
    assert set(data["libraries"][0]) == {"name", "state", "version", "reason", "details"}
    assert set(data["trials"][0]) >= {"name", "state", "reason", "backend", "worst", "bound", "seconds"}
