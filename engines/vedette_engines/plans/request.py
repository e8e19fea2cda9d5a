"""What plan is to be built, as plain data; and the key that tells whether it was built before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.bundle import sha256_of
from vedette_engines.errors import ImportInputError
from vedette_engines.plans.settling import settle

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.plans.environment import Environment
    from vedette_engines.plans.module import TensorRT

# Part of every key: a change of this file's ways with TensorRT makes other plans of the same wishes.
_RECIPE = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """The batches that one optimisation profile is for; only the batch of an engine is dynamic.

    Attributes:
        smallest: Fewest frames.
        best: The number that it is tuned for.
        largest: Most frames.
    """

    smallest: int
    best: int
    largest: int

    def __str__(self) -> str:
        return f"{self.smallest}:{self.best}:{self.largest}"


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One plan to build.

    Attributes:
        onnx: An engine's ONNX file; its precision is the plan's.
        profiles: Optimisation profiles, in the order that the plan will number them; each takes room in it.
        workspace_bytes: Most scratch memory that a layer may use.
        targets: Compute capabilities like `sm_86`; empty: this machine's GPU. TensorRT for RTX builds for any that it
            knows, and without a GPU for all from Ampere on.
        version_compatible: The plan also runs with later versions of the same major version. TensorRT only.
        hardware_compatibility: `none`: GPUs of the model at hand; `same`: all of its compute capability; `ampere+`: all
            from Ampere on. TensorRT only.
        refit: Weights can be changed later, without another build.
        strip: Weights are left out, and put in before the first run.
        tf32: Matrix products of float32 may round their factors to ten bits, which is faster and less exact.
        timing_cache: File that keeps measured times for the next build. TensorRT only.
        detailed: Layers keep their names, for the inspector and for profilers.
    """

    onnx: Path
    profiles: tuple[Profile, ...] = (Profile(1, 8, 32),)
    workspace_bytes: int = 1 << 30
    targets: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    refit: bool = False
    strip: bool = False
    tf32: bool = False
    timing_cache: Path | None = None
    detailed: bool = True


def check_profiles(profiles: tuple[Profile, ...], batch: int | None) -> None:
    """Check that the profiles are possible for an engine.

    Args:
        profiles: What is wanted.
        batch: The only batch that the engine takes; None: any.

    Raises:
        ImportInputError: They are not.
    """
    if not profiles:
        raise ImportInputError("a plan has at least one profile, like 1:8:32")
    for profile in profiles:
        if not 1 <= profile.smallest <= profile.best <= profile.largest:
            raise ImportInputError(f"profile {profile} is impossible; allowed is 1 <= smallest <= best <= largest")
        if batch is not None and profile != Profile(batch, batch, batch):
            raise ImportInputError(
                f"profile {profile} is impossible: the engine takes batches of {batch} and no others, "
                f"as its model's source does; allowed is {Profile(batch, batch, batch)}"
            )


def uncovered(profiles: tuple[Profile, ...]) -> tuple[int, ...]:
    """Tell the batches, from one frame to the largest, that no profile takes: they run padded to the next that does."""
    largest = max(profile.largest for profile in profiles)
    return tuple(
        batch
        for batch in range(1, largest)
        if not any(profile.smallest <= batch <= profile.largest for profile in profiles)
    )


def plan_key(request: PlanRequest, tensorrt: TensorRT, environment: Environment) -> str:
    """Hash all that decides a plan's bytes: 64 lower-case hexadecimal digits.

    Raises:
        ImportInputError: The request cannot be built here, or the ONNX file cannot be read.
    """
    settled = settle(request, tensorrt, environment)
    gpu = environment.gpu()
    try:
        onnx_sha256 = sha256_of(request.onnx)
    except OSError as error:
        raise ImportInputError(f"{request.onnx}: cannot be read: {error}") from error
    decides = {
        "recipe": _RECIPE,
        "module": tensorrt.name,
        "version": tensorrt.version,
        "platform": environment.platform,
        "targets": settled.targets,
        # The fastest kernel of one model is not that of another of the same capability.
        "gpu": gpu.name if gpu is not None and not tensorrt.is_rtx else "",
        "onnx": onnx_sha256,
        "profiles": [str(profile) for profile in request.profiles],
        "flags": sorted(settled.flags),
        "hardware": settled.hardware_level,
        "workspace": request.workspace_bytes,
        "detailed": request.detailed,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
