"""The sections of `bench gpu` that need a GPU; each is measured, or says why it was not run."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gpu_cameras import hold
from bench.gpu_fed import FEEDS, UPLOADS, Setup, ceiling, fed
from bench.setting import ROOT
from vedette_engines.compare.agreement import compare_engines
from vedette_engines.compare.gates import gate_for, judge
from vedette_engines.errors import EnginesError
from vedette_engines.gpu.devices import Devices
from vedette_engines.graft.frames import made_samples
from vedette_engines.importing import ImportRequest, import_model
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.manifest import Backend, EngineFile, Precision
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.doctor.report import Report
    from vedette_engines.gpu.base import DeviceEngine
    from vedette_engines.runners.base import LoadedEngine

LIBRARIES = ("cuda-bindings", "pycuda")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FRAMES = 8
MEASURED = "measured"
GOAL = 0.95


@dataclass(frozen=True)
class Way:
    """One way to run the engine on the GPU."""

    name: str
    settings: RunnerSettings
    precision: Precision


@dataclass
class Bench:
    """What the sections share."""

    report: Report
    options: argparse.Namespace
    folder: Path
    bundle: Bundle
    ways: list[Way]
    ceilings: dict[tuple[str, int], float]

    @property
    def best(self) -> Way:
        """The way that the sweeps are run with."""
        return self.ways[0]


def measure(report: Report, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run all sections; gives what was measured on, and the figures."""
    gpu = next(gpu for gpu in report.gpus if gpu.index == report.device)
    setting = {
        "gpu": f"{gpu.name} ({gpu.capability})",
        "driver": f"{report.driver.version}, CUDA {report.driver.cuda}",
        "libraries": {facts.name: facts.version for facts in report.libraries if facts.works},
    }
    figures: dict[str, Any] = {"Trials": trials(report)}
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        bench = prepared(report, options, Path(name))
        setting["engine"] = f"{bundle_name(bench.bundle)}, {', '.join(way.name for way in bench.ways)}"
        for title, section in SECTIONS.items():
            print(title, flush=True)
            figures[title] = _attempted(lambda section=section: section(bench))  # type: ignore[misc]
    return setting, figures


