"""The stages that lower the precision, and compare what comes out with the FP32 engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette_engines.building.making import ENGINE_FILE
from vedette_engines.compare.agreement import compare_engines
from vedette_engines.compare.gates import gate_for, judge
from vedette_engines.compare.layers import compare_layers
from vedette_engines.compare.running import infer_with_onnxruntime
from vedette_engines.footage.clips import clips_digest
from vedette_engines.footage.frames import read_frames
from vedette_engines.lower.dynamic import to_int8_dynamic
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan
from vedette_engines.lower.sensitivity import auto_exclude
from vedette_engines.manifest import Backend, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from vedette_engines.building.request import Int8Target, Lowering
    from vedette_engines.building.step import Say, StepResult
    from vedette_engines.building.workbench import Workbench
    from vedette_engines.compare.result import Agreement
    from vedette_engines.footage.clips import Split
    from vedette_engines.lower.plan import Quantised
    from vedette_engines.manifest import Manifest

BATCH = 8
FP16_FRAMES = 16
ADVICE = {
    Precision.FP16: "what may help: --per-layer, to see where it goes wrong",
    Precision.INT8: "what may help: --calibration with footage like that of --validation, and more of it; "
    "--auto-exclude; another --calibration-method; --per-layer, to see where it goes wrong",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that may be published.

    Attributes:
        name: Of its stages: `fp16`, `int8-onnxruntime`.
        precision: Its arithmetic.
        backend: The runtime that it is for.
        path: Where it is.
        key: Of the step that made it.
        figures: How it compares with the FP32 engine; empty for that one.
    """

    name: str
    precision: Precision
    backend: Backend
    path: Path
    key: str
    figures: Mapping[str, Any]


def lower(bench: Workbench, made: StepResult, manifest: Manifest, split: Split) -> list[Candidate]:
    """Make and compare a file for each precision that was asked for.

    The request was checked: there is footage to calibrate and to judge on.

    Raises:
        MissedGateError: One is further from FP32 than its gate allows.
    """
    wanted = bench.request.lowering
    found = []
    if Precision.FP16 in wanted.precisions:
        found.append(_fp16(bench, made, manifest, split))
    if Precision.INT8 in wanted.precisions:
        targets: Sequence[Int8Target] = ("onnxruntime",) if wanted.dynamic else wanted.int8_targets
        found += [_int8(bench, made, manifest, split, target) for target in targets]
    return found


def _fp16(bench: Workbench, made: StepResult, manifest: Manifest, split: Split) -> Candidate:
    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        # What was seen while calibrating shows how large values become.
        clips = split.calibration or split.validation
        frames = read_frames(clips, manifest.input, FP16_FRAMES)
        content = to_fp16((made.folder / ENGINE_FILE).read_bytes(), frames=frames, say=say)
        (folder / ENGINE_FILE).write_bytes(content)
        return {"bytes": len(content)}

    clips = clips_digest(split.calibration or split.validation)
    lowered = bench.stage("fp16", {"engine": made.key, "clips": clips}, produce)
    return _judged(bench, "fp16", Precision.FP16, Backend.ONNXRUNTIME, (made, lowered), manifest, split)


def _int8(bench: Workbench, made: StepResult, manifest: Manifest, split: Split, target: Int8Target) -> Candidate:
    wanted = bench.request.lowering
    name = f"int8-{target}"
    plan = _calibration_plan(wanted)
    goal = gate_for(manifest.task, Precision.INT8, bench.request.gates)

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        content = (made.folder / ENGINE_FILE).read_bytes()
        quantised = _quantised(bench, content, target, folder, (manifest, split, plan, goal.loss), say)
        (folder / ENGINE_FILE).write_bytes(quantised.content)
        return {
            "bytes": len(quantised.content),
            "share_of_fp32": len(quantised.content) / len(content),
            "quantised_nodes": quantised.quantised_nodes,
            "kept_nodes": quantised.kept_nodes,
        }

    inputs = {
        "engine": made.key,
        "target": target,
        "plan": plan,
        "dynamic": wanted.dynamic,
        "auto_exclude": goal if wanted.auto_exclude else None,
        "clips": clips_digest(split.calibration),
        "frames": bench.request.footage.calibration_frames,
    }
    lowered = bench.stage(name, inputs, produce)
    backend = Backend.TENSORRT if target == "tensorrt" else Backend.ONNXRUNTIME
    return _judged(bench, name, Precision.INT8, backend, (made, lowered), manifest, split)


