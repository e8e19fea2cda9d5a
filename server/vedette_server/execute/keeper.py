"""Looks after the engines in the background: takes newer versions over, and closes what nobody needs.

One thread of its own. What may take long in it runs beside it with a low priority for the processor, so that it
never holds a lock while it waits for its turn.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_engines.repository import version_key
from vedette_server.errors import EngineError, NotFoundError
from vedette_server.execute.line import Swap
from vedette_server.execute.loading import beside
from vedette_server.execute.routing import moved_to
from vedette_server.execute.trials import resume_trials

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_server.execute.engines import Engines
    from vedette_server.execute.line import Line

_log = logging.getLogger(__name__)

# How often it looks when nothing stirs it.
LONGEST_PAUSE_S = 1.0
# So long after a swap its effect is judged.
AFTERMATH_S = 2.0
SAVED_EVERY_S = 30.0
_FIGURES = re.compile(r"\d+")
# A version that could not be loaded is tried again: memory may have become free.
RETRY_S = 60.0


class Keeper:
    """The thread that looks after engines.

    Args:
        engines: The engines.
        watch_interval_s: How often it looks for newer versions; 0: never.
        keep_previous_s: How long a version is kept that has lost its place.
    """

    def __init__(self, engines: Engines, watch_interval_s: float, keep_previous_s: float) -> None:
        self._engines = engines
        self._watch_interval_s = watch_interval_s
        self._keep_previous_s = keep_previous_s
        self._stopping = threading.Event()
        self._saved_s = self._watched_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine-keeper")
        self._thread.start()

    def close(self) -> None:
        """End, after what is at hand; may be called twice."""
        self._stopping.set()
        self._engines.stirred.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = min(self._watch_interval_s or LONGEST_PAUSE_S, LONGEST_PAUSE_S)
        while not self._stopping.is_set():
            self._engines.stirred.wait(pause_s)
            self._engines.stirred.clear()
            if self._stopping.is_set():
                return
            try:
                self.look()
            except Exception:  # noqa: BLE001 - it must be there for the next version
                _log.exception("engines were not looked after")

    def look(self) -> None:
        """Do once all that there is to do."""
        now = time.monotonic()
        if self._watch_interval_s and now - self._watched_s >= self._watch_interval_s:
            self._watched_s = now
            for line in self._engines.lines:
                if not self._stopping.is_set():
                    self._follow(line)
        self._engines.tidy()
        for line in self._engines.lines:
            self._judge(line)
            if line.trial:
                with line.changing:
                    resume_trials(self._engines, line, quietly=True)
        self._retire()
        if now - self._saved_s >= SAVED_EVERY_S and any(line.trial for line in self._engines.lines):
            # Who is there decides who runs a canary, after a restart, too.
            self._saved_s = now
            self._engines.save()

    def _follow(self, line: Line) -> None:
        """Take the newest version of an engine over, if it follows and there is a newer one."""
        route = line.route
        if not route.follows or line.trial or self._engines.fleet.find(line.name, route.stable) is None:
            return
        try:
            bundle = beside(lambda: self._look_up(line), "engine-watch")
        except NotFoundError as error:
            self._report(line, "", str(error))
            return
        newer = version_key(bundle.version) > version_key(route.stable)
        withdrawn = route.stable in line.withdrawn or route.stable in self._engines.catalogue.withdrawn(line.name)
        refused = bundle is line.refused and self._engines.clock() < line.retry_s
        if refused or not (newer or withdrawn):
            return
        with line.changing:
            if line.route == route:
                self._take_over(line, bundle)

    def _look_up(self, line: Line) -> Bundle:
        """Find the newest version, and report newer ones that are bad."""
        for listed in self._engines.catalogue.list(line.name):
            if listed.bundle is None and version_key(listed.version) > version_key(line.route.stable):
                self._report(line, listed.version, listed.reason)
        return self._engines.catalogue.newest(line.name, line.withdrawn)

    def _report(self, line: Line, version: str, reason: str) -> None:
        # Figures in a reason, such as bytes that are free, may be others each time.
        kind = (version, _FIGURES.sub("", reason))
        if kind not in line.reported:
            line.reported.add(kind)
            self._engines.metrics.route(line.name).refused()
            _log.warning("engine version refused, the one before it stays: %s %s: %s", line.name, version, reason)

    def _refuse(self, line: Line, bundle: Bundle, reason: str, for_s: float) -> None:
        line.refused, line.retry_s = bundle, self._engines.clock() + for_s
        self._report(line, bundle.version, reason)

    def _take_over(self, line: Line, bundle: Bundle) -> None:
        """Load a version beside the one that runs, and let all channels go over to it."""
        engines, route = self._engines, line.route
        began_s = engines.clock()
        old = engines.fleet.find(line.name, route.stable)
        try:
            new = engines.fleet.load(bundle, None if old is None else old.inference, quietly=True)
        except EngineError as error:
            self._refuse(line, bundle, str(error), RETRY_S)
            return
        # No route names it yet: it must not be closed before one does.
        new.opened_s = engines.clock()
        if old is not None and new.inference.label.task != old.inference.label.task:
            self._refuse(line, bundle, f"it is a {new.inference.label.task}", math.inf)
            engines.fleet.close(new)
            return
        engines.fleet.engage(new)
        engines.commit(line, replace(moved_to(route, bundle.version), revision=route.revision + 1))
        line.swap = Swap(route.stable, bundle.version, began_s, engines.clock())
        _log.info(
            "engine taken over: %s %s -> %s, loaded in %.3f s, %d channels stay",
            line.name,
            route.stable,
            bundle.version,
            new.load_s,
            len(line.held),
        )

    def _judge(self, line: Line) -> None:
        """Tell, some time after a swap, whether it was felt."""
        swap, now = line.swap, self._engines.clock()
        if swap is None or now - swap.moved_s < AFTERMATH_S:
            return
        line.swap = None
        length_s = now - swap.began_s
        before = line.pulse.rhythm(swap.began_s - length_s, swap.began_s)
        around = line.pulse.rhythm(swap.began_s, now)
        self._engines.metrics.route(line.name).swapped(before, around)
        _log.info(
            "engine swap: %s %s -> %s, batches of %.1f ms, longest gap %.1f ms before and %.1f ms around it",
            *(line.name, swap.old, swap.new),
            *(before.batch_s * 1e3, before.longest_gap_s * 1e3, around.longest_gap_s * 1e3),
        )

    def _retire(self) -> None:
        """Close versions that lost their place some time ago."""
        now = self._engines.clock()
        for loaded in self._engines.fleet.loaded:
            if loaded.released_s is not None and now - loaded.released_s >= self._keep_previous_s:
                self._engines.fleet.close_unneeded(loaded)
