"""How much waits where, for a trace."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vedette_server.trace import engine_group
from vedette_server.tracing.events import SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.execute.engines import Engines
    from vedette_server.pipeline import Pipeline
    from vedette_server.trace import Figure, Tracer


def draw_depths(tracer: Tracer | None, pipeline: Pipeline, engines: Engines) -> None:
    """Let a trace ask for depths; None: no trace is written."""
    if tracer is not None:
        tracer.figures = partial(_figures, pipeline, engines)


def _figures(pipeline: Pipeline, engines: Engines) -> Iterator[Figure]:
    """Tell a trace how much waits where."""
    packets, pictures = pipeline.depths
    yield SERVER, "channels that wait for a decoder", packets
    yield SERVER, "pictures that wait for their turn", pictures
    for loaded in engines.fleet.loaded:
        group, depths = engine_group(loaded.inference.label), loaded.inference.depths
        yield group, "frames that wait for a batch", depths.ready
        yield group, "slots in use", depths.slots_in_use
