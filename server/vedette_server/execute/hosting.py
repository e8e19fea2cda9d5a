"""Make of a version what runs its frames: on the CPU in lanes, or on each GPU behind its executor.

Called by whoever loads a version, on any thread; opens what it needs and closes it again when something fails.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import EnginesError, LoadError
from vedette_engines.runners.base import BatchMode
from vedette_server.errors import EngineError
from vedette_server.execute.device import DeviceInference, DeviceSettings
from vedette_server.execute.loading import open_tuned, runner_settings, tune_on_device
from vedette_server.execute.local import LocalInference
from vedette_server.execute.spread import SpreadInference

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.bundle import Bundle
    from vedette_engines.runners.base import LoadedEngine, RunnerSettings
    from vedette_server.execute.client import LoadedInference
    from vedette_server.execute.opener import Opener
    from vedette_server.metrics import EngineMetrics
    from vedette_server.settings import EngineSettings
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom a version tells what.

    Attributes:
        on_slot_free: Slots became free; called by workers.
        on_ready: There are jobs and free slots; called by others than workers.
        on_health: Failures changed its health.
        on_batch: A batch left and its results were there.
        metrics: Takes its figures.
    """

    on_slot_free: Callable[[], None]
    on_ready: Callable[[], None]
    on_health: Callable[[], None]
    on_batch: Callable[[float, float], None]
    metrics: EngineMetrics


