"""Small clips that tests encode themselves, and an RTSP camera that plays one over TCP."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import pytest

from vedette_client.padded import padded_packet

ASSETS = Path(__file__).parents[1].parent / "shared" / "assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="../shared/assets is absent")


def drawn(index: int, width: int = 128, height: int = 96) -> np.ndarray:
    picture = np.full((height, width, 3), 80, np.uint8)
    picture[20:50, 4 * index % (width - 30) : 4 * index % (width - 30) + 30] = (200, 30, 30)
    return picture


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int = 24,
    fps: int = 12,
    size: tuple[int, int] = (128, 96),
    bframes: int = 2,
    rotation_ccw: int = 0,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode a small clip with a keyframe every 8 frames."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 8
        stream.codec_context.max_b_frames = bframes if codec in ("libx264", "libx265") else 0
        stream.codec_context.thread_count = 1
        if rotation_ccw:
            stream.set_display_rotation(rotation_ccw)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(drawn(index, *size), format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def decode(codec: str, extradata: bytes, packets: list[bytes]) -> list[np.ndarray]:
    """Decode packets to RGB pictures, in presentation order."""
    context = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    if extradata:
        context.extradata = extradata
    frames = [frame for data in packets for frame in context.decode(padded_packet(data))]
    frames += context.decode(None)
    return [frame.to_ndarray(format="rgb24") for frame in frames]


def split_nals(annexb: bytes) -> list[bytes]:
    return [nal.rstrip(b"\0") for nal in re.split(b"\x00\x00\x00?\x01", annexb) if nal]


class RtspCamera:
    """Plays an H.264 Annex B stream over interleaved TCP (RFC 2326, RFC 6184), then hangs up.

    Args:
        pictures: Access units; the first holds the parameter sets.
        repeats: How many connections to serve.
    """

    def __init__(self, pictures: list[bytes], repeats: int) -> None:
        self._pictures = pictures
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/cam"
        self.transports: list[str] = []
        self._thread = threading.Thread(target=self._serve, args=(repeats,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # whoever still waits for a caller gets one that says nothing
            socket.create_connection(self._listener.getsockname(), 1).close()
        self._thread.join(20)
        self._listener.close()

    def _serve(self, repeats: int) -> None:
        for _ in range(repeats):
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(20)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            self._talk(connection, stream)

    def _talk(self, connection: socket.socket, stream: BinaryIO) -> None:
        while request := stream.readline().decode():
            headers = {}
            while (line := stream.readline().decode().strip()) != "":
                key, _, value = line.partition(":")
                headers[key.lower()] = value.strip()
            method = request.split()[0]
            extra, body = self._reply(method, headers)
            reply = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(reply.encode())
            if method == "PLAY":
                self._play(connection)
                return

    def _reply(self, method: str, headers: dict[str, str]) -> tuple[str, str]:
        if method == "DESCRIBE":
            sets = [base64.b64encode(nal).decode() for nal in split_nals(self._pictures[0]) if nal[0] & 31 in (7, 8)]
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}\r\n"
                "a=control:track0\r\n"
            )
            return f"Content-Base: {self.url}/\r\nContent-Type: application/sdp\r\n", body
        if method == "SETUP":
            self.transports.append(headers["transport"])
            return "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""
        return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\nSession: 1\r\n", ""

    def _play(self, connection: socket.socket) -> None:
        number = 0
        for index, picture in enumerate(self._pictures):
            parts = [part for nal in split_nals(picture) for part in _fragments(nal)]
            for place, part in enumerate(parts):
                marker = 0x80 if place == len(parts) - 1 else 0
                head = bytes([0x80, 96 | marker]) + number.to_bytes(2, "big") + (index * 9000).to_bytes(4, "big")
                rtp = head + b"\0\0\0\1" + part
                connection.sendall(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
                number += 1
            time.sleep(0.005)


def _fragments(nal: bytes, size: int = 1200) -> list[bytes]:
    if len(nal) <= size:
        return [nal]
    indicator, kind = nal[0] & 0xE0 | 28, nal[0] & 31
    pieces = [nal[start : start + size] for start in range(1, len(nal), size)]
    flags = [(0x80 if i == 0 else 0) | (0x40 if i == len(pieces) - 1 else 0) for i in range(len(pieces))]
    return [bytes([indicator, flag | kind]) + piece for flag, piece in zip(flags, pieces, strict=True)]
