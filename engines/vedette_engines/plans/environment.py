"""What is here to run a plan on: GPUs, their driver, the platform, and the TensorRT that is installed."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_engines.errors import MissingRuntimeError
from vedette_engines.plans.gpus import Gpu, find_gpus
from vedette_engines.plans.module import FULL, RTX, find_tensorrt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.manifest import PlanInfo

AMPERE_PLUS = "ampere+"
# A plan with the compatibility level `same`: any GPU of this compute capability, not only the model it was built on.
ANY = "any-"
_AMPERE = 80


@dataclass(frozen=True, slots=True)
class Environment:
    """What a plan would run on.

    Attributes:
        platform: Operating system and architecture, like `linux-x86_64`.
        gpus: Those that this process may use, in CUDA's order; none where there is no driver.
        driver: The driver's version; empty where there is none.
        modules: Versions of the usable TensorRT modules by name, `tensorrt` or `tensorrt_rtx`.
        missing: Why the others are not usable, by name.
    """

    platform: str
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_run_plans(self) -> bool:
        """Whether there are a GPU and a TensorRT at all."""
        return bool(self.gpus and self.modules)

    def gpu(self, device_id: int = 0) -> Gpu | None:
        """Tell the GPU of a number; None: there is none."""
        return self.gpus[device_id] if 0 <= device_id < len(self.gpus) else None


def find_environment(*, modules: bool = True) -> Environment:
    """Look at this machine.

    Args:
        modules: Look for TensorRT, too, which imports it.
    """
    gpus, driver = find_gpus()
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in (FULL, RTX) if modules else ():
        try:
            versions[name] = find_tensorrt(name).version
        except MissingRuntimeError as error:
            missing[name] = str(error)
    return Environment(platform_name(), gpus, driver, versions, missing)


def platform_name() -> str:
    """Tell operating system and architecture: `linux-x86_64`, `linux-aarch64`, `windows-amd64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def check_plan(info: PlanInfo, environment: Environment, device_id: int = 0) -> str:
    """Tell why a plan cannot run here; empty: it can.

    A plan of TensorRT runs with the version that built it and on the GPU model that it was built on, on one platform;
    each of these can be widened when it is built. A plan of TensorRT for RTX is compiled for the GPU when it is loaded,
    and runs on all compute capabilities that it was built for, Linux or Windows.
    https://docs.nvidia.com/deeplearning/tensorrt/11.1.0/inference-library/engine-compatibility.html
    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
    """
    gpu = environment.gpu(device_id)
    version = environment.modules.get(info.module)
    if gpu is not None and version is not None and _fits(info, environment, gpu, version):
        return ""
    built_on = f" on {info.gpu}" if info.gpu else ""
    wide = " or later of that major version" if info.version_compatible else ""
    return (
        f"built for {'+'.join(info.targets)} with {info.module} {info.version}{wide}{built_on} ({info.platform}); "
        f"here: {_here(info, environment, gpu, device_id)}"
    )


def _fits(info: PlanInfo, environment: Environment, gpu: Gpu, version: str) -> bool:
    same_platform = info.module == RTX or info.platform == environment.platform
    return (
        same_platform
        and _version_fits(info, version)
        and any(_target_fits(target, info, gpu) for target in info.targets)
    )


def _version_fits(info: PlanInfo, version: str) -> bool:
    if version == info.version:
        return True
    built, here = _numbers(info.version), _numbers(version)
    return info.version_compatible and built[:1] == here[:1] and here >= built


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in version.split("."))


def _target_fits(target: str, info: PlanInfo, gpu: Gpu) -> bool:
    if target == AMPERE_PLUS:
        return gpu.compute >= _AMPERE
    if target.removeprefix(ANY) != gpu.capability:
        return False
    bound_to_model = info.module == FULL and not target.startswith(ANY)
    return not (bound_to_model and info.gpu) or info.gpu == gpu.name


def _here(info: PlanInfo, environment: Environment, gpu: Gpu | None, device_id: int) -> str:
    parts = [f"{gpu.capability}, {gpu.name}" if gpu is not None else _no_gpu(environment, device_id)]
    version = environment.modules.get(info.module)
    others = [f"{name} {here}" for name, here in environment.modules.items() if name != info.module]
    parts.append(f"{info.module} {version}" if version else f"no usable {info.module}")
    if not version and others:
        parts[-1] += f" but {', '.join(others)}"
    if environment.platform != info.platform and info.module != RTX:
        parts.append(environment.platform)
    return ", ".join(parts)


def _no_gpu(environment: Environment, device_id: int) -> str:
    return f"no GPU {device_id} among {len(environment.gpus)}" if environment.gpus else "no GPU"