class Host:
    """Makes versions run.

    Args:
        settings: How engines run.
        opener: Opens them.
        on_lost: Is told when a GPU turns out to be lost while a version is loaded onto it, with the reason.
        tracer: Records batches; None: nobody does.
    """

    def __init__(
        self,
        settings: EngineSettings,
        opener: Opener,
        on_lost: Callable[[int, str], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._opener = opener
        self._on_lost = on_lost
        self._tracer = tracer
        self._lost: set[int] = set()

    def lose(self, gpu: int) -> None:
        """Put no more versions onto a GPU that is lost."""
        self._lost.add(gpu)

    @property
    def has_gpus(self) -> bool:
        """Whether a GPU is left, where there was one."""
        return bool({*self._there()} - self._lost)

    def host(self, bundle: Bundle, like: LoadedInference | None, hooks: Hooks) -> LoadedInference:
        """Load a version wherever it is to run, not yet warmed up.

        Args:
            bundle: The version.
            like: Another version that runs, whose lanes and batch it takes over where they are alike.
            hooks: Whom it tells what.

        Raises:
            EngineError: It cannot be loaded here.
        """
        gpus = self._gpus()
        while len(gpus) > 1 and not self._settings.devices:
            try:
                return self._host(bundle, gpus, like, hooks)
            except EngineError as error:
                # Nobody asked for this GPU: perhaps another one has room.
                _log.warning("GPU %d: %s", gpus[0], error)
                gpus = gpus[1:]
        return self._host(bundle, gpus, like, hooks)

    def _host(
        self, bundle: Bundle, gpus: tuple[int, ...], like: LoadedInference | None, hooks: Hooks
    ) -> LoadedInference:
        what = f"engine {bundle.name} {bundle.version}"
        runner = replace(runner_settings(self._settings), device_id=gpus[0])
        try:
            first = self._open(bundle, runner)
        except EnginesError as error:
            raise EngineError(f"{what} cannot be loaded: {error}") from error
        if first.on_device is None:
            return self._in_lanes(bundle, first, runner, like, hooks)
        with ExitStack() as stack:
            stack.callback(first.close)
            try:
                parts = self._on_gpus(bundle, first, runner, gpus, like, hooks, stack)
            except EnginesError as error:
                raise EngineError(f"{what} cannot be loaded: {error}") from error
            stack.pop_all()
        return parts[0] if len(parts) == 1 else SpreadInference(parts, hooks.metrics, hooks.on_slot_free)

    def _gpus(self) -> tuple[int, ...]:
        """Tell which GPUs to use; where none is known of the first is asked for, by those that want one."""
        left = tuple(gpu for gpu in self._there() if gpu not in self._lost)
        if not left:
            raise EngineError(f"no GPU is left: {', '.join(map(str, sorted(self._lost)))} are lost")
        return left

    def _there(self) -> tuple[int, ...]:
        return self._settings.devices or self._opener.gpus or (0,)

    def _open(self, bundle: Bundle, runner: RunnerSettings) -> LoadedEngine:
        try:
            return self._opener.open(bundle, runner)
        except CudaError as error:
            if error.sticky:
                self._on_lost(runner.device_id, str(error))
            raise

    def _in_lanes(
        self, bundle: Bundle, engine: LoadedEngine, runner: RunnerSettings, like: LoadedInference | None, hooks: Hooks
    ) -> LocalInference:
        opened = open_tuned(bundle, self._settings, like, engine, lambda: self._open(bundle, runner))
        return LocalInference(
            opened.engine,
            lanes=opened.lanes,
            max_batch=opened.max_batch,
            max_wait_s=self._settings.max_wait_s,
            on_slot_free=hooks.on_slot_free,
            on_health=hooks.on_health,
            metrics=hooks.metrics,
            on_batch=hooks.on_batch,
            tracer=self._tracer,
        )

    def _on_gpus(
        self,
        bundle: Bundle,
        first: LoadedEngine,
        runner: RunnerSettings,
        gpus: tuple[int, ...],
        like: LoadedInference | None,
        hooks: Hooks,
        stack: ExitStack,
    ) -> list[DeviceInference]:
        settings = self._device_settings(first, like)
        parts = [self._part(first, gpus[0], settings, hooks, stack)]
        for gpu in gpus[1:]:
            try:
                # Without this GPU the others go on: nothing of the attempt may stay there.
                with ExitStack() as attempt:
                    engine = self._open(bundle, replace(runner, device_id=gpu))
                    attempt.callback(engine.close)
                    if engine.on_device is None:
                        raise LoadError(f"{engine.backend} is what would run it there")
                    parts.append(self._part(engine, gpu, settings, hooks, attempt))
                    stack.callback(attempt.pop_all().close)
            except EnginesError as error:
                if self._settings.devices:
                    raise LoadError(f"GPU {gpu}: {error}") from error
                _log.warning("engine %s %s does not run on GPU %d: %s", bundle.name, bundle.version, gpu, error)
        return parts

    def _part(
        self, engine: LoadedEngine, gpu: int, settings: DeviceSettings, hooks: Hooks, stack: ExitStack
    ) -> DeviceInference:
        part = DeviceInference(
            engine,
            self._opener.executor(gpu),
            settings,
            on_slot_free=hooks.on_slot_free,
            on_health=hooks.on_health,
            on_ready=hooks.on_ready,
            metrics=hooks.metrics,
            on_batch=hooks.on_batch,
            tracer=self._tracer,
        )
        stack.callback(part.close)
        return part

    def _device_settings(self, engine: LoadedEngine, like: LoadedInference | None) -> DeviceSettings:
        # Loaded only where there is a GPU.
        from vedette_engines.gpu.executor import LaneSettings  # noqa: PLC0415

        settings = self._settings
        lanes = LaneSettings(
            lanes=None if settings.lanes == "auto" else settings.lanes,
            max_batch=tune_on_device(engine, settings, like),
            mode=BatchMode.BUCKET if settings.batch_mode == "auto" else BatchMode(settings.batch_mode),
            graphs=settings.graphs,
            letterbox=settings.preprocess == "device",
            pad=engine.bundle.manifest.input.pad,
        )
        return DeviceSettings(
            lanes=lanes,
            weight=settings.weight_of(engine.bundle.name),
            max_wait_s=settings.max_wait_s,
            slots=None if settings.slots == "auto" else settings.slots,
            pinned_bytes=settings.pinned_memory_bytes,
            preprocess=settings.preprocess == "device",
        )


def parts_of(inference: LoadedInference) -> tuple[DeviceInference, ...]:
    """Tell what a version is on each of its GPUs; nothing when it runs on the CPU."""
    if isinstance(inference, SpreadInference):
        return inference.parts
    return (inference,) if isinstance(inference, DeviceInference) else ()
