"""A channel as a table of TOML, as it stands in the server's file of channels, and as a message of the contract.

Zones and lines are tables of points by name, a rule's condition is its `kind` and that kind's keys, engines are
`NAME` or `NAME@VERSION`, a schedule has days and times of day in words. The server reads the same from `--channels`;
a test holds the two against each other. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vedette.v1 import channel_pb2, event_pb2, stream_pb2
from vedette_client.channels_fields import (
    Entries,
    Entry,
    Place,
    as_list,
    as_text,
    fill,
    flag,
    message,
    number,
    points,
    read_points,
    refuse_unknown,
    seconds,
    table_of,
    text,
    texts,
    whole,
    word,
    write_points,
)
from vedette_client.options import channel_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")

_ZONE = text("zone")
_AT_LEAST_S = seconds("at_least_s", "at_least", needed=True)
_STILL = (_ZONE, _AT_LEAST_S)

# The keys of a rule's condition, by the rule's kind.
_CONDITIONS: dict[str, Entries] = {
    "enter": (_ZONE,),
    "leave": (_ZONE,),
    "inside": (_ZONE,),
    "cross": (
        text("line", needed=True),
        word("direction", channel_pb2.CrossDirection.DESCRIPTOR, zero="both", default="both"),
    ),
    "dwell": _STILL,
    "occupancy": (_ZONE, whole("at_least"), whole("at_most")),
    "crowd": (_ZONE, whole("at_least", needed=True), number("distance", needed=True)),
    "speed": (_ZONE, number("above"), number("below")),
    "wrong_way": (
        _ZONE,
        number("allowed_degrees", needed=True),
        number("tolerance_degrees", default=90.0),
        number("min_speed", default=0.02),
    ),
    "left": _STILL,
    "removed": _STILL,
    "absence": _STILL,
}


def _read_span(value: Any, place: Place) -> channel_pb2.ScheduleSpan:
    table = refuse_unknown(value, ("days", "from", "to"), place)
    days = []
    for index, day in enumerate(as_list(table.get("days", []), place.at("days"))):
        if day not in _DAYS:
            place.at("days").item(index).refuse(day, ", ".join(_DAYS))
        days.append(_DAYS.index(day) + 1)
    begin = _minute(table.get("from", "00:00"), place.at("from"))
    if begin == 1440:
        place.at("from").refuse(table["from"], "00:00 to 23:59")
    # Midnight is the end of a day where a span ends.
    end = _minute(table.get("to", "24:00"), place.at("to")) or 1440
    return channel_pb2.ScheduleSpan(days=days, from_minute=begin, to_minute=end)


def _write_span(span: channel_pb2.ScheduleSpan) -> dict[str, Any]:
    days = {"days": [_DAYS[day - 1] for day in span.days if 1 <= day <= 7]} if span.days else {}
    return days | {"from": _clock(span.from_minute), "to": _clock(span.to_minute)}


def _minute(value: Any, place: Place) -> int:
    clock = as_text(value, place)
    if not _CLOCK.fullmatch(clock):
        place.refuse(value, "a time of day, 00:00 to 24:00")
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _read_spans(value: Any, place: Place) -> list[channel_pb2.ScheduleSpan]:
    return [_read_span(one, place.item(index)) for index, one in enumerate(as_list(value, place))]


_RULE: Entries = (
    text("name", needed=True),
    texts("labels"),
    number("min_score", default=0.0),
    seconds("min_time_s", "min_time", default=0.0),
    Entry("schedule", "schedule", _read_spans, lambda spans: [_write_span(one) for one in spans], []),
    seconds("cool_down_s", "cool_down", default=0.0),
    word("anchor", channel_pb2.Anchor.DESCRIPTOR, default="bottom-centre"),
    number("hysteresis", default=0.01),
    flag("evidence", "without_evidence", default=True, inverted=True),
)


def _read_rule(value: Any, place: Place) -> channel_pb2.Rule:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        # A name tells more than a number in a list.
        place = Place(place.source, f"{place.path.rpartition('[')[0]}.{value['name']}")
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _CONDITIONS:
        place.at("kind").refuse(kind, ", ".join(_CONDITIONS))
    entries = _CONDITIONS[kind]
    refuse_unknown(value, ["name", "kind", *(entry.key for entry in (*entries, *_RULE[1:]))], place)
    rule = channel_pb2.Rule()
    condition: Message = getattr(rule, kind)
    condition.SetInParent()
    fill(condition, entries, value, place)
    fill(rule, _RULE, value, place)
    return rule


def _write_rule(rule: channel_pb2.Rule) -> dict[str, Any]:
    kind = rule.WhichOneof("condition")
    own = table_of(rule, _RULE)
    if kind is None:
        return own
    first = {"name": own.pop("name", ""), "kind": str(kind)}
    return first | table_of(getattr(rule, kind), _CONDITIONS[kind]) | own


def _read_rules(value: Any, place: Place) -> list[channel_pb2.Rule]:
    return [_read_rule(one, place.item(index)) for index, one in enumerate(as_list(value, place))]


def _read_engine(value: Any, place: Place) -> stream_pb2.EngineRef:
    name, at, version = as_text(value, place).partition("@")
    if not name or (at and not version):
        place.refuse(value, "NAME or NAME@VERSION")
    return stream_pb2.EngineRef(name=name, version=version)


def _write_engine(engine: stream_pb2.EngineRef) -> str:
    return f"{engine.name}@{engine.version}" if engine.version else engine.name


def _read_engines(value: Any, place: Place) -> list[stream_pb2.EngineRef]:
    return [_read_engine(one, place.item(index)) for index, one in enumerate(as_list(value, place))]


def _read_regions(value: Any, place: Place) -> list[stream_pb2.RegionOfInterest]:
    found = enumerate(as_list(value, place))
    return [stream_pb2.RegionOfInterest(vertices=read_points(one, place.item(index))) for index, one in found]


def _read_zones(value: Any, place: Place) -> list[channel_pb2.Zone]:
    table = refuse_unknown(value, tuple(value) if isinstance(value, dict) else (), place)
    return [channel_pb2.Zone(name=name, vertices=read_points(one, place.at(name))) for name, one in table.items()]


def _read_lines(value: Any, place: Place) -> list[channel_pb2.Line]:
    table = refuse_unknown(value, tuple(value) if isinstance(value, dict) else (), place)
    return [channel_pb2.Line(name=name, points=read_points(one, place.at(name))) for name, one in table.items()]


_KINDS = {
    value.name.removeprefix("EVENT_KIND_").lower(): value.number
    for value in event_pb2.EventKind.DESCRIPTOR.values
    if value.number
}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}


def _read_kinds(value: Any, place: Place) -> list[int]:
    found = []
    for index, one in enumerate(as_list(value, place)):
        if one not in _KINDS:
            place.item(index).refuse(one, ", ".join(name for name in _KINDS if name.startswith("camera_")))
        found.append(_KINDS[one])
    return found


def _write_kinds(kinds: Sequence[int]) -> list[str]:
    return sorted(_KIND_NAMES[kind] for kind in kinds if kind in _KIND_NAMES)


_GATE: Entries = (
    word("mode", channel_pb2.GateMode.DESCRIPTOR, default="off"),
    number("min_area", default=0.002),
    number("floor_fps", default=0.2),
)


def _read_gate(value: Any, place: Place) -> channel_pb2.Gate:
    """Read a gate; its mode alone may stand for it: `gate = "motion"`."""
    table = {"mode": value} if isinstance(value, str) else value
    gate = channel_pb2.Gate()
    fill(gate, _GATE, refuse_unknown(table, [entry.key for entry in _GATE], place), place)
    return gate


def _write_gate(gate: channel_pb2.Gate) -> Any:
    table = table_of(gate, _GATE)
    return table["mode"] if set(table) == {"mode"} else table


_STREAM: Entries = (
    Entry("engines", "engines", _read_engines, lambda all_: [_write_engine(one) for one in all_], [], needed=True),
    word("policy", stream_pb2.DeliveryPolicy.DESCRIPTOR, default="live"),
    number("max_fps"),
    seconds("max_age_s", "max_age"),
    number("min_score"),
    number("iou"),
    texts("classes"),
    Entry("regions", "regions", _read_regions, lambda all_: [write_points(one.vertices) for one in all_], []),
    whole("priority", default=10),
    whole("max_detections"),
)
_ROTATION = whole("rotation_degrees", default=0)
_SOURCE: Entries = (text("url", needed=True), flag("loop"), flag("prefer_tcp", default=True))


def _read_source(value: Any, place: Place) -> channel_pb2.Source:
    table = refuse_unknown(value, [entry.key for entry in (*_SOURCE, *_STREAM, _ROTATION)], place)
    source = channel_pb2.Source(prefer_tcp=True)
    fill(source, _SOURCE, table, place)
    fill(source.stream, _STREAM, table, place)
    fill(source.stream.format, (_ROTATION,), table, place)
    return source


def _write_source(source: channel_pb2.Source) -> dict[str, Any]:
    stream = table_of(source.stream, _STREAM) | table_of(source.stream.format, (_ROTATION,))
    return table_of(source, _SOURCE) | stream


_CHANNEL: Entries = (
    text("display_name"),
    text("time_zone"),
    Entry("zones", "zones", _read_zones, lambda all_: {one.name: write_points(one.vertices) for one in all_}, {}),
    Entry("lines", "lines", _read_lines, lambda all_: {one.name: write_points(one.points) for one in all_}, {}),
    Entry("rules", "rules", _read_rules, lambda all_: [_write_rule(one) for one in all_], []),
    message(
        "masks",
        channel_pb2.MaskArea,
        (word("kind", channel_pb2.MaskKind.DESCRIPTOR), points("vertices")),
        repeated=True,
    ),
    word("evidence", channel_pb2.EvidencePolicy.DESCRIPTOR, default="original"),
    message(
        "tracking",
        channel_pb2.Tracking,
        (flag("enabled"), seconds("max_lost_s", "max_lost", default=3.0), whole("confirm_frames", default=3)),
    ),
    Entry("gate", "gate", _read_gate, _write_gate, {}),
    message(
        "stages",
        channel_pb2.Stage,
        (
            Entry("engine", "engine", _read_engine, _write_engine, needed=True),
            texts("labels"),
            number("margin", default=0.0),
            seconds("refresh_s", "refresh", default=1.0),
        ),
        repeated=True,
    ),
    message(
        "health",
        channel_pb2.Health,
        (
            flag("enabled", "disabled", default=True, inverted=True),
            Entry("ignored", "ignored", _read_kinds, _write_kinds, []),
            seconds("offline_after_s", "offline_after", default=10.0),
            seconds("min_time_s", "min_time", default=5.0),
        ),
    ),
    Entry("source", "source", _read_source, _write_source),
    message("recording", channel_pb2.Recording, (flag("enabled"), seconds("segment_s", "segment", default=60.0))),
    message(
        "retention",
        channel_pb2.Retention,
        (seconds("max_age_s", "max_age"), whole("max_events"), whole("max_bytes")),
    ),
    number("width_metres"),
)
SETTINGS = tuple(entry.key for entry in _CHANNEL)
"""The keys of a channel besides its name; each is a field of the contract's Channel, too."""


def channel_to_wire(name: str, settings: Mapping[str, Any], source: str = "") -> channel_pb2.Channel:
    """Write a channel.

    Args:
        name: Its name.
        settings: What is wanted of it, as its table in a file of channels, without the name.
        source: Where it stands, for messages; empty: its name.

    Raises:
        OptionsError: Names the source, the key, the value and what is allowed.
    """
    place = Place(source or f"channel {name!r}")
    wire = channel_pb2.Channel(name=channel_name(name))
    fill(wire, _CHANNEL, refuse_unknown(dict(settings), SETTINGS, place), place)
    return wire


def settings_from_wire(wire: channel_pb2.Channel) -> dict[str, Any]:
    """Give what is wanted of a channel, so that `channel_to_wire` gives it back; what is usual is left out."""
    settings = table_of(wire, _CHANNEL)
    if settings.get("time_zone") == "UTC":
        del settings["time_zone"]
    return settings
