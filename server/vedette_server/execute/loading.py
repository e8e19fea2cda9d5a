"""Load one version of an engine, warmed up, without being in the way of those that run.

A load beside running channels happens on a thread of its own with a low priority for the processor. That thread
holds no lock, and what takes long in it (hashing, building a session, running) does not hold the interpreter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vedette_engines.errors import EnginesError, LoadError
from vedette_engines.manifest import Backend, Precision
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.tuning import TIE, Tuning, measure_best
from vedette_server.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.bundle import Bundle
    from vedette_engines.runners.base import LoadedEngine
    from vedette_server.execute.client import LoadedInference
    from vedette_server.settings import EngineSettings

R = TypeVar("R")

BATCHES_TO_TRY = (1, 2, 4, 8)
# A quarter of the weight of a worker: the load goes on on a busy machine, and workers hardly feel it.
NICENESS = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that is in memory.

    Attributes:
        engine: The runtime's part of it.
        lanes: Runs side by side.
        max_batch: Most frames of a batch.
    """

    engine: LoadedEngine
    lanes: int
    max_batch: int


def open_tuned(
    bundle: Bundle,
    settings: EngineSettings,
    like: LoadedInference | None,
    engine: LoadedEngine,
    again: Callable[[], LoadedEngine],
) -> Opened:
    """Settle lanes and batch of a version on the CPU: those of one that runs where it is alike, else measured.

    Args:
        bundle: The version.
        settings: How it is to run.
        like: Another version that runs already.
        engine: It, just opened; closed when another is returned, or none.
        again: Opens it once more.

    Raises:
        EngineError: It cannot be loaded here.
    """
    what = f"engine {bundle.name} {bundle.version}"
    if like is not None and _is_alike(engine, like):
        return Opened(engine, like.lanes, min(like.max_batch, engine.max_batch or like.max_batch))
    try:
        with engine:
            tuning = _tune(engine, settings)
        # A fresh one: the trial's memory has grown to the largest batch that was tried.
        return Opened(again(), tuning.lanes, tuning.max_batch)
    except LoadError as error:
        raise EngineError(f"{what} cannot be loaded: {error}") from error
    except EnginesError as error:
        raise EngineError(f"{what} does not run: {error}") from error


def tune_on_device(engine: LoadedEngine, settings: EngineSettings, like: LoadedInference | None) -> int | None:
    """Settle the largest batch of a version on a GPU; None: the largest that it can run.

    That is best unless a smaller one was measured to be clearly better: the more frames of a batch, the fewer batches
    Python has to launch. Lanes are the executor's own choice: they overlap copies, which one lane alone cannot show.

    Args:
        engine: The version, which is on a device.
        settings: How it is to run.
        like: Another version that runs already; where they are alike its batch is taken over.

    Raises:
        EnginesError: It does not run.
    """
    on_device = engine.on_device
    if settings.max_batch != "auto" or on_device is None:
        return None if settings.max_batch == "auto" else settings.max_batch
    if like is not None and _is_alike(engine, like):
        return min(like.max_batch, on_device.max_batch)
    smaller = [size for size in on_device.sizes if size < on_device.max_batch]
    if not (settings.tune_budget_s and smaller):
        return None
    largest = measure_best(engine, [1], [on_device.max_batch], settings.tune_budget_s / len(smaller))
    best = measure_best(engine, [1], smaller, settings.tune_budget_s)
    if best.seconds_per_frame < largest.seconds_per_frame * (1.0 - TIE):
        return best.max_batch
    return on_device.max_batch


def runner_settings(settings: EngineSettings) -> RunnerSettings:
    """Say to a runtime what the settings say."""
    return RunnerSettings(
        providers=settings.providers,
        backends=() if settings.backend == "auto" else (Backend(settings.backend),),
        precision=None if settings.precision == "auto" else Precision(settings.precision),
        fallback=settings.fallback,
        allow_fallback=settings.fallback,
        intra_op_threads=1 if settings.intra_op_threads == "auto" else settings.intra_op_threads,
        max_batch=None if settings.max_batch == "auto" else settings.max_batch,
        batch_mode=BatchMode.EXACT if settings.batch_mode == "auto" else BatchMode(settings.batch_mode),
        memory_limit_bytes=settings.memory_limit_bytes or None,
        arena_extend_strategy=settings.arena_extend_strategy,
        cudnn_conv_algo_search=settings.cudnn_conv_algo_search,
        runtime_cache=settings.kernel_cache_dir,
        session_per_lane=settings.session_per_lane,
        provider_options=settings.options_of_providers(),
    )


def beside(call: Callable[[], R], name: str) -> R:
    """Run a call on a thread of its own, with a low priority where the system has that for threads, and wait."""
    done: list[R] = []
    failed: list[BaseException] = []

    def work() -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                # To Linux a thread is a process of its own here.
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            failed.append(error)

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def memory_bytes() -> int:
    """Tell the resident memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123 - no path of ours
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def least_memory_bytes(bundle: Bundle, lanes: int = 1, max_batch: int = 1) -> int:
    """Estimate from below what a version takes: its largest file and its slots."""
    height, width, depth = bundle.manifest.slot_shape
    return max(file.size_bytes for file in bundle.manifest.files) + (lanes + 1) * max_batch * height * width * depth


def _is_alike(engine: LoadedEngine, like: LoadedInference) -> bool:
    """Whether what was measured for one version holds for another."""
    ours, theirs = engine.bundle.manifest, like.engine.bundle.manifest
    return (
        engine.backend == like.engine.backend
        and (engine.on_device is None) == (like.engine.on_device is None)
        and ours.input == theirs.input
        and engine.file.precision == like.engine.file.precision
    )


def _tune(engine: LoadedEngine, settings: EngineSettings) -> Tuning:
    """Fix lanes and batch by the settings, and measure what they leave open."""
    lanes, max_batch = settings.lanes, settings.max_batch
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lanes_to_try = sorted({1, cores}) if lanes == "auto" else [lanes]
    batches = BATCHES_TO_TRY if max_batch == "auto" else (max_batch,)
    most = engine.max_batch
    batches_to_try = [batch for batch in batches if most is None or batch <= most] or [1]
    return measure_best(engine, lanes_to_try, batches_to_try, settings.tune_budget_s)


def timed(call: Callable[[], R]) -> tuple[R, float, int]:
    """Run a call; return what it gave, the seconds it took, and by how much the process has grown."""
    before, began = memory_bytes(), time.monotonic()
    given = call()
    return given, time.monotonic() - began, max(memory_bytes() - before, 0)