def _attempted(section: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a section, or say why it cannot be run; a figure is never made up."""
    try:
        return section()
    except (EnginesError, ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"  not run: {reason}", file=sys.stderr)
        return {"state": "not run", "reason": reason}


def bundle_name(bundle: Bundle) -> str:
    spec = bundle.manifest.input
    return f"{bundle.name} {bundle.version}, {spec.width}x{spec.height}"


def trials(report: Report) -> dict[str, Any]:
    """Take the doctor's trials over: `blobs` on every backend against the CPU."""
    rows = [
        {
            "trial": trial.words,
            "state": str(trial.state),
            "backend": trial.backend,
            "worst": dict(trial.worst),
            "bound": trial.bound,
            "reason": trial.reason,
        }
        for trial in report.trials
    ]
    return {"rows": rows}


# -- the engine ---------------------------------------------------------------------------------


def prepared(report: Report, options: argparse.Namespace, folder: Path) -> Bench:
    """Find or make the engine, its plan for this GPU, and the ways to run it."""
    bundle = resnet(folder) if options.engine == "resnet50" else published(options)
    settings = RunnerSettings(device_id=report.device, batch_mode=BatchMode.BUCKET)
    can = {ability.name for ability in report.abilities if ability.available}
    ways = []
    module = next((name for name in ("tensorrt", "tensorrt-rtx") if name in can), "")
    if module:
        precision = Precision(options.precision)
        bundle = planned(bundle, module.replace("-", "_"), precision, max(options.batch), folder)
        of_plan = replace(settings, backends=(Backend.TENSORRT,), precision=precision)
        ways.append(Way(f"{module} {precision}", of_plan, precision))
    if "onnxruntime-cuda" in can:
        on_cuda = replace(settings, providers=("cuda",), backends=(Backend.ONNXRUNTIME,), precision=Precision.FP32)
        ways.append(Way("onnxruntime cuda", on_cuda, Precision.FP32))
        own = replace(on_cuda, session_per_lane=True)
        ways.append(Way("onnxruntime cuda, session per lane", own, Precision.FP32))
    if not ways:
        raise SystemExit("neither TensorRT nor ONNX Runtime's CUDA provider works; `vedette gpu check` says why")
    return Bench(report, options, folder, bundle, ways, {})


def published(options: argparse.Namespace) -> Bundle:
    roots = [options.engines_dir] if options.engines_dir else []
    return EngineRepository([*roots, boxed_root()]).resolve(*options.engine.partition("@")[::2])


def resnet(folder: Path) -> Bundle:
    """Export ResNet-50 with settled random weights: of its speed they say as much as trained ones."""
    from vedette_engines.sources.opening import export_source
    from vedette_engines.sources.spec import SourceSpec

    spec = SourceSpec("support_torch_models:resnet50", input_size=(224, 224), search_path=ROOT / "tests")
    exported = export_source(spec, folder / "export", lambda _: None)
    labels = tuple(f"class {number}" for number in range(1000))
    look: dict[str, Any] = {"order": "rgb", "scale": 1 / 255, "mean": MEAN, "std": STD}
    request = ImportRequest(exported.onnx, labels, "resnet50", "1", folder / "engines", head="classifier", **look)
    return import_model(request, say=lambda _: None)


def planned(bundle: Bundle, module: str, precision: Precision, largest: int, folder: Path) -> Bundle:
    """Publish the engine again with a plan for this GPU."""
    from vedette_engines.bundle import write_bundle
    from vedette_engines.plans.adding import Added, publish_with, source_file
    from vedette_engines.plans.building import build_plan
    from vedette_engines.plans.module import find_tensorrt
    from vedette_engines.plans.request import PlanRequest, Profile

    # Under a name and versions of its own: the server takes the newest, which is then the one with the plan.
    root, manifest = folder / "engines", bundle.manifest
    contents: dict[str, Any] = {file.path: bundle.path / file.path for file in manifest.files}
    files = manifest.files
    if precision not in {file.precision for file in files}:
        exact = source_file(bundle, None)
        lowered = EngineFile("measured.fp16.onnx", precision=precision, batch=exact.batch)
        contents[lowered.path] = to_fp16(bundle.path_of(exact).read_bytes(), (), lambda _: None)
        files = (*files, lowered)
    named = replace(manifest, name=MEASURED, version="1", files=files, attachments=())
    bundle = write_bundle(root, named, contents)
    source = source_file(bundle, precision)
    print(f"building a plan of {bundle_name(bundle)} in {precision}", flush=True)
    request = PlanRequest(bundle.path_of(source), (Profile(1, largest, largest),))
    plan = build_plan(request, find_tensorrt(module), lambda _: None)
    return publish_with(bundle, [Added(source, plan, reused=False)], root, "2")


@contextlib.contextmanager
def opened(bench: Bench, way: Way, library: str = "auto") -> Iterator[tuple[LoadedEngine, DeviceEngine]]:
    """Open the engine in a way, on the GPU opened with a library."""
    devices = Devices(library)  # type: ignore[arg-type]
    try:
        with open_engine(bench.bundle, way.settings, devices=devices) as engine:
            if engine.on_device is None:
                raise RuntimeError(f"{way.name} runs on {engine.backend}, which is no engine on the GPU")
            yield engine, engine.on_device
    finally:
        devices.close()


# -- the sections -------------------------------------------------------------------------------


def agree(bench: Bench) -> dict[str, Any]:
    """Hold every way against the CPU, with the bounds that a build has to keep."""
    manifest = bench.bundle.manifest
    samples = made_samples(manifest.input, FRAMES)
    cpu = RunnerSettings(providers=("cpu",), backends=(Backend.ONNXRUNTIME,), precision=Precision.FP32)
    rows = []
    with open_engine(bench.bundle, cpu) as reference, _running(reference) as exact:
        for way in bench.ways:
            with opened(bench, way) as (engine, _), _running(engine) as run:
                found = compare_engines(manifest, exact, run, samples, against="the CPU")
            gate = gate_for(manifest.task, way.precision)
            failures = judge(found, gate)
            figures = {name: value for name, value in found.figures.items() if value is not None}
            rows.append({"way": way.name, "agrees": not failures, "figures": figures, "bound": str(gate)})
            print(f"  {way.name}: {'agrees' if not failures else '; '.join(failures)}", flush=True)
    return {"rows": rows}


@contextlib.contextmanager
def _running(engine: LoadedEngine) -> Iterator[Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    with contextlib.closing(engine.open_lane()) as lane:
        yield lambda frames: np.array(lane.run(list(frames)))


def alone(bench: Bench) -> dict[str, Any]:
    """Measure the ceiling: each way and batch in a bare loop, with one stream and with as many as there are lanes."""
    rows = []
    for way in bench.ways:
        with opened(bench, way) as (_, engine):
            for batch in _batches(bench, engine):
                for streams in sorted({1, max(bench.options.lanes)}):
                    rate = ceiling(engine, batch, streams, bench.options.seconds)
                    bench.ceilings[way.name, batch] = max(rate, bench.ceilings.get((way.name, batch), 0.0))
                    rows.append({"way": way.name, "batch": batch, "streams": streams, "frames_per_s": rate})
                    print(f"  {way.name}, batch {batch}, {streams} streams: {rate:,.0f} frames/s", flush=True)
    return {"chart": _chart("Frames per second of the engine alone", [("way", ""), ("batch", "")], "way"), "rows": rows}


def _batches(bench: Bench, engine: DeviceEngine) -> list[int]:
    return [batch for batch in bench.options.batch if batch in engine.sizes]


def _chart(title: str, label: Sequence[tuple[str, str]], hue: str, value: str = "frames_per_s") -> dict[str, Any]:
    return {"title": title, "label": list(label), "value": value, "hue": hue}


def _executed(bench: Bench, way: Way, engine: DeviceEngine, setup: Setup, **more: Any) -> dict[str, Any]:
    """Run the executor once; its ratio is to the ceiling of the same batch, where that was measured."""
    figures = fed(engine, setup)
    top = bench.ceilings.get((way.name, setup.batch))
    row = {"way": way.name, **more, **figures, "of_ceiling": figures["frames_per_s"] / top if top else None}
    ratio = f"{row['of_ceiling']:.3f} of the ceiling" if top else "no ceiling"
    print(
        f"  {way.name}, {', '.join(f'{value}' for value in more.values())} batch {setup.batch}, {setup.lanes} lanes, "
        f"{setup.feed}{'' if setup.graphs else ', no graphs'}: {figures['frames_per_s']:,.0f} frames/s, {ratio}, "
        f"overlap {figures['overlap']:.2f}",
        flush=True,
    )
    return row


def swept(bench: Bench) -> dict[str, Any]:
    """Feed by uploads: every batch with three lanes, every number of lanes with the largest batch, without graphs."""
    rows = []
    for way in bench.ways:
        with opened(bench, way) as (_, engine):
            batches = _batches(bench, engine)
            setups = [Setup(batch, 3) for batch in batches]
            setups += [Setup(batches[-1], lanes) for lanes in bench.options.lanes if lanes != 3]
            setups += [Setup(batches[-1], 3, graphs=False), Setup(batches[0], 3, graphs=False)]
            rows += [_executed(bench, way, engine, replace(one, seconds=bench.options.seconds)) for one in setups]
    label = [("way", ""), ("batch", ""), ("lanes", " lanes")]
    return {
        "chart": _chart("Frames per second, fed by uploads", label, "way"),
        "rows": rows,
        "best of the ceiling": max((row["of_ceiling"] or 0.0 for row in rows), default=0.0),
        "goal": GOAL,
    }


def feeds(bench: Bench) -> dict[str, Any]:
    """Feed letterboxed frames, whole pictures that are letterboxed on the GPU, and pictures that are there already."""
    rows = []
    with opened(bench, bench.best) as (_, engine):
        batch = _batches(bench, engine)[-1]
        for feed in FEEDS:
            setup = Setup(batch, 3, feed=feed, seconds=bench.options.seconds)
            rows.append(_executed(bench, bench.best, engine, setup))
    return {"chart": _chart("Frames per second by what is fed", [("feed", "")], "feed"), "rows": rows}


def both_libraries(bench: Bench) -> dict[str, Any]:
    """Run the executor with each CUDA library that works."""
    works = {facts.name for facts in bench.report.libraries if facts.works}
    rows = []
    for library in LIBRARIES:
        if library not in works:
            rows.append({"library": library, "state": "not run: it does not work here"})
            continue
        with opened(bench, bench.best, library) as (_, engine):
            setup = Setup(_batches(bench, engine)[-1], 3, feed=UPLOADS, seconds=bench.options.seconds)
            rows.append(_executed(bench, bench.best, engine, setup, library=library))
    return {"chart": _chart("Frames per second by CUDA library", [("library", "")], "library"), "rows": rows}


def cameras(bench: Bench) -> dict[str, Any]:
    """Let cameras send to the whole server; letterboxing on the CPU, then on the GPU."""
    flags = ["--engines-dir", str(bench.bundle.path.parent.parent), "--device", str(bench.report.device)]
    backend = "tensorrt" if Backend.TENSORRT in bench.best.settings.backends else "onnxruntime"
    flags += ["--engine", bench.bundle.name, "--backend", backend, *shlex.split(bench.options.serve)]
    found: dict[str, Any] = {}
    for preprocess in ("cpu", "device"):
        print(f"  letterboxed on the {preprocess}", flush=True)
        counts, seconds = bench.options.cameras, bench.options.camera_seconds
        part = hold([*flags, "--preprocess", preprocess], bench.folder, bench.bundle.name, counts, seconds)
        for row in part["rows"]:
            found.setdefault("rows", []).append({"preprocess": preprocess, **row})
        found[f"cameras held, letterboxed on the {preprocess}"] = part["cameras held"]
        found |= {key: part[key] for key in ("held means", "sent")}
    label = [("preprocess", ""), ("cameras", " cameras")]
    found["chart"] = _chart("Age at the verdict, p95, seconds", label, "preprocess", "age_p95_s")
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "Backends against the CPU": agree,
    "Engine alone: the ceiling": alone,
    "Executor, batches and lanes": swept,
    "Executor, what is fed": feeds,
    "Executor, CUDA libraries": both_libraries,
    "Whole server": cameras,
}
