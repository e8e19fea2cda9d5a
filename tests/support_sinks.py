"""What tests of the sinks share: a clock, a sink that fails as told, a chain, an HTTP server, a broker of MQTT."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from support_store import an_event
from vedette_server.sinks.base import EventMessage, SinkError
from vedette_server.sinks.dead_letters import DeadLetters
from vedette_server.sinks.follower import Follower
from vedette_server.sinks.position import PositionFile
from vedette_server.sinks.settings import DeadBounds, Patience, SinkSettings, Start, Wanted
from vedette_server.store.changes import Outcome, Stored
from vedette_server.store.querying import Changes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vedette_server.data.event import Event


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return 1_790_000_000.0 + self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class MemoryChain:
    """A chain in memory, as a sink sees the store's; retention may empty records."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.emptied: set[int] = set()

    def add(self, *events: Event) -> None:
        self.events += events

    def end(self) -> tuple[int, bytes]:
        return len(self.events), b""

    def changes_after(self, offset: int, channels: Sequence[str] | None = None, limit: int = 100) -> Changes:
        found, removed, through = [], 0, offset
        for number in range(offset + 1, len(self.events) + 1):
            through = number
            event = self.events[number - 1]
            if number in self.emptied:
                removed += 1
            elif channels is None or event.channel in channels:
                found.append(Stored(Outcome.SAME, event.event_id, number, event))
                if len(found) == limit:
                    break
        return Changes(tuple(found), through, removed)


class ScriptedSink:
    """Takes what comes; `answer` is asked before each group and may give an error, and how many it takes before it."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self.taken: list[EventMessage] = []
        self.answer: Callable[[Sequence[EventMessage]], tuple[SinkError | None, int]] = lambda _group: (None, 0)
        self.tries = 0
        self.closed = 0

    def deliver(self, messages: Sequence[EventMessage]) -> None:
        assert 1 <= len(messages) <= self.most
        self.tries += 1
        error, before = self.answer(messages)
        if error is not None:
            self.taken += messages[:before]
            raise error
        self.taken += messages

    def close(self) -> None:
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.taken]


@dataclass
class Bench:
    """A follower on a bench: its sink, its chain and its clock, all in our hands; `restart` is a kill."""

    folder: Path
    most: int = 1
    start: Start = Start.EARLIEST
    wanted: Wanted = field(default_factory=Wanted)
    patience: Patience = field(default_factory=Patience)
    dead_bounds: DeadBounds = field(default_factory=DeadBounds)

    def __post_init__(self) -> None:
        self.chain = MemoryChain()
        self.clock = FakeClock()
        self.sink = ScriptedSink(self.most)
        self.restart()

    def restart(self) -> None:
        settings = SinkSettings(
            "desk", "test", lambda _context: self.sink, self.wanted, self.start, self.patience, self.dead_bounds
        )
        self.dead = DeadLetters(self.folder / "desk.dead.jsonl", self.dead_bounds)
        place = PositionFile(self.folder / "desk.position.json")
        self.follower = Follower(
            settings, self.sink, self.chain, place, self.dead, lambda _event: None, self.clock, lambda: 0.5
        )

    def run(self, seconds: float) -> None:
        """Let the follower work while so much time passes."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            wait_s = self.follower.step()
            assert wait_s >= 0
            self.clock.pass_s(min(max(wait_s, 0.001), until_s - self.clock.now_s))

    @property
    def lag(self) -> int:
        return self.follower.figures(len(self.chain.events)).lag


def a_message(number: int = 7, event: Event | None = None, picture: bytes | None = None) -> EventMessage:
    return EventMessage(number, event or an_event(), lambda: picture)


@dataclass
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """An HTTP server on loopback that answers as told; may die and come back on the same port."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        # Gives the status and headers of an answer; may sleep.
        self.answer: Callable[[Request], tuple[int, dict[str, str]]] = lambda _request: (204, {})
        self.port = 0
        self._tls = tls
        self._server: ThreadingHTTPServer | None = None
        self._came = threading.Condition()
        self.open()

    def open(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                status, headers = receiver.answer(request)
                with receiver._came:
                    receiver.requests.append(request)
                    receiver._came.notify_all()
                try:
                    self.send_response(status)
                    for name, value in ({"content-length": "0"} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_about: object) -> None:
                pass

        ThreadingHTTPServer.daemon_threads = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.handle_error = lambda *_about: None  # type: ignore[method-assign]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def close(self) -> None:
        if self._server is not None:
            self.die()

    def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= count, timeout_s), len(self.requests)

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/hook"


@contextmanager
def a_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(tls)
    try:
        yield receiver
    finally:
        receiver.close()


def mosquitto() -> str | None:
    """The program; None: it is not installed."""
    return shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Mosquitto:
    """A broker on loopback with a file of settings of its own; may die and come back."""

    def __init__(self, program: str, folder: Path, lines: Sequence[str] = ()) -> None:
        self._program = program
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        # As root it would become another user, who cannot read the folder.
        plain = [f"listener {self.port} 127.0.0.1", "user root", "persistence false"]
        anonymous = [] if any("allow_anonymous" in line for line in lines) else ["allow_anonymous true"]
        (folder / "mosquitto.conf").write_text("\n".join([*plain, *anonymous, *lines]) + "\n")

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        until_s = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < until_s, (self._folder / "log").read_text()
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def a_broker(folder: Path, lines: Sequence[str] = ()) -> Iterator[Mosquitto]:
    program = mosquitto()
    assert program is not None
    broker = Mosquitto(program, folder, lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Watcher:
    """Sees all that a broker is told."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        self.seen: list[tuple[str, bytes, bool]] = []
        self._came = threading.Condition()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_about: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_about: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        with self._came:
            self.seen.append((message.topic, message.payload, message.retain))
            self._came.notify_all()

    def wait_for(self, done: Callable[[list[tuple[str, bytes]]], bool], timeout_s: float = 10.0) -> None:
        with self._came:
            assert self._came.wait_for(
                lambda: done([(topic, payload) for topic, payload, _retain in self.seen]), timeout_s
            ), self.seen

    def wait_for_topic(self, topic: str, payload: bytes, timeout_s: float = 10.0) -> None:
        self.wait_for(lambda seen: (topic, payload) in seen, timeout_s)

    def last(self, topic: str) -> bytes | None:
        with self._came:
            return next((payload for seen, payload, _retain in reversed(self.seen) if seen == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def retained(port: int) -> dict[str, bytes]:
    """What a broker keeps, by topic."""
    watcher = Watcher(port)
    try:
        # A broker sends what it keeps before what is published after the subscription.
        mark = Client(CallbackAPIVersion.VERSION2)
        mark.connect("127.0.0.1", port)
        mark.loop_start()
        mark.publish("mark", b"now", qos=1)
        watcher.wait_for_topic("mark", b"now")
        mark.disconnect()
        mark.loop_stop()
        return {topic: payload for topic, payload, kept in watcher.seen if kept and payload}
    finally:
        watcher.close()
