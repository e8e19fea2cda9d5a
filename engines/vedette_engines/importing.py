"""Make an engine of a foreign ONNX model, and publish it if it agrees with its source.

Read, recognise, open the batch, graft, compare, publish: each step tells `say` what it assumed. Nothing is
written unless all of them succeed.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING

import onnx
import onnxruntime
from onnx import TensorProto

from vedette_engines import parity
from vedette_engines.bundle import Bundle, sha256_of, write_bundle
from vedette_engines.errors import ImportInputError
from vedette_engines.graft import source
from vedette_engines.graft.engine import graft
from vedette_engines.graft.frames import made_samples, real_samples
from vedette_engines.graft.head import OPTION_FLAGS, HeadContext, HeadOptions, classes_of, extras_of
from vedette_engines.graft.notes import shorten_notes
from vedette_engines.graft.prepare import TRIED_BATCH, prepare
from vedette_engines.graft.probe import Probe, Probes
from vedette_engines.graft.registry import AUTO, choose_head, known_heads
from vedette_engines.graft.session import Session, measure_signature
from vedette_engines.manifest import (
    NAME_PATTERN,
    VERSION_PATTERN,
    ClassifierOutput,
    Defaults,
    DetectorOutput,
    EmbedderOutput,
    EngineFile,
    InputSpec,
    Manifest,
    Placement,
    Precision,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from vedette_engines.graft.frames import Sample
    from vedette_engines.graft.head import Head
    from vedette_engines.graft.preprocess import ChannelOrder, Preprocessing, Triple
    from vedette_engines.manifest import OutputSpec

MODEL_FILE = "model.onnx"
# TensorRT's TopK takes no more.
MAX_CANDIDATES = 3840


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is to be imported, and all that the model itself does not tell.

    Attributes:
        model: The ONNX file.
        called: How messages call it; empty: by its file's name.
        labels: Class names by class number; none for an embedder.
        name: Name of the engine.
        version: Its version.
        root: Engines' root to publish into.
        head: Name of the head, or `auto`.
        input_size: Width and height, where the model leaves them open.
        order: Channel order of the model's input; None: the head's preset, as for the next three.
        scale: Factor on the pixels.
        mean: Subtracted after scaling, in the model's channel order.
        std: Divides the rest.
        letterbox: Where the picture stands in the input.
        pad: Grey value beside it.
        max_candidates: Most rows of a detector's output; fewer where the model has fewer anchors.
        score_floor: A detector's row below this carries score 0.
        options: What the head cannot tell from shapes.
        frames: Pictures, videos or folders to compare on, besides made ones.
        simplify: Let onnxslim simplify the model, where that changes nothing.
        defaults: Thresholds for channels that say nothing.
    """

    model: Path
    labels: tuple[str, ...]
    name: str
    version: str
    root: Path
    head: str = AUTO
    input_size: tuple[int, int] | None = None
    order: ChannelOrder | None = None
    scale: float | None = None
    mean: Triple | None = None
    std: Triple | None = None
    letterbox: Placement = Placement.TOP_LEFT
    pad: int = 114
    max_candidates: int = 300
    score_floor: float = 0.01
    options: HeadOptions = field(default_factory=HeadOptions)
    frames: tuple[Path, ...] = ()
    simplify: bool = False
    defaults: Defaults = field(default_factory=Defaults)
    called: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """An engine that agrees with the model it was made of, not yet published.

    Attributes:
        manifest: Its description, with one file, `MODEL_FILE`.
        content: That file's bytes, an ONNX model that keeps the engine contract; the grafted nodes' names begin
            with `vedette/`.
        original: The model as it came, with its plain reading.
        report: How far apart the two were.
        samples: The frames that they were compared on.
    """

    manifest: Manifest
    content: bytes
    original: parity.Original
    report: parity.ParityReport
    samples: tuple[Sample, ...]


def import_model(request: ImportRequest, say: Callable[[str], None], heads: Mapping[str, Head] | None = None) -> Bundle:
    """Import one model.

    Args:
        request: What to import.
        say: Takes one line for each thing that was assumed or found.
        heads: The heads to choose from; None: all that are installed.

    Raises:
        ImportInputError: It cannot be done as it was asked for.
        ImportRefusedError: The engine disagrees with the original; nothing was published.
        BundleError: The bundle cannot be published.
    """
    _check_place(request)
    made = make_engine(request, say, heads)
    return write_bundle(request.root, made.manifest, {MODEL_FILE: made.content})


