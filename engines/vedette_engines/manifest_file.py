"""Read and write the text of an `engine.toml`.

```toml
contract_version = 1
name = "person"
version = "1"
task = "detector"                # detector, classifier, embedder
labels = ["person"]

[input]
width = 640
height = 360
letterbox = "top-left"           # top-left, centre
pad = 114                        # grey value of the bars, 0..255

[output]                         # of a detector; a classifier has `classes`, an embedder `dimensions`
max_candidates = 100
score_floor = 0.05
extras = ["kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "angle"]

[defaults]
min_score = 0.5
iou = 0.45

[[files]]                        # one for each pair of backend and precision
backend = "onnxruntime"          # onnxruntime, tensorrt
precision = "fp32"               # fp32, fp16, int8
path = "model.onnx"
sha256 = "..."
bytes = 67000
batch = "dynamic"                # or a number: every run takes exactly so many
max_batch = 64                   # optional, only where the batch is dynamic
# and of a TensorRT plan what it was built with:
# plan = { module = "tensorrt", version = "10.13.2", targets = ["sm_90"], platform = "linux-x86_64",
#          profiles = ["1:8:32"], version_compatible = false, gpu = "...", driver = "...", key = "..." }

[[attachments]]                  # optional: files that no runtime loads, with path, sha256 and bytes

[bench]                          # optional: what was measured to be best, on which backend
backend = "onnxruntime:CUDAExecutionProvider"
lanes = 2
best_batch = 16

[provenance]                     # free: strings by name
source = "..."
```
"""

from __future__ import annotations

import re
import tomllib

from vedette_engines.errors import ManifestError
from vedette_engines.manifest import (
    CONTRACT_VERSION,
    FILE_PATTERN,
    MANIFEST_NAME,
    MAX_CANDIDATES,
    MAX_SIDE_PX,
    NAME_PATTERN,
    VERSION_PATTERN,
    Attachment,
    Backend,
    Bench,
    ClassifierOutput,
    Defaults,
    DetectorOutput,
    EmbedderOutput,
    EngineFile,
    InputSpec,
    Manifest,
    OutputSpec,
    Placement,
    PlanInfo,
    Precision,
    Task,
    check_manifest,
)
from vedette_engines.table import Table, write_toml

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROFILE = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3}):([1-9]\d{0,3})")


