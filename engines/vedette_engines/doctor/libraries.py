"""Which libraries are looked at, and how each is: what its own process answered, judged by whether there is a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vedette_engines.doctor.report import LibraryFacts, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.doctor.asking import Answer, Asker

# What an import says where there is no driver: the libraries that it opens come with one.
_NO_DRIVER = re.compile(
    r"libcuda|libnvidia|libnvcuvid|libnvidia-ml|NVML|driver|CUDA_ERROR_NO_DEVICE|DynamicLib|no CUDA-capable device",
    re.IGNORECASE,
)
_NOT_STARTED = frozenset({"CPUExecutionProvider", "AzureExecutionProvider"})
_CUDA_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"})
_MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Spec:
    """One library.

    Attributes:
        name: Its name, and the question's.
        packages: Distributions that bring it, by normalised name.
        modules: What it is imported as, any of them.
        needs_gpu: It is of no use without one.
        on_device: The question takes the number of the GPU.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    needs_gpu: bool = True
    on_device: bool = True


SPECS = (
    Spec("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), ("onnxruntime",), needs_gpu=False, on_device=False),
    Spec("openvino", ("openvino",), ("openvino",), needs_gpu=False, on_device=False),
    Spec("cuda-bindings", ("cuda-bindings",), ("cuda",)),
    Spec("pycuda", ("pycuda",), ("pycuda",)),
    Spec("tensorrt", ("tensorrt",), ("tensorrt",), on_device=False),
    Spec(
        "tensorrt_rtx",
        ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"),
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        needs_gpu=False,
        on_device=False,
    ),
    Spec("PyNvVideoCodec", ("pynvvideocodec",), ("PyNvVideoCodec",)),
    Spec("nvidia-ml-py", ("nvidia-ml-py", "pynvml"), ("pynvml",)),
)


def look_at(
    asker: Asker, packages: Mapping[str, str], device: int, *, gpu: bool, nvml: bool
) -> dict[str, LibraryFacts]:
    """Look at all of them, some at a time.

    Args:
        asker: Answers the questions.
        packages: Versions of the installed distributions.
        device: Number of the GPU that is meant.
        gpu: CUDA sees it.
        nvml: The driver has NVML.
    """

    def look(spec: Spec) -> LibraryFacts:
        if not _installed(spec, packages):
            return LibraryFacts(spec.name, State.ABSENT, reason="not installed")
        answer = asker(spec.name, **({"device": device} if spec.on_device else {}))
        usable = gpu and (nvml or spec.name != "nvidia-ml-py")
        facts = judged(spec, answer, _version(spec, packages), usable=usable)
        return _started(asker, facts, device, gpu=gpu) if spec.name == "onnxruntime" and facts.works else facts

    with ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        return {facts.name: facts for facts in pool.map(look, SPECS)}


def judged(spec: Spec, answer: Answer, version: str, *, usable: bool) -> LibraryFacts:
    """Make facts of an answer.

    Args:
        spec: The library.
        answer: What was answered.
        version: As its package says.
        usable: There is a GPU that it could use.
    """
    value = answer.value
    facts = LibraryFacts(
        spec.name,
        State.BROKEN,
        str(value.get("version", version)),
        str(value.get("reason", "")) or answer.failure,
        dict(value.get("details", {})),
    )
    waits = spec.needs_gpu and not usable
    if value.get("works"):
        idle = waits and not facts.reason
        reason = "no GPU for it" if idle else facts.reason
        return replace(facts, state=State.IDLE if waits else State.WORKS, reason=reason)
    # Without a driver even a sound library fails; one that fails for another reason is broken with and without.
    if waits and (value.get("loads") or _NO_DRIVER.search(facts.reason)):
        return replace(facts, state=State.IDLE, reason="no GPU for it", details={**facts.details, "said": facts.reason})
    return facts


def _installed(spec: Spec, packages: Mapping[str, str]) -> bool:
    """Tell whether it is there, without importing it; a system's own packages may leave no distribution."""
    return any(name in packages for name in spec.packages) or any(map(_found, spec.modules))


def _found(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    # A folder of that name without code, as other packages of the name leave, is not it.
    return spec is not None and spec.loader is not None


def _version(spec: Spec, packages: Mapping[str, str]) -> str:
    return next((packages[name] for name in spec.packages if name in packages), "")


def _started(asker: Asker, facts: LibraryFacts, device: int, *, gpu: bool) -> LibraryFacts:
    """Add which of ONNX Runtime's providers really start."""
    started: dict[str, Any] = {}
    for name in facts.details.get("providers", ()):
        if name in _NOT_STARTED:
            continue
        if name in _CUDA_PROVIDERS and not gpu:
            started[name] = {"works": False, "reason": "no GPU", "preload": False}
        else:
            started[name] = _start(asker, name, device)
    running = [name.removesuffix("ExecutionProvider") for name, one in started.items() if one["works"]]
    reason = f"starts {', '.join(['CPU', *running])}"
    idle = [name.removesuffix("ExecutionProvider") for name, one in started.items() if not one["works"]]
    reason += f"; not {', '.join(idle)}" if idle else ""
    return replace(facts, reason=reason, details={**facts.details, "started": started})


def _start(asker: Asker, name: str, device: int) -> dict[str, Any]:
    """Start a provider as any program would, then as Vedette does, with CUDA's libraries loaded first."""
    why = ""
    for preload in (False, True):
        answer = asker("provider", name=name, device=device, preload=preload)
        if answer.value.get("used") == name:
            return {"works": True, "reason": "", "preload": preload}
        used = answer.value.get("used", "")
        why = str(answer.value.get("said", "")) or answer.failure or f"ONNX Runtime takes {used} instead"
    return {"works": False, "reason": why[-400:], "preload": True}
