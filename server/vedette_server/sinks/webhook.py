"""A sink that posts each event to a URL, signed.

Headers and signature are those of Standard Webhooks 1.0.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): `webhook-id`,
`webhook-timestamp`, and `webhook-signature: v1,BASE64` of HMAC-SHA256 over `{id}.{timestamp}.{body}`, several of them
with a space in between while a key is replaced. The id is the same for every try: by it the receiver drops doubles.

What an answer means: 2xx taken; 400, 410, 413, 415, 422 never again: they speak of the message. 401, 403, 404, 405, 407
speak of the way there (a token that is replaced, an ingress without its backend), 429, 502, 503, 504 and no answer in
time of the receiver: nothing is sent for a while, as `Retry-After` asks where there is one. All others try again. A
redirection is not followed, since it could lead a signed message and a token anywhere: it counts as down until the
`url` is mended.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx

from vedette_server.sinks.base import SinkError
from vedette_server.sinks.exchange import Exchange
from vedette_server.sinks.webhook_settings import SnapshotForm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.sinks.base import EventMessage
    from vedette_server.sinks.webhook_settings import WebhookSettings

_PERMANENT = frozenset({400, 410, 413, 415, 422})
_AWAY = frozenset({401, 403, 404, 405, 407, 429, 502, 503, 504})
# Pictures that are larger are left out: a receiver that bears them is not to be expected.
_MOST_SNAPSHOT_BYTES = 8 * 1024 * 1024


class WebhookSink:
    """Posts events.

    Args:
        settings: Where and how.
        clock: Gives seconds since the epoch.
    """

    def __init__(self, settings: WebhookSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._client = httpx.Client(
            transport=Exchange(settings.tls, settings.proxy, settings.timeout_s),
            timeout=settings.timeout_s,
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": "vedette"},
        )

    @property
    def most(self) -> int:
        """Each message is a request of its own."""
        return 1

    def deliver(self, messages: Sequence[EventMessage]) -> None:
        """Post messages, one after the other.

        Raises:
            SinkError: One was not taken; those before it were.
        """
        for message in messages:
            self._post(message)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._client.close()

    def _post(self, message: EventMessage) -> None:
        request = self._request(message)
        try:
            # The body of the answer is not read: it says nothing that we need, and may be without end.
            response = self._client.send(request, stream=True)
            response.close()
        except httpx.TimeoutException as error:
            waited = f"no answer within {self._settings.timeout_s:g} s"
            raise SinkError(f"{self._settings.shown_url}: {waited}", of_sink=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise SinkError(f"{self._settings.shown_url}: {error or type(error).__name__}", of_sink=True) from error
        self._judge(response)

    def _request(self, message: EventMessage) -> httpx.Request:
        settings = self._settings
        picture = None if settings.snapshot is SnapshotForm.NONE else message.snapshot()
        if picture is not None and len(picture) > _MOST_SNAPSHOT_BYTES:
            picture = None
        if picture is not None and settings.snapshot is SnapshotForm.MULTIPART:
            parts = {
                "event": ("event.json", message.body(), "application/json"),
                "snapshot": ("snapshot.jpg", picture, "image/jpeg"),
            }
            request = self._client.build_request("POST", settings.url, files=parts)
        else:
            body = message.body() if picture is None else _with_picture(message, picture)
            headers = {"content-type": "application/json"}
            request = self._client.build_request("POST", settings.url, content=body, headers=headers)
        # A dot would let one part of what is signed pass for another.
        identity = message.identity.replace(".", "_")
        moment = str(int(self._clock()))
        request.headers["webhook-id"] = identity
        request.headers["webhook-timestamp"] = moment
        if settings.keys:
            signed = f"{identity}.{moment}.".encode() + request.read()
            request.headers["webhook-signature"] = " ".join(signature(key, signed) for key in settings.keys)
        if settings.token is not None:
            request.headers["authorization"] = f"Bearer {settings.token.reveal()}"
        return request

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        words = f"{self._settings.shown_url}: answered {status} {response.reason_phrase}".rstrip()
        if response.is_redirect:
            raise SinkError(f"{words}; redirections are not followed, mend the url", of_sink=True)
        permanent = status in _PERMANENT
        away = status in _AWAY or status < 400
        asked_s = None if permanent else retry_after_s(response.headers.get("retry-after", ""), self._clock())
        raise SinkError(words, permanent=permanent, of_sink=away, retry_after_s=asked_s)


def signature(key: bytes, signed: bytes) -> str:
    """Sign as the specification says: `v1,` and the base64 of HMAC-SHA256."""
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def retry_after_s(value: str, now_s: float) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3), seconds or a date; None: there is none that can be read."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return None


def _with_picture(message: EventMessage, picture: bytes) -> bytes:
    document = message.document() | {"snapshot_jpeg": base64.b64encode(picture).decode()}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
