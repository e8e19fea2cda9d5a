"""Run an engine under its runtime's profiler."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import LoadError, MissingRuntimeError, RunError
from vedette_engines.manifest import Backend
from vedette_engines.profiling.graph import facts_of
from vedette_engines.profiling.profile import Measured, NodeCost, Profile, Span
from vedette_engines.runners.providers import full_name
from vedette_engines.runners.signal_stack import own_signal_stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile, Precision

_WARM_UP = 2
_KERNEL = "_kernel_time"


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """What is to be profiled.

    Attributes:
        bundle: The engine.
        precision: Which of its files; None: the most exact one.
        batch: Frames per run.
        runs: How many runs are measured.
        threads: Threads of a run.
        provider: Of ONNX Runtime.
    """

    bundle: Bundle
    precision: Precision | None = None
    batch: int = 1
    runs: int = 20
    threads: int = 1
    provider: str = "cpu"


def profile_onnxruntime(request: ProfileRequest) -> Measured:
    """Profile with ONNX Runtime's own profiler, which times each node of the optimised graph.

    Raises:
        BundleError: The bundle has no such file.
        LoadError: It cannot be loaded so.
        RunError: It cannot be run with this batch.
    """
    file = request.bundle.file_for(Backend.ONNXRUNTIME, request.precision)
    with tempfile.TemporaryDirectory(prefix="vedette-profile-") as folder:
        graph = Path(folder) / "optimised.onnx"
        session = _session(request, file, Path(folder), graph)
        plain = _session(request, file, None, None)
        frames = _frames(request, file)
        took: list[float] = []
        try:
            # In turns with a session without the profiler: profiling small nodes costs more than running them.
            for _ in range(_WARM_UP + request.runs):
                session.run(None, {INPUT_NAME: frames})
                began = time.perf_counter()
                plain.run(None, {INPUT_NAME: frames})
                took.append(time.perf_counter() - began)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # what ONNX Runtime raises has no common root but this
            raise RunError(
                f"{request.bundle.name}: ONNX Runtime failed on a batch of {len(frames)}: {error}"
            ) from error
        facts = facts_of(onnx.load(str(graph), load_external_data=False))
    provider = session.get_providers()[0]
    profile = from_events(events, request, f"ONNX Runtime {provider}", str(file.precision), len(frames))
    return Measured(replace(profile, run_s=statistics.median(took[_WARM_UP:])), facts)


def _session(request: ProfileRequest, file: EngineFile, folder: Path | None, graph: Path | None) -> Any:
    """Open a session; one that profiles into a folder and writes its graph, or one as it is served."""
    options = ort.SessionOptions()
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.optimized_model_filepath = str(graph)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = request.threads
    options.log_severity_level = 4
    provider = full_name(request.provider)
    if provider not in ort.get_available_providers():
        raise LoadError(
            f"{provider} is not in this build of ONNX Runtime; it has {', '.join(ort.get_available_providers())}"
        )
    try:
        return ort.InferenceSession(str(request.bundle.path_of(file)), options, providers=[provider], enable_fallback=0)
    except Exception as error:  # as above
        raise LoadError(f"{request.bundle.name}: ONNX Runtime refuses {file.path}: {error}") from error


def _frames(request: ProfileRequest, file: EngineFile) -> NDArray[np.uint8]:
    batch = file.batch or request.batch
    return np.random.default_rng(0).integers(0, 256, (batch, *request.bundle.manifest.slot_shape), np.uint8)


def from_events(
    events: Sequence[Mapping[str, Any]], request: ProfileRequest, runner: str, precision: str, batch: int
) -> Profile:
    """Make a profile of ONNX Runtime's events, without those of the runs that warmed it up."""
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])[_WARM_UP:]
    begins = runs[0]["ts"] if runs else 0
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= begins
    ]
    nodes = _nodes(kernels, runs)
    by_name = {node.name: node for node in nodes}
    spans = [Span("run", (run["ts"] - begins) / 1e6, run["dur"] / 1e6, "run") for run in runs]
    for event in kernels:
        name = event["name"].removesuffix(_KERNEL)
        spans.append(Span(name, (event["ts"] - begins) / 1e6, event["dur"] / 1e6, "node", by_name[name]))
    return Profile(
        title=_title(request, precision),
        runner=runner,
        precision=precision,
        batch=batch,
        threads=request.threads,
        runs=len(runs),
        run_s=statistics.median(run["dur"] for run in runs) / 1e6 if runs else 0.0,
        nodes=nodes,
        # Of two that begin together the longer one holds the other.
        spans=tuple(sorted(spans, key=lambda span: (span.start_s, -span.seconds))),
    )


