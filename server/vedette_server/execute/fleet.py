"""The versions of engines that are in memory: loaded once for all, within a budget, closed when nobody needs them.

Knows nothing of channels and routes: who needs a version is asked of its owner. Any thread may call it; one
lock guards the table and is not held while a version loads or closes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vedette_engines.errors import EnginesError
from vedette_server.errors import EngineError
from vedette_server.execute.hosting import Hooks, Host, parts_of
from vedette_server.execute.loading import beside, least_memory_bytes, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from vedette_engines.bundle import Bundle
    from vedette_server.conversion import Tap
    from vedette_server.execute.client import InferenceClient, LoadedInference
    from vedette_server.execute.opener import Opener
    from vedette_server.metrics import Metrics
    from vedette_server.settings import EngineSettings
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

Key = tuple[str, str]
# A version that a stream was just opened for is not closed before the stream had time to take it.
OPENING_S = 5.0
# At the end a load that is under way is waited for so long.
LAST_LOAD_S = 30.0


class Pool(Protocol):
    """What engines need of the pipeline."""

    def add_source(self, source: LoadedInference, lanes: int) -> None:
        """Run a source's jobs, up to ``lanes`` of them at once."""

    def remove_source(self, source: LoadedInference, lanes: int) -> None:
        """Run a source's jobs no more."""

    def slots_freed(self) -> None:
        """Say that an engine has free slots."""

    def jobs_ready(self) -> None:
        """Say that a source has jobs and free slots, from a thread that is not the pipeline's."""

    def show(self, taps: Mapping[InferenceClient, Sequence[Tap]]) -> None:
        """Show the frames of engines to those who only look."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits that a worker could do."""
        ...


@dataclass(slots=True, eq=False)
class Loaded:
    """One version in memory.

    Attributes:
        inference: What runs it.
        bundle: What was loaded.
        memory_bytes: What loading it took.
        load_s: How long that took.
        kept: Somebody asked for it to stay.
        asked_s: When it was last asked for, monotonic seconds.
        opened_s: When it was last given to a stream, monotonic seconds.
        released_s: Since when no route names it, monotonic seconds; None: one does, or none ever did.
        working: The pipeline runs its batches.
    """

    inference: LoadedInference
    bundle: Bundle
    memory_bytes: int
    load_s: float
    kept: bool = False
    asked_s: float = 0.0
    opened_s: float = -math.inf
    released_s: float | None = None
    working: bool = False

    @property
    def key(self) -> Key:
        """Name and version."""
        return self.bundle.name, self.bundle.version


