"""The last stage: put the bundle together and publish it, unless the same one stands there already."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from vedette_engines.building.report import JSON_NAME, MARKDOWN_NAME
from vedette_engines.bundle import load_bundle, write_bundle
from vedette_engines.cli_import import next_version
from vedette_engines.compare.figures import FIGURES, MAIN_FIGURE, text_of
from vedette_engines.errors import BundleError, ImportInputError
from vedette_engines.manifest import Attachment, Backend, EngineFile, Precision, Task
from vedette_engines.repository import EngineRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vedette_engines.building.lowering import Candidate
    from vedette_engines.building.planning import Planned
    from vedette_engines.building.request import BuildRequest
    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import Manifest
    from vedette_engines.repository import Listed

BUILD_KEY = "build_key"
NEXT = "next"
# Another publisher may take the next version first; each try takes the one after.
_TRIES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """What is to be published.

    Attributes:
        manifest: Without version; names all files.
        contents: Where the files are, by their path in the bundle.
        key: Hash of all that decides what the engine does; equal keys are equal engines.
    """

    manifest: Manifest
    contents: Mapping[str, Path]
    key: str


def package(
    manifest: Manifest, candidates: Sequence[Candidate], plans: Sequence[Planned], provenance: Mapping[str, str]
) -> Package:
    """Put together what was built.

    Args:
        manifest: Of the FP32 engine.
        candidates: The ONNX files.
        plans: The TensorRT plans.
        provenance: Where it comes from, beside what the manifest has.
    """
    batch = manifest.files[0].batch
    contents: dict[str, Path] = {}
    files = []
    for candidate in candidates:
        name = _file_name(candidate)
        contents[name] = candidate.path
        files.append(EngineFile(name, candidate.backend, candidate.precision, batch=batch))
    for plan in plans:
        name = _plan_name(plan)
        contents[name] = plan.path
        most = max(profile[2] for profile in plan.info.profiles)
        limit = None if batch else most
        files.append(EngineFile(name, Backend.TENSORRT, plan.precision, batch=batch, max_batch=limit, plan=plan.info))
    key = _key(manifest, [candidate.key for candidate in candidates] + [plan.key for plan in plans])
    whole = dataclasses.replace(
        manifest,
        files=tuple(files),
        provenance={**manifest.provenance, **provenance, BUILD_KEY: key},
        attachments=(Attachment(JSON_NAME), Attachment(MARKDOWN_NAME)),
    )
    return Package(whole, contents, key)


def rows(candidates: Sequence[Candidate], plans: Sequence[Planned]) -> tuple[tuple[str, ...], ...]:
    """Tell of each file what somebody who chooses among them wants to know, with `report.FILE_COLUMNS`."""
    made = [
        (_file_name(one), str(one.backend), one.precision, one.path.stat().st_size, _main_figure(one.figures))
        for one in candidates
    ]
    made += [(_plan_name(one), "+".join(one.info.targets), one.precision, one.path.stat().st_size, "") for one in plans]
    whole = made[0][3]
    return tuple(
        (name, runtime, str(precision), f"{size / 1e6:.2f} MB", f"{size / whole:.0%}", figure)
        for name, runtime, precision, size, figure in made
    )


def _main_figure(figures: Mapping[str, Any]) -> str:
    agreement = figures.get("agreement")
    if agreement is None:
        return ""
    name = MAIN_FIGURE[Task(agreement["task"])]
    return f"{FIGURES[name].words} {text_of(agreement['figures'][name])}"


def with_bench(package: Package, page: Path) -> Package:
    """Add the page of a benchmark; it is no part of what the engine is."""
    attachments = (*package.manifest.attachments, Attachment(page.name))
    manifest = dataclasses.replace(package.manifest, attachments=attachments)
    return dataclasses.replace(package, manifest=manifest, contents={**package.contents, page.name: page})


def _file_name(candidate: Candidate) -> str:
    if candidate.precision is Precision.FP32:
        return "model.onnx"
    suffix = ".tensorrt" if candidate.backend is Backend.TENSORRT else ""
    return f"model.{candidate.precision}{suffix}.onnx"


def _plan_name(plan: Planned) -> str:
    return f"model.{plan.precision}.{'-'.join(plan.info.targets)}.plan".replace("+", "plus")


def _key(manifest: Manifest, steps: Sequence[str]) -> str:
    decides = [manifest.name, list(manifest.labels), repr(manifest.input), repr(manifest.output)]
    text = json.dumps([*decides, repr(manifest.defaults), *steps], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def published_before(request: BuildRequest, package: Package) -> Bundle | None:
    """Find the engine that is published already and equal to this one.

    It is the newest, or one that was withdrawn; or the version that was asked for.

    Raises:
        ImportInputError: The version that was asked for is another engine.
    """
    root, name, version = request.engine.root, request.engine.name, request.engine.version
    if version != NEXT:
        place = root / name / version
        if not place.exists():
            return None
        try:
            bundle = load_bundle(place)
        except BundleError as error:
            raise ImportInputError(f"--version {version} exists already and is bad: {error}") from error
        if bundle.manifest.provenance.get(BUILD_KEY) != package.key:
            raise ImportInputError(
                f"engine {name} {version} exists already in {place} and differs; give another --version"
            )
        return bundle
    listed = [entry for entry in EngineRepository([root]).list() if entry.name == name and entry.bundle is not None]
    newest = next((entry for entry in listed if not entry.withdrawn), None)
    # One that was rolled back from does not come back by being built again.
    same = [entry for entry in listed if entry is newest or entry.withdrawn]
    return next((entry.bundle for entry in same if _key_of(entry) == package.key), None)


def _key_of(entry: Listed) -> str | None:
    return entry.bundle.manifest.provenance.get(BUILD_KEY) if entry.bundle else None


def publish(request: BuildRequest, package: Package, report: Mapping[str, bytes]) -> Bundle:
    """Publish, as the version that was asked for or as the next; or find that another has just published the same.

    Raises:
        BundleError: The bundle cannot be written, or the version was taken meanwhile.
    """
    contents: dict[str, Path | bytes] = {**package.contents, **report}
    root, name = request.engine.root, request.engine.name
    if request.engine.version != NEXT:
        return write_bundle(root, dataclasses.replace(package.manifest, version=request.engine.version), contents)
    for _ in range(_TRIES - 1):
        version = next_version(root, name)
        try:
            return write_bundle(root, dataclasses.replace(package.manifest, version=version), contents)
        except BundleError:
            if next_version(root, name) == version:
                raise
            twin = published_before(request, package)
            if twin is not None:
                return twin
    return write_bundle(root, dataclasses.replace(package.manifest, version=next_version(root, name)), contents)
