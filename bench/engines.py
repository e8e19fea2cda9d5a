"""Runners side by side: PyTorch, TorchScript, ONNX Runtime and OpenVINO, FP32 and INT8 (issue 3, point 1).

ResNet-50 and a detector of the YOLO family are the tests' own, in plain PyTorch with settled random weights; YOLOX-nano
is a real one and comes as ONNX, so that PyTorch does not run it. INT8 is calibrated on some clips and judged on others;
of random weights the agreement says little, since nothing made them robust.

On a machine that others use, too, give --threads 1: PyTorch's threads wait by spinning, and two on a busy machine can
be ten times slower than one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from bench.setting import ASSETS, ENGINES, RESULTS, ROOT, circumstances
from vedette_engines.benching.bench import BenchRequest, bench_ways
from vedette_engines.benching.page import page
from vedette_engines.benching.table import failures, rows_table, ways_table
from vedette_engines.benching.ways import CPU_RUNNER, find_ways, preprocessing_of
from vedette_engines.bundle import load_bundle, write_bundle
from vedette_engines.compare.tensors import compare_tensors
from vedette_engines.footage.clips import split_clips
from vedette_engines.footage.frames import read_frames
from vedette_engines.graft.frames import made_samples
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.graft.signature import Signature
from vedette_engines.importing import ImportRequest, make_engine
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan
from vedette_engines.manifest import EngineFile, Precision
from vedette_engines.sources.opening import export_source
from vedette_engines.sources.reference import open_reference, open_torchscript
from vedette_engines.sources.spec import SourceSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.benching.report import BenchReport
    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.frames import Sample
    from vedette_engines.manifest import InputSpec

TESTS = ROOT / "tests"
CALIBRATION = (
    "intel_one-by-one-person-detection.mp4",
    "intel_car-detection_h264_bframes.ts",
    "intel_store-aisle_mjpeg.avi",
)
VALIDATION = ("intel_classroom_h264_pingpong4.mp4", "intel_worker-zone-detection_h264_pingpong4.mp4")
RUNNERS = ("torch", "torchscript", "onnxruntime", "openvino")
INT8_SIZE, INT8_SPEED, PARITY = 0.27, 1.8, 1e-4


@dataclass(frozen=True)
class Subject:
    """One model of the bench.

    Attributes:
        name: Name of the engine.
        source: The model as its trainer would leave it.
        labels: Names of its classes.
        head: How it writes its results.
    """

    name: str
    source: SourceSpec
    labels: tuple[str, ...]
    head: str

    @property
    def in_torch(self) -> bool:
        """Whether PyTorch can run it."""
        return self.source.is_factory


def subjects() -> dict[str, Subject]:
    """List the models that are here."""

    def made(name: str, factory: str, side: int, classes: int, head: str) -> Subject:
        weights = ENGINES / "runners" / f"{name}.pt"
        spec = SourceSpec(f"support_torch_models:{factory}", weights, input_size=(side, side), search_path=TESTS)
        return Subject(name, spec, tuple(f"class {number}" for number in range(classes)), head)

    found = [
        made("resnet50", "resnet50", 224, 1000, "classifier"),
        made("yolo-s", "yolo_s", 416, 80, "yolov8"),
    ]
    model = ASSETS / "models" / "yolox_nano_416.onnx"
    if model.exists():
        labels = tuple((ASSETS / "models" / "coco.names").read_text(encoding="utf-8").split("\n")[:80])
        found.append(Subject("yolox-nano", SourceSpec(str(model)), labels, "yolox"))
    else:
        print(f"{model.name} is not here: it is left out", file=sys.stderr)
    return {subject.name: subject for subject in found}


def footage(spec: InputSpec, count: int) -> tuple[list[Sample], list[Sample]]:
    """Take frames to calibrate on and others to judge on: of the real clips where they are, else made ones."""
    clips = ASSETS / "clips"
    if not all((clips / name).exists() for name in (*CALIBRATION, *VALIDATION)):
        print("the real clips are not here: frames are made, and say nothing about accuracy", file=sys.stderr)
        return made_samples(spec, count // 2, seed=1), made_samples(spec, count // 2, seed=2)
    split = split_clips([clips / name for name in CALIBRATION], [clips / name for name in VALIDATION])
    return read_frames(split.calibration, spec, count), read_frames(split.validation, spec, count)


def save_weights(subject: Subject, *, fresh: bool) -> None:
    """Write the state dict that a training run would have left."""
    import torch

    from support_torch_models import resnet50, yolo_s

    factories = {"resnet50": resnet50, "yolo_s": yolo_s}
    path = subject.source.weights
    if path is not None and (fresh or not path.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(factories[subject.source.source.partition(":")[2]]().state_dict(), path)


def prepare(subject: Subject, fresh: bool, frames: int) -> Bundle:
    """Make an engine with an FP32 and an INT8 file, once."""
    root = ENGINES / "runners"
    place = root / subject.name / "1"
    if fresh:
        shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        return load_bundle(place)

    def say(line: str) -> None:
        print(f"  {subject.name}: {line}", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        exported = export_source(subject.source, Path(folder), say)
        scale = {"order": "rgb", "scale": 1 / 255} if subject.in_torch else {}
        request = ImportRequest(
            exported.onnx,
            subject.labels,
            subject.name,
            "1",
            root,
            head=subject.head,
            **scale,  # type: ignore[arg-type]
        )
        made = make_engine(request, say)
        calibration, _ = footage(made.manifest.input, frames)
        lowered = to_int8(made.content, calibration, CalibrationPlan(), "onnxruntime", Path(folder), say)
    files = (EngineFile("fp32.onnx"), EngineFile("int8.onnx", precision=Precision.INT8))
    contents = {"fp32.onnx": made.content, "int8.onnx": lowered.content}
    return write_bundle(root, replace(made.manifest, files=files), contents)


def parity(subject: Subject, bundle: Bundle, count: int = 4) -> dict[str, dict[str, Any]]:
    """Compare every FP32 runner with the source framework, raw outputs on validation frames.

    Of a source that is ONNX the framework is ONNX Runtime. How far PyTorch is from itself in float64 is told, too: what
    rounding alone does in this network.
    """
    import openvino as ov

    preprocessing = preprocessing_of(bundle.manifest) or Preprocessing()
    spec = bundle.manifest.input
    frames = np.stack([sample.pixels for sample in footage(spec, count)[1]])
    images = preprocessing.apply(frames, Signature("images", 1, "nchw", spec.width, spec.height, ()))
    reference = open_reference(subject.source)
    wanted = reference.run(images)
    with tempfile.TemporaryDirectory() as folder:
        exported = export_source(subject.source, Path(folder), lambda _: None)
        compiled = ov.Core().compile_model(str(exported.onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        taken = images
        if compiled.input(0).partial_shape[0].is_static:
            taken, wanted = images[:1], reference.run(images[:1])  # this file takes one frame at a time
        found = {"OpenVINO": list(compiled(taken).values())}
        if subject.in_torch:
            found["ONNX Runtime"] = open_reference(SourceSpec(str(exported.onnx))).run(taken)
            found["TorchScript"] = open_torchscript(subject.source).run(taken)
            found["PyTorch eager in float64"] = _in_float64(subject.source, taken)
    return {runner: _difference(reference.name, wanted, outputs) for runner, outputs in found.items()}


def _in_float64(source: SourceSpec, images: Any) -> list[Any]:
    import torch

    from vedette_engines.sources.torch_model import open_model

    model = open_model(source).model.double()
    with torch.no_grad():
        return [model(torch.from_numpy(images).double()).float().numpy()]


def _difference(reference: str, wanted: Sequence[Any], found: Sequence[Any]) -> dict[str, Any]:
    differences = compare_tensors(wanted, found, [f"output {number}" for number in range(len(wanted))])
    worst = max(differences, key=lambda one: float("inf") if one.reason else one.largest_relative)
    return {
        "against": reference,
        "largest, of the largest value": worst.largest_relative,
        "share beyond rtol 1e-4 / atol 1e-5": max(one.share_beyond for one in differences),
        "reason": worst.reason,
    }


def measure(subject: Subject, bundle: Bundle, options: argparse.Namespace) -> BenchReport:
    """Race all runners of one model."""
    _, validation = footage(bundle.manifest.input, options.frames)

    def say(line: str) -> None:
        print(f"  {subject.name}: {line}", file=sys.stderr)

    request = BenchRequest(
        bundle,
        batches=tuple(options.batch),
        seconds=options.seconds,
        threads=options.threads,
        source=subject.source if subject.in_torch else None,
        preprocessing=preprocessing_of(bundle.manifest),
        samples=tuple(validation),
        memory=options.memory,
        command=" ".join(["python -m", *sys.argv]),
    )
    runners = RUNNERS if subject.in_torch else RUNNERS[2:]
    with tempfile.TemporaryDirectory() as folder:
        ways = find_ways(
            bundle,
            Path(folder),
            runners=runners,
            source=request.source,
            preprocessing=request.preprocessing,
            say=say,
        )
        return bench_ways(request, ways, say)


def judge(name: str, report: BenchReport, same: dict[str, Any]) -> dict[str, Any]:
    """Hold what was measured against the issue's targets."""
    sizes = {way.precision: way.size_bytes for way in report.ways if way.runner == CPU_RUNNER}
    factors = {
        f"{row.runner} {row.precision}, batch {row.batch}": row.speedup.median
        for row in report.rows
        if row.speedup is not None and not row.failed
    }
    int8 = {what: factor for what, factor in factors.items() if " int8," in what}
    best = max(int8, key=int8.__getitem__)
    eager = {what: factor for what, factor in factors.items() if what.startswith("PyTorch eager")}
    figures: dict[str, Any] = {
        **{f"FP32 {runner} (goal <= {PARITY:g})": one["largest, of the largest value"] for runner, one in same.items()},
        f"INT8 size / FP32 size (goal <= {INT8_SIZE})": sizes["int8"] / sizes["fp32"],
        f"best INT8 / ONNX Runtime FP32 (goal on ResNet-50 >= {INT8_SPEED})": int8[best],
        "best INT8 is": best,
    }
    for what, factor in eager.items():
        figures[f"ONNX Runtime FP32 / {what.replace(' fp32', '')}"] = 1 / factor
    return {f"{name}: {what}": value for what, value in figures.items()}


