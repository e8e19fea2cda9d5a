"""What a request's flags become on the TensorRT at hand; what it has not, or cannot do here, is refused by name.

| flag                     | tensorrt                         | tensorrt_rtx                                    |
|--------------------------|----------------------------------|-------------------------------------------------|
| targets                  | the GPU at hand only             | any that it knows, GPU or not                   |
| version_compatible       | VERSION_COMPATIBLE               | refused: it has no lean runtime to put in       |
| hardware_compatibility   | hardware_compatibility_level     | refused: it builds for several targets instead  |
| refit, strip             | REFIT, STRIP_PLAN                | the same, but only where there is a driver      |
| tf32                     | TF32, which is cleared otherwise | the same                                        |
| timing_cache             | read, used, written              | no effect, nothing written; said so             |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError
from vedette_engines.plans.environment import AMPERE_PLUS, ANY

if TYPE_CHECKING:
    from vedette_engines.plans.environment import Environment
    from vedette_engines.plans.module import TensorRT
    from vedette_engines.plans.request import PlanRequest

LEVELS = ("none", "same", AMPERE_PLUS)
_LEVEL_NAMES = {"same": "SAME_COMPUTE_CAPABILITY", AMPERE_PLUS: "AMPERE_PLUS"}
_TARGET = re.compile(r"sm_(\d{2,3})")
_MEMBER = re.compile(r"SM(\d{2,3})")
# What TensorRT for RTX makes portable plans for; Turing wants a plan of its own.
_OLDEST_PORTABLE = 80


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request is built here.

    Attributes:
        targets: What the plan will run on, as `PlanInfo.targets` says it.
        flags: Names of the `BuilderFlag`s to set; TF32 is cleared when it is not among them.
        hardware_level: Name of the `HardwareCompatibilityLevel`; empty: leave it.
        capabilities: Names of the `ComputeCapability`s to set; empty: none.
    """

    targets: tuple[str, ...]
    flags: tuple[str, ...]
    hardware_level: str
    capabilities: tuple[str, ...]


def settle(request: PlanRequest, tensorrt: TensorRT, environment: Environment) -> Settled:
    """Translate a request.

    Raises:
        ImportInputError: This TensorRT, or this machine, cannot do it; says why and what can.
    """
    if request.workspace_bytes < 1:
        raise ImportInputError(f"workspace is {request.workspace_bytes} bytes; allowed is 1 or more")
    if request.hardware_compatibility not in LEVELS:
        raise ImportInputError(
            f"hardware compatibility is {request.hardware_compatibility!r}; allowed is {', '.join(LEVELS)}"
        )
    for target in request.targets:
        if not _TARGET.fullmatch(target):
            raise ImportInputError(f"target is {target!r}; allowed is a compute capability like sm_86")
    settled = _settle_rtx(request, tensorrt, environment) if tensorrt.is_rtx else _settle_full(request, environment)
    for flag in settled.flags:
        if not hasattr(tensorrt.module.BuilderFlag, flag):
            raise ImportInputError(f"{tensorrt} has no flag {flag}")
    level = settled.hardware_level
    if level and not hasattr(tensorrt.module.HardwareCompatibilityLevel, level):
        raise ImportInputError(f"{tensorrt} has no hardware compatibility {request.hardware_compatibility!r}")
    return settled


def _flags(request: PlanRequest) -> tuple[str, ...]:
    wanted = {
        "VERSION_COMPATIBLE": request.version_compatible,
        "REFIT": request.refit,
        "STRIP_PLAN": request.strip,
        "TF32": request.tf32,
    }
    return tuple(flag for flag, is_wanted in wanted.items() if is_wanted)


def _settle_full(request: PlanRequest, environment: Environment) -> Settled:
    gpu = environment.gpu()
    if gpu is None:
        raise ImportInputError(
            "tensorrt builds on the GPU that is to run the plan, and there is none here; "
            "tensorrt_rtx (pip install 'vedette[tensorrt-rtx]') builds without one, for RTX cards"
        )
    for target in request.targets:
        if target != gpu.capability:
            raise ImportInputError(
                f"target is {target}, but tensorrt builds for the GPU at hand, {gpu.name} of {gpu.capability}; "
                f"build there, or for all GPUs from Ampere on with hardware compatibility {AMPERE_PLUS}"
            )
    level = request.hardware_compatibility
    if level == AMPERE_PLUS and gpu.compute < _OLDEST_PORTABLE:
        raise ImportInputError(f"hardware compatibility {AMPERE_PLUS} wants sm_80 or later; here is {gpu.capability}")
    targets = {"none": gpu.capability, "same": f"{ANY}{gpu.capability}", AMPERE_PLUS: AMPERE_PLUS}[level]
    return Settled((targets,), _flags(request), _LEVEL_NAMES.get(level, ""), ())


def _settle_rtx(request: PlanRequest, tensorrt: TensorRT, environment: Environment) -> Settled:
    gpu = environment.gpu()
    _check_rtx_flags(request, has_driver=gpu is not None)
    known = _capabilities(tensorrt)
    if request.targets:
        targets = tuple(dict.fromkeys(request.targets))
    elif gpu is not None:
        targets = (gpu.capability,)
    else:
        targets = tuple(f"sm_{number}" for number in known if number >= _OLDEST_PORTABLE)
    for target in targets:
        if int(target.removeprefix("sm_")) not in known:
            raise ImportInputError(
                f"{tensorrt} does not build for {target}; it knows {', '.join(f'sm_{number}' for number in known)}"
            )
    return Settled(targets, _flags(request), "", tuple(target.replace("sm_", "SM") for target in targets))


def _check_rtx_flags(request: PlanRequest, *, has_driver: bool) -> None:
    if request.version_compatible:
        raise ImportInputError(
            "tensorrt_rtx cannot build version-compatible plans: it has no lean runtime to put into them; "
            "build again with each version, which takes seconds"
        )
    if request.hardware_compatibility != "none":
        raise ImportInputError(
            f"tensorrt_rtx ignores hardware compatibility, so {request.hardware_compatibility!r} is refused; "
            "give the compute capabilities as targets instead, or none for all from Ampere on"
        )
    for flag, wanted in (("refit", request.refit), ("strip", request.strip)):
        if wanted and not has_driver:
            raise ImportInputError(
                f"tensorrt_rtx needs a driver to build with {flag}, and there is none here; "
                f"build on a machine with a GPU, or without {flag}"
            )


def _capabilities(tensorrt: TensorRT) -> list[int]:
    members = getattr(tensorrt.module.ComputeCapability, "__members__", {})
    return sorted(int(match[1]) for name in members if (match := _MEMBER.fullmatch(name)))
