"""Webhooks, against a real HTTP server on loopback."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from support_sinks import Receiver, a_message, a_receiver
from support_store import BEGIN_S, an_event, ended
from vedette_server.data.event import Acknowledgement, Evidence, EvidenceState
from vedette_server.errors import SettingsError
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.table import Table
from vedette_server.sinks.webhook import WebhookSink, retry_after_s, signature
from vedette_server.sinks.webhook_settings import read_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OLD_KEY = bytes(range(32, 64))
JPEG = b"\xff\xd8 a picture \xff\xd9"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as one:
        yield one


@pytest.fixture
def make(receiver: Receiver, tmp_path: Path) -> Iterator[Callable[..., WebhookSink]]:
    made: list[WebhookSink] = []

    def build(**keys: Any) -> WebhookSink:
        table = Table("sink 'desk'", {"url": receiver.url, "secret": SECRET, "timeout_s": 2.0} | keys, tmp_path, {})
        settings = read_webhook(table)
        table.finish()
        made.append(WebhookSink(settings, clock=lambda: 1_790_000_100.9))
        return made[-1]

    yield build
    for one in made:
        one.close()
        one.close()


def refused(sink: WebhookSink) -> SinkError:
    with pytest.raises(SinkError) as caught:
        sink.deliver([a_message()])
    return caught.value


def test_an_event_is_posted_with_the_fields_of_the_contract(
    receiver: Receiver, make: Callable[..., WebhookSink]
) -> None:
    event = ended(
        annotated=Evidence(EvidenceState.READY, 9, "ab" * 32, "image/jpeg", path="hidden/place"),
        engine_version="person@3",
        session="s1",
        acknowledgement=Acknowledgement("ann", BEGIN_S, "näher"),
    )
    make().deliver([a_message(7, event)])
    (request,) = receiver.requests
    assert (request.path, request.headers["content-type"]) == ("/hook", "application/json")
    content = request.json
    assert content["version"] == 1
    assert content["type"] == "event.ended"
    assert content["id"] == "e1-7"
    assert content["name"] == "channels/gate/events/e1"
    assert content["session"] == "channels/gate/sessions/s1"
    assert content["engine_version"] == "engines/person/versions/3"
    assert (content["kind"], content["state"], content["record"]) == ("enter", "ended", 7)
    assert content["start_time"] == "2026-09-21T14:13:20.000000Z"
    assert content["end_time"] == "2026-09-21T14:13:25.000000Z"
    assert content["box"] == {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}
    assert content["annotated_snapshot"]["sha256"] == "ab" * 32
    said = {"user": "ann", "time": "2026-09-21T14:13:20.000000Z", "note": "näher", "token": ""}
    assert content["acknowledgement"] == said
    assert "hidden" not in request.body.decode()


def test_the_signature_is_that_of_standard_webhooks(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    make().deliver([a_message()])
    (request,) = receiver.requests
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert request.headers["webhook-timestamp"] == "1790000100"
    assert request.headers["webhook-id"] == "e1-7"


def test_the_signature_agrees_with_a_published_example() -> None:
    # The example of the specification's reference libraries (their test vectors).
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    assert signature(key, signed) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_key_is_replaced_both_sign(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    make(previous_secret=base64.b64encode(OLD_KEY).decode()).deliver([a_message()])
    new, old = receiver.requests[0].headers["webhook-signature"].split(" ")
    signed = b"e1-7.1790000100." + receiver.requests[0].body
    assert new == "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert old == "v1," + base64.b64encode(hmac.new(OLD_KEY, signed, hashlib.sha256).digest()).decode()


def test_every_try_has_the_same_id(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    sink = make()
    receiver.answer = lambda _request: (500, {})
    refused(sink)
    refused(sink)
    assert len({one.headers["webhook-id"] for one in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("status", "permanent", "of_sink"),
    [
        *((status, True, False) for status in (400, 410, 413, 415, 422)),
        *((status, False, False) for status in (408, 409, 425, 500, 501)),
        *((status, False, True) for status in (302, 308, 401, 403, 404, 405, 407, 429, 502, 503, 504)),
    ],
)
def test_what_an_answer_means(
    receiver: Receiver, make: Callable[..., WebhookSink], status: int, permanent: bool, of_sink: bool
) -> None:
    receiver.answer = lambda _request: (status, {"location": "http://127.0.0.1:1/elsewhere"})
    error = refused(make())
    assert (error.permanent, error.of_sink) == (permanent, of_sink)
    assert str(status) in error.message
    assert len(receiver.requests) == 1, "a redirection is not followed"


def test_retry_after_is_read_as_seconds_and_as_a_date(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    receiver.answer = lambda _request: (429, {"retry-after": "120"})
    assert refused(make()).retry_after_s == 120
    assert retry_after_s("Wed, 21 Oct 2026 07:28:00 GMT", 1_792_567_680.0 - 30) == 30
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", 1_792_567_680.0) == 0
    assert [retry_after_s(value, 0.0) for value in ("", "soon", "-5", "٣")] == [None] * 4


def test_a_server_that_hangs_is_left_after_the_timeout(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    go_on = threading.Event()

    def hang(_request: object) -> tuple[int, dict[str, str]]:
        go_on.wait(30)
        return 204, {}

    receiver.answer = hang
    try:
        error = refused(make(timeout_s=0.2))
        assert error.of_sink
        assert "no answer within 0.2 s" in error.message
    finally:
        go_on.set()


class Dripping:
    """A server of bare bytes that gives a line of its answer now and then, and would end it after `lines`.

    Attributes:
        hung_up: Set when the other side has closed the connection.
    """

    def __init__(self, lines: int = 100) -> None:
        self._lines = lines
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.hung_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _address = self._listener.accept()
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n")
                for index in range(self._lines):
                    connection.sendall(f"x-{index}: y\r\n".encode())
                    time.sleep(0.05)
                connection.sendall(b"\r\n")
            except OSError:
                self.hung_up.set()

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)


def test_a_server_that_drips_its_answer_is_left_when_the_time_for_all_of_it_is_over(
    make: Callable[..., WebhookSink],
) -> None:
    server = Dripping()
    try:
        error = refused(make(url=f"http://127.0.0.1:{server.port}/", timeout_s=0.4))
        assert error.of_sink
        assert "no answer within 0.4 s" in error.message
        assert server.hung_up.wait(5), "the connection is closed"
    finally:
        server.close()


def test_a_server_that_takes_a_message_too_slowly_is_left(make: Callable[..., WebhookSink]) -> None:
    picture = bytes(8_000_000)

    def sip_then_gulp() -> None:
        connection, _address = listener.accept()
        with connection, suppress(OSError):
            taken = 0
            while taken < len(picture):
                piece = connection.recv(65_536)
                if not piece:
                    return
                taken += len(piece)
                time.sleep(0.015 if taken < 4_500_000 else 0)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        thread = threading.Thread(target=sip_then_gulp, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        sink = make(url=url, timeout_s=0.5, snapshot="multipart")
        with pytest.raises(SinkError, match="no answer within") as caught:
            sink.deliver([a_message(picture=picture)])
        assert caught.value.of_sink
        thread.join(10)


def test_a_host_with_several_addresses_is_reached_by_any_of_them(
    receiver: Receiver, make: Callable[..., WebhookSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = socket.getaddrinfo

    def two(host: str, *more: Any, **named: Any) -> Any:
        names = ("127.0.0.2", "127.0.0.1") if host == "two.example" else (host,)
        return [one for name in names for one in plain(name, *more, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    make(url=f"http://two.example:{receiver.port}/").deliver([a_message()])
    assert receiver.requests[0].headers["host"] == f"two.example:{receiver.port}"


def test_a_host_without_an_address_is_down(make: Callable[..., WebhookSink]) -> None:
    error = refused(make(url="http://nobody.invalid/"))
    assert error.of_sink
    assert error.message.startswith("http://nobody.invalid/: ")


def test_a_proxy_is_asked_for_the_url(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    make(url="http://desk.example/hook", proxy=f"http://127.0.0.1:{receiver.port}").deliver([a_message()])
    assert receiver.requests[0].path == "http://desk.example/hook"


def test_what_comes_after_the_host_is_shown_nowhere(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    receiver.answer = lambda _request: (400, {})
    sink = make(url=f"http://127.0.0.1:{receiver.port}/services/T0/hush")
    assert refused(sink).message == f"http://127.0.0.1:{receiver.port}/***: answered 400 Bad Request"
    for wrong in ("htps://hooks.example/services/T0/hush", "hooks.example/services/T0/hush"):
        with pytest.raises(SettingsError) as caught:
            make(url=wrong)
        assert "hush" not in str(caught.value)


def test_a_server_that_is_gone_and_comes_back_is_found_again(
    receiver: Receiver, make: Callable[..., WebhookSink]
) -> None:
    sink = make()
    sink.deliver([a_message(1)])
    receiver.die()
    assert refused(sink).of_sink
    receiver.open()
    sink.deliver([a_message(2)])
    assert [one.json["record"] for one in receiver.requests][-1] == 2


def test_an_answer_without_end_is_not_read(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    receiver.answer = lambda _request: (200, {"content-length": "1000000000000"})
    make().deliver([a_message()])
    assert len(receiver.requests) == 1


def test_a_token_is_sent_and_shown_nowhere(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    receiver.answer = lambda _request: (500, {})
    sink = make(token="hush-hush", url=f"{receiver.url}?key=hidden")
    error = refused(sink)
    assert receiver.requests[0].headers["authorization"] == "Bearer hush-hush"
    assert receiver.requests[0].path == "/hook?key=hidden"
    assert "hidden" not in error.message
    assert "hush" not in repr(sink._settings)
    assert repr(KEY) not in repr(sink._settings)


def test_the_picture_comes_along_as_base64(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    sink = make(snapshot="base64")
    sink.deliver([a_message(picture=JPEG)])
    sink.deliver([a_message(picture=None)])
    first, second = receiver.requests
    assert base64.b64decode(first.json["snapshot_jpeg"]) == JPEG
    assert "snapshot_jpeg" not in second.json


def test_the_picture_comes_along_as_a_part_and_is_signed_too(
    receiver: Receiver, make: Callable[..., WebhookSink]
) -> None:
    make(snapshot="multipart").deliver([a_message(picture=JPEG)])
    (request,) = receiver.requests
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = list(email.message_from_bytes(head + request.body, policy=email.policy.HTTP).iter_parts())
    assert [one.get_content_type() for one in parts] == ["application/json", "image/jpeg"]
    assert json.loads(parts[0].get_payload(decode=True))["record"] == 7
    assert parts[1].get_payload(decode=True) == JPEG
    signed = b"e1-7.1790000100." + request.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


def test_no_picture_is_fetched_where_none_is_wanted(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    def forbidden() -> bytes:
        raise AssertionError

    make().deliver([replace(a_message(), snapshot=forbidden)])
    assert len(receiver.requests) == 1


def test_a_server_is_believed_by_the_given_authority_only(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with a_receiver(context) as receiver:
        for name, believed in (("ca.pem", True), ("other.pem", False)):
            table = Table("sink", {"url": receiver.url, "secret": SECRET, "ca_file": name}, tmp_path, {})
            sink = WebhookSink(read_webhook(table))
            if believed:
                sink.deliver([a_message()])
            else:
                assert "certificate verify failed" in refused(sink).message.lower()
            sink.close()
        assert len(receiver.requests) == 1


def test_an_identity_never_has_a_dot(receiver: Receiver, make: Callable[..., WebhookSink]) -> None:
    make().deliver([a_message(event=an_event("a.b"))])
    assert receiver.requests[0].headers["webhook-id"] == "a_b-7"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "ftp://x/"}, r"url is 'ftp://x/'; allowed: a URL https:// or http://"),
        ({"url": "https://me:pw@x/"}, r"url is '\(not shown\)'.*keys of their own"),
        ({"url": "https://x:99999/"}, r"url is '\(not shown\)'"),
        ({"secret": "short"}, r"secret is '\(not shown\)'; allowed: whsec_"),
        ({"secret": base64.b64encode(b"x" * 23).decode()}, "24..64"),
        ({"unsigned": True}, "unsigned is true; allowed: false where there is a secret"),
        ({"token": "with space"}, r"token is '\(not shown\)'"),
        ({"timeout_s": 0}, "timeout_s is 0; allowed: a number of 0.1..60"),
        ({"snapshot": "gif"}, "snapshot is 'gif'; allowed: none, base64, multipart"),
        ({"ca_file": "absent.pem"}, "ca_file is .*absent.pem.*No such file"),
        ({"cert_file": "absent.pem"}, "of cert_file and key_file one is given"),
        ({"colour": "red"}, "unknown key 'colour'; allowed: .*url"),
    ],
)
def test_a_wrong_key_is_refused_with_its_name(
    make: Callable[..., WebhookSink], keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        make(**keys)


def test_not_to_sign_has_to_be_said(tmp_path: Path, receiver: Receiver) -> None:
    with pytest.raises(SettingsError, match="secret is missing"):
        read_webhook(Table("sink", {"url": receiver.url}, tmp_path, {}))
    sink = WebhookSink(read_webhook(Table("sink", {"url": receiver.url, "unsigned": True}, tmp_path, {})))
    sink.deliver([a_message()])
    sink.close()
    assert "webhook-signature" not in receiver.requests[0].headers