def make_engine(
    request: ImportRequest,
    say: Callable[[str], None],
    heads: Mapping[str, Head] | None = None,
    footage: Callable[[InputSpec], Sequence[Sample]] | None = None,
) -> Made:
    """Make an engine of one model and compare it with the model; nothing is published.

    Args:
        request: What to import; its `root` does not matter.
        say: Takes one line for each thing that was assumed or found.
        heads: The heads to choose from; None: all that are installed.
        footage: Gives further frames to compare on, letterboxed for the engine's input.

    Raises:
        ImportInputError: It cannot be done as it was asked for.
        ImportRefusedError: The engine disagrees with the original.
    """
    _check_numbers(request)
    model = source.read_model(request.model)
    session = Session(request.model, request.called or request.model.name)
    signature = measure_signature(session, request.input_size)
    spec = InputSpec(signature.width, signature.height, request.letterbox, request.pad)
    samples = [*made_samples(spec), *real_samples(request.frames, spec), *(footage(spec) if footage else ())]
    probes = Probes(session, signature, samples)
    head = _choose(request, probes, known_heads() if heads is None else heads, say)
    preprocessing = _preprocessing(request, head)
    probe = probes.prepared(preprocessing)
    options = _settle(request, head, probe)
    context = _context(request, head, probe, options)
    _check_labels(request, head, context)
    say(f"preprocessing: {preprocessing}; head: {options}")
    original = parity.Original(session, preprocessing, head, context)
    prepared = prepare(model, probe, say, simplify=request.simplify)
    grafted = graft(prepared.model, head, preprocessing, context, fixed_batch=prepared.fixed_batch)
    shorten_notes(grafted)
    content = grafted.SerializeToString()
    tolerance = parity.FLOAT32_TOLERANCE if _precision(model) is Precision.FP32 else parity.FLOAT16_TOLERANCE
    batches = [1] if prepared.fixed_batch else [1, TRIED_BATCH]
    report = parity.check_parity(Session(content, "the engine"), original, samples, batches, tolerance)
    say(f"agrees with the original: {_summary(report)}")
    if not report.rows_above_floor:
        say(f"nothing is scored {request.score_floor:g} or more on any frame: are --scale, --order and --head right?")
    manifest = Manifest(
        name=request.name,
        version=request.version,
        task=Task(head.task),
        input=spec,
        output=_output(head, context),
        labels=distinct(request.labels, say),
        files=(EngineFile(MODEL_FILE, precision=_precision(model), batch=1 if prepared.fixed_batch else None),),
        defaults=request.defaults,
        provenance=_provenance(request, original, report, tolerance, source.opset_of(model)),
    )
    return Made(manifest, content, original, report, tuple(samples))


def _check_place(request: ImportRequest) -> None:
    """Find out now what publishing would refuse after all the work."""
    check_names(request)
    target = request.root / request.name / request.version
    if target.exists():
        raise ImportInputError(
            f"engine {request.name} {request.version} exists already in {target}; give a new --version"
        )


def check_names(request: ImportRequest) -> None:
    """Check what becomes names of folders.

    Raises:
        ImportInputError: One cannot.
    """
    if not NAME_PATTERN.fullmatch(request.name):
        raise ImportInputError(f"--name is {request.name!r}; allowed is {NAME_PATTERN.pattern}")
    if not VERSION_PATTERN.fullmatch(request.version):
        raise ImportInputError(f"--version is {request.version!r}; allowed is {VERSION_PATTERN.pattern}")


def _check_numbers(request: ImportRequest) -> None:
    if not 1 <= request.max_candidates <= MAX_CANDIDATES:
        raise ImportInputError(
            f"--max-candidates is {request.max_candidates}; allowed is 1..{MAX_CANDIDATES}, TensorRT takes no more"
        )
    if not 0 < request.score_floor <= 1:
        raise ImportInputError(f"--score-floor is {request.score_floor}; allowed is above 0, up to 1")
    if not 0 <= request.pad <= 255:
        raise ImportInputError(f"--pad is {request.pad}; allowed is 0..255")
    if request.std is not None and 0 in request.std:
        raise ImportInputError(f"--std is {request.std}; allowed is anything but 0")


