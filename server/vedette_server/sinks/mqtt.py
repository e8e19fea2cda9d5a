"""A sink that publishes to a broker of MQTT, and tells Home Assistant what there is; see `topics.py`.

What was announced is remembered in the folder, so that what is gone meanwhile, be it a rule, a channel or a prefix, is
taken away from the broker after a restart, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from vedette_server.sinks import home_assistant, topics
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.broker import Broker
from vedette_server.sinks.files import write_whole
from vedette_server.sinks.mqtt_states import Publication, States

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.sinks.base import EventMessage, SinkContext
    from vedette_server.sinks.mqtt_settings import MqttSettings
    from vedette_server.sinks.settings import Wanted

_log = logging.getLogger(__name__)

# Each group costs the broker's delay before it acknowledges (40 ms, where it leaves Nagle's algorithm on).
_MOST = 64


class MqttSink:
    """Publishes events.

    Args:
        settings: Where and what.
        wanted: Which events; only their channels and rules are announced.
        context: Name and place.
    """

    def __init__(self, settings: MqttSettings, wanted: Wanted, context: SinkContext) -> None:
        self._settings = settings
        self._wanted = wanted
        self._context = context
        self._broker = Broker(settings, context.name)
        self._memory = context.folder / f"{context.name}.announced.json"
        self._states: States | None = None
        self._announced: dict[str, bytes] = {}
        self._there: frozenset[str] | None = None
        # What stands at the broker since we are connected, by topic: a digest of it.
        self._told: dict[str, bytes] = {}

    @property
    def most(self) -> int:
        """So many messages are on their way at once."""
        return _MOST

    def deliver(self, messages: Sequence[EventMessage]) -> None:
        """Publish messages, with what they change in their channels.

        Raises:
            SinkError: The broker has not acknowledged all of them.
        """
        states = self._current()
        told: dict[str, bytes] = {}
        publications = [one for message in messages for one in states.publications(message) if self._is_news(one, told)]
        # Pictures are too large to be remembered for each channel.
        pictures = {topics.snapshot(self._settings.prefix, message.event.channel) for message in messages}
        self._broker.stand(one for one in publications if one.retain and one.topic not in pictures)
        try:
            self._broker.publish(publications)
        except SinkError:
            self._told.clear()
            raise
        self._told |= told
        for message in messages:
            states.published(message)

    def announce(self, records: Sequence[ChannelRecord]) -> None:
        """Tell all channels, and take away what is gone.

        Raises:
            SinkError: The broker has not acknowledged all of it, or it cannot be remembered.
        """
        states = self._current()
        states.keep_only(one.name for one in records)
        standing = self._standing(records, states)
        pictures = {
            topics.snapshot(self._settings.prefix, one.name)
            for one in records
            if home_assistant.shows_pictures(one, self._settings)
        }
        self._there = there = frozenset(standing.keys() | pictures)
        gone = self._remembered() - there
        # Remembered before it is there, and until it is gone: a crash in between leaves nothing behind.
        self._remember(there | gone)
        new = [
            Publication(topic, payload, retain=True)
            for topic, payload in standing.items()
            if self._announced.get(topic) != payload
        ]
        new += [Publication(topic, b"", retain=True) for topic in sorted(gone)]
        self._told.clear()
        self._broker.stand(new)
        self._broker.publish(new)
        self._broker.forget(gone)
        self._announced = standing
        self._remember(there)

    def close(self) -> None:
        """Say that we are gone, and disconnect; may be called twice."""
        self._broker.close()

    def _is_news(self, one: Publication, told: dict[str, bytes]) -> bool:
        """Tell whether it is to be published: not what stands already, nor what stays of a channel that is gone.

        Args:
            one: The publication.
            told: What is published before it, which does not stand yet; changed here.
        """
        if not one.retain:
            return True
        if self._there is not None and one.topic not in self._there:
            return False
        mark = hashlib.sha256(one.payload).digest()
        if told.get(one.topic, self._told.get(one.topic)) == mark:
            return False
        told[one.topic] = mark
        return True

    def _current(self) -> States:
        if self._states is None:
            self._states = States(self._settings, (one for one in self._context.active() if self._wanted.takes(one)))
        return self._states

    def _standing(self, records: Iterable[ChannelRecord], states: States) -> dict[str, bytes]:
        """Give what is to stand at the broker, by topic."""
        found: dict[str, bytes] = {}
        for record in records:
            rules = [one for one in record.watch.rules if self._wanted.takes_rule(one.name)]
            lasting = [one.name for one in rules if not home_assistant.is_momentary(one)]
            found |= {one.topic: one.payload for one in states.standing(record.name, lasting)}
            if self._settings.home_assistant:
                found |= home_assistant.entities(record, self._settings, self._wanted)
        return found

    def _remembered(self) -> set[str]:
        try:
            return {str(topic) for topic in json.loads(self._memory.read_bytes())["topics"]}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("sink_memory_unreadable", extra={"file": str(self._memory), "error": str(error)})
            return set()

    def _remember(self, names: Iterable[str]) -> None:
        try:
            write_whole(self._memory, json.dumps({"version": 1, "topics": sorted(names)}).encode())
        except OSError as error:
            raise SinkError(f"file {self._memory}: {error.strerror or error}", of_sink=True) from error
