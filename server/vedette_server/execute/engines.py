"""Which channel runs which version of which engine, and the versions that are loaded for it.

A version is loaded when it is first asked for (`prepare` blocks; the event loop calls it on a thread), and kept
for all channels. A channel that names no version gets what the engine's route says, and goes over to another
between two frames when the route changes.

Threads: any, except where said otherwise. One lock guards routes and channels. It is held while one channel is
bound anew, never while a version loads; whoever changes a route holds the `changing` of its line around it all.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_server.data.engine import Route
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import InvalidError, UnavailableError
from vedette_server.execute.catalogue import Catalogue, roots_of
from vedette_server.execute.fleet import Fleet
from vedette_server.execute.line import Line
from vedette_server.execute.opener import GpuOpener
from vedette_server.execute.placing import for_new, target
from vedette_server.execute.route_file import RouteFile
from vedette_server.execute.routing import canaries, misfit, moved_to
from vedette_server.execute.trials import resume_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette_server.conversion import Tap
    from vedette_server.data.config import ChannelConfig, EngineRef
    from vedette_server.execute.client import InferenceClient, LoadedInference
    from vedette_server.execute.fleet import Loaded, Pool
    from vedette_server.execute.guest import Guest
    from vedette_server.execute.opener import Opener
    from vedette_server.metrics import Metrics
    from vedette_server.settings import EngineSettings
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)

STATE_FILE = ".routes.json"


class Engines:
    """The engines of this process.

    Args:
        settings: Where they are and how they run.
        metrics: Takes their figures.
        pool: Runs their batches.
        on_health: Called from workers when an engine's health changed.
        clock: Monotonic seconds.
        opener: Opens engines and drives GPUs, and is closed after them; None: the one that serves.
        on_stranded: Called when GPUs are lost and this process cannot go on, with the reason; from any thread.
        tracer: Records batches; None: nobody does.

    Attributes:
        fleet: What is in memory.
        catalogue: What there is.
        metrics: Takes figures.
        stirred: Set when there is something to tidy up.

    Raises:
        SettingsError: Nothing tells where the user's engines are.
    """

    def __init__(
        self,
        settings: EngineSettings,
        metrics: Metrics,
        pool: Pool,
        on_health: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        opener: Opener | None = None,
        on_stranded: Callable[[str], None] = lambda _reason: None,
        tracer: Tracer | None = None,
    ) -> None:
        roots = roots_of(settings.dirs)
        self.metrics = metrics
        self.catalogue = Catalogue(roots)
        self.stirred = threading.Event()
        self.clock = clock
        self._pool = pool
        # Reentrant: closing a version asks who needs it.
        self._lock = threading.RLock()
        self._guests: dict[Guest, None] = {}
        self._lines: dict[str, Line] = {}
        self._file = RouteFile(settings.state_file or (roots[0] / STATE_FILE if roots else None))
        self._saving = threading.Lock()
        self._opener = opener or GpuOpener(settings.cuda_library)
        self.fleet = Fleet(
            settings,
            metrics,
            pool,
            self._opener,
            guard=self._lock,
            on_health=on_health,
            needed=self.needed,
            bound=self.channels,
            on_batch=lambda name: self._line(name).pulse.beat,
            on_stranded=on_stranded,
            clock=clock,
            tracer=tracer,
        )
        for name, (route, seen_s, withdrawn) in self._file.read().items():
            line = self._line(name)
            line.route = replace(route, persistent=True)
            line.roster.seen_s, line.withdrawn = dict(seen_s), withdrawn

    @property
    def healthy(self) -> bool:
        """Whether no engine that channels wait for fails again and again, or hangs."""
        sick = [loaded for loaded in self.fleet.loaded if loaded.working and not loaded.inference.healthy]
        return not any(self._is_waited_for(loaded) for loaded in sick)

    def is_idle(self) -> bool:
        """Whether the workers have nothing to do."""
        return self._pool.idle

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every engine that was ever asked for."""
        with self._lock:
            return tuple(self._lines.values())

    # -- streams --------------------------------------------------------------------------------

    def get(self, ref: EngineRef) -> LoadedInference:
        """Return the running version that a reference means, loading it if need be. Blocks.

        Raises:
            NotFoundError: There is no such engine, or it is bad.
            EngineError: It cannot be loaded here.
        """
        if ref.version:
            loaded = self.fleet.find(ref.name, ref.version) or self.fleet.load(
                self.catalogue.resolve(ref.name, ref.version)
            )
        else:
            loaded = self.open_route(self.line(ref.name))
        loaded.opened_s = self.clock()
        self.fleet.engage(loaded)
        return loaded.inference

    def prepare(self, refs: Iterable[EngineRef]) -> None:
        """Load whatever a channel with these engines may get. Blocks; raises as `get` does."""
        for ref in refs:
            self.get(ref)

    def choose(self, config: ChannelConfig) -> tuple[LoadedInference, ...]:
        """Choose what a channel runs, of what `prepare` has loaded; for the event loop.

        Raises:
            UnavailableError: A version was let go of meanwhile.
        """
        chosen = []
        with self._lock:
            for ref in config.engines:
                found = self.fleet.find(ref.name, ref.version)
                loaded = found if ref.version else for_new(self.fleet, self._line(ref.name), config)
                if loaded is None:
                    raise UnavailableError("ENGINE_UNLOADED", f"engine {ref.name} was unloaded just now; try again")
                loaded.asked_s = loaded.opened_s = self.clock()
                chosen.append(loaded.inference)
        return tuple(chosen)

    def join(self, guest: Guest) -> None:
        """Take note of a session that holds its channel now; for the event loop."""
        with self._lock:
            if guest not in self._guests:
                self._guests[guest] = None
                for line in self._followed(guest):
                    line.roster.join(guest.config.channel)
                    self._choose_canaries(line)
            self._place(guest)
            lost = []
            for inference in guest.binding.inferences:
                loaded = self.fleet.of(inference)
                if loaded is None:
                    lost.append(inference.label.name)
                else:
                    # A shadow that somebody runs now is one no longer.
                    self.fleet.engage(loaded)
        if lost:
            # It was away for so long that what it ran was closed, or it was unloaded before it began.
            error = UnavailableError("ENGINE_UNLOADED", f"engine {lost[0]} was unloaded meanwhile; open a new stream")
            guest.end("ENGINE_UNLOADED", SkipReason.SESSION_LOST, error)

    def leave(self, guest: Guest) -> None:
        """Take note that a session is over; for the event loop."""
        with self._lock:
            if guest not in self._guests:
                return
            del self._guests[guest]
            for line in self._followed(guest):
                line.roster.leave(guest.config.channel, time.time())
                line.held.pop(guest.config.channel, None)

    def close(self) -> None:
        """Let go of all engines; may be called twice."""
        for line in self.lines:
            for sampler in tuple(line.samplers):
                sampler.close()
            if line.shadow is not None:
                line.shadow.close()
        self.save()
        self.fleet.close_all()
        self._opener.close()

    # -- routes ---------------------------------------------------------------------------------

    def line(self, name: str) -> Line:
        """Return an engine.

        Raises:
            NotFoundError: There is none of that name.
        """
        with self._lock:
            known = self._lines.get(name)
        if known is None:
            self.catalogue.check(name)
        return known or self._line(name)

    def commit(self, line: Line, route: Route) -> Route:
        """Put a route into effect, whose versions are loaded: from now on frames are bound to it."""
        with self._lock:
            named = {line.route.stable, line.route.canary, line.route.shadow}
            line.route = route
            self._choose_canaries(line)
            for loaded in self.fleet.loaded:
                name, version = loaded.key
                if name == line.name and version in {route.stable, route.canary, route.shadow}:
                    loaded.released_s = None
                elif name == line.name and version in named:
                    loaded.released_s = self.clock()
        self.apply(line)
        self.show()
        self.save()
        return line.route

    def apply(self, line: Line) -> None:
        """Bind every channel of an engine to what the route means for it."""
        with self._lock:
            guests = tuple(self._guests)
        for guest in guests:
            # Let go of in between: streams may be opened meanwhile.
            with self._lock:
                if guest in self._guests and line in self._followed(guest):
                    self._place(guest)

    def misfits(self, line: Line, route: Route) -> dict[str, str]:
        """Tell which channels could not follow a route whose versions are loaded, and why."""
        found: dict[str, str] = {}
        with self._lock:
            chosen = canaries(line.name, line.roster.channels, route.canary_share) if route.canary else frozenset()
            for guest in self._guests:
                config, binding = guest.config, guest.binding
                wanted = route.canary if config.channel in chosen else route.stable
                loaded = self.fleet.find(line.name, wanted)
                for ref, runs in zip(config.engines, binding.inferences, strict=True):
                    if ref.name == line.name and not ref.version and loaded is not None:
                        why = misfit(config, runs.label, loaded.inference.label)
                        found |= {config.channel: why} if why else {}
        return found

    def withdrawn_here(self, name: str) -> frozenset[str]:
        """Tell which versions were withdrawn in this server only."""
        with self._lock:
            line = self._lines.get(name)
            return frozenset(line.withdrawn) if line is not None else frozenset()

    def needed(self, loaded: Loaded) -> str:
        """Tell what needs a version; empty: nothing."""
        name, version = loaded.key
        with self._lock:
            channels = self.channels(loaded)
            if channels:
                return f"{len(channels)} channels run it, {channels[0]} first"
            route = self._line(name).route
            roles = (("canary", route.canary), ("shadow", route.shadow))
            return next((f"it is the {role} of the route" for role, named in roles if named == version), "")

    def channels(self, loaded: Loaded) -> list[str]:
        """Tell the channels whose frames are bound to a version now."""
        with self._lock:
            return [guest.config.channel for guest in self._guests if loaded.inference in guest.binding.inferences]

    def tidy(self) -> None:
        """Bring channels in line that could not be before, and forget those that were away for long."""
        self.show()
        for line in self.lines:
            with self._lock:
                if line.roster.forget(time.time()):
                    self._choose_canaries(line)
                channels = line.roster.here
                figures = (len(line.chosen & channels.keys()), len(line.held))
            if line.trial or line.held:
                self.apply(line)
            self.metrics.route(line.name).channels(*figures)

    def show(self) -> None:
        """Let those look at frames who want to: shadows at the stable versions', samplers at all of their engine."""
        with self._lock:
            wanted: dict[InferenceClient, list[Tap]] = {}
            for loaded in self.fleet.loaded:
                line = self._line(loaded.bundle.name)
                taps: list[Tap] = list(line.samplers)
                if line.shadow is not None and line.route.stable == loaded.bundle.version:
                    taps.append(line.shadow)
                wanted[loaded.inference] = taps
            self._pool.show(wanted)

    def save(self) -> None:
        """Write down the routes that somebody or something has changed."""
        with self._saving:
            now_s = time.time()
            with self._lock:
                state = {
                    line.name: (line.route, line.roster.as_seen(now_s), set(line.withdrawn))
                    for line in self._lines.values()
                    if line.route.revision
                }
            kept = bool(state) and self._file.write(state)
            with self._lock:
                for name in state:
                    self._lines[name].route = replace(self._lines[name].route, persistent=kept)

    # -- inside ---------------------------------------------------------------------------------

    def _is_waited_for(self, loaded: Loaded) -> bool:
        """Whether frames wait for a version: not where only second stages run on it."""
        with self._lock:
            guests = [guest for guest in self._guests if loaded.inference in guest.binding.inferences]
        return not guests or any(guest.waits for guest in guests)

    def _line(self, name: str) -> Line:
        with self._lock:
            return self._lines.setdefault(name, Line(Route(name)))

    def open_route(self, line: Line) -> Loaded:
        """Load what an engine's route names, if it is not loaded; return its stable version."""
        found = self.fleet.find(line.name, line.route.stable)
        if found is not None:
            return found
        with line.changing:
            route = line.route
            fixed = route.stable and (not route.follows or line.trial)
            catalogue, name = self.catalogue, line.name
            bundle = catalogue.resolve(name, route.stable) if fixed else catalogue.newest(name, line.withdrawn)
            loaded = self.fleet.load(bundle)
            self.fleet.engage(loaded)
            if route.stable != bundle.version:
                revision = route.revision + bool(route.stable)
                self.commit(line, replace(moved_to(route, bundle.version), revision=revision))
            resume_trials(self, line, quietly=False)
            return loaded

    def _followed(self, guest: Guest) -> list[Line]:
        """Tell the engines of which a channel leaves the version open."""
        return [self._line(ref.name) for ref in guest.config.engines if not ref.version]

    def _choose_canaries(self, line: Line) -> None:
        route = line.route
        chosen = canaries(line.name, line.roster.channels, route.canary_share) if route.canary else frozenset()
        if chosen != line.chosen:
            line.chosen = chosen
            self.stirred.set()

    def _place(self, guest: Guest) -> None:
        """Bind a channel to what its routes mean for it; where it cannot go it stays, and is noted."""
        config, now = guest.config, guest.binding.inferences
        wanted = tuple(
            runs if ref.version else target(self.fleet, self._line(ref.name), config, runs)
            for ref, runs in zip(config.engines, now, strict=True)
        )
        if wanted == now:
            return
        try:
            guest.rebind(wanted)
        except InvalidError as error:
            _log.warning("channel stays with its version: %s: %s", config.channel, error)