def _choose(request: ImportRequest, probes: Probes, heads: Mapping[str, Head], say: Callable[[str], None]) -> Head:
    signature = probes.signature
    head = choose_head(
        request.head,
        signature,
        heads,
        len(request.labels),
        lambda tried: probes.prepared(_preprocessing(request, tried)).joined(),
        say,
    )
    say(
        f"input {signature.input_name} {signature.layout} {signature.width}x{signature.height}, "
        f"outputs {signature.shapes}: head {head.name}, {head.fits(signature).reason}"
    )
    return head


def _preprocessing(request: ImportRequest, head: Head) -> Preprocessing:
    return head.preset.overridden(request.order, request.scale, request.mean, request.std)


def _check_labels(request: ImportRequest, head: Head, context: HeadContext) -> None:
    """Want a name for each class; an embedder has none to name."""
    if head.task == "embedder":
        if request.labels:
            raise ImportInputError(f"--labels means nothing to the head {head.name}; leave it out")
        return
    classes = classes_of(head, context)
    if len(request.labels) != classes:
        have = f"there are {len(request.labels)} labels" if request.labels else "--labels is missing"
        raise ImportInputError(
            f"{have}, but the outputs {context.signature.shapes} have {classes} classes for the head {head.name}"
        )


def _settle(request: ImportRequest, head: Head, probe: Probe) -> HeadOptions:
    """Let the head measure what was not said; what was said in vain is refused."""
    said = replace(request.options, classes=len(request.labels) or None)
    options = head.settle(said, probe.joined(), probe.signature)
    for field_name, flag in OPTION_FLAGS.items():
        if getattr(said, field_name) is not None and getattr(options, field_name) is None:
            raise ImportInputError(f"{flag} means nothing to the head {head.name}; leave it out")
    return options


def _context(request: ImportRequest, head: Head, probe: Probe, options: HeadOptions) -> HeadContext:
    """Settle the number of rows: not more than the model has anchors."""
    context = HeadContext(probe.signature, options, request.max_candidates, request.score_floor)
    if head.task != "detector":
        return context
    anchors = head.read(probe.raw[0], context).scores.shape[1]
    return replace(context, max_candidates=min(request.max_candidates, anchors))


def _precision(model: ModelProto) -> Precision:
    """Tell the arithmetic of a model by its weights and its quantised nodes."""
    if any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph.node):
        return Precision.INT8
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return Precision.FP16
    return Precision.FP32


def _output(head: Head, context: HeadContext) -> OutputSpec:
    if head.task == "detector":
        return DetectorOutput(context.max_candidates, context.score_floor, extras_of(head, context))
    classes = classes_of(head, context)
    return ClassifierOutput(classes) if head.task == "classifier" else EmbedderOutput(classes)


def distinct(labels: tuple[str, ...], say: Callable[[str], None]) -> tuple[str, ...]:
    """Make labels names: one that stands more than once (ImageNet has two cranes) is numbered."""
    seen: dict[str, int] = {}
    names = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        names.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    doubled = [label for label, count in seen.items() if count > 1]
    if doubled:
        say(f"labels that stand more than once are numbered: {', '.join(doubled)}")
    return tuple(names)


def _summary(report: parity.ParityReport) -> str:
    return (
        f"{report.frames} frames ({report.real_frames} real) in batches of {', '.join(map(str, report.batches))}; "
        f"{report.rows} rows, {report.rows_above_floor} of them scored; "
        f"largest difference: score {report.worst_score:.2g}, box {report.worst_box_px:.2g} px"
    )


def _provenance(
    request: ImportRequest,
    original: parity.Original,
    report: parity.ParityReport,
    tolerance: parity.Tolerance,
    opset: int,
) -> dict[str, str]:
    """Write down where the engine comes from and what was checked."""
    return {
        "source": request.model.name,
        "source_sha256": sha256_of(request.model),
        "source_opset": str(opset),
        "tool": f"vedette {metadata.version('vedette')}",
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "head": original.head.name,
        "head_options": str(original.context.options),
        "preprocessing": str(original.preprocessing),
        "parity": _summary(report),
        "parity_tolerance": str(tolerance),
    }
