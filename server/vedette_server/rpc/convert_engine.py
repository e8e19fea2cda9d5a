"""Take the messages about engines apart into plain data, and put them together again.

Threads: pure functions, callable from any.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from vedette.v1 import engine_pb2
from vedette_server.data.engine import EngineState, RouteChange
from vedette_server.errors import InvalidError
from vedette_server.rpc.convert import set_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette_server.data.engine import EngineVersion, Route, SampledFrame, Seen, ShadowSample, ShadowTotals

_PART = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,62}"
_ENGINE = re.compile(rf"engines/({_PART})")
_VERSION = re.compile(rf"engines/({_PART})/versions/({_PART})")
_ROUTE = re.compile(rf"engines/({_PART})/route")
_SHADOW = re.compile(rf"engines/({_PART})/shadow")
_CHANNEL = re.compile(r"channels/([A-Za-z0-9._-]{1,128})")
_CHANGEABLE = ("stable", "canary", "canary_share", "shadow")
_MOST_CHANNELS = 1000
_SHORTEST_INTERVAL_S, _LONGEST_INTERVAL_S, _INTERVAL_S = 0.01, 3600.0, 1.0
_MOST_FRAMES, _FRAMES = 100_000, 1000

_STATES = {
    EngineState.AVAILABLE: engine_pb2.ENGINE_STATE_AVAILABLE,
    EngineState.LOADING: engine_pb2.ENGINE_STATE_LOADING,
    EngineState.READY: engine_pb2.ENGINE_STATE_READY,
    EngineState.DRAINING: engine_pb2.ENGINE_STATE_DRAINING,
    EngineState.FAILED: engine_pb2.ENGINE_STATE_FAILED,
    EngineState.BAD: engine_pb2.ENGINE_STATE_BAD,
}
_TASKS = {
    "detector": engine_pb2.ENGINE_TASK_DETECTOR,
    "classifier": engine_pb2.ENGINE_TASK_CLASSIFIER,
    "embedder": engine_pb2.ENGINE_TASK_EMBEDDER,
}


def engine_from_name(name: str, field: str = "name") -> str:
    """Read `engines/{engine}`.

    Raises:
        InvalidError: INVALID_NAME.
    """
    return _match(_ENGINE, name, field, "engines/{engine}")[1]


def version_from_name(name: str, *, newest: bool = False) -> tuple[str, str]:
    """Read `engines/{engine}/versions/{version}`; where the newest will do, also `engines/{engine}`, its version empty.

    Raises:
        InvalidError: INVALID_NAME.
    """
    if newest and (match := _ENGINE.fullmatch(name)):
        return match[1], ""
    allowed = "engines/{engine}/versions/{version}" + (" or engines/{engine}" if newest else "")
    match = _match(_VERSION, name, "name", allowed)
    return match[1], match[2]


def version_from_wire(version: str, field: str) -> str:
    """Read a version that may be empty.

    Raises:
        InvalidError: INVALID_VERSION.
    """
    if version and not re.fullmatch(_PART, version):
        raise InvalidError(
            "INVALID_VERSION", f"{field} is {version!r}; allowed: a version, 1 to 63 of letters, digits and .+_-"
        )
    return version


def route_from_name(name: str, field: str = "name") -> str:
    """Read `engines/{engine}/route`.

    Raises:
        InvalidError: INVALID_NAME.
    """
    return _match(_ROUTE, name, field, "engines/{engine}/route")[1]


def shadow_from_name(name: str, field: str = "name") -> str:
    """Read `engines/{engine}/shadow`.

    Raises:
        InvalidError: INVALID_NAME.
    """
    return _match(_SHADOW, name, field, "engines/{engine}/shadow")[1]


def channels_from_wire(names: Sequence[str]) -> frozenset[str]:
    """Read channels' names into bare ones.

    Raises:
        InvalidError: INVALID_CHANNELS.
    """
    if len(names) > _MOST_CHANNELS:
        raise InvalidError("INVALID_CHANNELS", f"channels are {len(names)}; allowed: at most {_MOST_CHANNELS}")
    found = [_CHANNEL.fullmatch(name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise InvalidError("INVALID_CHANNELS", f"channels has {name!r}; allowed: channels/{{channel}}")
    return frozenset(match[1] for match in found if match is not None)


def interval_from_wire(request: engine_pb2.SampleFramesRequest) -> float:
    """Read the seconds between two frames of a channel.

    Raises:
        InvalidError: INVALID_INTERVAL.
    """
    if not request.HasField("interval"):
        return _INTERVAL_S
    seconds = request.interval.seconds + request.interval.nanos / 1e9
    if not _SHORTEST_INTERVAL_S <= seconds <= _LONGEST_INTERVAL_S:
        raise InvalidError(
            "INVALID_INTERVAL",
            f"interval is {seconds:g} s; allowed: {_SHORTEST_INTERVAL_S:g} to {_LONGEST_INTERVAL_S:g} s",
        )
    return seconds


def max_frames_from_wire(request: engine_pb2.SampleFramesRequest) -> int:
    """Read after how many frames the call ends.

    Raises:
        InvalidError: INVALID_MAX_FRAMES.
    """
    if request.max_frames > _MOST_FRAMES:
        raise InvalidError(
            "INVALID_MAX_FRAMES", f"max_frames is {request.max_frames}; allowed: 0 ({_FRAMES}) to {_MOST_FRAMES}"
        )
    return request.max_frames or _FRAMES


def change_from_wire(request: engine_pb2.UpdateRouteRequest) -> RouteChange:
    """Read what is to change of a route.

    Raises:
        InvalidError: INVALID_UPDATE_MASK, INVALID_VERSION, INVALID_CANARY_SHARE.
    """
    paths = list(request.update_mask.paths)
    if not paths or not set(paths) <= set(_CHANGEABLE):
        raise InvalidError(
            "INVALID_UPDATE_MASK", f"update_mask is {', '.join(paths) or 'empty'}; allowed: {', '.join(_CHANGEABLE)}"
        )
    route = request.route
    share = route.canary_share
    if "canary_share" in paths and not (math.isfinite(share) and 0 <= share <= 1):
        raise InvalidError("INVALID_CANARY_SHARE", f"canary_share is {share:g}; allowed: 0 to 1")
    return RouteChange(
        stable=version_from_wire(route.stable, "stable") if "stable" in paths else None,
        canary=version_from_wire(route.canary, "canary") if "canary" in paths else None,
        canary_share=share if "canary_share" in paths else None,
        shadow=version_from_wire(route.shadow, "shadow") if "shadow" in paths else None,
        revision=request.revision if request.HasField("revision") else None,
    )


def engine_to_wire(name: str, versions: Iterable[EngineVersion], route: Route | None) -> engine_pb2.Engine:
    """Describe an engine."""
    wire = engine_pb2.Engine(name=f"engines/{_text(name)}", versions=[version_to_wire(one) for one in versions])
    if route is not None:
        wire.route.CopyFrom(route_to_wire(route))
    return wire


def version_to_wire(version: EngineVersion) -> engine_pb2.EngineVersion:
    """Describe a version."""
    return engine_pb2.EngineVersion(
        name=f"engines/{_text(version.name)}/versions/{_text(version.version)}",
        state=_STATES.get(version.state, engine_pb2.ENGINE_STATE_UNSPECIFIED),
        reason=_text(version.reason),
        task=_TASKS.get(version.task, engine_pb2.ENGINE_TASK_UNSPECIFIED),
        width=version.width,
        height=version.height,
        labels=version.labels,
        backend=version.backend,
        precision=version.precision,
        file=version.file,
        fallback=_text(version.fallback),
        lanes=version.lanes,
        max_batch=version.max_batch,
        # What was measured may be below nothing: other parts gave memory back meanwhile.
        memory_bytes=max(0, version.memory_bytes),
        channels=version.channels,
        withdrawn=version.withdrawn,
    )


def route_to_wire(route: Route) -> engine_pb2.Route:
    """Describe a route."""
    return engine_pb2.Route(
        name=f"engines/{route.name}/route",
        stable=route.stable,
        follows=route.follows,
        canary=route.canary,
        canary_share=route.canary_share,
        shadow=route.shadow,
        previous=route.previous,
        revision=route.revision,
        persistent=route.persistent,
    )


def report_to_wire(name: str, totals: ShadowTotals) -> engine_pb2.ShadowReport:
    """Describe a comparison."""
    return engine_pb2.ShadowReport(
        name=f"engines/{name}/shadow",
        version=totals.version,
        against=totals.against,
        compared=totals.compared,
        skipped=totals.skipped,
        failed=totals.failed,
        differing=totals.differing,
        matched=totals.matched,
        only_stable=totals.only_stable,
        only_shadow=totals.only_shadow,
        score_difference=totals.score_difference,
    )


def sample_to_wire(name: str, sample: ShadowSample, *, picture: bool) -> engine_pb2.ShadowSample:
    """Describe a frame on which two versions differed."""
    wire = engine_pb2.ShadowSample(
        name=f"engines/{name}/shadow/samples/{sample.index}",
        channel=f"channels/{sample.channel}",
        sequence=sample.sequence,
        stable=[_finding(one, i in sample.only_stable) for i, one in enumerate(sample.stable)],
        shadow=[_finding(one, i in sample.only_shadow) for i, one in enumerate(sample.shadow)],
        jpeg=sample.jpeg if picture else b"",
    )
    set_timestamp(wire.receive_time, int(sample.received_s * 1e9))
    return wire


def frame_to_wire(frame: SampledFrame, dropped: int) -> engine_pb2.SampleFramesResponse:
    """Describe a sampled frame."""
    told = engine_pb2.SampledFrame(channel=f"channels/{frame.channel}", sequence=frame.sequence, png=frame.png)
    return engine_pb2.SampleFramesResponse(frame=told, dropped_before=dropped)


def _finding(seen: Seen, unmatched: bool) -> engine_pb2.ShadowFinding:
    wire = engine_pb2.ShadowFinding(label=seen.label, score=seen.score, unmatched=unmatched)
    if any(seen.box):
        wire.box.x_min, wire.box.y_min, wire.box.x_max, wire.box.y_max = seen.box
    return wire


def _match(pattern: re.Pattern[str], name: str, field: str, allowed: str) -> re.Match[str]:
    match = pattern.fullmatch(name)
    if match is None:
        raise InvalidError("INVALID_NAME", f"{field} is {name!r}; allowed: {allowed}")
    return match


def _text(words: str) -> str:
    """Make a text fit for a message: names of folders may hold what is no UTF-8."""
    return words.encode("utf-8", "replace").decode("utf-8")
