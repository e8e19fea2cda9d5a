"""What a server tells of its engines, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from vedette_client.verdicts import Box

if TYPE_CHECKING:
    from vedette.v1 import engine_pb2


class EngineState(IntEnum):
    """Where one version of an engine stands in a server."""

    UNKNOWN = 0
    AVAILABLE = 1
    LOADING = 2
    READY = 3
    DRAINING = 4
    FAILED = 5
    BAD = 6


class EngineTask(IntEnum):
    """What an engine does with a frame."""

    UNKNOWN = 0
    DETECTOR = 1
    CLASSIFIER = 2
    EMBEDDER = 3


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """One version of one engine.

    Attributes:
        engine: The engine's name.
        version: The version.
        state: Where it stands.
        reason: Why it failed or is bad; empty otherwise.
        task: What it does.
        width: Input width in pixels; 0 when it is bad.
        height: Input height in pixels; 0 when it is bad.
        labels: Class names.
        backend: What runs it; empty unless it is loaded.
        precision: Of the file that runs; empty unless it is loaded.
        file: Name of the file that runs; empty unless it is loaded.
        fallback: Why a better file was passed over; empty when none was.
        lanes: Runs side by side; 0 unless it is loaded.
        max_batch: Most frames of a batch; 0 unless it is loaded.
        memory_bytes: What loading it took; 0 unless it is loaded.
        channels: Channels whose frames are bound to it now.
        withdrawn: It was rolled back from: only those get it who pin it.
    """

    engine: str
    version: str
    state: EngineState
    reason: str
    task: EngineTask
    width: int
    height: int
    labels: tuple[str, ...]
    backend: str
    precision: str
    file: str
    fallback: str
    lanes: int
    max_batch: int
    memory_bytes: int
    channels: int
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Route:
    """Which version of an engine the channels get that pin none.

    Attributes:
        engine: The engine's name.
        stable: The version that most channels run; empty while none was asked for.
        follows: A newer version in the repository takes over by itself.
        canary: The version that a share of the channels runs; empty: none.
        canary_share: That share, 0..1.
        shadow: The version that runs beside, its results compared and dropped; empty: none.
        previous: What was stable before, the latest first.
        revision: Counts the changes.
        persistent: It survives a restart of the server.
    """

    engine: str
    stable: str
    follows: bool
    canary: str
    canary_share: float
    shadow: str
    previous: tuple[str, ...]
    revision: int
    persistent: bool


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        name: Its name.
        versions: Its versions, the newest first.
        route: Which of them the channels get; None where no version can run.
    """

    name: str
    versions: tuple[EngineVersion, ...]
    route: Route | None


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How a shadow and the stable version differed so far.

    Attributes:
        engine: The engine's name.
        version: The shadow.
        against: The stable version.
        compared: Frames that both ran.
        skipped: Frames that the shadow did not run, for want of capacity.
        failed: Frames on which it failed.
        differing: Compared frames with at least one difference.
        matched: Detections of both; of a classifier, frames of the same best class.
        only_stable: Detections of the stable version alone.
        only_shadow: Detections of the shadow alone.
        score_difference: Mean absolute difference of the scores of what matched.
    """

    engine: str
    version: str
    against: str
    compared: int
    skipped: int
    failed: int
    differing: int
    matched: int
    only_stable: int
    only_shadow: int
    score_difference: float


@dataclass(frozen=True, slots=True)
class ShadowFinding:
    """One detection, or a classifier's best class.

    Attributes:
        label: The class.
        score: Its score, 0..1.
        box: Left, top, right, bottom, normalised to the letterboxed input; None of a classifier.
        unmatched: The other version has nothing like it.
    """

    label: str
    score: float
    box: Box | None
    unmatched: bool


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """One frame on which shadow and stable version differed.

    Attributes:
        index: Counts the samples of one comparison, from 1.
        channel: The channel's bare name.
        sequence: The packet's sequence number.
        receive_time_ns: When the server had read it, nanoseconds since the epoch.
        stable: What the stable version saw.
        shadow: What the shadow saw.
        jpeg: The letterboxed input; empty unless it was asked for.
    """

    index: int
    channel: str
    sequence: int
    receive_time_ns: int
    stable: tuple[ShadowFinding, ...]
    shadow: tuple[ShadowFinding, ...]
    jpeg: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One frame as an engine saw it.

    Attributes:
        channel: The channel's bare name.
        sequence: The packet's sequence number.
        png: The letterboxed input.
        dropped_before: Frames since the one before that were not sent, because we were too slow.
    """

    channel: str
    sequence: int
    png: bytes = field(repr=False)
    dropped_before: int = 0


