"""Which loaded version a channel is bound to: what its route says, or what it runs where it cannot go.

The lock of `execute/engines.py` is held around every call.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_server.execute.routing import canaries, misfit

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import InferenceClient
    from vedette_server.execute.fleet import Fleet, Loaded
    from vedette_server.execute.line import Line

_log = logging.getLogger(__name__)


def for_new(fleet: Fleet, line: Line, config: ChannelConfig) -> Loaded | None:
    """Choose a version for a channel that is not here yet, as if it were."""
    route = line.route
    stable = fleet.find(line.name, route.stable)
    if not route.canary or stable is None:
        return stable
    chosen = canaries(line.name, line.roster.channels | {config.channel}, route.canary_share)
    canary = fleet.find(line.name, route.canary) if config.channel in chosen else None
    fits = canary is not None and not misfit(config, stable.inference.label, canary.inference.label)
    return canary if fits else stable


def target(fleet: Fleet, line: Line, config: ChannelConfig, runs: InferenceClient) -> InferenceClient:
    """Tell what one of a channel's engines is to run; a channel that must stay is noted with the reason."""
    route = line.route
    wanted = route.canary if config.channel in line.chosen else route.stable
    loaded = fleet.find(line.name, wanted) or fleet.find(line.name, route.stable)
    if loaded is None or not loaded.working or loaded.inference is runs:
        line.held.pop(config.channel, None)
        return runs
    why = misfit(config, runs.label, loaded.inference.label)
    if not why:
        line.held.pop(config.channel, None)
        return loaded.inference
    if line.held.get(config.channel) != why:
        line.held[config.channel] = why
        _log.warning("channel stays with engine %s %s: %s: %s", line.name, runs.label.version, config.channel, why)
    return runs
