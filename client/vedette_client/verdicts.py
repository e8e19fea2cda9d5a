"""What became of each packet, as plain records built from the wire.

Nobody changes a record once it was built; they are not frozen only because building them is on the
way of every frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vedette_client.numbered import Numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf import timestamp_pb2

    from vedette.v1 import analysis_pb2
    from vedette_client.sources.base import SourcePacket


class SkipReason(Numbered):
    """Why a packet's picture was not analysed; a number that is not known here is kept and counted, too."""

    SUPERSEDED = 1
    STALE = 2
    OVERLOAD = 3
    RATE_LIMIT = 4
    NO_MOTION = 5
    NO_FRAME = 6
    UNDECODABLE = 7
    LOST_REFERENCE = 8
    ENGINE_ERROR = 9
    SESSION_LOST = 10
    DRAINING = 11


class Box(NamedTuple):
    """A box; normalised to the upright picture, or in its pixels."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class Attribute(NamedTuple):
    """A named property of a detection; `score` is None when unknown."""

    name: str
    value: str
    score: float | None


class Keypoint(NamedTuple):
    """A named point of an object, normalised; `score` is None when unknown."""

    name: str
    x: float
    y: float
    score: float | None


class Mask(NamedTuple):
    """An outline as a grid over the box: run lengths row by row, the first run outside."""

    width: int
    height: int
    runs: tuple[int, ...]


class Classification(NamedTuple):
    """One class of a classifier's answer."""

    class_id: int
    label: str
    score: float


class Picture(NamedTuple):
    """Size of the decoded picture in pixels, upright, and the clockwise turn that made it so."""

    width: int
    height: int
    rotation_degrees: int


@dataclass(slots=True)
class Detection:
    """One object that was found.

    Attributes:
        class_id: Index of the class in the engine's labels.
        label: Name of the class.
        score: Confidence, 0..1.
        box: Where it is, normalised: (0, 0) top left, (1, 1) bottom right.
        box_px: The same in pixels of the upright picture.
        track_id: The track it belongs to, unique for ever; empty when it is not tracked.
        attributes: What further engines said about it.
        keypoints: Points of the object, in the order of the engine's manifest.
        mask: Its outline; None when the engine gives none.
        embedding: Vector that describes its looks; empty when there is none.
    """

    class_id: int
    label: str
    score: float
    box: Box
    box_px: Box
    track_id: str = ""
    attributes: tuple[Attribute, ...] = ()
    keypoints: tuple[Keypoint, ...] = ()
    mask: Mask | None = None
    embedding: tuple[float, ...] = ()


@dataclass(slots=True)
class EngineResult:
    """What one engine found in one frame.

    Attributes:
        engine: The engine's name.
        version: Its version.
        batch_size: How many frames ran in the same batch, this one included.
        candidates_saturated: Some detections may be missing: the engine had more than it may return.
        backend: What ran it.
        detections: What a detector found, best score first.
        classifications: What a classifier says, best score first.
        embedding: What an embedder returns.
    """

    engine: str
    version: str
    batch_size: int
    candidates_saturated: bool
    backend: str
    detections: tuple[Detection, ...]
    classifications: tuple[Classification, ...] = ()
    embedding: tuple[float, ...] = ()


@dataclass(slots=True)
class Times:
    """When a frame passed, nanoseconds since the epoch, and its time in each stage, microseconds."""

    receive_time_ns: int | None
    capture_time_ns: int | None
    receive_us: int
    decode_us: int
    wait_us: int
    convert_us: int
    batch_us: int
    execute_us: int
    post_us: int
    total_us: int


@dataclass(slots=True)
class Verdict:
    """What became of one packet.

    Attributes:
        sequence: The packet's number within the session.
        index: The verdict's number within the session; None when the client itself gave it, because
            the packet was lost together with the server's memory of it.
        pts: Presentation time in ticks of the source's time base; None when it has none.
        reason: Why it was not analysed; None when it was.
        detail: The reason in words, where it does not say all.
        results: One result per engine, in the order that was asked for; empty when it was skipped.
        picture: Size of the picture; None when nothing was decoded.
        times: When it happened and what took how long; None when the client itself gave it.
        request_id: Names this frame in the server's logs.
        concealed: Parts of the picture were filled in by the decoder.
        packet: The packet that was sent; None when the client no longer has it.
    """

    sequence: int
    index: int | None
    pts: int | None
    reason: SkipReason | None
    detail: str = ""
    results: tuple[EngineResult, ...] = ()
    picture: Picture | None = None
    times: Times | None = None
    request_id: str = ""
    concealed: bool = False
    packet: SourcePacket | None = None

    @property
    def analysed(self) -> bool:
        """Whether the picture was analysed."""
        return self.reason is None

    @property
    def detections(self) -> tuple[Detection, ...]:
        """What all engines found."""
        if len(self.results) == 1:
            return self.results[0].detections
        return tuple(detection for result in self.results for detection in result.detections)