_STATES: dict[int, EngineState] = {state.value: state for state in EngineState}
_TASKS: dict[int, EngineTask] = {task.value: task for task in EngineTask}


def engine_from_wire(wire: engine_pb2.Engine) -> Engine:
    """Read an engine."""
    return Engine(
        name=_part(wire.name, 1),
        versions=tuple(version_from_wire(one) for one in wire.versions),
        route=route_from_wire(wire.route) if wire.HasField("route") else None,
    )


def version_from_wire(wire: engine_pb2.EngineVersion) -> EngineVersion:
    """Read a version; a state or task that we do not know is UNKNOWN."""
    return EngineVersion(
        engine=_part(wire.name, 1),
        version=_part(wire.name, 3),
        state=_STATES.get(wire.state, EngineState.UNKNOWN),
        reason=wire.reason,
        task=_TASKS.get(wire.task, EngineTask.UNKNOWN),
        width=wire.width,
        height=wire.height,
        labels=tuple(wire.labels),
        backend=wire.backend,
        precision=wire.precision,
        file=wire.file,
        fallback=wire.fallback,
        lanes=wire.lanes,
        max_batch=wire.max_batch,
        memory_bytes=wire.memory_bytes,
        channels=wire.channels,
        withdrawn=wire.withdrawn,
    )


def route_from_wire(wire: engine_pb2.Route) -> Route:
    """Read a route."""
    return Route(
        engine=_part(wire.name, 1),
        stable=wire.stable,
        follows=wire.follows,
        canary=wire.canary,
        canary_share=wire.canary_share,
        shadow=wire.shadow,
        previous=tuple(wire.previous),
        revision=wire.revision,
        persistent=wire.persistent,
    )


def report_from_wire(wire: engine_pb2.ShadowReport) -> ShadowReport:
    """Read a comparison's totals."""
    return ShadowReport(
        engine=_part(wire.name, 1),
        version=wire.version,
        against=wire.against,
        compared=wire.compared,
        skipped=wire.skipped,
        failed=wire.failed,
        differing=wire.differing,
        matched=wire.matched,
        only_stable=wire.only_stable,
        only_shadow=wire.only_shadow,
        score_difference=wire.score_difference,
    )


def sample_from_wire(wire: engine_pb2.ShadowSample) -> ShadowSample:
    """Read a frame on which two versions differed."""
    index = _part(wire.name, 4)
    return ShadowSample(
        index=int(index) if index.isdecimal() else 0,
        channel=_part(wire.channel, 1),
        sequence=wire.sequence,
        receive_time_ns=wire.receive_time.ToNanoseconds(),
        stable=tuple(_finding(one) for one in wire.stable),
        shadow=tuple(_finding(one) for one in wire.shadow),
        jpeg=wire.jpeg,
    )


def frame_from_wire(wire: engine_pb2.SampleFramesResponse) -> SampledFrame:
    """Read a sampled frame."""
    return SampledFrame(_part(wire.frame.channel, 1), wire.frame.sequence, wire.frame.png, wire.dropped_before)


def _finding(wire: engine_pb2.ShadowFinding) -> ShadowFinding:
    box = wire.box
    corners = Box(box.x_min, box.y_min, box.x_max, box.y_max) if wire.HasField("box") else None
    return ShadowFinding(wire.label, wire.score, corners, wire.unmatched)


def _part(name: str, index: int) -> str:
    """Take one part of a resource name; empty where there is none."""
    parts = name.split("/")
    return parts[index] if index < len(parts) else ""
