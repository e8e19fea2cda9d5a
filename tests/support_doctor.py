"""Machines for the doctor that are not this one, and libraries that misbehave."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from vedette_engines.doctor import scene
from vedette_engines.doctor.asking import Answer
from vedette_engines.doctor.runs import run_blobs

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
H100 = {
    "index": 0,
    "name": "NVIDIA H100 80GB HBM3",
    "capability": "sm_90",
    "uuid": "GPU-aaaa",
    "memory_bytes": 80 * GIB,
    "free_bytes": 79 * GIB,
    "mig": "off",
    "integrated": False,
}
L4 = {**H100, "name": "NVIDIA L4", "capability": "sm_89", "uuid": "GPU-bbbb", "memory_bytes": 24 * GIB}
RTX_TAKES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_120"]
PACKAGES = {
    "vedette": "0.1.0",
    "onnxruntime-gpu": "1.31.1",
    "openvino": "2026.4.1",
    "cuda-bindings": "13.5.0",
    "pycuda": "2026.1",
    "tensorrt": "11.4.0",
    "tensorrt-cu13-libs": "11.4.0",
    "tensorrt-rtx-cu13-bindings": "1.7.1",
    "pynvvideocodec": "2.2.4",
    "nvidia-ml-py": "13.615.71",
}
STARTED = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def machine(*gpus: dict[str, Any], cuda: str = "13.0", failure: str = "") -> dict[str, Any]:
    return {
        "nvml": {"found": True, "failure": "", "driver": "580.82.07", "cuda": cuda},
        "cuda": {"found": True, "failure": failure, "version": cuda},
        "gpus": [{**gpu, "index": number} for number, gpu in enumerate(gpus)],
    }


NO_DRIVER = {
    "nvml": {"found": False, "failure": "no file", "driver": "", "cuda": ""},
    "cuda": {"found": False, "failure": "no file", "version": ""},
    "gpus": [],
}


def library(version: str, *, works: bool = True, reason: str = "", **details: Any) -> dict[str, Any]:
    return {"version": version, "works": works, "reason": reason, "loads": True, "details": details}


class FakeMachine:
    """Answers as a machine with a GPU on which all works, but for what a test changes.

    Attributes:
        answers: By question; a text is a failure.
        runs: Rows of a backend by its name; a text is a failure. Others give the CPU's, which is really run.
        asked: Every question with its arguments.
    """

    def __init__(self, driver: dict[str, Any] | None = None, **answers: dict[str, Any] | str) -> None:
        self.answers: dict[str, dict[str, Any] | str] = {
            "driver": machine(H100) if driver is None else driver,
            "onnxruntime": library("1.31.1", providers=STARTED, cuda="13.0"),
            "openvino": library("2026.4.1", devices=["CPU"]),
            "cuda-bindings": library("13.5.0", cuda="13.5"),
            "pycuda": library("2026.1", cuda="13.0"),
            "tensorrt": library("11.4.0", module="tensorrt"),
            "tensorrt_rtx": library("1.7.1.116", capabilities=RTX_TAKES),
            "PyNvVideoCodec": library("2.2.4", engines=7, codecs={"H264": {"width": 4096, "height": 4096}}),
            "nvidia-ml-py": library("13.615.71"),
            "copies": {"wrong": {"copy": 0, "letterbox": 0}, "bytes": 1, "features": {}, "backend": "cuda-bindings"},
            **{name.replace("__", "-"): answer for name, answer in answers.items()},
        }
        self.runs: dict[str, Any] = {}
        self.providers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def __call__(self, question: str, /, **arguments: Any) -> Answer:
        with self._lock:
            self.asked.append((question, arguments))
        if question == "run":
            return _answer(self._run(**arguments))
        if question == "provider":
            said = self.providers.get(arguments["name"], "")
            starts = not said or (said == "preload" and arguments["preload"])
            return Answer({"used": arguments["name"] if starts else "CPUExecutionProvider", "said": said})
        return _answer(self.answers[question])

    def _run(self, backend: str, device: int, *, gpu: bool) -> dict[str, Any] | str:
        if backend in self.runs:
            return self.runs[backend]
        if backend.startswith("tensorrt") and not gpu:
            return {"rows": None, "backend": "", "note": "plan of 1 bytes built in 0.1 s"}
        return {**run_blobs("onnxruntime-cpu"), "backend": backend}

    def questions(self) -> list[str]:
        return [question for question, _ in self.asked]


def _answer(value: dict[str, Any] | str) -> Answer:
    return Answer({}, value) if isinstance(value, str) else Answer(value, seconds=0.1)


def rows_of_nothing() -> list[Any]:
    return [[[0.0] * 6] * 24] * (scene.FRAMES + 1)


def installed(folder: Path, name: str, version: str, code: str) -> Path:
    """Write a module with its distribution, as `pip install` leaves them."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return folder
