"""Build a TensorRT plan of an engine's ONNX file.

TensorRT runs in a thread of its own and the caller waits, so that Ctrl-C is heard at once: the build then ends at its
next step, and nothing of it is kept. Whether a build went well is told by what it returns and never by what it logs:
without a driver each call logs errors, also when all goes well.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import BuildError, ImportInputError, ImportRefusedError
from vedette_engines.manifest import PlanInfo
from vedette_engines.plans.environment import Environment, find_environment
from vedette_engines.plans.explaining import builder_refusals, parser_refusals
from vedette_engines.plans.inspecting import inspect_layers
from vedette_engines.plans.logging import make_logger
from vedette_engines.plans.plan import Plan
from vedette_engines.plans.progress import Cancel, make_monitor
from vedette_engines.plans.request import check_profiles, plan_key, uncovered
from vedette_engines.plans.settling import Settled, settle
from vedette_engines.plans.timing import TimingCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    from vedette_engines.plans.explaining import Refusal
    from vedette_engines.plans.module import TensorRT
    from vedette_engines.plans.progress import Progress
    from vedette_engines.plans.request import PlanRequest

_POLL_S = 0.1
_MOST_GAPS = 8


class PlanRefusedError(ImportRefusedError):
    """TensorRT does not take the model; the message has a line for each reason.

    Attributes:
        refusals: The reasons.
    """

    def __init__(self, message: str, refusals: tuple[Refusal, ...]) -> None:
        super().__init__(message)
        self.refusals = refusals


@dataclass(slots=True)
class _Work:
    """What the builder's thread is given, and what it leaves."""

    request: PlanRequest
    tensorrt: TensorRT
    settled: Settled
    content: bytes
    model: ModelProto
    tell: Callable[[Progress], None] | None
    cancel: Cancel = field(default_factory=Cancel)
    notes: list[str] = field(default_factory=list)
    plan: bytes = b""
    layers: str | None = None
    error: BaseException | None = None


def build_plan(
    request: PlanRequest,
    tensorrt: TensorRT,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] | None = None,
    environment: Environment | None = None,
) -> Plan:
    """Build a plan.

    Args:
        request: What to build.
        tensorrt: With what; see `find_tensorrt`.
        say: Takes one line for each thing that was found; called by the caller's thread.
        progress: Takes each step, from threads of TensorRT's own, one at a time.
        environment: What is here; None: it is looked at.

    Raises:
        ImportInputError: The request is impossible, or cannot be built with this TensorRT on this machine.
        PlanRefusedError: TensorRT does not take the model.
        BuildError: The timing cache cannot be read or written, or TensorRT's builder does not start.
        KeyboardInterrupt: It was interrupted; nothing is kept.
    """
    started = time.monotonic()
    environment = environment or find_environment(modules=False)
    content, model = _read(request)
    check_profiles(request.profiles, _batch_of(model))
    work = _Work(request, tensorrt, settle(request, tensorrt, environment), content, model, progress)
    info = _describe(work, environment)
    gaps = uncovered(request.profiles)
    if gaps and _batch_of(model) is None:
        shown = ", ".join(map(str, gaps[:_MOST_GAPS])) + (", ..." if len(gaps) > _MOST_GAPS else "")
        work.notes.append(f"no profile takes a batch of {shown}: such batches run padded to the next that one takes")
    _run(work)
    if work.error is not None:
        raise work.error
    seconds = round(time.monotonic() - started, 3)
    for note in work.notes:
        say(note)
    return Plan(work.plan, info, seconds, work.layers, tuple(work.notes))


def _read(request: PlanRequest) -> tuple[bytes, ModelProto]:
    try:
        content = request.onnx.read_bytes()
    except OSError as error:
        raise ImportInputError(f"{request.onnx}: cannot be read: {error}") from error
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ImportInputError(f"{request.onnx} is not an ONNX model: {error}") from error
    if not model.graph.node:
        raise ImportInputError(f"{request.onnx} is not an ONNX model: it has no nodes")
    return content, model


def _batch_of(model: ModelProto) -> int | None:
    """Tell the only batch that the model takes; None: any."""
    for value in model.graph.input:
        if value.name == INPUT_NAME and value.type.tensor_type.shape.dim:
            first = value.type.tensor_type.shape.dim[0]
            return int(first.dim_value) if first.HasField("dim_value") else None
    names = ", ".join(value.name for value in model.graph.input)
    raise ImportInputError(f"the inputs are {names or 'none'}; wanted is an engine, whose input is {INPUT_NAME}")