def lost_verdict(sequence: int, packet: SourcePacket) -> Verdict:
    """Judge a packet that neither side can answer for any more."""
    return Verdict(sequence, None, packet.pts, SkipReason.SESSION_LOST, "the server lost the session", packet=packet)


def verdict_from_wire(wire: analysis_pb2.FrameVerdict, packet: SourcePacket | None = None) -> Verdict:
    """Build a verdict from its message."""
    picture = None
    if wire.HasField("picture"):
        picture = Picture(wire.picture.width, wire.picture.height, wire.picture.rotation_degrees)
    reason, detail = None, ""
    results: tuple[EngineResult, ...] = ()
    if wire.HasField("analysis"):
        results = tuple(_result(result, picture) for result in wire.analysis.results)
    else:
        reason, detail = SkipReason(int(wire.skip.reason)), wire.skip.detail
    return Verdict(
        sequence=wire.sequence,
        index=wire.verdict_index,
        pts=wire.frame_pts if wire.HasField("frame_pts") else None,
        reason=reason,
        detail=detail,
        results=results,
        picture=picture,
        times=_times(wire.times),
        request_id=wire.request_id,
        concealed=wire.concealed,
        packet=packet,
    )


def _result(wire: analysis_pb2.EngineResult, picture: Picture | None) -> EngineResult:
    width, height = (picture.width, picture.height) if picture else (0, 0)
    return EngineResult(
        engine=wire.engine,
        version=wire.version,
        batch_size=wire.batch_size,
        candidates_saturated=wire.candidates_saturated,
        backend=wire.backend,
        detections=tuple(_detection(detection, width, height) for detection in wire.detections),
        classifications=tuple(Classification(c.class_id, c.label, c.score) for c in wire.classifications),
        embedding=tuple(wire.embedding),
    )


def _detection(wire: analysis_pb2.Detection, width: int, height: int) -> Detection:
    box = Box(wire.box.x_min, wire.box.y_min, wire.box.x_max, wire.box.y_max)
    return Detection(
        class_id=wire.class_id,
        label=wire.label,
        score=wire.score,
        box=box,
        box_px=Box(box.x_min * width, box.y_min * height, box.x_max * width, box.y_max * height),
        track_id=wire.track_id,
        attributes=_attributes(wire.attributes),
        keypoints=_keypoints(wire.keypoints),
        mask=Mask(wire.mask.width, wire.mask.height, tuple(wire.mask.runs)) if wire.HasField("mask") else None,
        embedding=tuple(wire.embedding),
    )


def _attributes(wires: Sequence[analysis_pb2.Attribute]) -> tuple[Attribute, ...]:
    return tuple(Attribute(w.name, w.value, w.score if w.HasField("score") else None) for w in wires)


def _keypoints(wires: Sequence[analysis_pb2.Keypoint]) -> tuple[Keypoint, ...]:
    return tuple(Keypoint(w.name, w.point.x, w.point.y, w.score if w.HasField("score") else None) for w in wires)


def _times(wire: analysis_pb2.FrameTimes) -> Times:
    return Times(
        receive_time_ns=_nanoseconds(wire.receive_time) if wire.HasField("receive_time") else None,
        capture_time_ns=_nanoseconds(wire.capture_time) if wire.HasField("capture_time") else None,
        receive_us=wire.receive_us,
        decode_us=wire.decode_us,
        wait_us=wire.wait_us,
        convert_us=wire.convert_us,
        batch_us=wire.batch_us,
        execute_us=wire.execute_us,
        post_us=wire.post_us,
        total_us=wire.total_us,
    )


def _nanoseconds(wire: timestamp_pb2.Timestamp) -> int:
    return wire.seconds * 1_000_000_000 + wire.nanos
