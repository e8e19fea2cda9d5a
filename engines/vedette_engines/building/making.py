"""The first stages: export the source, and make an FP32 engine that agrees with it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.building.versions import plugins_digest
from vedette_engines.compare.gates import TensorGate, judge
from vedette_engines.compare.tensors import compare_tensors
from vedette_engines.footage.clips import clips_digest
from vedette_engines.footage.frames import read_frames
from vedette_engines.graft.registry import known_heads
from vedette_engines.importing import make_engine
from vedette_engines.manifest_file import read_manifest, write_manifest
from vedette_engines.sources.opening import export_source
from vedette_engines.sources.reference import open_reference
from vedette_engines.sources.spec import source_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_engines.building.step import Say, StepResult
    from vedette_engines.building.workbench import Workbench
    from vedette_engines.compare.tensors import OutputDifference
    from vedette_engines.footage.clips import Clip
    from vedette_engines.graft.frames import Sample
    from vedette_engines.graft.head import Head
    from vedette_engines.importing import Made
    from vedette_engines.manifest import InputSpec, Manifest
    from vedette_engines.sources.reference import Reference
    from vedette_engines.sources.spec import SourceSpec

SOURCE_FILE = "source.onnx"
ENGINE_FILE = "model.onnx"
MANIFEST_FILE = "engine.toml"
# Its own version is given when it is published.
NO_VERSION = "0"
PARITY_FRAMES = 16


def export(bench: Workbench) -> StepResult:
    """Write the source as ONNX."""
    spec = bench.request.source

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        exported = export_source(spec, folder, say)
        return {
            "kind": exported.kind,
            "exporter": exported.exporter,
            "opset": exported.opset,
            "source_sha256": exported.sha256,
            "versions": dict(exported.versions),
            "notes": list(exported.notes),
        }

    return bench.stage("export", {"source": source_digest(spec)}, produce)


def make(bench: Workbench, exported: StepResult, clips: Sequence[Clip], heads: Mapping[str, Head] | None) -> StepResult:
    """Graft both ends onto the model and compare it with its source, tensor by tensor and row by row."""
    spec = bench.request.source
    wanted = dataclasses.replace(
        bench.request.engine, model=exported.folder / SOURCE_FILE, version=NO_VERSION, called=_called(spec)
    )
    options = {
        entry.name: getattr(wanted, entry.name)
        for entry in dataclasses.fields(wanted)
        if entry.name not in {"root", "model", "called", "frames"}
    }
    gate = TensorGate.from_bounds(bench.request.gates)
    inputs: dict[str, Any] = {"export": exported.key, "options": options, "clips": clips_digest(clips), "gate": gate}
    inputs |= {"heads": plugins_digest((known_heads() if heads is None else heads).values())}

    def footage(border: InputSpec) -> Sequence[Sample]:
        return read_frames(clips, border, PARITY_FRAMES) if clips else []

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        made = make_engine(wanted, say, heads, footage)
        (folder / ENGINE_FILE).write_bytes(made.content)
        (folder / MANIFEST_FILE).write_text(write_manifest(_with_hash(made)), encoding="utf-8")
        figures: dict[str, Any] = {"parity": dataclasses.asdict(made.report)}
        if exported.figures["kind"] == "onnx":
            return figures
        with contextlib.closing(open_reference(spec)) as reference:
            differences = _against_source(made, reference)
        say(f"compared with the source in {reference.name}: {'; '.join(map(str, differences))}")
        return figures | {
            "source": [difference.to_json() for difference in differences],
            "reasons": list(judge(differences, gate)),
        }

    return bench.stage("engine", inputs, produce)


def _called(spec: SourceSpec) -> str:
    """Name the source as its user does: a file, or module:factory."""
    return spec.source if spec.is_factory else Path(spec.source).name


def _with_hash(made: Made) -> Manifest:
    digest = hashlib.sha256(made.content).hexdigest()
    file = dataclasses.replace(made.manifest.files[0], sha256=digest, size_bytes=len(made.content))
    return dataclasses.replace(made.manifest, files=(file,))


def _against_source(made: Made, reference: Reference) -> tuple[OutputDifference, ...]:
    """Run the frames through the source framework and through the exported file, and compare every raw output."""
    original = made.original
    signature = original.context.signature
    theirs, ours = [], []
    for sample in made.samples:
        tensor = original.preprocessing.apply(sample.pixels[None], signature)
        theirs.append(reference.run(tensor))
        ours.append(original.session.run({signature.input_name: tensor}))
    wanted, given = ([np.concatenate(values) for values in zip(*runs, strict=True)] for runs in (theirs, ours))
    return compare_tensors(wanted, given, [output.name for output in signature.outputs])


def manifest_of(made: StepResult) -> Manifest:
    """Read the description that the engine's stage wrote."""
    return read_manifest((made.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