def read_manifest(text: str) -> Manifest:
    """Read the text of an `engine.toml`.

    Raises:
        ManifestError: Not TOML, a key unknown or missing, a value wrong.
    """
    try:
        table = Table("", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{MANIFEST_NAME} is not TOML: {error}") from error
    contract = table.integer("contract_version", 1, 1_000_000)
    if contract != CONTRACT_VERSION:
        raise ManifestError(f"contract_version {contract} is unknown; this build knows {CONTRACT_VERSION}")
    task = table.choice("task", Task)
    files = table.tables("files")
    attachments = table.tables("attachments", optional=True)
    manifest = Manifest(
        name=table.text("name", NAME_PATTERN),
        version=table.text("version", VERSION_PATTERN),
        task=task,
        labels=table.texts("labels"),
        input=_read_input(table.table("input")),
        output=_read_output(table.table("output"), task),
        defaults=_read_defaults(table.table("defaults", optional=True)),
        files=tuple(_read_file(entry) for entry in files),
        provenance=table.table("provenance", optional=True).all_texts(),
        bench=_read_bench(table.table("bench")) if table.has("bench") else None,
        attachments=tuple(_read_attachment(entry) for entry in attachments),
    )
    table.refuse_rest()
    check_manifest(manifest)
    return manifest


def _read_input(table: Table) -> InputSpec:
    spec = InputSpec(
        width=table.integer("width", 1, MAX_SIDE_PX),
        height=table.integer("height", 1, MAX_SIDE_PX),
        letterbox=table.choice("letterbox", Placement, Placement.TOP_LEFT),
        pad=table.integer("pad", 0, 255, 114),
    )
    table.refuse_rest()
    return spec


def _read_output(table: Table, task: Task) -> OutputSpec:
    output: OutputSpec
    match task:
        case Task.DETECTOR:
            output = DetectorOutput(
                max_candidates=table.integer("max_candidates", 1, MAX_CANDIDATES),
                score_floor=table.number("score_floor", 0.0, 1.0),
                extras=table.texts("extras"),
            )
        case Task.CLASSIFIER:
            output = ClassifierOutput(table.integer("classes", 1, 1_000_000))
        case Task.EMBEDDER:
            output = EmbedderOutput(table.integer("dimensions", 1, 1_000_000))
    table.refuse_rest()
    return output


def _read_defaults(table: Table) -> Defaults:
    defaults = Defaults(
        min_score=table.number("min_score", 0.0, 1.0, Defaults().min_score),
        iou=table.number("iou", 0.0, 1.0, Defaults().iou),
    )
    table.refuse_rest()
    return defaults


def _read_file(table: Table) -> EngineFile:
    file = EngineFile(
        path=table.text("path", FILE_PATTERN),
        backend=table.choice("backend", Backend),
        precision=table.choice("precision", Precision),
        sha256=table.text("sha256", _SHA256),
        size_bytes=table.integer("bytes", 1, 1 << 50),
        batch=table.integer_or("batch", "dynamic", 1, 4096),
        max_batch=table.integer("max_batch", 1, 4096) if table.has("max_batch") else None,
        plan=_read_plan(table.table("plan")) if table.has("plan") else None,
    )
    table.refuse_rest()
    return file


def _read_plan(table: Table) -> PlanInfo:
    plan = PlanInfo(
        module=table.text("module"),
        version=table.text("version"),
        targets=table.texts("targets"),
        platform=table.text("platform"),
        profiles=tuple(_read_profile(text) for text in table.texts("profiles")),
        gpu=table.text("gpu") if table.has("gpu") else "",
        driver=table.text("driver") if table.has("driver") else "",
        version_compatible=table.boolean("version_compatible", default=False),
        key=table.text("key") if table.has("key") else "",
    )
    table.refuse_rest()
    return plan


def _read_profile(text: str) -> tuple[int, int, int]:
    match = _PROFILE.fullmatch(text)
    if match is None:
        raise ManifestError(f"files.plan.profiles has {text!r}; allowed is SMALLEST:BEST:LARGEST, like 1:8:32")
    return int(match[1]), int(match[2]), int(match[3])


def _read_attachment(table: Table) -> Attachment:
    attachment = Attachment(
        path=table.text("path", FILE_PATTERN),
        sha256=table.text("sha256", _SHA256),
        size_bytes=table.integer("bytes", 0, 1 << 50),
    )
    table.refuse_rest()
    return attachment


def _read_bench(table: Table) -> Bench:
    bench = Bench(
        backend=table.text("backend"),
        lanes=table.integer("lanes", 1, 256),
        best_batch=table.integer("best_batch", 1, 4096),
        seconds_per_frame=table.number("seconds_per_frame", 0.0, 1e6, 0.0),
    )
    table.refuse_rest()
    return bench


def write_manifest(manifest: Manifest) -> str:
    """Write the text of an `engine.toml`; `read_manifest` gives the same manifest back.

    Raises:
        ManifestError: The manifest is wrong.
    """
    check_manifest(manifest)
    output: dict[str, object]
    match manifest.output:
        case DetectorOutput(max_candidates=rows, score_floor=floor, extras=extras):
            output = {"max_candidates": rows, "score_floor": floor, "extras": list(extras)}
        case ClassifierOutput(classes=classes):
            output = {"classes": classes}
        case EmbedderOutput(dimensions=dimensions):
            output = {"dimensions": dimensions}
    spec, defaults = manifest.input, manifest.defaults
    document: dict[str, object] = {
        "contract_version": manifest.contract_version,
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task.value,
        "labels": list(manifest.labels),
        "input": {"width": spec.width, "height": spec.height, "letterbox": spec.letterbox.value, "pad": spec.pad},
        "output": output,
        "defaults": {"min_score": defaults.min_score, "iou": defaults.iou},
        "files": [_file_table(file) for file in manifest.files],
    }
    if manifest.bench is not None:
        bench = manifest.bench
        document["bench"] = {
            "backend": bench.backend,
            "lanes": bench.lanes,
            "best_batch": bench.best_batch,
            "seconds_per_frame": bench.seconds_per_frame,
        }
    if manifest.attachments:
        document["attachments"] = [
            {"path": attachment.path, "sha256": attachment.sha256, "bytes": attachment.size_bytes}
            for attachment in manifest.attachments
        ]
    if manifest.provenance:
        document["provenance"] = dict(manifest.provenance)
    return write_toml(document)


def _file_table(file: EngineFile) -> dict[str, object]:
    table: dict[str, object] = {
        "backend": file.backend.value,
        "precision": file.precision.value,
        "path": file.path,
        "sha256": file.sha256,
        "bytes": file.size_bytes,
        "batch": "dynamic" if file.batch is None else file.batch,
    }
    if file.max_batch is not None:
        table["max_batch"] = file.max_batch
    if file.plan is not None:
        table["plan"] = _plan_table(file.plan)
    return table


def _plan_table(plan: PlanInfo) -> dict[str, object]:
    table: dict[str, object] = {
        "module": plan.module,
        "version": plan.version,
        "targets": list(plan.targets),
        "platform": plan.platform,
        "profiles": [":".join(map(str, profile)) for profile in plan.profiles],
        "version_compatible": plan.version_compatible,
    }
    return table | {name: text for name in ("gpu", "driver", "key") if (text := getattr(plan, name))}
