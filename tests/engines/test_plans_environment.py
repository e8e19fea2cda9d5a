from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support_plans import H100, H100_PCIE, LINUX, RTX_3090, T4, machine, plan_of
from vedette_engines.errors import ImportInputError, MissingRuntimeError
from vedette_engines.plans.environment import check_plan, find_environment, platform_name
from vedette_engines.plans.gpus import find_gpus
from vedette_engines.plans.module import find_tensorrt

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from vedette_engines.manifest import PlanInfo
    from vedette_engines.plans.environment import Environment
    from vedette_engines.plans.gpus import Gpu

TRT = "10.13.2.6"
SECOND_H100 = replace(H100, uuid="GPU-eeee-5555")
RTX_PLAN = plan_of(module="tensorrt_rtx", version="1.7.1.116", targets=("sm_86", "sm_89"), gpu="", driver="")


@pytest.mark.parametrize(
    ("plan", "here"),
    [
        (plan_of(), machine(H100, tensorrt=TRT)),
        (plan_of(), machine(H100, tensorrt=TRT, tensorrt_rtx="1.7.1.116")),
        (plan_of(gpu=""), machine(H100_PCIE, tensorrt=TRT)),
        (plan_of(targets=("any-sm_90",)), machine(H100_PCIE, tensorrt=TRT)),
        (plan_of(targets=("ampere+",)), machine(RTX_3090, tensorrt=TRT)),
        (plan_of(targets=("ampere+",)), machine(H100_PCIE, tensorrt=TRT)),
        (plan_of(version_compatible=True), machine(H100, tensorrt="10.14.1.48")),
        (plan_of(version_compatible=True), machine(H100, tensorrt=TRT)),
        (RTX_PLAN, machine(RTX_3090, tensorrt_rtx="1.7.1.116")),
        (RTX_PLAN, machine(RTX_3090, platform="windows-amd64", tensorrt_rtx="1.7.1.116")),
    ],
    ids=[
        "the same machine",
        "another TensorRT beside",
        "nobody wrote down the model",
        "same compute capability, built for all of it",
        "ampere+ on Ampere",
        "ampere+ on Hopper",
        "version compatible, later minor",
        "version compatible, same",
        "RTX, one of its targets",
        "RTX, another platform",
    ],
)
def test_a_plan_runs_where_it_was_built_for(plan: PlanInfo, here: Environment) -> None:
    assert check_plan(plan, here) == ""


@pytest.mark.parametrize(
    ("plan", "here", "says"),
    [
        (
            plan_of(),
            machine(RTX_3090, tensorrt="10.14.1.48"),
            f"built for sm_90 with tensorrt {TRT} on {H100.name} ({LINUX}); "
            f"here: sm_86, {RTX_3090.name}, tensorrt 10.14.1.48",
        ),
        (plan_of(), machine(H100, tensorrt="10.13.2.7"), f"here: sm_90, {H100.name}, tensorrt 10.13.2.7"),
        (plan_of(), machine(H100_PCIE, tensorrt=TRT), f"here: sm_90, {H100_PCIE.name}, tensorrt {TRT}"),
        (plan_of(), machine(tensorrt=TRT), f"here: no GPU, tensorrt {TRT}"),
        (plan_of(), machine(H100), f"here: sm_90, {H100.name}, no usable tensorrt"),
        (plan_of(), machine(H100, tensorrt_rtx="1.7.1.116"), "no usable tensorrt but tensorrt_rtx 1.7.1.116"),
        (plan_of(), machine(H100, platform="linux-aarch64", tensorrt=TRT), f"tensorrt {TRT}, linux-aarch64"),
        (plan_of(targets=("ampere+",)), machine(T4, tensorrt=TRT), f"built for ampere+ with tensorrt {TRT}"),
        (plan_of(targets=("any-sm_90",)), machine(RTX_3090, tensorrt=TRT), "built for any-sm_90"),
        (
            plan_of(version_compatible=True),
            machine(H100, tensorrt="11.4.0.106"),
            f"with tensorrt {TRT} or later of that major version on {H100.name}",
        ),
        (plan_of(version_compatible=True), machine(H100, tensorrt="10.9.0.34"), "tensorrt 10.9.0.34"),
        (RTX_PLAN, machine(T4, tensorrt_rtx="1.7.1.116"), "built for sm_86+sm_89 with tensorrt_rtx 1.7.1.116 (linux"),
        (RTX_PLAN, machine(RTX_3090, tensorrt_rtx="1.8.0.1"), "tensorrt_rtx 1.8.0.1"),
    ],
)
def test_elsewhere_it_is_refused_with_what_it_was_built_for_and_what_is_here(
    plan: PlanInfo, here: Environment, says: str
) -> None:
    assert says in check_plan(plan, here)


def test_of_several_gpus_the_one_that_is_to_run_it_counts() -> None:
    here = machine(RTX_3090, H100, tensorrt=TRT)
    assert check_plan(plan_of(), here, device_id=1) == ""
    assert "here: sm_86" in check_plan(plan_of(), here, device_id=0)
    assert "here: no GPU 7 among 2" in check_plan(plan_of(), here, device_id=7)


def test_this_machine_is_described_without_importing_tensorrt_when_that_does_not_matter() -> None:
    here = find_environment(modules=False)
    assert here.platform == platform_name()
    assert not here.modules
    assert platform_name().startswith({"linux": "linux-", "win32": "windows-", "darwin": "darwin-"}[sys.platform])


