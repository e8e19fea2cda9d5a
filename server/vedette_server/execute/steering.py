"""Steers the engines of this process: what EngineService asks for, done to `Engines`.

May block; called from any thread but the event loop's. Whoever changes an engine holds its `changing`, so that
changes of one engine happen one after the other.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_engines.repository import version_key
from vedette_server.data.engine import EngineState, EngineVersion
from vedette_server.errors import InvalidError, NotFoundError, StateError
from vedette_server.execute.fleet import OPENING_S
from vedette_server.execute.line import Swap
from vedette_server.execute.routing import changed, check_revision, promoted, rolled_back
from vedette_server.execute.sampling import FrameSampler
from vedette_server.execute.trials import begin_shadow, end_shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.repository import Listed
    from vedette_server.data.engine import Route, RouteChange, SampledFrame, ShadowSample, ShadowTotals
    from vedette_server.execute.client import LoadedInference
    from vedette_server.execute.engines import Engines
    from vedette_server.execute.fleet import Loaded
    from vedette_server.execute.line import Line

MOST_NAMED = 8


class Steering:
    """Lists, loads, unloads and routes engines; an `EngineControl`.

    Args:
        engines: The engines.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def versions(self, name: str = "") -> Sequence[EngineVersion]:
        """Tell of all versions of one engine, or of all."""
        listed = self._engines.catalogue.list(name)
        found = [self._version(one) for one in listed]
        # A bad bundle may hide behind a good one of the same version in another folder.
        known = {(one.name, one.version) for one in listed}
        gone = [one for one in self._engines.fleet.loaded if one.key not in known and name in {"", one.bundle.name}]
        found += [self._loaded(one) for one in gone]
        found.sort(key=lambda one: version_key(one.version), reverse=True)
        found.sort(key=lambda one: one.name)
        return found

    def load(self, name: str, version: str = "") -> EngineVersion:
        """Load and warm up a version, and keep it loaded."""
        line = self._engines.line(name)
        with line.changing:
            catalogue = self._engines.catalogue
            bundle = catalogue.resolve(name, version) if version else catalogue.newest(name, line.withdrawn)
            loaded = self._engines.fleet.load(bundle, self._like(line), quietly=True)
            loaded.kept = True
        return self._loaded(loaded)

    def unload(self, name: str, version: str) -> EngineVersion:
        """Let go of a version that no channel and no trial needs."""
        fleet = self._engines.fleet
        loaded = fleet.find(name, version)
        if loaded is None:
            raise NotFoundError("ENGINE_NOT_LOADED", f"engine {name} {version} is not loaded")
        deadline = time.monotonic() + OPENING_S + 1.0
        while True:
            why = self._engines.needed(loaded)
            if why:
                raise StateError("ENGINE_IN_USE", f"engine {name} {version} is needed: {why}")
            loaded.kept = False
            if fleet.close_unneeded(loaded):
                break
            if time.monotonic() > deadline:
                raise StateError("ENGINE_IN_USE", f"engine {name} {version} is needed: frames are on their way in it")
            time.sleep(0.02)
        here = [one for one in self.versions(name) if one.version == version]
        return here[0] if here else EngineVersion(name, version, EngineState.AVAILABLE)

    def route(self, name: str) -> Route:
        """Tell an engine's route."""
        return self._engines.line(name).route

    def change_route(self, name: str, change: RouteChange) -> Route:
        """Load what the change names, then let it take over between two batches."""
        engines, line = self._engines, self._engines.line(name)
        with line.changing:
            route = line.route
            # Before anything is loaded for a change that may not be made.
            check_revision(route, change)
            if not change.stable and not route.stable:
                route = replace(line.route, stable=engines.open_route(line).bundle.version)
            newest = engines.catalogue.newest(name, line.withdrawn).version if change.stable == "" else ""
            return self._switch(line, changed(route, change, newest))

    def promote(self, name: str) -> Route:
        """Make the canary, or where there is none the shadow, the stable version."""
        engines, line = self._engines, self._engines.line(name)
        with line.changing:
            trial = line.route.canary or line.route.shadow
            newest = engines.catalogue.newest(name, line.withdrawn).version if trial else ""
            return self._switch(line, promoted(line.route, newest))

    def roll_back(self, name: str, to: str = "") -> Route:
        """End canary and shadow, withdraw the stable version and take the one before it, or the one named."""
        catalogue, line = self._engines.catalogue, self._engines.line(name)
        with line.changing:
            stable = line.route.stable
            target = to or self._before(line)
            if target == stable or not stable:
                raise InvalidError("INVALID_VERSION", f"engine {name} is at {stable or 'no version'} already")
            bundle = catalogue.resolve(name, target)
            newest = catalogue.newest(name, {*line.withdrawn, stable})
            follows = line.route.follows and newest.version == bundle.version
            old = self._engines.fleet.find(name, stable)
            route = self._switch(line, rolled_back(line.route, target, follows=follows))
            # Last: what could not be rolled back from is not withdrawn.
            if not self._withdraw(name, stable, old, f"rolled back to {target}"):
                line.withdrawn.add(stable)
            return route

    def shadow(self, name: str) -> tuple[ShadowTotals | None, Sequence[ShadowSample]]:
        """Tell how the shadow compares, with the latest samples, the newest first."""
        shadow = self._engines.line(name).shadow
        return (None, ()) if shadow is None else shadow.report()

    def sample_frames(self, name: str, interval_s: float, take: Callable[[SampledFrame], None]) -> Callable[[], None]:
        """Hand over a copy of one letterboxed frame of each channel every so often, until the stop is called."""
        line = self._engines.line(name)
        if not any(loaded.bundle.name == name for loaded in self._engines.fleet.loaded):
            raise NotFoundError("ENGINE_NOT_LOADED", f"no version of engine {name!r} is loaded")

        def over(sampler: FrameSampler) -> None:
            line.samplers.remove(sampler)
            self._engines.show()

        sampler = FrameSampler(interval_s, take, over)
        line.samplers.append(sampler)
        self._engines.show()
        return sampler.close

    # -- inside ---------------------------------------------------------------------------------

    def _switch(self, line: Line, route: Route) -> Route:
        self._prepare(line, route)
        return self._take(line, route)

    def _prepare(self, line: Line, route: Route) -> None:
        """Load what a route names, and make sure that channels can follow it.

        Raises:
            StateError: Some cannot.
        """
        engines, like = self._engines, self._like(line)
        for version in dict.fromkeys((route.stable, route.canary, route.shadow)):
            if not version:
                continue
            loaded = engines.fleet.find(line.name, version)
            if loaded is None:
                loaded = engines.fleet.load(engines.catalogue.resolve(line.name, version), like, quietly=True)
            # No route names it yet: it must not be closed before one does.
            loaded.opened_s = engines.clock()
        misfits = engines.misfits(line, route)
        if misfits:
            named = "; ".join(f"{channel}: {why}" for channel, why in list(misfits.items())[:MOST_NAMED])
            raise StateError("CHANNELS_CANNOT_FOLLOW", f"{len(misfits)} channels cannot go over: {named}")
        stable, shadow = (engines.fleet.find(line.name, version) for version in (route.stable, route.shadow))
        tasks = [one.inference.label.task for one in (stable, shadow) if one is not None]
        if len(set(tasks)) > 1:
            raise StateError("SHADOW_MISFIT", f"shadow {route.shadow} is a {tasks[1]}, and {route.stable} a {tasks[0]}")

    def _take(self, line: Line, route: Route) -> Route:
        """Put a prepared route into effect."""
        engines, before, began_s = self._engines, line.route, self._engines.clock()
        shadowing = (before.shadow, before.stable) != (route.shadow, route.stable)
        if shadowing and not end_shadow(engines, line) and before.shadow in {route.stable, route.canary}:
            raise StateError("SHADOW_HANGS", f"version {before.shadow} does not come back from a batch")
        for version in (route.stable, route.canary):
            loaded = engines.fleet.find(line.name, version) if version else None
            if loaded is not None:
                engines.fleet.engage(loaded)
        engines.commit(line, route)
        if before.stable != route.stable:
            line.swap = Swap(before.stable, route.stable, began_s, engines.clock())
        if shadowing:
            begin_shadow(engines, line)
        return line.route

    def _withdraw(self, name: str, version: str, loaded: Loaded | None, reason: str) -> bool:
        """Withdraw a version for all servers; tell whether that could be done."""
        catalogue = self._engines.catalogue
        try:
            return catalogue.withdraw(loaded.bundle if loaded else catalogue.resolve(name, version), reason)
        except NotFoundError:
            return False  # its folder is gone

    def _like(self, line: Line) -> LoadedInference | None:
        """Return what runs now, for others to take its lanes and batch over."""
        stable = self._engines.fleet.find(line.name, line.route.stable)
        return None if stable is None else stable.inference

    def _before(self, line: Line) -> str:
        """Find the version to go back to: what was stable before, or else the next older one."""
        withdrawn = line.withdrawn | self._engines.catalogue.withdrawn(line.name)
        good = [
            one.version
            for one in self._engines.catalogue.list(line.name)
            if one.bundle is not None and one.version not in withdrawn
        ]
        stable = line.route.stable
        older = [version for version in good if stable and version_key(version) < version_key(stable)]
        for version in (*(one for one in line.route.previous if one in good), *older):
            if version != stable:
                return version
        raise StateError("NOTHING_BEFORE", f"engine {line.name} has no version to go back to from {stable or 'none'}")

    def _version(self, listed: Listed) -> EngineVersion:
        key = (listed.name, listed.version)
        fleet = self._engines.fleet
        loaded = fleet.find(*key)
        withdrawn = listed.withdrawn or listed.version in self._engines.withdrawn_here(listed.name)
        if loaded is not None:
            return self._loaded(loaded, withdrawn=withdrawn)
        if listed.bundle is None:
            return EngineVersion(*key, EngineState.BAD, listed.reason, withdrawn=withdrawn)
        manifest, state = listed.bundle.manifest, EngineState.AVAILABLE
        reason = fleet.failed.get(key, "")
        if key in fleet.loading:
            state, reason = EngineState.LOADING, ""
        elif reason:
            state = EngineState.FAILED
        return EngineVersion(
            *key,
            state,
            reason,
            manifest.task,
            manifest.input.width,
            manifest.input.height,
            tuple(manifest.labels),
            withdrawn=withdrawn,
        )

    def _loaded(self, loaded: Loaded, *, withdrawn: bool = False) -> EngineVersion:
        inference, manifest = loaded.inference, loaded.bundle.manifest
        channels = self._engines.channels(loaded)
        draining = loaded.working and not channels and not inference.idle
        return EngineVersion(
            *loaded.key,
            EngineState.DRAINING if draining else EngineState.READY,
            task=manifest.task,
            width=manifest.input.width,
            height=manifest.input.height,
            labels=tuple(manifest.labels),
            backend=inference.label.backend,
            precision=inference.engine.file.precision,
            file=inference.engine.file.path,
            fallback=inference.engine.fallback,
            lanes=inference.lanes,
            max_batch=inference.max_batch,
            memory_bytes=loaded.memory_bytes,
            channels=len(channels),
            withdrawn=withdrawn,
        )
