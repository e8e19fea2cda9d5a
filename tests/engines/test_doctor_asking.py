"""Questions in processes of their own: what a library does there is its own affair."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from support_cli import is_gone
from support_doctor import installed
from vedette_engines.doctor.asking import ask
from vedette_engines.doctor.driver import look

if TYPE_CHECKING:
    from pathlib import Path

_SEGFAULT = "import ctypes; ctypes.string_at(0)"
_STUB = "__version__ = '11.4.0'"
_LOUD = "import sys; print('{', file=sys.stdout); print('a line', file=sys.stderr)\n" + _STUB


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_library_that_crashes_the_process_is_told_by_its_signal(folder: Path) -> None:
    installed(folder, "tensorrt", "11.4.0", _SEGFAULT)
    answer = ask("tensorrt")
    assert answer.failure.startswith("crashed with SIGSEGV")
    assert not answer.value


def test_a_library_that_hangs_is_ended_with_what_it_started(folder: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(__file__).with_name('pid').write_text(str(child.pid))\ntime.sleep(600)"
    )
    installed(folder, "tensorrt", "11.4.0", code)
    began = time.monotonic()
    answer = ask("tensorrt", timeout_s=3.0)
    assert answer.failure == "did not answer within 3 s and was ended"
    assert time.monotonic() - began < 30
    assert is_gone(int((folder / "tensorrt/pid").read_text()))


def test_a_library_that_ends_the_process_is_told_by_its_code_and_last_words(folder: Path) -> None:
    installed(folder, "tensorrt", "11.4.0", "import os, sys\nprint('out of luck', flush=True)\nos._exit(7)")
    assert ask("tensorrt").failure == "ended with 7: out of luck"


def test_a_stub_is_told_from_a_library(folder: Path) -> None:
    installed(folder, "tensorrt", "11.4.0", _STUB)
    answer = ask("tensorrt")
    assert "has no Builder" in answer.failure


def test_what_a_library_prints_does_not_spoil_the_answer(folder: Path) -> None:
    installed(folder, "tensorrt", "11.4.0", f"{_LOUD}\nBuilder = OnnxParser = IProgressMonitor = object")
    answer = ask("tensorrt")
    assert answer.failure == ""
    assert answer.value["version"] == "11.4.0"
    assert answer.value["works"]


def test_a_library_that_crashes_after_its_answer_has_answered(folder: Path) -> None:
    code = f"import atexit, ctypes\natexit.register(ctypes.string_at, 0)\n{_LOUD}\n"
    installed(folder, "tensorrt", "11.4.0", f"{code}Builder = OnnxParser = IProgressMonitor = object")
    assert ask("tensorrt").value["works"]


def test_an_unknown_question_is_a_failure() -> None:
    assert ask("the weather").failure == "KeyError: 'the weather'"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ask("driver")
    assert list(tmp_path.iterdir()) == []


# -- the driver ---------------------------------------------------------------------------------


class Nvml:
    """NVML with some GPUs, as ctypes calls it."""

    def __init__(self, gpus: list[dict[str, Any]], version: int = 13000, code: int = 0, lacks: str = "") -> None:
        self._gpus, self._version, self._code, self._lacks = gpus, version, code, lacks

    def __getattr__(self, name: str) -> Any:
        if self._lacks and self._lacks in name:
            raise AttributeError(name)
        return {
            "nvmlInit_v2": lambda: self._code,
            "nvmlShutdown": lambda: 0,
            "nvmlSystemGetCudaDriverVersion_v2": lambda place: _set(place, self._version),
            "nvmlSystemGetDriverVersion": lambda text, size: _write(text, "580.82.07"),
            "nvmlDeviceGetCount_v2": lambda place: _set(place, len(self._gpus)),
            "nvmlDeviceGetHandleByIndex_v2": lambda index, place: _set(place, index.value + 1),
            "nvmlDeviceGetCudaComputeCapability": lambda device, major, minor: _set(major, 9) or _set(minor, 0),
            "nvmlDeviceGetMemoryInfo": self._memory,
            "nvmlDeviceGetMigMode": lambda device, now, later: self._mig(device, now),
            "nvmlDeviceGetName": lambda device, text, size: _write(text, self._of(device)["name"]),
            "nvmlDeviceGetUUID": lambda device, text, size: _write(text, self._of(device)["uuid"]),
        }[name]

    def _of(self, device: Any) -> dict[str, Any]:
        return self._gpus[device.value - 1]

    def _memory(self, device: Any, place: Any) -> int:
        place._obj.total, place._obj.free = self._of(device)["memory"], self._of(device)["free"]
        return 0

    def _mig(self, device: Any, now: Any) -> int:
        mig = self._of(device).get("mig")
        return 3 if mig is None else _set(now, mig)


class Cuda:
    """CUDA's driver with some GPUs."""

    def __init__(self, gpus: list[dict[str, Any]], code: int = 0) -> None:
        self._gpus, self._code = gpus, code

    def cuInit(self, flags: Any) -> int:  # noqa: N802
        return self._code

    def cuDriverGetVersion(self, place: Any) -> int:  # noqa: N802
        return _set(place, 13000)

    def cuDeviceGetCount(self, place: Any) -> int:  # noqa: N802
        return _set(place, len(self._gpus))

    def cuDeviceGet(self, place: Any, index: Any) -> int:  # noqa: N802
        return _set(place, index.value)

    def cuDeviceGetName(self, text: Any, size: Any, device: Any) -> int:  # noqa: N802
        return _write(text, self._gpus[device.value]["name"])

    def cuDeviceTotalMem_v2(self, place: Any, device: Any) -> int:  # noqa: N802
        return _set(place, self._gpus[device.value]["memory"])

    def cuDeviceGetAttribute(self, place: Any, number: Any, device: Any) -> int:  # noqa: N802
        return _set(place, {75: 9, 76: 0, 18: self._gpus[device.value].get("integrated", 0)}[number.value])

    def cuDeviceGetUuid_v2(self, place: Any, device: Any) -> int:  # noqa: N802
        ctypes.memmove(place, bytes.fromhex(self._gpus[device.value]["bytes"]), 16)
        return 0


