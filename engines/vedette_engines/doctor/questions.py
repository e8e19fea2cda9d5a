"""The questions that are answered in a process of their own, each by what a library itself does here.

A library's answer: `version`; `works`, whether it does what it is for; `reason`, why not, or what else is worth
knowing; `loads`, whether it could be imported; `details`. What it raises is the reason, too: the process that answers
writes it down.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from vedette_engines.doctor import driver
from vedette_engines.doctor.runs import copy_and_letterbox, run_blobs, start_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CODECS = ("H264", "HEVC", "AV1", "VP9", "VP8", "MPEG4", "JPEG")


def cuda_bindings(device: int) -> dict[str, Any]:
    """Ask NVIDIA's cuda-bindings whether the driver starts."""
    from vedette_engines.cuda.bindings import check  # noqa: PLC0415  (an extra)

    cuda: Any = importlib.import_module("cuda.bindings.driver")
    version = metadata.version("cuda-bindings")
    facts = {"version": version, "details": {"cuda": _two_parts(version)}}
    try:
        check(cuda.cuInit(0), "starting the driver")
        check(cuda.cuDeviceGet(device), f"finding GPU {device}")
    except Exception as error:  # noqa: BLE001  (without a driver it raises what its loader does)
        return facts | {"works": False, "reason": _line(error), "loads": True}
    return facts | {"works": True, "reason": "graphs, priorities"}


def pycuda(device: int) -> dict[str, Any]:
    """Ask pycuda whether the driver starts."""
    from vedette_engines.cuda.pycuda_driver import import_pycuda  # noqa: PLC0415  (an extra)

    version = metadata.version("pycuda")
    library = import_pycuda()
    built = ".".join(map(str, library.get_version()))
    facts = {"version": version, "details": {"cuda": _two_parts(built)}, "loads": True}
    try:
        library.init()
        library.Device(device)
    except Exception as error:  # noqa: BLE001  (its errors have no common root but this)
        return facts | {"works": False, "reason": _line(error)}
    return facts | {"works": True, "reason": "graphs only beside cuda-bindings"}


def tensorrt(name: str) -> dict[str, Any]:
    """Ask one of the two TensorRTs for its parts; importing it is not all: a stub has none of them."""
    from vedette_engines.plans.module import find_tensorrt  # noqa: PLC0415

    found = find_tensorrt(name)
    details: dict[str, Any] = {"module": found.module.__name__}
    reason = ""
    if found.is_rtx:
        takes = sorted(_capabilities(found.module), key=lambda word: int(word[3:]))
        details["capabilities"], reason = takes, f"for {', '.join(takes)}"
    return {"version": found.version, "works": True, "reason": reason, "loads": True, "details": details}


def _capabilities(module: Any) -> list[str]:
    names = [name for name in dir(getattr(module, "ComputeCapability", None)) if name.startswith("SM")]
    return [f"sm_{name.removeprefix('SM')}" for name in names]


def onnxruntime() -> dict[str, Any]:
    """Ask ONNX Runtime what it was built with; what of it starts is another question."""
    ort: Any = importlib.import_module("onnxruntime")
    details = {"providers": list(ort.get_available_providers()), "cuda": _build_fact("cuda_version")}
    return {"version": str(ort.__version__), "works": True, "reason": "", "loads": True, "details": details}


def _build_fact(name: str) -> str:
    try:
        facts: Any = importlib.import_module("onnxruntime.capi.build_and_package_info")
    except ImportError:
        return ""
    return str(getattr(facts, name, "") or "")


def openvino() -> dict[str, Any]:
    """Ask OpenVINO for its devices."""
    from vedette_engines.runners.signal_stack import own_signal_stack  # noqa: PLC0415

    with own_signal_stack():
        library: Any = importlib.import_module("openvino")
        devices = list(library.Core().available_devices)
    works = bool(devices)
    reason = f"devices {', '.join(devices)}" if works else "it finds no device"
    return {"version": metadata.version("openvino"), "works": works, "reason": reason, "details": {"devices": devices}}


def nvdec(device: int) -> dict[str, Any]:
    """Ask PyNvVideoCodec for the decoders of a GPU, and which codecs they take in 8 bits 4:2:0."""
    library: Any = importlib.import_module("PyNvVideoCodec")
    codecs: dict[str, Any] = {}
    engines, refused = 0, ""
    for name in _CODECS:
        kind = getattr(library.cudaVideoCodec, name, None)
        if kind is None:
            continue
        try:
            able = dict(library.GetDecoderCaps(gpuid=device, codec=kind))
        except Exception as error:  # noqa: BLE001  (it raises for a codec that the GPU does not take)
            refused = refused or f"{name}: {_line(error)}"
            continue
        engines = max(engines, int(able.get("num_decoder_engines", 0)))
        if able.get("width_max", 0) > 0:
            codecs[name] = {"width": int(able["width_max"]), "height": int(able.get("height_max", 0))}
    works = bool(codecs)
    reason = f"{engines} decoders: {', '.join(codecs)}" if works else f"takes no codec ({refused or 'none is told'})"
    details = {"engines": engines, "codecs": codecs}
    return {"version": str(library.__version__), "works": works, "reason": reason, "loads": True, "details": details}


def nvml(device: int) -> dict[str, Any]:
    """Ask NVIDIA's NVML package for a GPU's load, which is what the metrics are made of."""
    library: Any = importlib.import_module("pynvml")
    facts = {"version": _version_of("nvidia-ml-py", "pynvml"), "loads": True}
    try:
        library.nvmlInit()
        handle = library.nvmlDeviceGetHandleByIndex(device)
        load = library.nvmlDeviceGetUtilizationRates(handle)
    except library.NVMLError as error:
        return facts | {"works": False, "reason": _line(error)}
    return facts | {"works": True, "reason": f"the GPU is busy {load.gpu} % of the time now"}


def _version_of(*names: str) -> str:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _two_parts(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


QUESTIONS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "driver": driver.look,
    "cuda-bindings": cuda_bindings,
    "pycuda": pycuda,
    "tensorrt": lambda: tensorrt("tensorrt"),
    "tensorrt_rtx": lambda: tensorrt("tensorrt_rtx"),
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "PyNvVideoCodec": nvdec,
    "nvidia-ml-py": nvml,
    "provider": start_provider,
    "run": run_blobs,
    "copies": copy_and_letterbox,
}