class Nvml:
    """A driver's library with two GPUs of one model, called by ctypes' rules."""

    def __init__(self, *gpus: Gpu, starts: bool = True) -> None:
        self.starts = starts
        self.gpus = gpus or (H100, SECOND_H100)
        self.open = 0

    def nvmlInit_v2(self) -> int:  # noqa: N802  (the library's name, as below)
        self.open += self.starts
        return 0 if self.starts else 9

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, device: Any) -> int:  # noqa: N802
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = divmod(self.gpus[device.value - 1].compute, 10)
        return 0

    def nvmlDeviceGetName(self, device: Any, text: Any, size: Any) -> int:  # noqa: N802
        assert size.value >= 96
        text.value = self.gpus[device.value - 1].name.encode()
        return 0

    def nvmlDeviceGetUUID(self, device: Any, text: Any, size: Any) -> int:  # noqa: N802
        text.value = self.gpus[device.value - 1].uuid.encode()
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:  # noqa: N802
        text.value = b"580.65.06"
        return 0


class Cuda:
    """The CUDA driver of a board without NVML."""

    def cuInit(self, flags: ctypes.c_uint) -> int:  # noqa: N802
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: ctypes.c_int) -> int:  # noqa: N802
        device._obj.value = index.value
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: ctypes.c_int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[number.value]
        return 0

    def cuDeviceGetName(self, text: Any, size: ctypes.c_int, device: Any) -> int:  # noqa: N802
        text.value = b"Orin"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0


def libraries(**there: Any) -> Callable[[str], Any]:
    def open_library(name: str) -> Any:
        for part, library in there.items():
            if part in name:
                return library
        raise OSError(name)

    return open_library


def test_gpus_are_asked_of_nvml_and_let_go_of_again() -> None:
    nvml = Nvml()
    assert find_gpus(libraries(nvidia=nvml), {}) == ((H100, SECOND_H100), "580.65.06")
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("1", [SECOND_H100]),
        ("1,0", [SECOND_H100, H100]),
        ("", []),
        ("-1", []),
        ("0,9,1", [H100]),
        (SECOND_H100.uuid[:8], [SECOND_H100]),
    ],
)
def test_gpus_that_cuda_hides_are_not_there(words: str, seen: list[Any]) -> None:
    gpus, _ = find_gpus(libraries(nvidia=Nvml()), {"CUDA_VISIBLE_DEVICES": words})
    assert list(gpus) == seen


def test_without_nvml_the_cuda_driver_is_asked() -> None:
    gpus, driver = find_gpus(libraries(cuda=Cuda()), {"CUDA_VISIBLE_DEVICES": "5"})
    assert [(gpu.name, gpu.capability) for gpu in gpus] == [("Orin", "sm_87")]
    assert driver == "CUDA 12.6"
    assert find_gpus(libraries(nvidia=Nvml(starts=False), cuda=Cuda()), {})[1] == "CUDA 12.6"


def test_cuda_is_asked_for_the_numbers_of_gpus_of_several_models_and_for_parts_of_one() -> None:
    mixed = libraries(nvidia=Nvml(RTX_3090, H100), cuda=Cuda())
    assert [gpu.name for gpu in find_gpus(mixed, {})[0]] == ["Orin"]
    assert find_gpus(mixed, {})[1] == "580.65.06"
    part = libraries(nvidia=Nvml(), cuda=Cuda())
    assert [gpu.name for gpu in find_gpus(part, {"CUDA_VISIBLE_DEVICES": "MIG-1234"})[0]] == ["Orin"]


def test_without_a_driver_there_are_no_gpus() -> None:
    assert find_gpus(libraries(), {}) == ((), "")


def stub(version: str, **parts: object) -> SimpleNamespace:
    return SimpleNamespace(__version__=version, **parts)


WHOLE = {"Builder": object, "OnnxParser": object, "IProgressMonitor": object}


def load_from(**modules: object) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        found = modules.get(name)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return found

    return load


def test_full_tensorrt_comes_before_rtx_unless_rtx_is_asked_for() -> None:
    load = load_from(tensorrt=stub("11.4.0.106", **WHOLE), tensorrt_rtx=stub("1.7.1.116", **WHOLE))
    assert str(find_tensorrt("", load)) == "tensorrt 11.4.0.106"
    assert str(find_tensorrt("tensorrt_rtx", load)) == "tensorrt_rtx 1.7.1.116"


def test_rtx_is_found_under_the_name_of_its_bindings() -> None:
    found = find_tensorrt("", load_from(tensorrt_rtx_bindings=stub("1.7.1.116", **WHOLE)))
    assert (found.name, found.is_rtx) == ("tensorrt_rtx", True)


def test_when_none_can_be_used_each_one_says_why() -> None:
    load = load_from(
        tensorrt=OSError("libnvinfer.so.10: cannot open shared object file\nmore"),
        tensorrt_rtx=stub("1.7.1.116"),
    )
    with pytest.raises(MissingRuntimeError) as raised:
        find_tensorrt("", load)
    assert "tensorrt: libnvinfer.so.10: cannot open shared object file;" in str(raised.value)
    assert "tensorrt_rtx: has no Builder, OnnxParser, IProgressMonitor" in str(raised.value)
    assert "tensorrt_rtx_bindings: No module named 'tensorrt_rtx_bindings'" in str(raised.value)
    assert "pip install 'vedette[tensorrt]', or 'vedette[tensorrt-rtx]'" in str(raised.value)


def test_an_old_tensorrt_is_passed_over() -> None:
    with pytest.raises(MissingRuntimeError, match=r"tensorrt: is version 8\.6\.1; wanted is 10 or later"):
        find_tensorrt("tensorrt", load_from(tensorrt=stub("8.6.1", **WHOLE)))


def test_another_name_is_refused() -> None:
    with pytest.raises(ImportInputError, match="'trt'; allowed is tensorrt or tensorrt_rtx"):
        find_tensorrt("trt")
