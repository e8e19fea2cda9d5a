"""Traces that tests write and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette_server.trace import Tracer
from vedette_server.tracing.file import TraceFile
from vedette_server.tracing.reading import Trace, faults, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1024 * 1024


def traced(path: Path, record: Callable[[Tracer], None], **arguments: Any) -> Trace:
    """Write a trace of what `record` records, and read it."""
    with Tracer(TraceFile(path, MIB), **arguments) as tracer:
        record(tracer)
    return read(path)


def sound(trace: Trace) -> Trace:
    """Return a trace that has no faults."""
    assert trace.complete
    assert faults(trace) == []
    return trace
