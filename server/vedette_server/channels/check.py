"""Refuse a channel that cannot be kept, judged or called, before anything changes. Pure, but for looking up links."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, NoReturn

from vedette_server.channels.urls import check_url
from vedette_server.data.rules import Crowd, EvidencePolicy, Occupancy
from vedette_server.errors import InvalidError
from vedette_server.monitor.check import check as check_watch
from vedette_server.monitor.check import labels_listed
from vedette_server.shown import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_server.data.channel import ChannelRecord, SourceStream, StageConfig
    from vedette_server.data.config import EngineRef, Polygon
    from vedette_server.pull.hosts import Hosts

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ENGINE = re.compile(r"[A-Za-z0-9._+-]{1,128}")
_MOST_DISPLAY_CHARS = 256
# Control characters, surrogates, separators of lines and paragraphs.
_UNSHOWN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_MOST_STAGES, _MOST_ENGINES = 4, 8
_MOST_LABELS, _MOST_LABEL_CHARS = 4096, 256
_MOST_REGIONS, _MOST_CORNERS = 256, 64
_MOST_OBJECTS = 100_000
_DAY_S = 86_400.0
_CENTURY_S = 100 * 365.25 * _DAY_S
_SHORTEST_SEGMENT_S, _LONGEST_SEGMENT_S = 1.0, 3600.0
_LARGEST = 2**63 - 1


def check_record(
    record: ChannelRecord, labels: Sequence[str] = (), folders: Sequence[Path] = (), hosts: Hosts | None = None
) -> None:
    """Check a whole channel.

    Args:
        record: The channel.
        labels: Names of the classes that its engines know; empty: not known yet, and no label is refused.
        folders: Sources `file:` are allowed below these.
        hosts: Which may be called for sources; None: that is judged when they are.

    Raises:
        InvalidError: INVALID_CHANNEL, INVALID_DISPLAY_NAME, INVALID_STAGE, INVALID_SOURCE, INVALID_RECORDING,
            INVALID_RETENTION, UNKNOWN_LABEL, or what `monitor.check` refuses. Its `field` says where.
    """
    # `channels/-` stands for all of them.
    if not NAME.fullmatch(record.name) or record.name == "-":
        _refuse("INVALID_CHANNEL", "name", record.name, "1 to 128 of A-Z a-z 0-9 . _ -, but not - alone")
    title = record.display_name
    if len(title) > _MOST_DISPLAY_CHARS or any(unicodedata.category(one) in _UNSHOWN for one in title):
        allowed = f"at most {_MOST_DISPLAY_CHARS} characters, no control characters"
        _refuse("INVALID_DISPLAY_NAME", "display_name", title, allowed)
    check_watch(record.watch, labels)
    for rule in record.watch.rules:
        field = f"rules.{rule.name}"
        _labels("INVALID_RULE", f"{field}.labels", rule.labels, ())
        if isinstance(rule.condition, Occupancy | Crowd):
            for key in ("at_least", "at_most"):
                _range("INVALID_RULE", f"{field}.{key}", getattr(rule.condition, key, None), 0, _MOST_OBJECTS)
    _stages(record.stages, labels)
    if record.source is not None:
        check_url(record.source.url, folders, hosts)
        _stream(record.source.stream, labels)
    _keeping(record)


def _stages(stages: Sequence[StageConfig], labels: Sequence[str]) -> None:
    if len(stages) > _MOST_STAGES:
        _refuse("INVALID_STAGE", "stages", len(stages), f"at most {_MOST_STAGES}")
    for index, stage in enumerate(stages):
        field = f"stages[{index}]"
        _range("INVALID_STAGE", f"{field}.margin", stage.margin, 0.0, 1.0)
        _range("INVALID_STAGE", f"{field}.refresh_s", stage.refresh_s, 0.0, _DAY_S)
        _labels("INVALID_STAGE", f"{field}.labels", stage.labels, labels)
    _engines("INVALID_STAGE", "stages.engine", [stage.engine for stage in stages])


def _stream(stream: SourceStream, labels: Sequence[str]) -> None:
    reason, field = "INVALID_SOURCE", "source.stream"
    _range(reason, f"{field}.engines", len(stream.engines), 1, _MOST_ENGINES)
    _engines(reason, f"{field}.engines", stream.engines)
    for key, value in (("max_fps", stream.max_fps), ("max_age_s", stream.max_age_s)):
        if value is not None and not 0.0 < value <= _DAY_S:
            _refuse(reason, f"{field}.{key}", value, f"above 0 to {_DAY_S:g}, or absent")
    _range(reason, f"{field}.min_score", stream.min_score, 0.0, 1.0)
    _range(reason, f"{field}.iou", stream.iou, 0.0, 1.0)
    _range(reason, f"{field}.priority", stream.priority, 1, 100)
    _range(reason, f"{field}.max_detections", stream.max_detections, 1, 1000)
    if stream.rotation_degrees not in {0, 90, 180, 270}:
        _refuse(reason, f"{field}.rotation_degrees", stream.rotation_degrees, "0, 90, 180, 270")
    _labels(reason, f"{field}.classes", stream.classes, labels)
    _range(reason, f"{field}.regions", len(stream.regions), 0, _MOST_REGIONS)
    for index, region in enumerate(stream.regions):
        _region(f"{field}.regions[{index}]", region)


def _region(field: str, corners: Polygon) -> None:
    if not 3 <= len(corners) <= _MOST_CORNERS:
        _refuse("INVALID_SOURCE", field, len(corners), f"3 to {_MOST_CORNERS} corners")
    for x, y in corners:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            _refuse("INVALID_SOURCE", field, (x, y), "x and y from 0 to 1")


def _keeping(record: ChannelRecord) -> None:
    recording, retention = record.recording, record.retention
    least, most = _SHORTEST_SEGMENT_S, _LONGEST_SEGMENT_S
    _range("INVALID_RECORDING", "recording.segment_s", recording.segment_s, least, most)
    if recording.enabled and record.watch.evidence is EvidencePolicy.NONE:
        allowed = "false where evidence is none: nothing is kept of its pictures"
        _refuse("INVALID_RECORDING", "recording.enabled", True, allowed)
    age_s = retention.max_age_s
    if age_s is not None and not 0.0 < age_s <= _CENTURY_S:
        _refuse("INVALID_RETENTION", "retention.max_age_s", age_s, f"above 0 to {_CENTURY_S:.0f}, or absent")
    _range("INVALID_RETENTION", "retention.max_events", retention.max_events, 1, _LARGEST)
    _range("INVALID_RETENTION", "retention.max_bytes", retention.max_bytes, 1, _LARGEST)


def _engines(reason: str, field: str, engines: Sequence[EngineRef]) -> None:
    names = [engine.name for engine in engines]
    for engine in engines:
        if not _ENGINE.fullmatch(engine.name) or not _ENGINE.fullmatch(engine.version or "-"):
            typed = f"{engine.name}@{engine.version}" if engine.version else engine.name
            _refuse(reason, field, typed, "a name, and where wanted a version, 1 to 128 of A-Z a-z 0-9 . _ + - each")
        if names.count(engine.name) > 1:
            _refuse(reason, field, engine.name, "each engine once")


def _labels(reason: str, field: str, labels: Sequence[str], known: Sequence[str]) -> None:
    if len(labels) > _MOST_LABELS:
        _refuse(reason, field, f"{len(labels)} labels", f"at most {_MOST_LABELS}")
    for label in labels:
        if not 1 <= len(label) <= _MOST_LABEL_CHARS:
            _refuse(reason, field, label, f"labels of 1 to {_MOST_LABEL_CHARS} characters")
        if known and label not in known:
            _refuse("UNKNOWN_LABEL", field, label, labels_listed(known, label))


def _range(reason: str, field: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        _refuse(reason, field, value, f"{least} to {most}")


def _refuse(reason: str, field: str, value: object, allowed: str) -> NoReturn:
    said = "missing" if value is None else shown(value)
    raise InvalidError(reason, f"{field} is {said}; allowed: {allowed}", field=field)
