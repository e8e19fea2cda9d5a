"""The description of one engine, as plain data: what its `engine.toml` says.

The checks that need nothing but the description are here; `manifest_file.py` reads and writes the text, and what needs
the files (hashes, shapes) is checked in `bundle.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from vedette_engines.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTRACT_VERSION = 1
MANIFEST_NAME = "engine.toml"
MAX_SIDE_PX = 8192
MAX_CANDIDATES = 100_000

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,62}")
FILE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_KEYPOINT_PARTS = ("x", "y", "score")


class Task(StrEnum):
    """What an engine's output means."""

    DETECTOR = "detector"
    CLASSIFIER = "classifier"
    EMBEDDER = "embedder"


class Placement(StrEnum):
    """Where a letterboxed picture stands in the input."""

    TOP_LEFT = "top-left"
    CENTRE = "centre"


class Backend(StrEnum):
    """The runtime that a file is made for; OpenVINO reads the files of ONNX Runtime and has none of its own."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


class Precision(StrEnum):
    """The arithmetic of a file's model; grafted arithmetic is float32 in all of them."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The tensor `frames`: `uint8 [N, height, width, 3]`, BGR.

    Attributes:
        width: Input width in pixels.
        height: Input height in pixels.
        letterbox: Where the resized picture stands.
        pad: Grey value of what it does not cover, 0..255.
    """

    width: int
    height: int
    letterbox: Placement = Placement.TOP_LEFT
    pad: int = 114


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """The tensor `candidates`: `float32 [N, max_candidates, 6 + len(extras)]`, sorted by falling score.

    Columns: x1, y1, x2, y2 in input pixels, score, class, then the extras. Rows with a score below the floor
    carry nothing; when the last row reaches it, the candidates were exhausted.

    Attributes:
        max_candidates: Rows, K.
        score_floor: Lowest score of a row that means something; above 0, so that a row of zeros is void.
        extras: Names of the further columns. `kpt:NAME:x`, `kpt:NAME:y`, `kpt:NAME:score` stand together and in this
            order, x and y in input pixels; any other name is an attribute of the detection.
    """

    max_candidates: int
    score_floor: float
    extras: tuple[str, ...] = ()

    @property
    def columns(self) -> int:
        """Width of a row, 6 + E."""
        return 6 + len(self.extras)


@dataclass(frozen=True, slots=True)
class ClassifierOutput:
    """The tensor `scores`: `float32 [N, classes]`, each 0..1."""

    classes: int


@dataclass(frozen=True, slots=True)
class EmbedderOutput:
    """The tensor `embedding`: `float32 [N, dimensions]`."""

    dimensions: int


OutputSpec = DetectorOutput | ClassifierOutput | EmbedderOutput


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a channel that says nothing.

    Attributes:
        min_score: Lowest score that is reported, 0..1.
        iou: Overlap above which two boxes of one class are one, 0..1.
    """

    min_score: float = 0.25
    iou: float = 0.45


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """What a TensorRT plan was built with: it runs with this and nothing else.

    Attributes:
        module: `tensorrt` or `tensorrt_rtx`.
        version: The module's version.
        targets: Compute capabilities it was built for, like `sm_90`; with hardware compatibility what that allows,
            like `ampere+`.
        platform: Operating system and architecture, like `linux-x86_64`.
        gpu: Name of the GPU it was built on; empty when there was none.
        driver: Version of the driver there; empty when there was none.
        profiles: Smallest, best and largest batch of each optimisation profile.
        version_compatible: It runs with later versions of the same major version, too.
        key: Hash of all that decides its bytes; equal keys need no second build.
    """

    module: str
    version: str
    targets: tuple[str, ...]
    platform: str
    profiles: tuple[tuple[int, int, int], ...]
    gpu: str = ""
    driver: str = ""
    version_compatible: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of the bundle that no runtime loads: a report.

    Attributes:
        path: Name within the bundle's folder.
        sha256: Of its bytes; empty before it is published.
        size_bytes: Its length.
    """

    path: str
    sha256: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EngineFile:
    """One file of the bundle.

    Attributes:
        path: Name within the bundle's folder.
        backend: The runtime it is for.
        precision: Its arithmetic.
        sha256: Of its bytes, 64 lower-case hexadecimal digits; empty before it is published.
        size_bytes: Its length.
        batch: Every run takes exactly so many frames; None: any number.
        max_batch: Largest batch it was built for, where the batch is dynamic; None: no limit of its own.
        plan: What a TensorRT plan was built with; None for an ONNX file.
    """

    path: str
    backend: Backend = Backend.ONNXRUNTIME
    precision: Precision = Precision.FP32
    sha256: str = ""
    size_bytes: int = 0
    batch: int | None = None
    max_batch: int | None = None
    plan: PlanInfo | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured to be best, so that loading need not measure again.

    Attributes:
        backend: Where it holds, as a loaded engine calls itself: `onnxruntime:CUDAExecutionProvider`.
        lanes: Executors side by side.
        best_batch: Frames per run.
        seconds_per_frame: What that gave, for orientation; 0 when unknown.
    """

    backend: str
    lanes: int
    best_batch: int
    seconds_per_frame: float = 0.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of one engine; checked when it is read and before it is published.

    Attributes:
        name: Lower-case name, the folder's.
        version: Version, the inner folder's.
        task: What the output means.
        input: The tensor `frames`.
        output: The tensor that comes out; its kind goes with the task.
        labels: Class names by class id; empty for an embedder.
        files: At least one; of ONNX files each pair of backend and precision once, of plans each with its targets.
        defaults: What holds for a channel that says nothing.
        provenance: Where it comes from and what was checked.
        bench: What was measured to be best.
        attachments: Files beside the engine's: reports.
        contract_version: Version of the engine contract.
    """

    name: str
    version: str
    task: Task
    input: InputSpec
    output: OutputSpec
    labels: tuple[str, ...]
    files: tuple[EngineFile, ...]
    defaults: Defaults = Defaults()
    provenance: Mapping[str, str] = field(default_factory=dict)
    bench: Bench | None = None
    attachments: tuple[Attachment, ...] = ()
    contract_version: int = CONTRACT_VERSION

    @property
    def output_name(self) -> str:
        """Name of the output tensor."""
        return {Task.DETECTOR: "candidates", Task.CLASSIFIER: "scores", Task.EMBEDDER: "embedding"}[self.task]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one frame."""
        match self.output:
            case DetectorOutput():
                return (self.output.max_candidates, self.output.columns)
            case ClassifierOutput():
                return (self.output.classes,)
            case EmbedderOutput():
                return (self.output.dimensions,)

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of a detector's further columns; empty for other tasks."""
        return self.output.extras if isinstance(self.output, DetectorOutput) else ()

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one letterboxed frame: height, width, 3."""
        return (self.input.height, self.input.width, 3)


def check_manifest(manifest: Manifest) -> None:
    """Check what no single value shows: that the parts agree.

    Raises:
        ManifestError: They do not.
    """
    for key, value, pattern in (("name", manifest.name, NAME_PATTERN), ("version", manifest.version, VERSION_PATTERN)):
        if not pattern.fullmatch(value):
            raise ManifestError(f"{key} is {value!r}; allowed is {pattern.pattern}")
    _check_output(manifest)
    _check_files(manifest.files)
    _check_paths(manifest)
    if manifest.bench is not None:
        _check_bench(manifest.bench, manifest.files)


def _check_output(manifest: Manifest) -> None:
    if len(set(manifest.labels)) != len(manifest.labels):
        raise ManifestError("labels: each name may stand once")
    match manifest.output:
        case DetectorOutput():
            if not manifest.labels:
                raise ManifestError("labels: a detector names at least one class")
            _check_detector(manifest.output)
        case ClassifierOutput(classes=classes):
            if len(manifest.labels) != classes:
                raise ManifestError(f"output.classes is {classes}, but there are {len(manifest.labels)} labels")
        case EmbedderOutput():
            if manifest.labels:
                raise ManifestError("labels: an embedder has none")


def _check_detector(output: DetectorOutput) -> None:
    if not 0.0 < output.score_floor <= 1.0:
        raise ManifestError(f"output.score_floor is {output.score_floor}; allowed: above 0, up to 1")
    _check_extras(output.extras)


def _check_extras(extras: tuple[str, ...]) -> None:
    """Check that every keypoint has its three columns together, in the order x, y, score."""
    if len(set(extras)) != len(extras):
        raise ManifestError("output.extras: each name may stand once")
    index = 0
    while index < len(extras):
        if not extras[index].startswith("kpt:"):
            index += 1
            continue
        point = extras[index].removeprefix("kpt:").rpartition(":")[0]
        wanted = tuple(f"kpt:{point}:{part}" for part in _KEYPOINT_PARTS)
        if not point or extras[index : index + 3] != wanted:
            raise ManifestError(
                f"output.extras: at {extras[index]!r}; a keypoint is three columns: "
                "kpt:NAME:x, kpt:NAME:y, kpt:NAME:score"
            )
        index += 3


def _check_files(files: tuple[EngineFile, ...]) -> None:
    if not files:
        raise ManifestError("files: an engine has at least one")
    kinds = [_kind(file) for file in files]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ManifestError(f"files: {kind} stands more than once")
    for file in files:
        if file.backend is Backend.OPENVINO:
            raise ManifestError(f"files: {file.path} is for openvino, which reads the files of {Backend.ONNXRUNTIME}")
        if file.plan is not None and file.backend is not Backend.TENSORRT:
            raise ManifestError(f"files: {file.path} is a plan for {file.backend}; allowed is {Backend.TENSORRT}")
        if file.batch is not None and file.max_batch is not None:
            raise ManifestError(f"files: {file.path}: max_batch goes with a dynamic batch only")


def _kind(file: EngineFile) -> str:
    """Name what may stand once: backend and precision, of a plan with its runtime, targets and GPU."""
    if file.plan is None:
        return f"{file.backend} with {file.precision}"
    plan = file.plan
    built_on = f" on {plan.gpu}" if plan.gpu else ""
    return (
        f"{file.backend} with {file.precision} as a plan of {plan.module} {plan.version} "
        f"for {'+'.join(plan.targets)}{built_on}"
    )


def _check_paths(manifest: Manifest) -> None:
    attached = [attachment.path for attachment in manifest.attachments]
    for path in [*(file.path for file in manifest.files), *attached]:
        if not FILE_PATTERN.fullmatch(path) or path == MANIFEST_NAME:
            raise ManifestError(f"files: path is {path!r}; allowed is a plain file name other than {MANIFEST_NAME}")
    taken = {file.path for file in manifest.files}
    for path in attached:
        if path in taken:
            raise ManifestError(f"attachments: path {path!r} stands more than once")
        taken.add(path)


def _check_bench(bench: Bench, files: tuple[EngineFile, ...]) -> None:
    """Check that a file of the bench's backend takes so large a batch; a bench of another runtime holds for none."""
    backend = bench.backend.partition(":")[0]
    limits = [file.batch or file.max_batch for file in files if file.backend == backend]
    known = [limit for limit in limits if limit is not None]
    if known and len(known) == len(limits) and bench.best_batch > max(known):
        raise ManifestError(f"bench.best_batch is {bench.best_batch}; the files for {backend} allow 1..{max(known)}")
