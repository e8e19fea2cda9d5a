"""Build plans of a published engine, on the machine that is to run them, and publish it again with them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from vedette_engines.bundle import sha256_of, write_bundle
from vedette_engines.errors import BundleError, ImportInputError
from vedette_engines.manifest import FILE_PATTERN, Backend, EngineFile, Precision
from vedette_engines.plans.building import build_plan
from vedette_engines.plans.environment import find_environment
from vedette_engines.plans.request import plan_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import Attachment, PlanInfo
    from vedette_engines.plans.cache import PlanCache
    from vedette_engines.plans.module import TensorRT
    from vedette_engines.plans.plan import Plan
    from vedette_engines.plans.progress import Progress
    from vedette_engines.plans.request import PlanRequest

PLANS_KEY = "plans"


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """A plan that was built of one of a bundle's files.

    Attributes:
        source: The ONNX file.
        plan: The plan.
        reused: It was built before.
    """

    source: EngineFile
    plan: Plan
    reused: bool


def source_file(bundle: Bundle, precision: Precision | None) -> EngineFile:
    """Find the ONNX file that TensorRT's parser takes: for INT8 the one made for TensorRT.

    Args:
        bundle: The engine.
        precision: Which; None: the most exact.

    Raises:
        ImportInputError: There is none.
    """
    order = list(Precision)
    parsable = [
        file
        for file in bundle.manifest.files
        if file.plan is None and (file.precision is not Precision.INT8 or file.backend is Backend.TENSORRT)
    ]
    # Of two files of one precision the one that was made for TensorRT.
    parsable.sort(key=lambda file: (order.index(file.precision), file.backend is not Backend.TENSORRT))
    for file in parsable:
        if precision in {None, file.precision}:
            return file
    have = ", ".join(f"{file.path} ({file.backend}, {file.precision})" for file in bundle.manifest.files)
    hint = "; INT8 wants a file made for TensorRT, `--int8-target tensorrt`" if precision is Precision.INT8 else ""
    raise ImportInputError(
        f"engine {bundle.name} {bundle.version} has no ONNX file in {precision or 'any precision'} that TensorRT "
        f"takes; it has {have}{hint}"
    )


def build_for(
    bundle: Bundle,
    source: EngineFile,
    request: PlanRequest,
    tensorrt: TensorRT,
    cache: PlanCache,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] | None = None,
) -> Added:
    """Build a plan of one file, or take the one that was built before.

    Args:
        bundle: The engine.
        source: Its ONNX file; see `source_file`.
        request: How; its `onnx` is not looked at.
        tensorrt: With what.
        cache: Keeps the plan.
        say: Takes one line for each thing that was found.
        progress: Takes each step of a build.

    Raises:
        EnginesError: As `build_plan`.
    """
    environment = find_environment(modules=False)
    wanted = dataclasses.replace(request, onnx=bundle.path_of(source))
    key = plan_key(wanted, tensorrt, environment)
    plan = cache.get(key, say)
    if plan is not None:
        return Added(source, plan, reused=True)
    plan = build_plan(wanted, tensorrt, say, progress, environment)
    cache.put(plan)
    return Added(source, plan, reused=False)


def publish_with(bundle: Bundle, added: Sequence[Added], root: Path, version: str) -> Bundle:
    """Publish an engine again, as another version that has the plans, too; one of the same kind is replaced.

    Args:
        bundle: The engine.
        added: The plans.
        root: Where to publish.
        version: The new version.

    Raises:
        BundleError: A file of the engine was altered, or the version cannot be published.
    """
    new = [_entry(one) for one in added]
    kept = [file for file in bundle.manifest.files if not any(_same_kind(file, entry) for entry in new)]
    contents: dict[str, Path | bytes] = {}
    old: list[EngineFile | Attachment] = [*kept, *bundle.manifest.attachments]
    for file in old:
        place = bundle.path / file.path
        if sha256_of(place) != file.sha256:
            raise BundleError(f"{place} was altered since it was published: its sha256 is another")
        contents[file.path] = place
    for index, (entry, one) in enumerate(zip(new, added, strict=True)):
        new[index] = dataclasses.replace(entry, path=_free_name(one.plan.info, entry.precision, contents))
        contents[new[index].path] = one.plan.content
    manifest = dataclasses.replace(
        bundle.manifest,
        version=version,
        files=(*kept, *new),
        provenance={**bundle.manifest.provenance, **_told(bundle, new)},
    )
    return write_bundle(root, manifest, contents)


def _entry(added: Added) -> EngineFile:
    info, batch = added.plan.info, added.source.batch
    largest = None if batch is not None else max(profile[2] for profile in info.profiles)
    return EngineFile("", Backend.TENSORRT, added.source.precision, batch=batch, max_batch=largest, plan=info)


def _same_kind(file: EngineFile, entry: EngineFile) -> bool:
    old, new = file.plan, entry.plan
    if old is None or new is None or file.precision is not entry.precision:
        return False
    return all(getattr(old, part) == getattr(new, part) for part in ("module", "version", "targets", "gpu"))


def _free_name(info: PlanInfo, precision: Precision, taken: Collection[str]) -> str:
    """Name a plan's file after what it is for, with its TensorRT where that is not enough."""
    targets = "-".join(info.targets).replace("+", "plus")
    for stem in (f"model.{precision}.{targets}", f"model.{precision}.{targets}.{info.module}-{info.version}"):
        name = f"{stem}.plan"
        if name not in taken and FILE_PATTERN.fullmatch(name):
            return name
    return f"model.{precision}.{info.key[:16]}.plan"


def _told(bundle: Bundle, new: Sequence[EngineFile]) -> Mapping[str, str]:
    """Say in the provenance what was added to which version, on what."""
    lines = [
        f"{file.path} with {file.plan.module} {file.plan.version} for {'+'.join(file.plan.targets)}"
        + (f" on {file.plan.gpu}, driver {file.plan.driver}" if file.plan.gpu else ", without a GPU")
        for file in new
        if file.plan is not None
    ]
    return {PLANS_KEY: f"added to version {bundle.version}: {'; '.join(lines)}"}
