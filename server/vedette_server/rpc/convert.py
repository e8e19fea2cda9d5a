"""Take messages of the contract apart into plain data, and put them together again.

The only place that does; what belongs to a stream's configuration stands in `rpc/convert_config.py` and
is handed on from here.

Threads: pure functions, callable from any. `packet_from_wire` and the builders of verdicts run for every
frame: they set fields in place, which in upb takes half the time of passing messages to constructors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from vedette.v1 import analysis_pb2, session_pb2, stream_pb2
from vedette_server.data.packet import Packet
from vedette_server.errors import InvalidError
from vedette_server.rpc.convert_config import (
    ConfigDefaults,
    apply_update,
    channel_from_wire,
    check_extradata,
    config_from_wire,
    config_to_wire,
    set_duration,
)

if TYPE_CHECKING:
    import numpy as np
    from google.protobuf.timestamp_pb2 import Timestamp
    from numpy.typing import NDArray

    from vedette_server.data.times import StageTimes
    from vedette_server.data.verdict import EngineLabel, Verdict
    from vedette_server.post.detections import Detections
    from vedette_server.session.accounts import AccountSnapshot

__all__ = [
    "ConfigDefaults",
    "account_to_wire",
    "apply_update",
    "channel_from_wire",
    "config_from_wire",
    "config_to_wire",
    "packet_from_wire",
    "set_duration",
    "set_timestamp",
    "write_verdict",
]

_NS = 1_000_000_000
# What a google.protobuf.Timestamp can say, years 1 to 9999, in nanoseconds since the epoch.
_FIRST_NS = -62_135_596_800 * _NS
_END_NS = 253_402_300_800 * _NS
# A classifier of thousands of classes tells the best of them.
_MAX_CLASSIFICATIONS = 10


def packet_from_wire(
    packet: stream_pb2.Packet, received_s: float, received_wall_ns: int, data: bytes | None = None
) -> Packet:
    """Take one whole packet, or the first fragment of one, apart.

    Args:
        packet: As received; its fragments and `client_dropped_before` are the caller's business.
        received_s: Receipt on the server's monotonic clock.
        received_wall_ns: Receipt on the wall clock, nanoseconds since the epoch.
        data: Its bytes, where they were read before: each look at the field copies them. None: not yet.

    Raises:
        InvalidError: EXTRADATA_TOO_LARGE, INVALID_CAPTURE_TIME.
    """
    has = packet.HasField
    extradata = None
    if has("extradata"):
        extradata = packet.extradata
        check_extradata(extradata)
    capture_ns = None
    if has("capture_time"):
        capture = packet.capture_time
        capture_ns = capture.seconds * _NS + capture.nanos
        if not _FIRST_NS <= capture_ns < _END_NS:
            raise InvalidError(
                "INVALID_CAPTURE_TIME",
                f"capture_time is {capture.seconds} s and {capture.nanos} ns; allowed: the years 1 to 9999",
            )
    return Packet(
        packet.sequence,
        packet.data if data is None else data,
        received_s,
        received_wall_ns,
        packet.pts if has("pts") else None,
        packet.dts if has("dts") else None,
        packet.duration if has("duration") else None,
        packet.keyframe,
        capture_ns,
        extradata,
        packet.discontinuity,
        packet.decode_only,
    )


def account_to_wire(account: AccountSnapshot) -> session_pb2.Account:
    """Put the totals of a session together; reasons that never occurred are left out."""
    wire = session_pb2.Account(
        packets_received=account.packets_received,
        bytes_received=account.bytes_received,
        packets_pending=account.packets_pending,
        analysed=account.analysed,
        pictures_decoded=account.pictures_decoded,
        client_dropped=account.client_dropped,
        verdicts=account.verdicts,
        decode_only=account.decode_only,
    )
    for reason, count in sorted(account.skipped.items()):
        if count:
            wire.skipped.add(reason=analysis_pb2.SkipReason.ValueType(reason), count=count)
    return wire


def write_verdict(verdict: Verdict, wire: analysis_pb2.FrameVerdict, verdict_index: int, request_id: str) -> None:
    """Write one verdict in place: a skip when it has a reason, an analysis with its results otherwise."""
    packet = verdict.packet
    wire.verdict_index = verdict_index
    wire.sequence = packet.sequence
    if verdict.pts is not None:
        wire.frame_pts = verdict.pts
    wire.request_id = request_id
    times = wire.times
    set_timestamp(times.receive_time, packet.received_wall_ns)
    if packet.capture_wall_ns is not None:
        set_timestamp(times.capture_time, packet.capture_wall_ns)
    _write_stages(verdict.times, times)
    if verdict.width:
        picture = wire.picture
        picture.width = verdict.width
        picture.height = verdict.height
        picture.rotation_degrees = verdict.rotation_degrees
    if verdict.reason is None:
        _write_analysis(verdict, wire.analysis)
        return
    skip = wire.skip
    # An enumeration's value is a plain int at run time; a call less per verdict.
    skip.reason = verdict.reason  # type: ignore[assignment]
    if verdict.detail:
        skip.detail = verdict.detail


def set_timestamp(wire: Timestamp, wall_ns: int) -> None:
    """Set a google.protobuf.Timestamp in place from nanoseconds since the epoch."""
    wire.seconds, wire.nanos = divmod(wall_ns, _NS)


def _write_stages(stages: StageTimes, wire: analysis_pb2.FrameTimes) -> None:
    wire.receive_us = _micros(stages.receive_s)
    wire.decode_us = _micros(stages.decode_s)
    wire.wait_us = _micros(stages.wait_s)
    wire.convert_us = _micros(stages.convert_s)
    wire.batch_us = _micros(stages.batch_s)
    wire.execute_us = _micros(stages.execute_s)
    wire.post_us = _micros(stages.post_s)
    wire.total_us = _micros(stages.total_s)


def _micros(seconds: float) -> int:
    # Clocks read on two threads may differ by a tick; the field is unsigned.
    return int(seconds * 1e6 + 0.5) if seconds > 0.0 else 0


def _write_analysis(verdict: Verdict, wire: analysis_pb2.Analysis) -> None:
    # An analysis without any result must still be told from no outcome at all.
    wire.SetInParent()
    add = wire.results.add
    for outcome in verdict.results:
        engine = outcome.engine
        result = add()
        result.engine = engine.name
        result.version = engine.version
        result.batch_size = outcome.batch_size
        result.backend = engine.backend
        if outcome.detections is not None:
            _write_detections(outcome.detections, engine, result)
        elif outcome.vector is not None:
            _write_vector(outcome.vector, engine, result)


def _write_detections(found: Detections, engine: EngineLabel, wire: analysis_pb2.EngineResult) -> None:
    wire.candidates_saturated = bool(found.saturated)
    if not len(found.scores):
        return
    labels = engine.labels
    add = wire.detections.add
    # One conversion per array: reading NumPy scalars one by one costs more than the whole message.
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    for corners, score, class_id in rows:
        label = labels[class_id] if class_id < len(labels) else ""
        box = add(class_id=class_id, label=label, score=score).box
        box.x_min, box.y_min, box.x_max, box.y_max = corners
    if engine.extras:
        _write_extras(found, engine, wire)
    if found.track_ids:
        for detection, track_id in zip(wire.detections, found.track_ids, strict=True):
            detection.track_id = track_id
    if found.attached:
        _write_attached(found, wire)


def _write_extras(found: Detections, engine: EngineLabel, wire: analysis_pb2.EngineResult) -> None:
    """Add the engine's named extras to each detection: keypoints, already normalised, and attributes."""
    keypoints, attributes = _extras_layout(engine.extras)
    for detection, row in zip(wire.detections, found.extras.tolist(), strict=True):
        for name, column in keypoints:
            keypoint = detection.keypoints.add(name=name, score=row[column + 2])
            keypoint.point.x, keypoint.point.y = row[column], row[column + 1]
        for name, column in attributes:
            detection.attributes.add(name=name, value=f"{row[column]:.6g}")


