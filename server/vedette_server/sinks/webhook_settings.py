"""The keys of the kind `webhook`."""

from __future__ import annotations

import base64
import binascii
import string
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette_server.errors import SettingsError
from vedette_server.sinks.connecting import read_tls
from vedette_server.sinks.table import shown

if TYPE_CHECKING:
    import ssl

    from vedette_server.sinks.secret import Secret
    from vedette_server.sinks.table import Table

_SECRET = "whsec_ and the base64 of 24..64 random bytes (`echo whsec_$(openssl rand -base64 32)`)"  # noqa: S105 - words
_FOR_HEADERS = frozenset(string.ascii_letters + string.digits + string.punctuation)


class SnapshotForm(StrEnum):
    """How the annotated snapshot is sent along."""

    NONE = "none"
    BASE64 = "base64"
    MULTIPART = "multipart"


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where a webhook is sent, and how.

    Attributes:
        url: Where.
        shown_url: The same without its path, for logs and errors: to many receivers it is the secret.
        keys: Sign each message, the present one first; while a key is replaced there are two. Empty: not signed.
        token: Sent as a bearer token; None: none.
        timeout_s: For one message: to connect, to send it and to have an answer.
        snapshot: How the annotated snapshot is sent along.
        tls: Whom is believed.
        proxy: A proxy's URL; None: none. The environment is not looked at.
    """

    url: str
    shown_url: str
    tls: ssl.SSLContext
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    token: Secret | None = None
    timeout_s: float = 15.0
    snapshot: SnapshotForm = SnapshotForm.NONE
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Who it is sent to."""
        return urlsplit(self.url).hostname or ""

    @property
    def readable(self) -> str:
        """What was meant to be secret and can be read on the way, in words; empty: nothing."""
        parts = urlsplit(self.url)
        if parts.scheme != "http":
            return ""
        found = ("the token", self.token), ("the query of url", parts.query), ("what is signed", self.keys)
        return ", ".join(words for words, there in found if there)


def read_webhook(table: Table) -> WebhookSettings:
    """Read them.

    Raises:
        SettingsError: A value is not allowed.
    """
    parts = table.url("url", ("https", "http"))
    present, previous = _key(table, "secret"), _key(table, "previous_secret")
    unsigned = table.flag("unsigned", default=False)
    if present is None and (previous is not None or not unsigned):
        raise SettingsError(f"{table.where}: secret is missing; needed: {_SECRET}, or `unsigned = true`")
    if present is not None and unsigned:
        table.refuse("unsigned", unsigned, "false where there is a secret")
    token = table.secret("token")
    if token is not None and not _FOR_HEADERS.issuperset(token.reveal()):
        table.refuse("token", "(not shown)", "printable ASCII without spaces")
    proxy = table.url("proxy", ("http", "https")).geturl() if table.has("proxy") else None
    return WebhookSettings(
        url=parts.geturl(),
        shown_url=shown(parts),
        tls=read_tls(table),
        keys=tuple(key for key in (present, previous) if key is not None),
        token=token,
        timeout_s=table.number("timeout_s", 15.0, 0.1, 60.0),
        snapshot=SnapshotForm(table.choice("snapshot", [one.value for one in SnapshotForm], SnapshotForm.NONE.value)),
        proxy=proxy,
    )


def _key(table: Table, name: str) -> bytes | None:
    secret = table.secret(name)
    if secret is None:
        return None
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        table.refuse(name, "(not shown)", _SECRET)
    return key
