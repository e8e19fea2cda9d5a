"""Bring versions on trial to work: a route's canary, and its shadow with the comparison.

Called with the line's `changing` held.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_server.errors import VedetteError
from vedette_server.execute.shadow import Shadow

if TYPE_CHECKING:
    from vedette_server.execute.engines import Engines
    from vedette_server.execute.fleet import Loaded
    from vedette_server.execute.line import Line

_log = logging.getLogger(__name__)


def resume_trials(engines: Engines, line: Line, *, quietly: bool) -> None:
    """Load what a route has on trial and has kept over a restart; without it channels run the stable version."""
    stable = engines.fleet.find(line.name, line.route.stable)
    if stable is None:
        return
    canary = _found(engines, line, line.route.canary, stable, quietly=quietly)
    if canary is not None and not canary.working:
        engines.fleet.engage(canary)
        engines.stirred.set()
    if line.shadow is not None:
        shadow = engines.fleet.find(line.name, line.route.shadow)
        if shadow is not None:
            engines.fleet.disengage(shadow)
    elif _found(engines, line, line.route.shadow, stable, quietly=True) is not None:
        begin_shadow(engines, line)


def _found(engines: Engines, line: Line, version: str, stable: Loaded, *, quietly: bool) -> Loaded | None:
    """Return a version, loading it once if it is not there; one that cannot be loaded is reported once."""
    key = (line.name, version)
    found = engines.fleet.find(*key)
    if found is not None or not version or key in engines.fleet.failed:
        return found
    try:
        return engines.fleet.load(engines.catalogue.resolve(*key), stable.inference, quietly=quietly)
    except VedetteError as error:
        engines.fleet.failed[key] = str(error)
        _log.warning("version on trial does not run: %s %s: %s", *key, error)
        return None


def begin_shadow(engines: Engines, line: Line) -> None:
    """Start the comparison that an engine's route asks for, if its versions are loaded."""
    stable = engines.fleet.find(line.name, line.route.stable)
    shadow = engines.fleet.find(line.name, line.route.shadow) if line.route.shadow else None
    if stable is not None and shadow is not None and line.shadow is None:
        # It may have run for channels until now; what is on its way ends first.
        engines.fleet.disengage(shadow)
        line.shadow = Shadow(shadow, stable, engines.is_idle, engines.metrics.route(line.name))
        engines.show()


def end_shadow(engines: Engines, line: Line) -> bool:
    """End a comparison; return whether its version can be used again."""
    shadow, line.shadow = line.shadow, None
    engines.show()
    return shadow is None or shadow.close()