def _describe(work: _Work, environment: Environment) -> PlanInfo:
    gpu = environment.gpu()
    return PlanInfo(
        module=work.tensorrt.name,
        version=work.tensorrt.version,
        targets=work.settled.targets,
        platform=environment.platform,
        profiles=tuple((profile.smallest, profile.best, profile.largest) for profile in work.request.profiles),
        gpu=gpu.name if gpu is not None else "",
        driver=environment.driver,
        version_compatible=work.request.version_compatible,
        key=plan_key(work.request, work.tensorrt, environment),
    )


def _run(work: _Work) -> None:
    """Build in another thread, and pass an interrupt on to it."""
    # Waited for instead of the thread: an interrupted `join` takes a running thread for an ended one (bpo-45274).
    over = threading.Event()
    threading.Thread(target=_guarded, args=(work, over), name="tensorrt-builder", daemon=True).start()
    try:
        while not over.wait(_POLL_S):
            pass
    except BaseException:
        work.cancel.set()
        over.wait()
        raise


def _guarded(work: _Work, over: threading.Event) -> None:
    try:
        _build(work)
    except BaseException as error:  # noqa: BLE001  (the caller's thread raises it)
        # Without its frames, which would keep TensorRT's objects alive for as long as somebody looks at the error.
        work.error = error.with_traceback(None)
    finally:
        over.set()


def _build(work: _Work) -> None:
    trt, errors = work.tensorrt.module, list[str]()
    logger = make_logger(trt, errors, work.notes)
    builder = _started(lambda: trt.Builder(logger), work, errors)
    # Needed on 10, ignored on 11 and RTX, where networks are strongly typed anyway.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(work.content):
        raise _refused(work, parser_refusals(parser, work.model))
    config = _configure(work, builder, network)
    timing = TimingCache(work.request.timing_cache) if work.request.timing_cache is not None else None
    if timing is not None:
        timing.attach(config, work.tensorrt)
    monitor = make_monitor(trt, work.tell, work.cancel)
    config.progress_monitor = monitor
    del errors[:]
    built = builder.build_serialized_network(network, config)
    if built is None:
        if work.cancel.is_set():
            return
        raise _refused(work, builder_refusals(errors, work.model))
    work.plan = bytes(built)
    if timing is not None:
        timing.save(config)
        work.notes += timing.notes
    if not work.cancel.is_set():
        work.layers = inspect_layers(trt, logger, work.plan)


def _started(make: Callable[[], Any], work: _Work, errors: list[str]) -> Any:
    try:
        builder = make()
    except Exception as error:  # what the bindings raise has no common root but this
        raise BuildError(f"{work.tensorrt} does not start: {error}; {'; '.join(errors)}") from error
    if builder is None:
        raise BuildError(f"{work.tensorrt} does not start: {'; '.join(errors) or 'it says nothing'}")
    return builder


def _configure(work: _Work, builder: Any, network: Any) -> Any:
    trt, request, settled = work.tensorrt.module, work.request, work.settled
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    verbosity = trt.ProfilingVerbosity
    config.profiling_verbosity = verbosity.DETAILED if request.detailed else verbosity.LAYER_NAMES_ONLY
    # TensorRT's own default is on.
    config.clear_flag(trt.BuilderFlag.TF32)
    for flag in settled.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if settled.hardware_level:
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, settled.hardware_level)
    if settled.capabilities:
        config.num_compute_capabilities = len(settled.capabilities)
        for index, name in enumerate(settled.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    _add_profiles(work, builder, network, config)
    return config


def _add_profiles(work: _Work, builder: Any, network: Any, config: Any) -> None:
    tensor = network.get_input(0)
    shape = tuple(tensor.shape)
    if shape[0] != -1:
        return
    for wanted in work.request.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(
            tensor.name, *((batch, *shape[1:]) for batch in (wanted.smallest, wanted.best, wanted.largest))
        )
        if config.add_optimization_profile(profile) < 0:
            raise ImportInputError(f"{work.tensorrt} refuses the profile {wanted} for {tensor.name} {shape}")


def _refused(work: _Work, refusals: tuple[Refusal, ...]) -> PlanRefusedError:
    reasons = [str(refusal) for refusal in refusals] or ["it says nothing"]
    gap = " " if len(reasons) == 1 else "\n  "
    return PlanRefusedError(f"{work.tensorrt} refuses {work.request.onnx.name}:{gap}{gap.join(reasons)}", refusals)