def main() -> None:
    sys.path.insert(0, str(TESTS))
    known = subjects()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="time for all candidates of one model together")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=None, help="threads of a run; default: all cores")
    parser.add_argument("--frames", type=int, default=64, help="frames to calibrate on, and as many to judge on")
    parser.add_argument("--models", nargs="+", choices=known, default=list(known))
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--fresh", action="store_true", help="export and quantise anew")
    options = parser.parse_args()
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    reports, figures, parities = [], {}, {}
    for name in options.models:
        save_weights(known[name], fresh=options.fresh)
        bundle = prepare(known[name], options.fresh, options.frames)
        parities[name] = parity(known[name], bundle)
        report = measure(known[name], bundle, options)
        reports.append(report)
        figures |= judge(name, report, parities[name])
        console.print(rows_table(report), ways_table(report), sep="\n")
        for line in failures(report):
            print(line)
    RESULTS.mkdir(parents=True, exist_ok=True)
    document = {
        "setting": circumstances(),
        "figures": figures,
        "parity": parities,
        "reports": [asdict(report) for report in reports],
    }
    (RESULTS / "engines.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "engines.html").write_text(page(*reports), encoding="utf-8")
    for what, value in figures.items():
        print(f"  {what:78} {f'{value:.4g}' if isinstance(value, float) else value}")
    print("written to bench/results/engines.json and engines.html")


if __name__ == "__main__":
    main()
