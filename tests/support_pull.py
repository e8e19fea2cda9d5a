"""Cameras to be called, on loopback, that can be cut off, silenced and brought back."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import av
from PIL import Image

from support_sources import drawn, split_nals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


WAIT_S = 20.0


def access_units(size: tuple[int, int] = (128, 96), frames: int = 24, gop: int = 8) -> list[bytes]:
    """Encode H.264 with start codes; parameter sets stand before each keyframe."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height = size
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    context.gop_size, context.max_b_frames, context.thread_count = gop, 0, 1
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
    found = []
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(drawn(index, *size), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        found += [bytes(packet) for packet in context.encode(frame)]
    return found + [bytes(packet) for packet in context.encode(None)]


def jpegs(count: int = 6, size: tuple[int, int] = (128, 96)) -> list[bytes]:
    found = []
    for index in range(count):
        buffer = io.BytesIO()
        Image.fromarray(drawn(4 * index, *size)).save(buffer, "JPEG")
        found.append(buffer.getvalue())
    return found


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: callers hang up when they like."""


class Camera:
    """A server on one port of loopback that can be cut off and brought back.

    Args:
        handler: Serves one connection.
    """

    def __init__(self, handler: Callable[[Camera, socket.socket], None]) -> None:
        self._handler = handler
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        self._port = 0
        self.calls = 0
        self.halted = threading.Event()
        self.bring_back()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def bring_back(self) -> None:
        camera = self
        camera.halted = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                camera.calls += 1
                camera._connections.add(self.request)
                self.request.settimeout(WAIT_S)
                try:
                    camera._handler(camera, self.request)
                finally:
                    camera._connections.discard(self.request)

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Die: hang up on everybody and take no more calls."""
        self.halted.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


def silent() -> Camera:
    """Accepts, and says nothing."""
    return Camera(lambda camera, connection: camera.halted.wait(60) and None)


@dataclass
class Rtsp:
    """Plays access units over interleaved TCP (RFC 2326, RFC 6184), again and again.

    Args:
        pictures: What it plays; may be replaced.
        password: Basic authorisation that it asks for; empty: none.
        stall_after: Says nothing more after so many pictures; 0: plays on.
        fps: How fast.
    """

    pictures: list[bytes]
    password: str = ""
    stall_after: int = 0
    fps: float = 100.0
    transports: list[str] = field(default_factory=list)

    def __call__(self, camera: Camera, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while request := stream.readline().decode():
                headers = {}
                while (line := stream.readline().decode().strip()) != "":
                    key, _, value = line.partition(":")
                    headers[key.lower()] = value.strip()
                method = request.split()[0]
                status, extra, body = self._reply(method, request.split()[1], headers)
                head = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())
                if method == "PLAY":
                    self._play(camera, connection)
                    return

    def _reply(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, str, str]:
        if self.password and method != "OPTIONS":
            wanted = base64.b64encode(f"admin:{self.password}".encode()).decode()
            if headers.get("authorization") != f"Basic {wanted}":
                return "401 Unauthorized", 'WWW-Authenticate: Basic realm="cam"\r\n', ""
        if method == "DESCRIBE":
            sets = [base64.b64encode(nal).decode() for nal in split_nals(self.pictures[0]) if nal[0] & 31 in (7, 8)]
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}\r\n"
                "a=control:track0\r\n"
            )
            return "200 OK", f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n", body
        if method == "SETUP":
            self.transports.append(headers["transport"])
            return "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""
        return "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\nSession: 1\r\n", ""

    def _play(self, camera: Camera, connection: socket.socket) -> None:
        number = shown = 0
        while not camera.halted.is_set():
            for picture in self.pictures:
                parts = [part for nal in split_nals(picture) for part in fragments(nal)]
                for place, part in enumerate(parts):
                    marker = 0x80 if place == len(parts) - 1 else 0
                    head = bytes([0x80, 96 | marker]) + (number & 0xFFFF).to_bytes(2, "big")
                    rtp = head + (shown * 3600).to_bytes(4, "big") + b"\0\0\0\1" + part
                    connection.sendall(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
                    number += 1
                shown += 1
                if shown == self.stall_after:
                    camera.halted.wait(60)
                if camera.halted.wait(1 / self.fps):
                    return


def fragments(nal: bytes, size: int = 1200) -> list[bytes]:
    """Cut a NAL unit up as RFC 6184 says (FU-A)."""
    if len(nal) <= size:
        return [nal]
    indicator, kind = nal[0] & 0xE0 | 28, nal[0] & 31
    pieces = [nal[start : start + size] for start in range(1, len(nal), size)]
    flags = [(0x80 if i == 0 else 0) | (0x40 if i == len(pieces) - 1 else 0) for i in range(len(pieces))]
    return [bytes([indicator, flag | kind]) + piece for flag, piece in zip(flags, pieces, strict=True)]


@dataclass
class Multipart:
    """Sends JPEGs without an end, as cameras do over HTTP."""

    pictures: list[bytes]
    fps: float = 40.0

    def __call__(self, camera: Camera, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\nConnection: close\r\n\r\n"
        )
        while not camera.halted.is_set():
            for picture in self.pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                connection.sendall(head.encode() + picture + b"\r\n")
                if camera.halted.wait(1 / self.fps):
                    return


@dataclass
class Answer:
    """Answers every request over HTTP with the same words, and hangs up.

    Args:
        status: The status.
        headers: Further headers, each with its end of line.
        body: What follows.
        cut_after: Hang up after so many bytes of it in the first answer; 0: send all.
    """

    status: str = "200 OK"
    headers: str = ""
    body: bytes = b""
    cut_after: int = 0

    def __call__(self, camera: Camera, connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.0 {self.status}\r\n{self.headers}Content-Length: {len(self.body)}\r\n\r\n"
        body = self.body[: self.cut_after] if self.cut_after else self.body
        self.cut_after = 0
        connection.sendall(head.encode() + body)


@dataclass
class Either:
    """Does as the first says, which may be replaced."""

    first: Callable[[Camera, socket.socket], None]
    second: Callable[[Camera, socket.socket], None]

    def __call__(self, camera: Camera, connection: socket.socket) -> None:
        self.first(camera, connection)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def web(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP and give its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
