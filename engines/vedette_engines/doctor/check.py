"""Examine this machine: driver, GPUs, libraries, what follows of it, and trials of all that can be tried."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.doctor.abilities import abilities, auto, requirements
from vedette_engines.doctor.asking import ask
from vedette_engines.doctor.driver import NO_DEVICE
from vedette_engines.doctor.findings import Facts, findings
from vedette_engines.doctor.libraries import look_at
from vedette_engines.doctor.report import Driver, GpuFacts, Report, State
from vedette_engines.doctor.trying import try_all
from vedette_engines.errors import ImportInputError
from vedette_engines.plans.environment import platform_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.doctor.asking import Answer, Asker

_DEVICE_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/dxg")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        device: Number of the GPU that is meant.
        require: What has to be there, of `abilities.REQUIRABLE`.
        trials: Try what can be tried.
        timeout_s: Most time for a library's answer.
        trial_timeout_s: Most time for a trial; a plan is built in it.
    """

    device: int = 0
    require: tuple[str, ...] = ()
    trials: bool = True
    timeout_s: float = 60.0
    trial_timeout_s: float = 300.0


def examine(
    request: Request,
    asker: Asker | None = None,
    packages: Mapping[str, str] | None = None,
    variables: Mapping[str, str] = os.environ,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Examine this machine.

    Args:
        request: What is asked for.
        asker: Answers the questions; None: processes of their own do.
        packages: Versions of the installed distributions by normalised name; None: those of this environment.
        variables: The environment's.
        tell: Takes what is being done, in a few words.

    Raises:
        ImportInputError: There are GPUs, but none of that number.
    """
    packages = installed_packages() if packages is None else packages
    asker = asker or _limited(request)
    tell("driver and GPUs")
    machine = asker("driver")
    driver, gpus = _driver(machine), tuple(GpuFacts(**gpu) for gpu in machine.value.get("gpus", ()))
    usable = [gpu.index for gpu in gpus if gpu.index >= 0]
    if request.device not in usable and (usable or request.device):
        raise ImportInputError(
            f"--device is {request.device}; CUDA sees {', '.join(map(str, usable)) if usable else 'no GPU'} here"
        )
    tell("libraries")
    nvml = bool(machine.value.get("nvml", {}).get("found"))
    libraries = look_at(asker, packages, request.device, gpu=bool(usable), nvml=nvml)
    nodes = any(Path(node).exists() for node in _DEVICE_NODES)
    facts = Facts(driver, gpus, request.device, libraries, packages, variables, nodes)
    able = abilities(facts)
    trials = try_all(asker, facts, able, tell) if request.trials else ()
    return Report(
        platform=platform_name(),
        python=platform.python_version(),
        vedette=packages.get("vedette", ""),
        device=request.device,
        driver=driver,
        gpus=gpus,
        libraries=tuple(libraries.values()),
        abilities=able,
        auto=auto(able, facts),
        decoder=_decoder(facts),
        findings=findings(facts),
        trials=trials,
        requirements=requirements(request.require, facts, able, {trial.name: trial for trial in trials}),
    )


def installed_packages() -> dict[str, str]:
    """Tell the installed distributions and their versions, by names as the package index normalises them."""
    found: dict[str, str] = {}
    for one in metadata.distributions():
        # A distribution whose folder is damaged has no name.
        name = one.metadata["Name"] if one.metadata else None
        if name:
            # The first on the path is the one that is imported.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
    return found


def _limited(request: Request) -> Asker:
    def limited(question: str, /, **arguments: Any) -> Answer:
        tries = question in {"run", "copies"}
        return ask(question, timeout_s=request.trial_timeout_s if tries else request.timeout_s, **arguments)

    return limited


def _driver(answer: Answer) -> Driver:
    nvml, cuda = (answer.value.get(name, {}) for name in ("nvml", "cuda"))
    version, newest = str(nvml.get("driver", "")), str(cuda.get("version") or nvml.get("cuda", ""))
    if answer.failure:
        return Driver(State.BROKEN, reason=f"asking the driver: {answer.failure}")
    if not cuda.get("found"):
        if nvml.get("found"):
            reason = f"NVML is here, but CUDA's part of the driver is not: {cuda.get('failure', '')}"
            return Driver(State.BROKEN, version, newest, reason)
        return Driver(State.ABSENT, reason="no NVIDIA driver: libcuda.so.1 is not found")
    failure = str(cuda.get("failure", ""))
    if not failure:
        return Driver(State.WORKS, version, newest)
    if failure == NO_DEVICE:
        return Driver(State.IDLE, version, newest, f"CUDA sees no GPU ({failure})")
    return Driver(State.BROKEN, version, newest, f"CUDA does not start: {failure}")


def _decoder(facts: Facts) -> dict[str, Any]:
    """Tell NVDEC's engines and codecs; nothing: it cannot be used."""
    library = facts.library("PyNvVideoCodec")
    return dict(library.details) if library.works else {"engines": 0, "codecs": {}}
