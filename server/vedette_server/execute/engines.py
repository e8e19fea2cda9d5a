"""Load engines when they are first asked for, and keep them for all channels.

`get` blocks while an engine loads, warms up and is measured: the event loop calls it on a thread. Two
channels that ask for the same engine at once wait for the same load.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Protocol

from vedette_engines.cli_roots import user_roots
from vedette_engines.errors import BundleError, EngineNotFoundError, EnginesError, LoadError
from vedette_engines.manifest import Task
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.opening import open_engine
from vedette_engines.runners.tuning import Tuning, measure_best
from vedette_server.errors import EngineError, NotFoundError, SettingsError
from vedette_server.execute.local import LocalInference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vedette_engines.bundle import Bundle
    from vedette_engines.runners.base import LoadedEngine
    from vedette_server.data.config import EngineRef
    from vedette_server.metrics import Metrics
    from vedette_server.settings import EngineSettings

_log = logging.getLogger(__name__)

BATCHES_TO_TRY = (1, 2, 4, 8)


class Pool(Protocol):
    """What engines need of the pipeline."""

    def add_source(self, source: LocalInference, lanes: int) -> None:
        """Run a source's jobs, up to ``lanes`` of them at once."""

    def slots_freed(self) -> None:
        """Say that an engine has free slots."""


class Engines:
    """The engines of this process.

    Args:
        settings: Where they are and how they run.
        metrics: Takes their figures.
        pool: Runs their batches.
        on_health: Called from workers when an engine's health changed.

    Raises:
        SettingsError: Nothing tells where the user's engines are.
    """

    def __init__(
        self,
        settings: EngineSettings,
        metrics: Metrics,
        pool: Pool,
        on_health: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool = pool
        self._on_health = on_health
        self._repository = EngineRepository([*_roots(settings), boxed_root()])
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, str], threading.Lock] = {}
        self._loaded: dict[tuple[str, str], LocalInference] = {}

    @property
    def loaded(self) -> tuple[LocalInference, ...]:
        """What is in memory now."""
        with self._lock:
            return tuple(self._loaded.values())

    @property
    def healthy(self) -> bool:
        """Whether no engine fails again and again, or hangs."""
        return all(inference.healthy for inference in self.loaded)

    def get(self, ref: EngineRef) -> LocalInference:
        """Return a running engine, loading it if need be. Blocks.

        Raises:
            NotFoundError: There is no such engine, or it is bad.
            EngineError: It cannot be loaded here.
        """
        try:
            bundle = self._repository.resolve(ref.name, ref.version)
        except EngineNotFoundError as error:
            raise NotFoundError("ENGINE_NOT_FOUND", str(error)) from error
        except BundleError as error:
            raise NotFoundError("ENGINE_REFUSED", str(error)) from error
        key = (bundle.manifest.name, bundle.manifest.version)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                found = self._loaded.get(key)
            if found is None:
                found = self._load(bundle)
                with self._lock:
                    self._loaded[key] = found
            return found

    def close(self) -> None:
        """Let go of all engines; may be called twice."""
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for inference in loaded.values():
            inference.close()

    def _load(self, bundle: Bundle) -> LocalInference:
        settings = self._settings
        runner = RunnerSettings(
            providers=settings.providers,
            intra_op_threads=1 if settings.intra_op_threads == "auto" else settings.intra_op_threads,
            max_batch=None if settings.max_batch == "auto" else settings.max_batch,
            memory_limit_bytes=settings.memory_limit_bytes or None,
            arena_extend_strategy=settings.arena_extend_strategy,
            cudnn_conv_algo_search=settings.cudnn_conv_algo_search,
        )
        try:
            with open_engine(bundle, runner) as trial:
                tuning = self._tune(trial)
            # A fresh one: the trial's memory has grown to the largest batch that was tried.
            engine = open_engine(bundle, runner)
        except LoadError as error:
            raise EngineError(f"engine {bundle.manifest.name} cannot be loaded: {error}") from error
        except EnginesError as error:
            raise EngineError(f"engine {bundle.manifest.name} does not run: {error}") from error
        _log.info(
            "engine loaded: %s %s on %s, %d lanes, batches up to %d",
            bundle.manifest.name,
            bundle.manifest.version,
            engine.backend,
            tuning.lanes,
            tuning.max_batch,
        )
        inference = LocalInference(
            engine,
            lanes=tuning.lanes,
            max_batch=tuning.max_batch,
            max_wait_s=settings.max_wait_s,
            on_slot_free=self._pool.slots_freed,
            on_health=self._on_health,
            metrics=self._metrics.engine(bundle.manifest.name, bundle.manifest.version),
        )
        self._pool.add_source(inference, tuning.lanes)
        return inference

    def _tune(self, engine: LoadedEngine) -> Tuning:
        """Fix lanes and batch by the settings, and measure what they leave open."""
        lanes, max_batch = self._settings.lanes, self._settings.max_batch
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        lanes_to_try = sorted({1, cores}) if lanes == "auto" else [lanes]
        batches = BATCHES_TO_TRY if max_batch == "auto" else (max_batch,)
        most = engine.max_batch
        batches_to_try = [batch for batch in batches if most is None or batch <= most] or [1]
        return measure_best(engine, lanes_to_try, batches_to_try, self._settings.tune_budget_s)


def _roots(settings: EngineSettings) -> tuple[Path, ...]:
    """Tell where a user's engines are.

    Raises:
        SettingsError: Nothing tells where the home directory is.
    """
    try:
        return user_roots(settings.dirs)
    except RuntimeError as error:
        raise SettingsError(
            "engines.dirs is empty or begins with ~, and no home directory is known; "
            "allowed: directories (--engines-dir), or set HOME"
        ) from error


def is_detector(inference: LocalInference) -> bool:
    """Whether an engine gives detections."""
    return inference.label.task == Task.DETECTOR
