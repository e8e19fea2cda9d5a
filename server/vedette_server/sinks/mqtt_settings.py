"""The keys of the kind `mqtt`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.errors import SettingsError
from vedette_server.sinks.connecting import read_tls

if TYPE_CHECKING:
    import ssl

    from vedette_server.sinks.secret import Secret
    from vedette_server.sinks.settings import Wanted
    from vedette_server.sinks.table import Table

_TOPIC = re.compile(r"[^\s+#/$\0][^\s+#/\0]*(/[^\s+#/\0]+)*")
_ALLOWED_TOPIC = "a topic without spaces, + and #, neither beginning nor ending with /, at most 128 characters"


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Which broker, and what it is told.

    Attributes:
        host: The broker's.
        port: The broker's.
        tls: Whom is believed; None: the connection is not encrypted.
        user: Who we are; empty: nobody.
        password: Of the user; None: none.
        version: Of MQTT, 5 or 3.1.1; only 5 tells that a message was refused.
        prefix: Our topics begin with it.
        client_id: Empty: one by chance.
        keepalive_s: How soon a broker that is gone is noticed.
        timeout_s: For connecting, and for the acknowledgement of what is published.
        home_assistant: Announce entities for Home Assistant.
        discovery_prefix: Where it looks for them.
        off_delay_s: So long an event without duration is shown.
        snapshot: Publish the annotated snapshot of the latest event.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str = ""
    password: Secret | None = None
    version: str = "5"
    prefix: str = "vedette"
    client_id: str = ""
    keepalive_s: int = 30
    timeout_s: float = 10.0
    home_assistant: bool = True
    discovery_prefix: str = "homeassistant"
    off_delay_s: int = 5
    snapshot: bool = False

    @property
    def readable(self) -> str:
        """What was meant to be secret and can be read on the way, in words; empty: nothing."""
        return "the password" if self.tls is None and self.password is not None else ""


def read_mqtt(table: Table, wanted: Wanted) -> MqttSettings:
    """Read them.

    Raises:
        SettingsError: A value is not allowed.
    """
    parts = table.url("url", ("mqtt", "mqtts"))
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        table.refuse("url", parts.geturl(), "mqtt://HOST:PORT or mqtts://HOST:PORT")
    secure = parts.scheme == "mqtts"
    user, password = table.text("user", ""), table.secret("password")
    if password is not None and not user:
        raise SettingsError(f"{table.where}: there is a password without user; needed: both")
    settings = MqttSettings(
        host=parts.hostname or "",
        port=parts.port or (8883 if secure else 1883),
        tls=read_tls(table) if secure else None,
        user=user,
        password=password,
        version=table.choice("version", ("5", "3.1.1"), "5"),
        prefix=_topic(table, "prefix", "vedette"),
        client_id=table.text("client_id", ""),
        keepalive_s=table.whole("keepalive_s", 30, 5, 3600),
        timeout_s=table.number("timeout_s", 10.0, 0.1, 60.0),
        home_assistant=table.flag("home_assistant", default=True),
        discovery_prefix=_topic(table, "discovery_prefix", "homeassistant"),
        off_delay_s=table.whole("off_delay_s", 5, 1, 3600),
        snapshot=table.flag("snapshot", default=False),
    )
    place = f"the broker {settings.host}:{settings.port}"
    table.claim(f"prefix {settings.prefix!r} at {place}")
    if settings.client_id:
        table.claim(f"client_id {settings.client_id!r} at {place}")
    if settings.home_assistant and wanted.states:
        states = [one.value for one in wanted.states]
        table.refuse("states", states, "all (none given) with home_assistant: it shows when an event begins and ends")
    return settings


def _topic(table: Table, key: str, default: str) -> str:
    value = table.text(key, default)
    if len(value) > 128 or not _TOPIC.fullmatch(value):
        table.refuse(key, value, _ALLOWED_TOPIC)
    return value
