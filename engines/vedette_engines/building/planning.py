"""The stages that build for one runtime: TensorRT plans, and ONNX Runtime's own rewriting."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vedette_engines.building.making import ENGINE_FILE
from vedette_engines.errors import ImportInputError
from vedette_engines.manifest import Backend, PlanInfo, Precision
from vedette_engines.optimise import optimise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vedette_engines.building.lowering import Candidate
    from vedette_engines.building.request import PlanWish
    from vedette_engines.building.step import Say
    from vedette_engines.building.workbench import Workbench
    from vedette_engines.optimise import Level

PLAN_FILE = "model.plan"


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A plan that may be published.

    Attributes:
        precision: Its arithmetic.
        path: Where it is.
        info: What it was built with.
        key: Of the step that made it.
    """

    precision: Precision
    path: Path
    info: PlanInfo
    key: str


def optimised(bench: Workbench, candidate: Candidate) -> Candidate:
    """Let ONNX Runtime rewrite a file now, instead of at each load.

    Raises:
        ImportRefusedError: What it wrote says something else.
    """
    level: Level | None = bench.request.optimise
    if level is None:
        return candidate

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        before = candidate.path.read_bytes()
        after = optimise(before, level)
        (folder / ENGINE_FILE).write_bytes(after)
        say(f"{len(before)} bytes become {len(after)}")
        return {"bytes": len(after)}

    result = bench.stage(f"{candidate.name}-optimised", {"from": candidate.key, "level": level}, produce)
    return dataclasses.replace(candidate, path=result.folder / ENGINE_FILE, key=result.key)


def plan(bench: Workbench, candidates: Sequence[Candidate], wish: PlanWish) -> list[Planned]:
    """Build a plan of each precision that was asked for, out of the file that TensorRT takes.

    Raises:
        ImportInputError: A precision has no such file.
    """
    files = _parsable(candidates)
    missing = [precision for precision in wish.precisions if precision not in files]
    if missing:
        raise ImportInputError(
            f"--plan-precision has {missing[0]}, of which no file for TensorRT is made; "
            f"there are {', '.join(files)} (INT8 wants --int8-target tensorrt)"
        )
    return [_build(bench, files[precision], wish) for precision in wish.precisions or files]


def _parsable(candidates: Sequence[Candidate]) -> dict[Precision, Candidate]:
    """Choose for each precision the file that TensorRT's parser takes."""
    return {
        candidate.precision: candidate
        for candidate in candidates
        if candidate.precision is not Precision.INT8 or candidate.backend is Backend.TENSORRT
    }


def _build(bench: Workbench, candidate: Candidate, wish: PlanWish) -> Planned:
    from vedette_engines.plans.building import build_plan  # noqa: PLC0415
    from vedette_engines.plans.environment import find_environment  # noqa: PLC0415
    from vedette_engines.plans.module import find_tensorrt  # noqa: PLC0415
    from vedette_engines.plans.progress import ProgressView  # noqa: PLC0415
    from vedette_engines.plans.request import PlanRequest, Profile, plan_key  # noqa: PLC0415

    tensorrt = find_tensorrt(wish.module)
    request = PlanRequest(
        onnx=candidate.path,
        profiles=tuple(Profile(*profile) for profile in wish.profiles),
        workspace_bytes=wish.workspace_bytes,
        targets=wish.targets,
        version_compatible=wish.version_compatible,
        hardware_compatibility=wish.hardware_compatibility,
        refit=wish.refit,
        strip=wish.strip,
        tf32=wish.tf32,
        timing_cache=wish.timing_cache,
    )

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        with ProgressView(Console(stderr=True)) as progress:
            built = build_plan(request, tensorrt, say, progress)
        (folder / PLAN_FILE).write_bytes(built.content)
        say(f"{len(built.content)} bytes for {'+'.join(built.info.targets)} in {built.seconds:.1f} s")
        return {"bytes": len(built.content), "info": dataclasses.asdict(built.info)}

    key = plan_key(request, tensorrt, find_environment())
    result = bench.stage(f"plan-{candidate.precision}", {"plan": key}, produce)
    info = result.figures["info"]
    info = PlanInfo(
        **{
            **info,
            "targets": tuple(info["targets"]),
            "profiles": tuple(tuple(profile) for profile in info["profiles"]),
        }
    )
    return Planned(candidate.precision, result.folder / PLAN_FILE, info, result.key)
