"""What will run where, and why the rest will not: from what was found, what the server would do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.doctor.report import Ability, LibraryFacts, Requirement, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vedette_engines.doctor.findings import Facts
    from vedette_engines.doctor.report import Trial

CUDA_PROVIDER = "CUDAExecutionProvider"
# What may be required, by the ability or the library that it stands for.
GPU = "gpu"
_REQUIRABLE = {
    "cuda": "onnxruntime-cuda",
    "cuda-bindings": "cuda-bindings",
    "graphs": "graphs",
    "gpu-metrics": "gpu-metrics",
    "nvdec": "nvdec",
    "onnxruntime": "onnxruntime-cpu",
    "openvino": "openvino",
    "preprocess": "preprocess",
    "pycuda": "pycuda",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
REQUIRABLE = (GPU, *_REQUIRABLE)


def abilities(facts: Facts) -> tuple[Ability, ...]:
    """Tell what can be done here."""
    return tuple(_abilities(facts))


def _abilities(facts: Facts) -> Iterator[Ability]:
    ort = facts.library("onnxruntime")
    yield Ability("onnxruntime-cpu", "ONNX Runtime on the CPU", ort.works, _version(ort))
    yield _cuda_provider(facts, ort)
    openvino = facts.library("openvino")
    yield Ability("openvino", "OpenVINO", openvino.works, _version(openvino))
    yield _plans(facts, "tensorrt", "tensorrt", "TensorRT plans")
    yield _plans(facts, "tensorrt_rtx", "tensorrt-rtx", "TensorRT-RTX plans")
    opened = cuda_library(facts)
    yield Ability(
        "preprocess", "letterboxing on the GPU", bool(opened), f"with {opened}" if opened else _no_cuda(facts)
    )
    bindings = facts.library("cuda-bindings")
    yield Ability("graphs", "CUDA graphs", bindings.works, _version(bindings) if bindings.works else _no_cuda(facts))
    codec = facts.library("PyNvVideoCodec")
    yield Ability("nvdec", "decoding on the GPU (NVDEC)", codec.works, codec.reason or _version(codec))
    nvml = facts.library("nvidia-ml-py")
    yield Ability("gpu-metrics", "GPU metrics (NVML)", nvml.works, _version(nvml) if nvml.works else _why(nvml))


def _version(library: LibraryFacts) -> str:
    return f"{library.name} {library.version}" if library.works else _why(library)


def _why(library: LibraryFacts) -> str:
    return "not installed" if library.state is State.ABSENT else library.reason


def no_gpu(facts: Facts) -> str:
    """Say why there is no GPU; empty: there is."""
    if facts.gpu is not None:
        return ""
    if facts.driver.state is State.ABSENT:
        return "no NVIDIA driver"
    return facts.driver.reason or ("no GPU" if not facts.gpus else f"CUDA sees no GPU {facts.device}")


def cuda_library(facts: Facts) -> str:
    """Tell the CUDA library that `auto` takes; empty: none works."""
    names = ("cuda-bindings", "pycuda")
    return next((name for name in names if facts.gpu is not None and facts.library(name).works), "")


def _no_cuda(facts: Facts) -> str:
    return no_gpu(facts) or "; ".join(
        f"{library.name}: {_why(library)}" for library in map(facts.library, ("cuda-bindings", "pycuda"))
    )


def _cuda_provider(facts: Facts, ort: LibraryFacts) -> Ability:
    started = ort.details.get("started", {}).get(CUDA_PROVIDER)
    able = bool(started and started.get("works"))
    if able:
        reason = _version(ort)
    elif ort.state in {State.ABSENT, State.BROKEN} and not started:
        reason = _why(ort)
    elif CUDA_PROVIDER not in ort.details.get("providers", ()):
        reason = "this build has no CUDA provider: that is onnxruntime-gpu"
    else:
        reason = no_gpu(facts) or str((started or {}).get("reason", "")) or "it does not start"
    return Ability("onnxruntime-cuda", "ONNX Runtime on CUDA", able, reason)


def _plans(facts: Facts, library: str, name: str, words: str) -> Ability:
    """Plans need a TensorRT that takes this GPU, and a CUDA library for the executor."""
    found, gpu = facts.library(library), facts.gpu
    takes: Sequence[str] = found.details.get("capabilities", ())
    if found.state is State.ABSENT or found.state is State.BROKEN:
        return Ability(name, words, False, _why(found))
    if gpu is None:
        builds = "; builds plans without one" if takes else ""
        return Ability(name, words, False, f"{no_gpu(facts)}{builds}")
    if takes and gpu.capability not in takes:
        return Ability(name, words, False, f"{gpu.capability} is not among {', '.join(takes)}")
    opened = cuda_library(facts)
    return Ability(name, words, bool(opened), f"{library} {found.version}, {opened}" if opened else _no_cuda(facts))


def auto(able: Iterable[Ability], facts: Facts) -> dict[str, str]:
    """Tell what the server's `auto` takes here: for engines with a fitting plan, for others, and for the rest."""
    can = {ability.name for ability in able if ability.available}
    onnx = "onnxruntime on CUDA" if "onnxruntime-cuda" in can else "onnxruntime on the CPU"
    onnx = onnx if "onnxruntime-cpu" in can or "onnxruntime-cuda" in can else "nothing: ONNX Runtime does not work"
    plan = next((name for name in ("tensorrt", "tensorrt-rtx") if name in can), onnx)
    return {
        "engine_with_plan": plan,
        "engine_without_plan": onnx,
        "cuda_library": cuda_library(facts) or "none",
        # What is letterboxed on the CPU is decoded there: a surface would have to come back.
        "decoder": "the CPU; NVDEC with engines.preprocess = device" if {"nvdec", "preprocess"} <= can else "the CPU",
    }


def requirements(
    names: Iterable[str], facts: Facts, able: Iterable[Ability], trials: Mapping[str, Trial]
) -> tuple[Requirement, ...]:
    """Judge what `--require` asks for: it can be done, and a trial of it did not fail."""
    by_name = {ability.name: ability for ability in able}
    found = []
    for name in dict.fromkeys(names):
        if name == GPU:
            reason = no_gpu(facts)
        elif name in {"cuda-bindings", "pycuda"}:
            library = facts.library(name)
            reason = "" if library.works and facts.gpu is not None else (no_gpu(facts) or _why(library))
        else:
            ability = by_name[_REQUIRABLE[name]]
            reason = "" if ability.available else ability.reason
        trial = trials.get(_REQUIRABLE.get(name, ""))
        if not reason and trial is not None and trial.state is State.BROKEN:
            reason = trial.reason
        found.append(Requirement(name, not reason, reason))
    return tuple(found)