def _set(place: Any, value: int) -> int:
    place._obj.value = value
    return 0


def _write(text: Any, words: str) -> int:
    text.value = words.encode()
    return 0


ONE = {"name": "NVIDIA H100", "memory": 80 << 30, "free": 79 << 30, "bytes": "11" * 16}
ONE["uuid"] = "GPU-11111111-1111-1111-1111-111111111111"
TWO = {**ONE, "bytes": "22" * 16, "uuid": "GPU-22222222-2222-2222-2222-222222222222", "free": 10 << 30}


def libraries(nvml: Any = None, cuda: Any = None) -> Any:
    def open_library(name: str) -> Any:
        found = {"libnvidia-ml.so.1": nvml, "libcuda.so.1": cuda}[name]
        if found is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found

    return open_library


def test_without_a_driver_there_is_no_gpu() -> None:
    found = look(libraries())
    assert found["gpus"] == []
    assert not found["nvml"]["found"]
    assert not found["cuda"]["found"]


def test_gpus_stand_in_cudas_order_with_what_nvml_knows_of_them() -> None:
    found = look(libraries(Nvml([ONE, TWO]), Cuda([TWO, ONE])))
    assert [(gpu["index"], gpu["uuid"], gpu["free_bytes"]) for gpu in found["gpus"]] == [
        (0, TWO["uuid"], TWO["free"]),
        (1, ONE["uuid"], ONE["free"]),
    ]
    assert found["nvml"] == {"found": True, "failure": "", "driver": "580.82.07", "cuda": "13.0"}
    assert found["cuda"] == {"found": True, "failure": "", "version": "13.0"}


def test_a_gpu_that_cuda_does_not_see_is_listed_without_a_number() -> None:
    found = look(libraries(Nvml([ONE, TWO]), Cuda([TWO])))
    assert [(gpu["index"], gpu["uuid"]) for gpu in found["gpus"]] == [(0, TWO["uuid"]), (-1, ONE["uuid"])]


def test_a_part_of_a_gpu_is_listed_instead_of_the_gpu() -> None:
    part = {**ONE, "bytes": "33" * 16, "memory": 10 << 30}
    (gpu,) = look(libraries(Nvml([{**ONE, "mig": 1}]), Cuda([part])))["gpus"]
    assert gpu["mig"] == "instance"
    assert gpu["uuid"].startswith("MIG-33333333-")
    assert gpu["memory_bytes"] == 10 << 30


@pytest.mark.parametrize(("code", "name"), [(100, "CUDA_ERROR_NO_DEVICE"), (34, "CUDA_ERROR_STUB_LIBRARY"), (7, "7")])
def test_a_driver_that_does_not_start_is_told_by_cudas_name(code: int, name: str) -> None:
    found = look(libraries(Nvml([ONE]), Cuda([], code)))
    assert name in found["cuda"]["failure"]
    assert [gpu["index"] for gpu in found["gpus"]] == [-1]


def test_a_small_nvml_that_lacks_functions_is_asked_for_what_it_has() -> None:
    (gpu,) = look(libraries(Nvml([ONE], lacks="Memory"), Cuda([{**ONE, "integrated": 1}])))["gpus"]
    assert gpu["free_bytes"] is None
    assert gpu["integrated"]
    assert gpu["memory_bytes"] == ONE["memory"]


def test_nvml_that_does_not_start_is_told() -> None:
    found = look(libraries(Nvml([], code=18), Cuda([ONE])))
    assert found["nvml"]["failure"] == "NVML error 18"
    assert len(found["gpus"]) == 1


def test_this_machine_answers() -> None:
    answer = ask("driver")
    assert answer.failure == ""
    assert os.path.exists("/dev/nvidia0") or answer.value["gpus"] == []  # noqa: PTH110
