"""A channel as tables of TOML or JSON: how it stands in the file of channels, and in the file of kept ones.

Zones and lines are tables of points by name, a rule's condition is its `kind` and that kind's keys, engines are
`NAME` or `NAME@VERSION`, a schedule has days and times of day in words. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vedette_server.channels.tree import (
    Place,
    as_list,
    as_table,
    as_text,
    keys_of,
    read,
    read_fields,
    refuse_unknown,
    write,
    write_fields,
)
from vedette_server.data.channel import ChannelRecord, SourceConfig, SourceStream
from vedette_server.data.config import EngineRef
from vedette_server.data.event import EventKind
from vedette_server.data.rules import (
    EVERYWHERE,
    Absence,
    Cross,
    Crowd,
    Dwell,
    Enter,
    GateConfig,
    GateMode,
    Inside,
    Leave,
    Left,
    Line,
    Occupancy,
    Points,
    Removed,
    Rule,
    ScheduleSpan,
    Speed,
    WatchConfig,
    WrongWay,
    Zone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_server.data.rules import Condition

# How a rule's condition is called; the events that it makes are called the same.
KINDS: dict[str, type[Condition]] = {
    EventKind.ENTER: Enter,
    EventKind.LEAVE: Leave,
    EventKind.INSIDE: Inside,
    EventKind.CROSS: Cross,
    EventKind.DWELL: Dwell,
    EventKind.OCCUPANCY: Occupancy,
    EventKind.CROWD: Crowd,
    EventKind.SPEED: Speed,
    EventKind.WRONG_WAY: WrongWay,
    EventKind.LEFT: Left,
    EventKind.REMOVED: Removed,
    EventKind.ABSENCE: Absence,
}
_KIND_OF = {condition: str(kind) for kind, condition in KINDS.items()}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")

_OF_RECORD = ("name", "display_name", "stages", "recording", "retention")
_OF_WATCH = tuple(name for name in keys_of(WatchConfig) if name != "revision")
_OF_SOURCE = ("url", "loop", "prefer_tcp", *keys_of(SourceStream))
CHANNEL_KEYS = (*_OF_RECORD, *_OF_WATCH, "source")
# What a kept channel has besides: a file that people write has none of it.
BOOK_KEYS = ("revision", "create_s", "update_s")


def record_from_tree(tree: Mapping[str, Any], place: Place) -> ChannelRecord:
    """Read a channel; what it does not say has its default.

    Raises:
        SettingsError: Names the source, the key, the value and what is allowed.
    """
    refuse_unknown(tree, CHANNEL_KEYS, place)
    watch = read_fields(WatchConfig, tree, place, _READERS, skip={"zones", "lines", "revision"})
    for key, kind in (("zones", Zone), ("lines", Line)):
        if key in tree:
            watch[key] = _shapes(kind, tree[key], place.at(key))
    own = read_fields(ChannelRecord, tree, place, _READERS, skip=set(keys_of(ChannelRecord)) - set(_OF_RECORD))
    if "source" in tree:
        own["source"] = _source(tree["source"], place.at("source"))
    return ChannelRecord(watch=WatchConfig(**watch), **own)


def record_to_tree(record: ChannelRecord) -> dict[str, Any]:
    """Write a channel, everything said, so that `record_from_tree` gives it back."""
    tree = write_fields(record, _WRITERS, skip=set(keys_of(ChannelRecord)) - set(_OF_RECORD))
    tree |= write_fields(record.watch, _WRITERS, skip={"zones", "lines", "revision"})
    tree["zones"] = {zone.name: write(zone.vertices, _WRITERS) for zone in record.watch.zones}
    tree["lines"] = {line.name: write(line.points, _WRITERS) for line in record.watch.lines}
    if record.source is not None:
        stream = write_fields(record.source.stream, _WRITERS)
        tree["source"] = write_fields(record.source, _WRITERS, skip={"stream"}) | stream
    return tree


def _shapes(kind: Callable[[str, Points], Any], value: Any, place: Place) -> tuple[Any, ...]:
    table = as_table(value, place)
    return tuple(kind(name, read(Points, points, place.at(name), _READERS)) for name, points in table.items())


def _source(value: Any, place: Place) -> SourceConfig:
    table = as_table(value, place)
    refuse_unknown(table, _OF_SOURCE, place)
    stream = SourceStream(**read_fields(SourceStream, table, place, _READERS))
    return SourceConfig(stream=stream, **read_fields(SourceConfig, table, place, _READERS, skip={"stream"}))


# -- what is written in ways of its own --


def _rule(value: Any, place: Place) -> Rule:
    table = as_table(value, place)
    if isinstance(table.get("name"), str):
        # A name tells more than a number in a list.
        place = Place(place.source, f"{place.path.rpartition('[')[0]}.{table['name']}")
    kind = table.get("kind")
    if kind is None:
        place.at("kind").missing(", ".join(KINDS))
    condition = KINDS.get(kind) if isinstance(kind, str) else None
    if condition is None:
        place.at("kind").refuse(kind, ", ".join(KINDS))
    mine = [key for key in keys_of(Rule) if key != "condition"]
    refuse_unknown(table, ["name", "kind", *keys_of(condition), *mine[1:]], place)
    table = {"zone": EVERYWHERE} | table
    return Rule(
        condition=condition(**read_fields(condition, table, place, _READERS)),
        **read_fields(Rule, table, place, _READERS, skip={"condition"}),
    )


def _rule_to_tree(rule: Rule) -> dict[str, Any]:
    tree = {"name": rule.name, "kind": _KIND_OF[type(rule.condition)]}
    return tree | write_fields(rule.condition, _WRITERS) | write_fields(rule, _WRITERS, skip={"name", "condition"})


def _span(value: Any, place: Place) -> ScheduleSpan:
    table = as_table(value, place)
    refuse_unknown(table, ("days", "from", "to"), place)
    days = []
    for index, day in enumerate(as_list(table.get("days", []), place.at("days"))):
        if day not in _DAYS:
            place.at("days").item(index).refuse(day, ", ".join(_DAYS))
        days.append(_DAYS.index(day) + 1)
    begin = _minute(table.get("from", "00:00"), place.at("from"))
    if begin == 1440:
        place.at("from").refuse(table["from"], "00:00 to 23:59")
    end = _minute(table.get("to", "24:00"), place.at("to"))
    # Midnight is the end of a day where a span ends.
    return ScheduleSpan(tuple(days), begin, end or 1440)


def _minute(value: Any, place: Place) -> int:
    text = as_text(value, place)
    if not _CLOCK.fullmatch(text):
        place.refuse(value, "a time of day, 00:00 to 24:00")
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _span_to_tree(span: ScheduleSpan) -> dict[str, Any]:
    days = [_DAYS[day - 1] for day in span.days]
    return {"days": days, "from": _clock(span.from_minute), "to": _clock(span.to_minute)}


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _engine(value: Any, place: Place) -> EngineRef:
    name, at, version = as_text(value, place).partition("@")
    if not name or (at and not version):
        place.refuse(value, "NAME or NAME@VERSION")
    return EngineRef(name, version)


def _engine_to_tree(engine: EngineRef) -> str:
    return f"{engine.name}@{engine.version}" if engine.version else engine.name


def _gate(value: Any, place: Place) -> GateConfig:
    """Read a gate; its mode alone may stand for it: `gate = "motion"`."""
    if isinstance(value, str):
        return GateConfig(read(GateMode, value, place, _READERS))
    table = as_table(value, place)
    refuse_unknown(table, keys_of(GateConfig), place)
    return GateConfig(**read_fields(GateConfig, table, place, _READERS))


_READERS: dict[Any, Callable[[Any, Place], Any]] = {
    Rule: _rule,
    ScheduleSpan: _span,
    EngineRef: _engine,
    GateConfig: _gate,
}
_WRITERS: dict[Any, Callable[[Any], Any]] = {
    Rule: _rule_to_tree,
    ScheduleSpan: _span_to_tree,
    EngineRef: _engine_to_tree,
}
