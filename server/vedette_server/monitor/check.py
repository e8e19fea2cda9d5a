"""Refuse what cannot be judged, before anybody relies on it.

Every refusal has a stable reason and a message that names the thing, its value and what is allowed. Pure.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, NoReturn
from zoneinfo import ZoneInfo

import shapely
from shapely.validation import explain_validity

from vedette_server.data.event import EventKind
from vedette_server.data.rules import (
    EVERYWHERE,
    Absence,
    Cross,
    Crowd,
    Dwell,
    EvidencePolicy,
    Left,
    MaskKind,
    Occupancy,
    Removed,
    Speed,
    WrongWay,
)
from vedette_server.errors import InvalidError
from vedette_server.monitor.schedule import longest_minutes
from vedette_server.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette_server.data.rules import Condition, Points, Rule, ScheduleSpan, WatchConfig

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST = 64
# Events of the camera itself are of this rule.
_RESERVED = "camera"
_EMPTY = "empty, for the whole picture"
# A day: whoever wants to know of more asks the store.
_LONGEST_S = 86_400.0


def check(config: WatchConfig, labels: Sequence[str]) -> None:
    """Check what is wanted of a channel.

    Args:
        config: What is wanted.
        labels: Names of the classes that its engines know; empty: not known yet, and no label is refused.

    Raises:
        InvalidError: INVALID_TIME_ZONE, INVALID_ZONE, INVALID_LINE, INVALID_MASK, INVALID_RULE, UNKNOWN_ZONE,
            UNKNOWN_LINE, UNKNOWN_LABEL, INVALID_SCHEDULE, SCHEDULE_NEVER_FIRES, INVALID_TRACKING, INVALID_GATE,
            INVALID_HEALTH or INVALID_SCALE.
    """
    _time_zone(config.time_zone)
    _names("ZONE", [zone.name for zone in config.zones])
    _names("LINE", [line.name for line in config.lines])
    _names("RULE", [rule.name for rule in config.rules])
    for zone in config.zones:
        _polygon("INVALID_ZONE", f"zones.{zone.name}.vertices", zone.vertices)
    for line in config.lines:
        _course(f"lines.{line.name}.points", line.points)
    if len(config.masks) > _MOST:
        _refuse("INVALID_MASK", "masks", _Words(f"{len(config.masks)} masks"), f"at most {_MOST}")
    for index, mask in enumerate(config.masks):
        if mask.kind is MaskKind.PRIVACY and config.evidence is EvidencePolicy.ORIGINAL:
            allowed = "with evidence masked or none; with original its pixels would be kept and shown"
            _refuse("INVALID_MASK", f"masks[{index}].kind", mask.kind.value, allowed)
        _polygon("INVALID_MASK", f"masks[{index}].vertices", mask.vertices)
    if config.width_metres is not None:
        _number("INVALID_SCALE", "width_metres", config.width_metres, above=0.0, most=1e6)
    for rule in config.rules:
        _rule(rule, config, labels)
    _following(config)


class _Words(str):
    """What is said of a value rather than the value itself: shown without quotes."""

    __slots__ = ()


def _refuse(reason: str, field: str, value: object, allowed: str) -> NoReturn:
    said = "missing" if value is None else str(value) if isinstance(value, _Words) else shown(value)
    raise InvalidError(reason, f"{field} is {said}; allowed: {allowed}", field=field)


def _number(
    reason: str, field: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    if math.isfinite(value) and value >= least and value > above and value <= most:
        return
    low = f"above {above:g}" if above > -math.inf else f"{least:g}"
    _refuse(reason, field, value, f"{low} to {most:g}" if most < math.inf else f"{low} and finite")


def _names(kind: str, names: Sequence[str]) -> None:
    field = f"{kind.lower()}s"
    if len(names) > _MOST:
        _refuse(f"INVALID_{kind}", field, _Words(f"{len(names)} {field}"), f"at most {_MOST}")
    for name in names:
        if not _NAME.fullmatch(name):
            _refuse(f"INVALID_{kind}", f"{field}.name", name, "1 to 64 of A-Z a-z 0-9 . _ -")
        if kind == "RULE" and name == _RESERVED:
            _refuse("INVALID_RULE", "rules.name", name, "another name: events of the camera itself are of that rule")
        if names.count(name) > 1:
            _refuse(f"INVALID_{kind}", f"{field}.name", name, "each name once")


def _time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        _refuse("INVALID_TIME_ZONE", "time_zone", name, "IANA names like Europe/Berlin or UTC")


# -- shapes --


def _points(reason: str, field: str, points: Points, least: int) -> None:
    if not least <= len(points) <= _MOST:
        _refuse(reason, field, _Words(f"{len(points)} points"), f"{least} to {_MOST} points")
    for x, y in points:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            _refuse(reason, field, (x, y), "x and y from 0 to 1, inside the picture")


def _polygon(reason: str, field: str, vertices: Points) -> None:
    _points(reason, field, vertices, 3)
    polygon = shapely.Polygon(vertices)
    if not polygon.is_valid:
        _refuse(reason, field, _Words(f"crossing itself ({_rounded(polygon)})"), "edges that do not cross or touch")
    if polygon.area < 1e-6:
        _refuse(
            reason, field, _Words(f"without an area ({polygon.area:.1g} of the picture)"), "at least a millionth of it"
        )


def _rounded(polygon: shapely.Polygon) -> str:
    """Say what is wrong with a polygon and where: `Self-intersection[0.5 0.25]`."""
    return re.sub(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", lambda found: f"{float(found[0]):.4g}", explain_validity(polygon))


def _course(field: str, points: Points) -> None:
    _points("INVALID_LINE", field, points, 2)
    length = shapely.LineString(points).length
    if length < 1e-3:
        _refuse("INVALID_LINE", field, _Words(f"of length {length:.1g}"), "at least 0.001 of the picture's width")


# -- rules --


def _rule(rule: Rule, config: WatchConfig, labels: Sequence[str]) -> None:
    field = f"rules.{rule.name}"
    _number("INVALID_RULE", f"{field}.min_score", rule.min_score, least=0.0, most=1.0)
    _number("INVALID_RULE", f"{field}.min_time_s", rule.min_time_s, least=0.0, most=_LONGEST_S)
    _number("INVALID_RULE", f"{field}.cool_down_s", rule.cool_down_s, least=0.0, most=_LONGEST_S)
    _number("INVALID_RULE", f"{field}.hysteresis", rule.hysteresis, least=0.0, most=0.2)
    for label in rule.labels if labels else ():
        if label not in labels:
            _refuse("UNKNOWN_LABEL", f"{field}.labels", label, labels_listed(labels, label))
    _place(field, rule.condition, config)
    inner = _CONDITIONS.get(type(rule.condition))
    if inner is not None:
        inner(field, rule.condition)
    _schedule(field, rule)


def labels_listed(known: Sequence[str], typed: str) -> str:
    """List labels that there are, those first that were perhaps meant."""
    near = difflib.get_close_matches(typed[:64], known, n=3)
    return _listed([*near, *(label for label in known if label not in near)])


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")


def _place(field: str, condition: Condition, config: WatchConfig) -> None:
    if isinstance(condition, Cross):
        if condition.line not in {line.name for line in config.lines}:
            known = _listed(line.name for line in config.lines)
            said = _Words(f"{shown(condition.line)}; no line is configured") if not known else condition.line
            _refuse("UNKNOWN_LINE", f"{field}.line", said, known or "one that is made under lines")
    elif condition.zone != EVERYWHERE and condition.zone not in {zone.name for zone in config.zones}:
        known = _listed(zone.name for zone in config.zones)
        said = _Words(f"{shown(condition.zone)}; no zone is configured") if not known else condition.zone
        _refuse("UNKNOWN_ZONE", f"{field}.zone", said, f"{known}, or empty for the whole picture" if known else _EMPTY)


def _at_least_s(field: str, condition: Condition) -> None:
    assert isinstance(condition, Dwell | Left | Removed | Absence)  # noqa: S101  # chosen by its type
    _number("INVALID_RULE", f"{field}.at_least_s", condition.at_least_s, above=0.0, most=_LONGEST_S)


def _occupancy(field: str, condition: Condition) -> None:
    assert isinstance(condition, Occupancy)  # noqa: S101  # chosen by its type
    least, most = condition.at_least, condition.at_most
    if least is None and most is None:
        _refuse("INVALID_RULE", f"{field}.at_least", None, "at_least, at_most or both are set")
    if least is not None and least < 1:
        _refuse("INVALID_RULE", f"{field}.at_least", least, "1 or more: 0 always holds")
    if most is not None and most < 0:
        _refuse("INVALID_RULE", f"{field}.at_most", most, "0 or more")
    if least is not None and most is not None and least <= most + 1:
        _refuse("INVALID_RULE", f"{field}.at_least", least, f"above {most + 1}: with at_most {most} it always holds")


def _crowd(field: str, condition: Condition) -> None:
    assert isinstance(condition, Crowd)  # noqa: S101  # chosen by its type
    if condition.at_least < 2:
        _refuse("INVALID_RULE", f"{field}.at_least", condition.at_least, "2 or more")
    _number("INVALID_RULE", f"{field}.distance", condition.distance, above=0.0)


def _speed(field: str, condition: Condition) -> None:
    assert isinstance(condition, Speed)  # noqa: S101  # chosen by its type
    if condition.above is None and condition.below is None:
        _refuse("INVALID_RULE", f"{field}.above", None, "above, below or both are set")
    for name, value in (("above", condition.above), ("below", condition.below)):
        if value is not None:
            _number("INVALID_RULE", f"{field}.{name}", value, above=0.0)
    if condition.above is not None and condition.below is not None and condition.above <= condition.below:
        allowed = f"more than below, {condition.below:g}: otherwise it always holds"
        _refuse("INVALID_RULE", f"{field}.above", condition.above, allowed)


def _wrong_way(field: str, condition: Condition) -> None:
    assert isinstance(condition, WrongWay)  # noqa: S101  # chosen by its type
    _number("INVALID_RULE", f"{field}.allowed_degrees", condition.allowed_degrees, least=0.0, most=360.0)
    if not 0.0 < condition.tolerance_degrees < 180.0:
        value = condition.tolerance_degrees
        _refuse("INVALID_RULE", f"{field}.tolerance_degrees", value, "above 0 and below 180")
    _number("INVALID_RULE", f"{field}.min_speed", condition.min_speed, above=0.0)


_CONDITIONS: dict[type, Callable[[str, Condition], None]] = {
    Dwell: _at_least_s,
    Left: _at_least_s,
    Removed: _at_least_s,
    Absence: _at_least_s,
    Occupancy: _occupancy,
    Crowd: _crowd,
    Speed: _speed,
    WrongWay: _wrong_way,
}


def _schedule(field: str, rule: Rule) -> None:
    if len(rule.schedule) > _MOST:
        _refuse("INVALID_SCHEDULE", f"{field}.schedule", _Words(f"{len(rule.schedule)} spans"), f"at most {_MOST}")
    for span in rule.schedule:
        _span(f"{field}.schedule", span)
    if not rule.schedule:
        return
    needed = rule.min_time_s + getattr(rule.condition, "at_least_s", 0.0)
    longest = longest_minutes(rule.schedule) * 60
    if longest < needed:
        value = f"on for {longest:g} s at a time, never for the {needed:g} s that the rule takes"
        _refuse("SCHEDULE_NEVER_FIRES", f"{field}.schedule", _Words(value), "a span that is longer than the rule takes")


def _span(field: str, span: ScheduleSpan) -> None:
    for day in span.days:
        if day not in range(1, 8):
            _refuse("INVALID_SCHEDULE", f"{field}.days", day, "1 (Monday) to 7 (Sunday), or none for all")
    if not 0 <= span.from_minute < 1440:
        _refuse("INVALID_SCHEDULE", f"{field}.from_minute", span.from_minute, "0 to 1439")
    if not 1 <= span.to_minute <= 1440:
        _refuse("INVALID_SCHEDULE", f"{field}.to_minute", span.to_minute, "1 to 1440")


# -- the rest --


def _following(config: WatchConfig) -> None:
    _number("INVALID_TRACKING", "tracking.max_lost_s", config.tracking.max_lost_s, above=0.0, most=3600.0)
    if not 1 <= config.tracking.confirm_frames <= 1000:
        _refuse("INVALID_TRACKING", "tracking.confirm_frames", config.tracking.confirm_frames, "1 to 1000")
    _number("INVALID_GATE", "gate.min_area", config.gate.min_area, least=0.0, most=1.0)
    _number("INVALID_GATE", "gate.floor_fps", config.gate.floor_fps, least=0.0, most=1000.0)
    _number("INVALID_HEALTH", "health.offline_after_s", config.health.offline_after_s, above=0.0, most=_LONGEST_S)
    _number("INVALID_HEALTH", "health.min_time_s", config.health.min_time_s, least=0.0, most=_LONGEST_S)
    kinds = [kind.value for kind in EventKind if kind.of_camera]
    for name in sorted(config.health.ignored):
        if name not in kinds:
            _refuse("INVALID_HEALTH", "health.ignored", name, ", ".join(kinds))
