"""Take rules apart into plain data, and put them together again; and the pieces that all of a channel is made of.

Threads: pure functions, callable from any.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from vedette.v1 import channel_pb2, media_pb2
from vedette_server.channels.record_tree import KINDS
from vedette_server.data.rules import Anchor, CrossDirection, Points, Rule, ScheduleSpan
from vedette_server.errors import InvalidError
from vedette_server.rpc.convert import set_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from enum import Enum

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

    from vedette_server.data.rules import Condition

E = TypeVar("E", bound="Enum")

_NS = 1_000_000_000
# What a google.protobuf.Duration can say: about 10,000 years.
_MOST_S = 315_576_000_000

# Where the wire is silent, as in `Rule`.
_HYSTERESIS = 0.01
_KIND_OF = {condition: str(kind) for kind, condition in KINDS.items()}
_ANCHORS = {
    channel_pb2.ANCHOR_UNSPECIFIED: Anchor.BOTTOM_CENTRE,
    channel_pb2.ANCHOR_BOTTOM_CENTRE: Anchor.BOTTOM_CENTRE,
    channel_pb2.ANCHOR_CENTRE: Anchor.CENTRE,
    channel_pb2.ANCHOR_TOP_CENTRE: Anchor.TOP_CENTRE,
}
_DIRECTIONS = {
    channel_pb2.CROSS_DIRECTION_UNSPECIFIED: CrossDirection.BOTH,
    channel_pb2.CROSS_DIRECTION_LEFT_TO_RIGHT: CrossDirection.LEFT_TO_RIGHT,
    channel_pb2.CROSS_DIRECTION_RIGHT_TO_LEFT: CrossDirection.RIGHT_TO_LEFT,
}


def rule_from_wire(wire: channel_pb2.Rule, field: str) -> Rule:
    """Take a rule apart; `field` is where it stands.

    Raises:
        InvalidError: INVALID_RULE.
    """
    kind = wire.WhichOneof("condition")
    if kind is None:
        refuse("INVALID_RULE", f"{field}.condition", None, ", ".join(KINDS))
    return Rule(
        name=wire.name,
        condition=_condition(kind, getattr(wire, kind), field),
        labels=tuple(wire.labels),
        min_score=wire.min_score,
        min_time_s=seconds_from_wire(wire, "min_time", field, "INVALID_RULE", 0.0),
        schedule=tuple(ScheduleSpan(tuple(span.days), span.from_minute, span.to_minute) for span in wire.schedule),
        cool_down_s=seconds_from_wire(wire, "cool_down", field, "INVALID_RULE", 0.0),
        anchor=member(_ANCHORS, wire.anchor, "INVALID_RULE", f"{field}.anchor"),
        hysteresis=maybe(wire, "hysteresis", _HYSTERESIS),
        evidence=not wire.without_evidence,
    )


def rule_to_wire(rule: Rule) -> channel_pb2.Rule:
    """Put a rule together, every default filled in."""
    wire = channel_pb2.Rule(
        name=rule.name,
        labels=rule.labels,
        min_score=rule.min_score,
        anchor=number_of(_ANCHORS, rule.anchor),
        hysteresis=rule.hysteresis,
        without_evidence=not rule.evidence,
    )
    for span in rule.schedule:
        wire.schedule.add(days=span.days, from_minute=span.from_minute, to_minute=span.to_minute)
    seconds_to_wire(wire.min_time, rule.min_time_s)
    seconds_to_wire(wire.cool_down, rule.cool_down_s)
    inner = getattr(wire, _KIND_OF[type(rule.condition)])
    # A condition of nothing but defaults is one, too.
    inner.SetInParent()
    _condition_to_wire(rule.condition, inner)
    return wire


def _condition(kind: str, wire: Any, field: str) -> Condition:
    """Read a condition: its fields are called as on the wire, but for durations and the direction."""
    values: dict[str, Any] = {}
    for one in fields(KINDS[kind]):
        if one.name == "at_least_s":
            values[one.name] = seconds_from_wire(wire, "at_least", field, "INVALID_RULE", 0.0)
        elif one.name == "direction":
            values[one.name] = member(_DIRECTIONS, wire.direction, "INVALID_RULE", f"{field}.direction")
        elif one.default is MISSING or _is_there(wire, one.name):
            values[one.name] = getattr(wire, one.name)
    return KINDS[kind](**values)


def _is_there(wire: Any, name: str) -> bool:
    return not wire.DESCRIPTOR.fields_by_name[name].has_presence or wire.HasField(name)


def _condition_to_wire(condition: Condition, wire: Any) -> None:
    for one in fields(condition):
        value = getattr(condition, one.name)
        if one.name == "at_least_s":
            seconds_to_wire(wire.at_least, value)
        elif one.name == "direction":
            wire.direction = number_of(_DIRECTIONS, value)
        elif value is not None:
            setattr(wire, one.name, value)


# -- the pieces --


def points_from_wire(wire: Iterable[media_pb2.Point]) -> Points:
    """Take a shape apart."""
    return tuple((point.x, point.y) for point in wire)


def points_to_wire(points: Points) -> list[media_pb2.Point]:
    """Put a shape together; the wire has the precision of `float32`."""
    return [media_pb2.Point(x=x, y=y) for x, y in points]


def member(table: Mapping[Any, E], number: int, reason: str, field: str) -> E:
    """Find the member that a number stands for.

    Raises:
        InvalidError: With the reason that is given: it stands for none.
    """
    if number not in table:
        refuse(reason, field, number, ", ".join(f"{one.name} ({key})" for key, one in table.items()))
    return table[number]


def number_of(table: Mapping[Any, E], wanted: E) -> Any:
    """Find the number of a member; of two that mean the same the later, which says what it means."""
    return max(number for number, one in table.items() if one is wanted)


def maybe(wire: Message, name: str, default: Any = None) -> Any:
    """Read a field that may be absent."""
    return getattr(wire, name) if wire.HasField(name) else default


def seconds_from_wire(wire: Message, name: str, field: str, reason: str, default: float) -> float:
    """Read a google.protobuf.Duration that has a default.

    Raises:
        InvalidError: With the reason that is given: it is none.
    """
    found = maybe_seconds(wire, name, field, reason)
    return default if found is None else found


def maybe_seconds(wire: Message, name: str, field: str, reason: str) -> float | None:
    """Read a google.protobuf.Duration, to the nanosecond; None: it is absent.

    Raises:
        InvalidError: With the reason that is given: it is none.
    """
    if not wire.HasField(name):
        return None
    seconds, nanos = getattr(wire, name).seconds, getattr(wire, name).nanos
    if abs(seconds) > _MOST_S or abs(nanos) >= _NS or seconds * nanos < 0:
        allowed = f"seconds of at most {_MOST_S}, nanoseconds below {_NS}, of one sign"
        refuse(reason, f"{field}.{name}", f"{seconds} s and {nanos} ns", allowed)
    # One rounding: 2.119 s stays 2.119.
    return float((seconds * _NS + nanos) / _NS)


def seconds_to_wire(wire: Duration, seconds: float) -> None:
    """Set a google.protobuf.Duration in place; none at all is told as well, since absent ones have defaults."""
    wire.SetInParent()
    set_duration(wire, seconds)


def refuse(reason: str, field: str, value: object, allowed: str) -> NoReturn:
    """Say that a field cannot be what it is.

    Raises:
        InvalidError: Always.
    """
    raise InvalidError(reason, f"{field} is {value!r}; allowed: {allowed}", field=field)
