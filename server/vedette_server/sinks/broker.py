"""A connection to a broker of MQTT that mends itself.

Whatever is to stand at the broker (retained) is remembered here and published anew with each connection: a broker may
forget it. A publication counts when the broker has acknowledged it (QoS 1).

Threads: one calls the methods; callbacks come from the client's own thread.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from vedette_server.sinks import topics
from vedette_server.sinks.base import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from vedette_server.sinks.mqtt_settings import MqttSettings
    from vedette_server.sinks.mqtt_states import Publication

_ONLINE, _OFFLINE = b"online", b"offline"
_LONGEST_RECONNECT_S = 15
# MQTT 5, 3.4.2.1: not authorized, topic name invalid, payload format invalid, packet too large: it will be so again.
_PERMANENT = frozenset({0x87, 0x90, 0x99, 0x95})
# MQTT 5, 3.4.2.1: quota exceeded; and unspecified error, implementation specific error, server busy.
_OF_BROKER = frozenset({0x80, 0x83, 0x89, 0x97})


class Broker:
    """The connection; it is made when it is needed first, and kept.

    Args:
        settings: Which broker.
        name: The sink's name.
    """

    def __init__(self, settings: MqttSettings, name: str) -> None:
        self._settings = settings
        self._client_id = settings.client_id or f"vedette-{name}-{secrets.token_hex(4)}"
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._connected = False
        self._trouble = "not connected"
        self._turned_down = False
        self._acknowledged: dict[int, ReasonCode] = {}
        self._standing: dict[str, bytes] = {}

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish messages in their order; when it returns, the broker has all of them.

        Raises:
            SinkError: Not all were acknowledged.
        """
        client = self._connection()
        with self._changed:
            self._acknowledged.clear()
        sent: dict[int, Publication] = {}
        for one in publications:
            # Queued behind what stands while the connection is new: the order is kept.
            info = client.publish(one.topic, one.payload, qos=1, retain=one.retain)
            if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._fail(client, f"connection lost ({info.rc.name})")
            sent[info.mid] = one
        with self._changed:
            self._changed.wait_for(
                lambda: not self._connected or sent.keys() <= self._acknowledged.keys(), self._settings.timeout_s
            )
            answers = {mid: self._acknowledged.get(mid) for mid in sent}
            connected = self._connected
        if any(answer is None for answer in answers.values()):
            self._fail(client, "no acknowledgement in time" if connected else self._trouble)
        for mid, answer in answers.items():
            if answer is not None and answer.is_failure:
                self._refused(sent[mid], answer)

    def stand(self, standing: Iterable[Publication]) -> None:
        """Remember what is to stand at the broker; an empty payload: nothing. Published with the next connection."""
        with self._changed:
            self._standing |= {one.topic: one.payload for one in standing}

    def forget(self, names: Iterable[str]) -> None:
        """Remember these no longer: the broker has forgotten them, too."""
        with self._changed:
            for topic in names:
                self._standing.pop(topic, None)

    def close(self) -> None:
        """Say that we are gone, and disconnect; may be called twice."""
        client, connected = self._client, self._connected
        if client is None:
            return
        if connected:
            gone = client.publish(topics.status(self._settings.prefix), _OFFLINE, qos=1, retain=True)
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._connected or gone.mid in self._acknowledged, min(2.0, self._settings.timeout_s)
                )
        self._drop(client)

    def _connection(self) -> Client:
        """Give the connection, once there is one.

        Raises:
            SinkError: There is none in time.
        """
        is_new = self._client is None
        if self._client is None:
            self._client = self._connect()
        # One that is there already mends itself by and by: who delivers comes back later rather than wait for it.
        wait_s = self._settings.timeout_s if is_new else min(1.0, self._settings.timeout_s)
        with self._changed:
            self._changed.wait_for(lambda: self._connected or (is_new and self._turned_down), wait_s)
            there = self._connected
            trouble = self._trouble
        if not there:
            raise SinkError(f"{self._place}: {trouble}", of_sink=True)
        return self._client

    @property
    def _place(self) -> str:
        return f"broker {self._settings.host}:{self._settings.port}"

    def _connect(self) -> Client:
        settings = self._settings
        version = MQTTProtocolVersion.MQTTv5 if settings.version == "5" else MQTTProtocolVersion.MQTTv311
        client = Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=version)
        if settings.tls is not None:
            client.tls_set_context(settings.tls)
        if settings.user:
            client.username_pw_set(settings.user, settings.password.reveal() if settings.password else None)
        client.will_set(topics.status(settings.prefix), _OFFLINE, qos=1, retain=True)
        client.connect_timeout = settings.timeout_s
        client.reconnect_delay_set(1, _LONGEST_RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._trouble, self._turned_down = "not connected in time", False
        client.connect_async(settings.host, settings.port, settings.keepalive_s)
        client.loop_start()
        return client

    def _fail(self, client: Client, why: str) -> None:
        """Begin anew with the next call: what this client still holds would be published twice.

        Raises:
            SinkError: Always.
        """
        self._drop(client)
        raise SinkError(f"{self._place}: {why}", of_sink=True)

    def _refused(self, one: Publication, answer: ReasonCode) -> None:
        words = f"{self._place}: refused {one.topic}: {answer}"
        raise SinkError(words, permanent=answer.value in _PERMANENT, of_sink=answer.value in _OF_BROKER)

    def _drop(self, client: Client) -> None:
        self._client = None
        client.disconnect()
        client.loop_stop()
        with self._changed:
            self._connected = False

    def _on_connect(self, client: Client, _data: Any, _flags: Any, answer: ReasonCode, _properties: Any) -> None:
        if client is not self._client and self._client is not None:
            return
        if answer.is_failure:
            with self._changed:
                self._trouble, self._turned_down = f"refused the connection: {answer}", True
                self._changed.notify_all()
            return
        client.publish(topics.status(self._settings.prefix), _ONLINE, qos=1, retain=True)
        with self._changed:
            for topic, payload in self._standing.items():
                client.publish(topic, payload, qos=1, retain=True)
            self._connected = True
            self._changed.notify_all()

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        with self._changed:
            self._trouble, self._turned_down = "nobody answers, or TLS failed", True
            self._changed.notify_all()

    def _on_disconnect(self, client: Client, _data: Any, _flags: Any, why: ReasonCode, _properties: Any) -> None:
        with self._changed:
            if client is not self._client:
                return
            was_there, self._connected = self._connected, False
            # Where it was refused, why stands already.
            if was_there and why.is_failure:
                self._trouble = f"connection lost: {why}"
            self._changed.notify_all()

    def _on_publish(self, _client: Client, _data: Any, mid: int, answer: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._acknowledged[mid] = answer
            self._changed.notify_all()