def _quantised(
    bench: Workbench,
    content: bytes,
    target: Int8Target,
    folder: Path,
    how: tuple[Manifest, Split, CalibrationPlan, float],
    say: Say,
) -> Quantised:
    """Quantise as it was asked for."""
    manifest, split, plan, goal = how
    wanted, count = bench.request.lowering, bench.request.footage.calibration_frames
    if wanted.dynamic:
        return to_int8_dynamic(content, say=say, exclude=wanted.exclude)
    if not wanted.auto_exclude:
        return to_int8(content, read_frames(split.calibration, manifest.input, count, say), plan, target, folder, say)
    # Layers are chosen on frames beside those of the calibration, and never on those of the validation.
    frames = read_frames(split.calibration, manifest.input, 3 * count, say)
    measure = _loss(manifest, content, [frame for number, frame in enumerate(frames) if number % 3] or frames)
    quantised, left_out = auto_exclude(content, frames[::3], plan, target, measure, goal, say=say)
    say(f"left in float: {', '.join(left_out) or 'nothing'}")
    return quantised


def _calibration_plan(wanted: Lowering) -> CalibrationPlan:
    given = {"method": wanted.method, "percentile": wanted.percentile, "exclude": wanted.exclude}
    return dataclasses.replace(CalibrationPlan(), **{name: value for name, value in given.items() if value})  # type: ignore[arg-type]


def _loss(manifest: Manifest, content: bytes, frames: Sequence[Any]) -> Callable[[bytes], float]:
    """Tell how far a file is from the FP32 engine on some frames."""
    reference = infer_with_onnxruntime(content)

    def measure(candidate: bytes) -> float:
        agreement = compare_engines(
            manifest, reference, infer_with_onnxruntime(candidate), frames, batch=BATCH, say=lambda _: None
        )
        return agreement.loss

    return measure


def _judged(
    bench: Workbench,
    name: str,
    precision: Precision,
    backend: Backend,
    files: tuple[StepResult, StepResult],
    manifest: Manifest,
    split: Split,
) -> Candidate:
    """Compare a file with the FP32 engine on the validation frames, and hold it against its gate."""
    made, lowered = files
    gate = gate_for(manifest.task, precision, bench.request.gates)
    count = bench.request.footage.validation_frames
    if bench.request.per_layer:
        _layers(bench, name, files, manifest, split)

    def produce(_: Path, say: Say) -> Mapping[str, Any]:
        frames = read_frames(split.validation, manifest.input, count)
        agreement: Agreement = compare_engines(
            manifest,
            infer_with_onnxruntime((made.folder / ENGINE_FILE).read_bytes()),
            infer_with_onnxruntime((lowered.folder / ENGINE_FILE).read_bytes()),
            frames,
            batch=1 if manifest.files[0].batch == 1 else BATCH,
            say=say,
        )
        reasons = judge(agreement, gate)
        for line in (*agreement.lines(), *([ADVICE[precision]] if reasons else [])):
            say(line)
        return {
            "agreement": agreement.to_json(),
            "tables": agreement.tables(gate.shown),
            "gate": str(gate),
            "reasons": list(reasons),
        }

    inputs = {
        "reference": made.key,
        "candidate": lowered.key,
        "gate": gate,
        "clips": clips_digest(split.validation),
        "frames": count,
    }
    compared = bench.stage(f"{name}-against-fp32", inputs, produce)
    return Candidate(name, precision, backend, lowered.folder / ENGINE_FILE, lowered.key, compared.figures)


def _layers(
    bench: Workbench, name: str, files: tuple[StepResult, StepResult], manifest: Manifest, split: Split
) -> None:
    made, lowered = files

    def produce(_: Path, say: Say) -> Mapping[str, Any]:
        frames = read_frames(split.validation, manifest.input, BATCH)
        layers = compare_layers(
            (made.folder / ENGINE_FILE).read_bytes(), (lowered.folder / ENGINE_FILE).read_bytes(), frames
        )
        worst = sorted(layers, key=lambda layer: layer.signal_to_noise_db)[:10]
        for layer in worst:
            say(str(layer))
        rows = [[layer.name, f"{layer.signal_to_noise_db:.1f}", f"{layer.largest:.3g}"] for layer in layers]
        return {"tables": [{"title": "Layers", "columns": ["layer", "SNR, dB", "largest difference"], "rows": rows}]}

    bench.stage(
        f"{name}-layers",
        {"reference": made.key, "candidate": lowered.key, "clips": clips_digest(split.validation)},
        produce,
    )