class Fleet:
    """What is loaded.

    Args:
        settings: How engines run, and the budget of memory.
        metrics: Takes their figures.
        pool: Runs their batches.
        opener: Opens them; closed by whoever made it, after this.
        guard: Held by whoever gives a version to a channel, so that it is not closed at the same moment.
        on_health: Called from workers when an engine's health changed.
        needed: Tells by what a version is needed; empty: by nobody.
        bound: Tells which channels run a version.
        on_batch: Gives, by engine name, whom to tell when a batch left and when its results were there.
        on_stranded: Called when a GPU was lost and a version has no other: this process cannot go on.
        clock: Monotonic seconds.
        tracer: Records batches; None: nobody does.
    """

    def __init__(
        self,
        settings: EngineSettings,
        metrics: Metrics,
        pool: Pool,
        opener: Opener,
        *,
        guard: threading.RLock,
        on_health: Callable[[], None],
        needed: Callable[[Loaded], str],
        bound: Callable[[Loaded], Collection[str]],
        on_batch: Callable[[str], Callable[[float, float], None]],
        on_stranded: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool = pool
        self._guard = guard
        self._on_health = on_health
        self._needed = needed
        self._bound = bound
        self._on_batch = on_batch
        self._on_stranded = on_stranded
        self._host = Host(settings, opener, self._lose, tracer)
        opener.listen(self._lose)
        self._clock = clock
        self._lock = threading.Lock()
        self._engaging = threading.Lock()
        self._loads: dict[Key, threading.Lock] = {}
        self._loaded: dict[Key, Loaded] = {}
        self._measured: dict[Key, int] = {}
        self._closed = False
        # Where memory counts, one load at a time: two at once could not be told apart by it.
        self._one_load = threading.Lock()
        self.loading: set[Key] = set()
        self.failed: dict[Key, str] = {}

    @property
    def loaded(self) -> tuple[Loaded, ...]:
        """What is in memory now."""
        with self._lock:
            return tuple(self._loaded.values())

    def find(self, name: str, version: str) -> Loaded | None:
        """Return a version if it is in memory. Never blocks for long."""
        with self._lock:
            return self._loaded.get((name, version))

    def of(self, inference: object) -> Loaded | None:
        """Return the version that something runs, if it is in memory."""
        return next((loaded for loaded in self.loaded if loaded.inference is inference), None)

    def load(self, bundle: Bundle, like: LoadedInference | None = None, *, quietly: bool = False) -> Loaded:
        """Return a version, loading it if need be. Blocks.

        Args:
            bundle: The version.
            like: Another version, whose lanes and batch it takes over where they are alike.
            quietly: Load it behind the back of those that run.

        Raises:
            EngineError: It cannot be loaded here, or there is no memory for it.
        """
        key = (bundle.name, bundle.version)
        with self._lock:
            lock = self._loads.setdefault(key, threading.Lock())
        with lock:
            found = self.find(*key)
            if self._closed:
                raise EngineError(f"engine {bundle.name} {bundle.version} is not loaded: the server ends")
            if found is None:
                with self._one_load if self._settings.memory_budget_bytes else contextlib.nullcontext():
                    found = self._load(bundle, like, quietly=quietly)
            found.asked_s = self._clock()
            return found

    def engage(self, loaded: Loaded) -> None:
        """Have the pipeline run its batches, if it does not yet."""
        with self._engaging:
            if not loaded.working:
                loaded.working = True
                self._pool.add_source(loaded.inference, loaded.inference.workers)

    def disengage(self, loaded: Loaded) -> None:
        """Have the pipeline run its batches no more, if no channel runs it and nothing of it is on its way."""
        with self._guard, self._engaging:
            if loaded.working and loaded.inference.idle and not self._bound(loaded):
                loaded.working = False
                self._pool.remove_source(loaded.inference, loaded.inference.workers)

    def close_unneeded(self, loaded: Loaded) -> bool:
        """Let go of a version if nobody needs it; return whether it went."""
        with self._guard:
            if not self._is_unneeded(loaded):
                return False
            with self._lock:
                self._loaded.pop(loaded.key, None)
        self._close(loaded)
        return True

    def close(self, loaded: Loaded) -> None:
        """Let go of a version that nobody was given."""
        with self._lock:
            if self._loaded.get(loaded.key) is not loaded:
                return
            del self._loaded[loaded.key]
        self._close(loaded)

    def close_all(self) -> None:
        """Let go of everything; may be called twice. Nobody runs a batch any more."""
        with self._lock:
            self._closed = True
            loads = tuple(self._loads.values())
        for load in loads:
            # Who loads now finishes first: what it loads needs what is closed after this.
            if load.acquire(timeout=LAST_LOAD_S):
                load.release()
        with self._lock:
            loaded, self._loaded = tuple(self._loaded.values()), {}
        for one in loaded:
            one.inference.close()

    def _close(self, loaded: Loaded) -> None:
        self._pool.remove_source(loaded.inference, loaded.inference.workers)
        _log.info("engine closed: %s %s", *loaded.key)
        beside(loaded.inference.close, "engine-close")

    def _is_unneeded(self, loaded: Loaded) -> bool:
        opening = self._clock() - loaded.opened_s < OPENING_S
        return not (opening or loaded.kept or self._needed(loaded)) and loaded.inference.idle

    def _load(self, bundle: Bundle, like: LoadedInference | None, *, quietly: bool) -> Loaded:
        key = (bundle.name, bundle.version)
        self.loading.add(key)
        try:
            self._make_room(bundle)

            def work() -> tuple[LoadedInference, float, int]:
                return timed(lambda: self._open(bundle, like))

            inference, load_s, grown = beside(work, f"load-{bundle.name}") if quietly else work()
            least = least_memory_bytes(bundle, inference.lanes, inference.max_batch)
            loaded = Loaded(inference, bundle, max(grown, least), load_s)
            self._measured[key] = loaded.memory_bytes
            self._check_budget(loaded)
        except EngineError as error:
            self.failed[key] = str(error)
            raise
        finally:
            self.loading.discard(key)
        self.failed.pop(key, None)
        with self._lock:
            self._loaded[key] = loaded
        self._metrics.engine(*key).loaded(load_s, loaded.memory_bytes)
        self._metrics.engine(*key).runs(inference.label.backend, inference.engine.fallback)
        _log.info(
            "engine loaded: %s %s on %s, %d lanes, batches up to %d%s",
            *key,
            inference.label.backend,
            inference.lanes,
            inference.max_batch,
            f"; passed over: {inference.engine.fallback}" if inference.engine.fallback else "",
        )
        return loaded

    def _open(self, bundle: Bundle, like: LoadedInference | None) -> LoadedInference:
        hooks = Hooks(
            on_slot_free=self._pool.slots_freed,
            on_ready=self._pool.jobs_ready,
            on_health=self._on_health,
            on_batch=self._on_batch(bundle.name),
            metrics=self._metrics.engine(bundle.name, bundle.version),
        )
        inference = self._host.host(bundle, like, hooks)
        try:
            inference.warm_up()
        except EnginesError as error:
            inference.close()
            raise EngineError(f"engine {bundle.name} {bundle.version} does not run: {error}") from error
        for part in parts_of(inference):
            self._metrics.watch_gpu(part.device, part.overlap)
        return inference

    def _lose(self, gpu: int, reason: str) -> None:
        """Go on without a GPU, or say that it cannot be: called from the GPU's executor, or by whoever loads."""
        _log.error("GPU %d is lost: %s", gpu, reason)
        self._host.lose(gpu)
        self._metrics.gpu_lost(gpu)
        stranded = []
        for loaded in self.loaded:
            parts = parts_of(loaded.inference)
            for part in parts:
                if part.device == gpu:
                    part.lose(f"GPU {gpu} is lost: {reason}")
            if parts and all(part.lost for part in parts):
                stranded.append(loaded.bundle.name)
        if stranded or not self._host.has_gpus:
            what = f"nothing is left that runs {', '.join(stranded)}" if stranded else "no other is left"
            self._on_stranded(f"GPU {gpu} is lost ({reason}), and {what}")

    # -- the budget -----------------------------------------------------------------------------

    def _make_room(self, bundle: Bundle) -> None:
        """Close idle versions until one more fits into the budget, as far as can be told beforehand."""
        budget = self._settings.memory_budget_bytes
        wanted = self._measured.get((bundle.name, bundle.version), least_memory_bytes(bundle))
        if budget and not self._free(budget - wanted):
            raise EngineError(self._no_room(bundle, wanted))

    def _check_budget(self, loaded: Loaded) -> None:
        """Close idle versions, or the new one again, when it has turned out to be larger than was thought."""
        budget = self._settings.memory_budget_bytes
        if budget and not self._free(budget - loaded.memory_bytes):
            message = self._no_room(loaded.bundle, loaded.memory_bytes)
            loaded.inference.close()
            raise EngineError(message)

    def _free(self, allowed_bytes: int) -> bool:
        """Close versions that nobody needs, the one asked for longest ago first, until the rest fits."""
        for loaded in sorted(self.loaded, key=lambda one: one.asked_s):
            if self._in_use() <= allowed_bytes:
                return True
            self.close_unneeded(loaded)
        return self._in_use() <= allowed_bytes

    def _in_use(self) -> int:
        return sum(loaded.memory_bytes for loaded in self.loaded)

    def _no_room(self, bundle: Bundle, wanted: int) -> str:
        budget, used = self._settings.memory_budget_bytes, self._in_use()
        have = ", ".join(f"{one.bundle.name} {one.bundle.version} ({one.memory_bytes})" for one in self.loaded)
        return (
            f"engine {bundle.name} {bundle.version} takes {wanted} bytes, and engines.memory_budget_bytes is {budget}: "
            f"{used + wanted - budget} too many; loaded and needed: {have or 'nothing'}"
        )
