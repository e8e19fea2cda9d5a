"""Write a profile as trace events, which Perfetto and chrome://tracing open.

The format is Chromium's "Trace Event Format", JSON object form: complete events (`ph` X) with times in microseconds,
metadata events (`ph` M) for the names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vedette_engines.profiling.profile import Profile, Span

_PROCESS, _THREAD = 1, 1


def trace(profile: Profile) -> str:
    """Write all measured runs as JSON."""
    events: list[dict[str, Any]] = [
        _named("process_name", profile.title),
        _named("thread_name", f"{profile.runner}, batch {profile.batch}, {profile.threads} threads"),
        *(_event(span, profile) for span in profile.spans),
    ]
    other = {"runs": profile.runs, "precision": profile.precision, "median run, ms": profile.run_s * 1e3}
    document = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}
    return json.dumps(document, ensure_ascii=False) + "\n"


def _named(what: str, name: str) -> dict[str, Any]:
    return {
        "ph": "M",
        "name": what,
        "cat": "__metadata",
        "pid": _PROCESS,
        "tid": _THREAD,
        "ts": 0,
        "args": {"name": name},
    }


def _event(span: Span, profile: Profile) -> dict[str, Any]:
    details: dict[str, Any] = {}
    node = span.node
    if node is not None:
        details = {
            "operator": node.op,
            "provider": node.provider,
            "inputs": list(node.inputs),
            "outputs": list(node.outputs),
            "weights, bytes": node.weight_bytes,
            "share of the nodes' time": round(profile.share(node.seconds), 5),
        }
    return {
        "ph": "X",
        "name": span.name if node is None else f"{node.op} {span.name}",
        "cat": span.kind,
        "ts": span.start_s * 1e6,
        "dur": span.seconds * 1e6,
        "pid": _PROCESS,
        "tid": _THREAD,
        "args": details,
    }
