"""Take what the contract says of channels apart into plain data, and put it together again.

Only what the wire alone can get wrong is refused here: enumerations, durations, what is missing. Values are checked
where every channel is, by `channels.check`. What is sent back has every default filled in, and no password in it.

Threads: pure functions, callable from any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette.v1 import channel_pb2, event_pb2, stream_pb2
from vedette_server.data.channel import (
    ChannelRecord,
    RecordingConfig,
    RetentionConfig,
    SourceConfig,
    SourceStream,
    StageConfig,
)
from vedette_server.data.config import DeliveryPolicy, EngineRef
from vedette_server.data.event import EventKind
from vedette_server.data.rules import (
    EvidencePolicy,
    GateConfig,
    GateMode,
    HealthConfig,
    Line,
    Mask,
    MaskKind,
    TrackingConfig,
    WatchConfig,
    Zone,
)
from vedette_server.pull.secrets import shown_url
from vedette_server.rpc.convert import channel_from_wire
from vedette_server.rpc.convert_event import set_time
from vedette_server.rpc.convert_rules import (
    maybe,
    maybe_seconds,
    member,
    number_of,
    points_from_wire,
    points_to_wire,
    refuse,
    rule_from_wire,
    rule_to_wire,
    seconds_from_wire,
    seconds_to_wire,
)

if TYPE_CHECKING:
    from vedette_server.channels.status import ChannelStatusView

_EVIDENCE = {
    channel_pb2.EVIDENCE_POLICY_UNSPECIFIED: EvidencePolicy.ORIGINAL,
    channel_pb2.EVIDENCE_POLICY_ORIGINAL: EvidencePolicy.ORIGINAL,
    channel_pb2.EVIDENCE_POLICY_MASKED: EvidencePolicy.MASKED,
    channel_pb2.EVIDENCE_POLICY_NONE: EvidencePolicy.NONE,
}
_MASKS = {
    channel_pb2.MASK_KIND_PRIVACY: MaskKind.PRIVACY,
    channel_pb2.MASK_KIND_DETECTION: MaskKind.DETECTION,
    channel_pb2.MASK_KIND_MOTION: MaskKind.MOTION,
}
_GATES = {
    channel_pb2.GATE_MODE_UNSPECIFIED: GateMode.OFF,
    channel_pb2.GATE_MODE_OFF: GateMode.OFF,
    channel_pb2.GATE_MODE_MOTION: GateMode.MOTION,
}
_POLICIES = {
    stream_pb2.DELIVERY_POLICY_UNSPECIFIED: DeliveryPolicy.LIVE,
    stream_pb2.DELIVERY_POLICY_LIVE: DeliveryPolicy.LIVE,
    stream_pb2.DELIVERY_POLICY_EVERY_FRAME: DeliveryPolicy.EVERY_FRAME,
}
_KINDS = {event_pb2.EventKind.Value(f"EVENT_KIND_{kind.name}"): kind for kind in EventKind}
# What a camera that the server calls cannot have, and why.
_NOT_PULLED = {
    "resume": "the server resumes a camera that it calls by itself",
    "takeover": "the server alone holds a camera that it calls",
    "omit_skips": "nobody is told of skipped packets one by one",
    "capture_clock": "the server stamps the pictures of a camera that it calls",
}


def record_from_wire(wire: channel_pb2.Channel) -> ChannelRecord:
    """Take a channel apart; output fields are not looked at.

    Raises:
        InvalidError: A field cannot be what it is; `field` says which.
    """
    return ChannelRecord(
        name=channel_from_wire(wire.name),
        display_name=wire.display_name,
        watch=_watch(wire),
        stages=tuple(_stage(stage, f"stages[{index}]") for index, stage in enumerate(wire.stages)),
        source=_source(wire.source) if wire.HasField("source") else None,
        recording=RecordingConfig(
            wire.recording.enabled,
            seconds_from_wire(wire.recording, "segment", "recording", "INVALID_RECORDING", RecordingConfig().segment_s),
        ),
        retention=RetentionConfig(
            max_age_s=maybe_seconds(wire.retention, "max_age", "retention", "INVALID_RETENTION"),
            max_events=maybe(wire.retention, "max_events"),
            max_bytes=maybe(wire.retention, "max_bytes"),
        ),
    )


def record_to_wire(record: ChannelRecord, status: ChannelStatusView | None = None) -> channel_pb2.Channel:
    """Put a channel together, with where it stands."""
    watch = record.watch
    wire = channel_pb2.Channel(
        name=f"channels/{record.name}",
        display_name=record.display_name,
        time_zone=watch.time_zone,
        zones=[channel_pb2.Zone(name=zone.name, vertices=points_to_wire(zone.vertices)) for zone in watch.zones],
        lines=[channel_pb2.Line(name=line.name, points=points_to_wire(line.points)) for line in watch.lines],
        rules=[rule_to_wire(rule) for rule in watch.rules],
        evidence=number_of(_EVIDENCE, watch.evidence),
        width_metres=watch.width_metres,
        revision=record.revision,
    )
    for mask in watch.masks:
        wire.masks.add(kind=number_of(_MASKS, mask.kind), vertices=points_to_wire(mask.vertices))
    _follow_to_wire(watch, wire)
    for stage in record.stages:
        added = wire.stages.add(engine=_engine_to_wire(stage.engine), labels=stage.labels, margin=stage.margin)
        seconds_to_wire(added.refresh, stage.refresh_s)
    if record.source is not None:
        _source_to_wire(record.source, wire.source)
    wire.recording.enabled = record.recording.enabled
    seconds_to_wire(wire.recording.segment, record.recording.segment_s)
    _retention_to_wire(record.retention, wire)
    for time_s, stamp in ((record.create_s, wire.create_time), (record.update_s, wire.update_time)):
        if time_s:
            set_time(stamp, time_s)
    if status is not None:
        wire.status.CopyFrom(status_to_wire(status))
    wire.status.from_file = record.from_file
    return wire


def status_to_wire(status: ChannelStatusView) -> channel_pb2.ChannelStatus:
    """Describe where a channel stands."""
    wire = channel_pb2.ChannelStatus(connected=status.connected, session=status.session, detail=status.detail)
    if status.frame_time_s is not None:
        set_time(wire.frame_time, status.frame_time_s)
    if status.pull is not None:
        wire.pull = channel_pb2.PullState.ValueType(status.pull)
    wire.faults.extend(number_of(_KINDS, kind) for kind in status.faults)
    return wire


# -- what is judged --


def _watch(wire: channel_pb2.Channel) -> WatchConfig:
    health, gate, tracking = wire.health, wire.gate, wire.tracking
    masks = enumerate(wire.masks)
    ignored = (member(_KINDS, kind, "INVALID_HEALTH", "health.ignored") for kind in health.ignored)
    return WatchConfig(
        time_zone=wire.time_zone or "UTC",
        zones=tuple(Zone(zone.name, points_from_wire(zone.vertices)) for zone in wire.zones),
        lines=tuple(Line(line.name, points_from_wire(line.points)) for line in wire.lines),
        rules=tuple(rule_from_wire(rule, f"rules.{rule.name}") for rule in wire.rules),
        masks=tuple(
            Mask(member(_MASKS, mask.kind, "INVALID_MASK", f"masks[{index}].kind"), points_from_wire(mask.vertices))
            for index, mask in masks
        ),
        evidence=member(_EVIDENCE, wire.evidence, "INVALID_EVIDENCE", "evidence"),
        tracking=TrackingConfig(
            tracking.enabled,
            seconds_from_wire(tracking, "max_lost", "tracking", "INVALID_TRACKING", TrackingConfig().max_lost_s),
            maybe(tracking, "confirm_frames", TrackingConfig().confirm_frames),
        ),
        gate=GateConfig(
            member(_GATES, gate.mode, "INVALID_GATE", "gate.mode"),
            maybe(gate, "min_area", GateConfig().min_area),
            maybe(gate, "floor_fps", GateConfig().floor_fps),
        ),
        health=HealthConfig(
            enabled=not health.disabled,
            ignored=frozenset(kind.value for kind in ignored),
            offline_after_s=seconds_from_wire(
                health, "offline_after", "health", "INVALID_HEALTH", HealthConfig().offline_after_s
            ),
            min_time_s=seconds_from_wire(health, "min_time", "health", "INVALID_HEALTH", HealthConfig().min_time_s),
        ),
        width_metres=maybe(wire, "width_metres"),
        revision=wire.revision,
    )


def _follow_to_wire(watch: WatchConfig, wire: channel_pb2.Channel) -> None:
    wire.tracking.enabled = watch.tracking.enabled
    wire.tracking.confirm_frames = watch.tracking.confirm_frames
    seconds_to_wire(wire.tracking.max_lost, watch.tracking.max_lost_s)
    wire.gate.mode = number_of(_GATES, watch.gate.mode)
    wire.gate.min_area, wire.gate.floor_fps = watch.gate.min_area, watch.gate.floor_fps
    wire.health.disabled = not watch.health.enabled
    wire.health.ignored.extend(number_of(_KINDS, EventKind(kind)) for kind in sorted(watch.health.ignored))
    seconds_to_wire(wire.health.offline_after, watch.health.offline_after_s)
    seconds_to_wire(wire.health.min_time, watch.health.min_time_s)


# -- engines, sources, keeping --


def _stage(wire: channel_pb2.Stage, field: str) -> StageConfig:
    refresh_s = seconds_from_wire(wire, "refresh", field, "INVALID_STAGE", 1.0)
    return StageConfig(_engine(wire.engine), tuple(wire.labels), wire.margin, refresh_s)


def _engine(wire: stream_pb2.EngineRef) -> EngineRef:
    return EngineRef(wire.name, wire.version)


def _engine_to_wire(engine: EngineRef) -> stream_pb2.EngineRef:
    return stream_pb2.EngineRef(name=engine.name, version=engine.version)


def _source(wire: channel_pb2.Source) -> SourceConfig:
    stream, field = wire.stream, "source.stream"
    present = {one.name for one, _ in stream.ListFields()}
    for name, why in _NOT_PULLED.items():
        if name in present:
            refuse("INVALID_SOURCE", f"{field}.{name}", "set", f"absent: {why}")
    return SourceConfig(
        url=wire.url,
        stream=SourceStream(
            engines=tuple(_engine(engine) for engine in stream.engines),
            policy=member(_POLICIES, stream.policy, "INVALID_SOURCE", f"{field}.policy"),
            max_fps=maybe(stream, "max_fps"),
            max_age_s=maybe_seconds(stream, "max_age", field, "INVALID_SOURCE"),
            min_score=maybe(stream, "min_score"),
            iou=maybe(stream, "iou"),
            classes=tuple(dict.fromkeys(stream.classes)),
            regions=tuple(points_from_wire(region.vertices) for region in stream.regions),
            priority=maybe(stream, "priority", 10),
            max_detections=maybe(stream, "max_detections"),
            rotation_degrees=stream.format.rotation_degrees,
        ),
        loop=wire.loop,
        prefer_tcp=wire.prefer_tcp,
    )


def _source_to_wire(source: SourceConfig, wire: channel_pb2.Source) -> None:
    stream = source.stream
    wire.url, wire.loop, wire.prefer_tcp = shown_url(source.url), source.loop, source.prefer_tcp
    wire.stream.CopyFrom(
        stream_pb2.StreamConfig(
            engines=[_engine_to_wire(engine) for engine in stream.engines],
            policy=number_of(_POLICIES, stream.policy),
            max_fps=stream.max_fps,
            min_score=stream.min_score,
            iou=stream.iou,
            classes=stream.classes,
            regions=[stream_pb2.RegionOfInterest(vertices=points_to_wire(region)) for region in stream.regions],
            priority=stream.priority,
            max_detections=stream.max_detections,
        )
    )
    if stream.max_age_s is not None:
        seconds_to_wire(wire.stream.max_age, stream.max_age_s)
    if stream.rotation_degrees:
        wire.stream.format.rotation_degrees = stream.rotation_degrees


def _retention_to_wire(retention: RetentionConfig, wire: channel_pb2.Channel) -> None:
    if retention == RetentionConfig():
        return
    if retention.max_age_s is not None:
        seconds_to_wire(wire.retention.max_age, retention.max_age_s)
    if retention.max_events is not None:
        wire.retention.max_events = retention.max_events
    if retention.max_bytes is not None:
        wire.retention.max_bytes = retention.max_bytes
