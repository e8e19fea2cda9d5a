"""What a broker is told of one event, and what goes on in each channel because of it.

Threads: the sink's own.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.event import EventKind, EventState
from vedette_server.sinks import topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_server.data.event import Event
    from vedette_server.sinks.base import EventMessage
    from vedette_server.sinks.mqtt_settings import MqttSettings

ON, OFF = b"ON", b"OFF"
_MOMENTARY = frozenset({EventKind.ENTER, EventKind.LEAVE, EventKind.CROSS})
# Events without duration that were shown are remembered: their evidence and acknowledgements come later.
_MOST_SHOWN = 65_536


@dataclass(frozen=True, slots=True)
class Publication:
    """One message for a broker."""

    topic: str
    payload: bytes
    retain: bool = False


class States:
    """What goes on.

    Args:
        settings: The topics' prefix, and whether pictures are wanted.
        active: The events that go on at the start.
    """

    def __init__(self, settings: MqttSettings, active: Iterable[Event]) -> None:
        self._settings = settings
        self._active: dict[str, dict[str, Event]] = {}
        self._shown: OrderedDict[str, None] = OrderedDict()
        self._pictures: dict[str, str] = {}
        for event in active:
            self._active.setdefault(event.channel, {})[event.event_id] = event

    def publications(self, message: EventMessage) -> list[Publication]:
        """Give what is to be published for a message, in this order; may be asked again for the same."""
        event, prefix = message.event, self._settings.prefix
        found = [Publication(topics.events(prefix, event.channel), message.body())]
        if event.kind in _MOMENTARY:
            if event.event_id not in self._shown:
                found.append(Publication(topics.rule_state(prefix, event.channel, event.rule), ON))
        else:
            self._note(event)
            found += self.standing(event.channel, () if event.kind.of_camera else (event.rule,))
        picture = message.snapshot() if self._is_new_picture(event) else None
        if picture is not None:
            found.append(Publication(topics.snapshot(prefix, event.channel), picture, retain=True))
        return found

    def published(self, message: EventMessage) -> None:
        """Take note that all of it was published."""
        event = message.event
        if self._is_new_picture(event):
            self._pictures[event.channel] = event.annotated.sha256
        if event.kind in _MOMENTARY:
            self._shown[event.event_id] = None
            if len(self._shown) > _MOST_SHOWN:
                self._shown.popitem(last=False)

    def standing(self, channel: str, rules: Iterable[str]) -> list[Publication]:
        """Give how a channel, its camera and these of its rules stand."""
        prefix = self._settings.prefix
        active = tuple(self._active.get(channel, {}).values())
        going_on = sorted({one.rule for one in active if not one.kind.of_camera})
        problems = sorted({one.kind.value for one in active if one.kind.of_camera})
        summary = {"active_events": len(active), "active_rules": going_on, "problems": problems}
        found = [
            Publication(topics.rule_state(prefix, channel, rule), ON if rule in going_on else OFF, retain=True)
            for rule in rules
        ]
        found.append(Publication(topics.camera_state(prefix, channel), ON if problems else OFF, retain=True))
        found.append(Publication(topics.summary(prefix, channel), json.dumps(summary).encode(), retain=True))
        return found

    def keep_only(self, channels: Iterable[str]) -> None:
        """Forget channels that are gone."""
        there = set(channels)
        for known in (self._active, self._pictures):
            for channel in [one for one in known if one not in there]:
                del known[channel]

    def _note(self, event: Event) -> None:
        events = self._active.setdefault(event.channel, {})
        if event.state is EventState.ACTIVE:
            events[event.event_id] = event
        else:
            events.pop(event.event_id, None)
        if not events:
            del self._active[event.channel]

    def _is_new_picture(self, event: Event) -> bool:
        sha256 = event.annotated.sha256
        return self._settings.snapshot and bool(sha256) and self._pictures.get(event.channel) != sha256