def _title(request: ProfileRequest, precision: str) -> str:
    return f"{request.bundle.name} {request.bundle.version} {precision}"


def _nodes(kernels: Iterable[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> tuple[NodeCost, ...]:
    """Take each node's median over the runs; of one that runs several times within a run, as in a loop, the mean."""
    durations: dict[str, list[float]] = {}
    latest: dict[str, Mapping[str, Any]] = {}
    for event in kernels:
        name = event["name"].removesuffix(_KERNEL)
        durations.setdefault(name, []).append(event["dur"] / 1e6)
        latest[name] = event["args"]
    count = max(1, len(runs))
    nodes = []
    for name, each in durations.items():
        once = len(each) <= count
        seconds = statistics.median(each) if once else sum(each) / count
        about = latest[name]
        nodes.append(
            NodeCost(
                name,
                about.get("op_name", "?"),
                seconds,
                about.get("provider", ""),
                _shapes(about.get("input_type_shape", ())),
                _shapes(about.get("output_type_shape", ())),
                int(about.get("parameter_size", 0)),
            )
        )
    return tuple(sorted(nodes, key=lambda node: -node.seconds))


def _shapes(values: Iterable[Mapping[str, Sequence[int]]]) -> tuple[str, ...]:
    return tuple(f"{kind} {list(shape)}" for value in values for kind, shape in value.items())


def profile_openvino(request: ProfileRequest) -> Measured:
    """Profile with OpenVINO's counters: how long each node took in each run, but not when.

    Raises:
        BundleError: The bundle has no such file.
        LoadError: It cannot be loaded so.
        RunError: It cannot be run with this batch.
        MissingRuntimeError: OpenVINO is not installed.
    """
    try:
        import openvino as ov  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise MissingRuntimeError(f"OpenVINO is not installed ({error}): pip install 'vedette[openvino]'") from error
    file = request.bundle.file_for(Backend.ONNXRUNTIME, request.precision)
    properties = {
        "PERF_COUNT": "YES", "INFERENCE_NUM_THREADS": str(request.threads), "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    frames = _frames(request, file)
    try:
        with own_signal_stack():
            compiled = ov.Core().compile_model(str(request.bundle.path_of(file)), "CPU", properties)
    except Exception as error:  # what OpenVINO raises has no common root but this
        raise LoadError(f"{request.bundle.name}: OpenVINO refuses {file.path}: {error}") from error
    runs: list[tuple[float, list[Any]]] = []
    try:
        asked = compiled.create_infer_request()
        for _ in range(_WARM_UP + request.runs):
            began = time.perf_counter()
            asked.infer({INPUT_NAME: frames}, share_inputs=True, share_outputs=True)
            runs.append((time.perf_counter() - began, list(asked.profiling_info)))
    except Exception as error:  # as above
        raise RunError(f"{request.bundle.name}: OpenVINO failed on a batch of {len(frames)}: {error}") from error
    return Measured(_from_counters(runs[_WARM_UP:], request, str(file.precision), len(frames)), {})


def _from_counters(
    runs: Sequence[tuple[float, Sequence[Any]]], request: ProfileRequest, precision: str, batch: int
) -> Profile:
    """Make a profile of counters; in the trace the nodes of a run stand one behind the other."""
    durations: dict[str, list[float]] = {}
    about: dict[str, Any] = {}
    for _, counters in runs:
        for counter in counters:
            if counter.real_time.total_seconds() > 0:
                durations.setdefault(counter.node_name, []).append(counter.real_time.total_seconds())
                about[counter.node_name] = counter
    nodes = {
        name: NodeCost(name, about[name].node_type, statistics.median(each), about[name].exec_type)
        for name, each in durations.items()
    }
    spans, now = [], 0.0
    for took, counters in runs:
        spans.append(Span("run", now, took, "run"))
        at = now
        for counter in counters:
            seconds = counter.real_time.total_seconds()
            if seconds > 0:
                spans.append(Span(counter.node_name, at, seconds, "node", nodes[counter.node_name]))
                at += seconds
        now = max(now + took, at)
    return Profile(
        title=_title(request, precision),
        runner="OpenVINO CPU",
        precision=precision,
        batch=batch,
        threads=request.threads,
        runs=len(runs),
        run_s=statistics.median(took for took, _ in runs),
        nodes=tuple(sorted(nodes.values(), key=lambda node: -node.seconds)),
        spans=tuple(spans),
    )