def _write_attached(found: Detections, wire: analysis_pb2.EngineResult) -> None:
    """Add what further engines said about each detection."""
    for detection, attached in zip(wire.detections, found.attached, strict=True):
        if attached is None:
            continue
        for name, value, score in attached.attributes:
            detection.attributes.add(name=name, value=value, score=score)
        if attached.embedding is not None:
            detection.embedding.extend(attached.embedding.tolist())


@functools.lru_cache(maxsize=64)
def _extras_layout(extras: tuple[str, ...]) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Tell the first column of each keypoint (`kpt:NAME:x`, then y and score), and the other columns by name."""
    parts = [(name.split(":"), column) for column, name in enumerate(extras)]
    keypoints = [(words[1], column) for words, column in parts if words[0] == "kpt" and words[-1] == "x"]
    attributes = [(extras[column], column) for words, column in parts if words[0] != "kpt"]
    return keypoints, attributes


def _write_vector(vector: NDArray[np.float32], engine: EngineLabel, wire: analysis_pb2.EngineResult) -> None:
    if engine.task != "classifier":
        wire.embedding.extend(vector.tolist())
        return
    scores = vector.tolist()
    best = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:_MAX_CLASSIFICATIONS]
    for class_id in best:
        label = engine.labels[class_id] if class_id < len(engine.labels) else ""
        wire.classifications.add(class_id=class_id, label=label, score=scores[class_id])
