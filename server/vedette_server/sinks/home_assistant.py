"""The entities that Home Assistant is told of, one device for each channel. Pure functions.

MQTT discovery with one message for each entity, which every version knows
(https://www.home-assistant.io/integrations/mqtt/#discovery-messages): topic
`DISCOVERY_PREFIX/COMPONENT/NODE_ID/OBJECT_ID/config`, retained; an empty message removes the entity. The components are
`binary_sensor` (https://www.home-assistant.io/integrations/binary_sensor.mqtt/) and `image`
(https://www.home-assistant.io/integrations/image.mqtt/).
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from vedette_server.data.rules import (
    Cross,
    Crowd,
    Dwell,
    Enter,
    EvidencePolicy,
    Inside,
    Leave,
    Left,
    Occupancy,
    Removed,
    Rule,
    Speed,
    WrongWay,
)
from vedette_server.sinks import topics

if TYPE_CHECKING:
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.sinks.mqtt_settings import MqttSettings
    from vedette_server.sinks.settings import Wanted

# Conditions whose events have no duration: they begin and end with one frame.
MOMENTARY = (Enter, Leave, Cross)
_CLASSES: tuple[tuple[tuple[type, ...], str], ...] = (
    (MOMENTARY, "motion"),
    ((Inside, Dwell, Occupancy, Crowd), "occupancy"),
    ((Speed, WrongWay, Left, Removed), "safety"),
)
# What is allowed in a node's or an object's id.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def is_momentary(rule: Rule) -> bool:
    """Tell whether a rule's events have no duration."""
    return isinstance(rule.condition, MOMENTARY)


def entities(record: ChannelRecord, settings: MqttSettings, wanted: Wanted) -> dict[str, bytes]:
    """Give the configuration of each of a channel's entities by its topic."""
    node = f"{_plain(settings.prefix)}_{_plain(record.name)}"
    shared = {
        "availability_topic": topics.status(settings.prefix),
        "device": {
            "identifiers": [node],
            "name": record.display_name or record.name,
            "manufacturer": "Vedette",
            "model": "Channel",
        },
        "origin": {"name": "Vedette", "sw_version": metadata.version("vedette")},
        "qos": 1,
    }
    found: dict[str, bytes] = {}

    def add(component: str, key: str, fields: dict[str, Any]) -> None:
        topic = f"{settings.discovery_prefix}/{component}/{node}/{key}/config"
        whole = {**shared, **fields, "unique_id": f"{node}_{key}"}
        found[topic] = json.dumps(whole, separators=(",", ":")).encode()

    for rule in record.watch.rules:
        if wanted.takes_rule(rule.name):
            add("binary_sensor", f"rule_{_plain(rule.name)}", _rule(rule, record.name, settings))
    if record.watch.health.enabled and wanted.takes_rule("camera"):
        add("binary_sensor", "camera", _camera(record.name, settings))
    if shows_pictures(record, settings):
        picture = {"name": "Latest event", "image_topic": topics.snapshot(settings.prefix, record.name)}
        del shared["qos"]  # an image has none
        add("image", "snapshot", picture | {"content_type": "image/jpeg"})
    return found


def shows_pictures(record: ChannelRecord, settings: MqttSettings) -> bool:
    """Tell whether a channel's pictures are published."""
    return settings.snapshot and record.watch.evidence is not EvidencePolicy.NONE


def _rule(rule: Rule, channel: str, settings: MqttSettings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": rule.name,
        "state_topic": topics.rule_state(settings.prefix, channel, rule.name),
        "payload_on": "ON",
        "payload_off": "OFF",
    }
    for conditions, device_class in _CLASSES:
        if isinstance(rule.condition, conditions):
            fields["device_class"] = device_class
    if is_momentary(rule):
        fields["off_delay"] = settings.off_delay_s
    return fields


def _camera(channel: str, settings: MqttSettings) -> dict[str, Any]:
    return {
        "name": "Camera",
        "state_topic": topics.camera_state(settings.prefix, channel),
        "payload_on": "ON",
        "payload_off": "OFF",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "json_attributes_topic": topics.summary(settings.prefix, channel),
    }


def _plain(name: str) -> str:
    """Give an id of a name; two names never have one."""
    if _PLAIN.fullmatch(name):
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}_{mark}"
