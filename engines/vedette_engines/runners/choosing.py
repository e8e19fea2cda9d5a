"""Which of a bundle's files is run here, and by which runtime.

Plans that fit come first where there are a GPU and a TensorRT, then the ONNX files. A plan of another GPU, version or
platform is refused, and so is any other file that cannot be run: the next one is taken only if that was allowed, and
then the reasons are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.errors import BundleError, LoadError
from vedette_engines.manifest import Backend, Precision
from vedette_engines.plans.environment import check_plan, find_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile
    from vedette_engines.plans.environment import Environment
    from vedette_engines.runners.base import RunnerSettings


@dataclass(frozen=True, slots=True)
class Choice:
    """One file, and the runtime that is to run it.

    Attributes:
        file: The file.
        backend: The runtime: OpenVINO and ONNX Runtime read the same files.
        passed_over: Why those that come before it are not run, one reason each; empty: it is the first.
    """

    file: EngineFile
    backend: Backend
    passed_over: tuple[str, ...] = ()


def choose_file(bundle: Bundle, settings: RunnerSettings, environment: Environment | None = None) -> Choice:
    """Choose the file to run; see `choices`."""
    return choices(bundle, settings, environment)[0]


def choices(bundle: Bundle, settings: RunnerSettings, environment: Environment | None = None) -> tuple[Choice, ...]:
    """Tell what can be run here, in order of preference; only one where falling back is not allowed.

    Args:
        bundle: The engine.
        settings: `backends` is the order of preference (empty: plans where there are a GPU and a TensorRT, then ONNX
            Runtime), `precision` which files, `fallback` whether one that is refused may be passed over.
        environment: What is here; None: it is looked at when it matters.

    Raises:
        BundleError: The bundle has no file for these backends and this precision.
        LoadError: It has, but they cannot be run here; says why.
    """
    order, environment = _order(bundle, settings, environment)
    found: list[Choice] = []
    refused: list[str] = []
    for backend in order:
        files = _files(bundle, backend, settings.precision)
        if backend is Backend.TENSORRT:
            files, reasons = _fitting(files, environment or find_environment(), settings.device_id)
            if reasons and not settings.fallback and not found:
                raise LoadError(f"engine {bundle.name} {bundle.version}: {'; '.join(reasons)}")
            refused += reasons
        found += [Choice(file, backend, tuple(refused)) for file in files]
    if found:
        return tuple(found) if settings.fallback else tuple(found[:1])
    if refused:
        raise LoadError(
            f"engine {bundle.name} {bundle.version}: {'; '.join(refused)}; there is nothing to fall back to"
        )
    raise BundleError(_nothing(bundle, order, settings.precision))


def _order(
    bundle: Bundle, settings: RunnerSettings, environment: Environment | None
) -> tuple[Sequence[Backend], Environment | None]:
    """Tell the runtimes to try; TensorRT is looked for only where there is a plan, since importing it takes seconds."""
    if settings.backends:
        order = list(dict.fromkeys(settings.backends))
        if settings.fallback and Backend.ONNXRUNTIME not in order:
            order.append(Backend.ONNXRUNTIME)
        return order, environment
    if not _files(bundle, Backend.TENSORRT, settings.precision):
        return (Backend.ONNXRUNTIME,), environment
    environment = environment or find_environment()
    if not environment.can_run_plans:
        return (Backend.ONNXRUNTIME,), environment
    return (Backend.TENSORRT, Backend.ONNXRUNTIME), environment


def _files(bundle: Bundle, backend: Backend, precision: Precision | None) -> list[EngineFile]:
    """Find the files that a runtime can open, the most exact first; TensorRT opens plans, not ONNX files."""
    of = Backend.TENSORRT if backend is Backend.TENSORRT else Backend.ONNXRUNTIME
    files = [
        file
        for file in bundle.manifest.files
        if file.backend is of
        and (file.plan is not None) == (of is Backend.TENSORRT)
        and precision in {None, file.precision}
    ]
    return sorted(files, key=lambda file: list(Precision).index(file.precision))


def _fitting(
    files: Sequence[EngineFile], environment: Environment, device_id: int
) -> tuple[list[EngineFile], list[str]]:
    """Sort out the plans that can be run here; why not, only where none can: the others are for other machines."""
    fitting, reasons = [], []
    for file, reason in _checked(files, environment, device_id):
        if reason:
            reasons.append(f"plan {file.path} is refused: {reason}")
        else:
            fitting.append(file)
    return fitting, [] if fitting else reasons


def _checked(files: Sequence[EngineFile], environment: Environment, device_id: int) -> Iterator[tuple[EngineFile, str]]:
    for file in files:
        if file.plan is not None:
            yield file, check_plan(file.plan, environment, device_id)


def _nothing(bundle: Bundle, order: Sequence[Backend], precision: Precision | None) -> str:
    have = ", ".join(
        f"{file.backend}/{file.precision}{' (plan)' if file.plan is not None else ''}" for file in bundle.manifest.files
    )
    wanted = " or ".join(f"{backend}/{precision}" if precision else backend for backend in order)
    of_plans = ", of which TensorRT runs plans only" if list(order) == [Backend.TENSORRT] else ""
    return f"engine {bundle.name} {bundle.version} has no file for {wanted}; it has {have}{of_plans}"
