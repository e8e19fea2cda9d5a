"""Write a file that comes in pieces, and let it be seen under its name only when its hash is right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from vedette_client.errors import IntegrityError, ProtocolError
from vedette_client.events_data import time_from_wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from vedette.v1 import event_pb2


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What a clip, or a file of a recording, is.

    Attributes:
        media_type: `video/mp4`.
        size_bytes: Its length.
        sha256: Of what was sent, 64 hexadecimal digits.
        transcoded: It was transcoded for this call: the hash is not that of what is kept.
        start_time_ns: When its first picture was taken; None: unknown.
    """

    media_type: str
    size_bytes: int
    sha256: str
    transcoded: bool = False
    start_time_ns: int | None = None


class _Incoming:
    """A file that is written beside its place; its bytes are hashed as they come.

    Threads: each call may block and so runs on a thread of its own, which goes on when nobody waits for it any more;
    after `discard` it does nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._over = False
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._over:
                return
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._temporary.open("xb")
            self._hash.update(data)
            self._file.write(data)
            self.size_bytes += len(data)

    def publish(self) -> None:
        """Give the file its name; a file of that name is replaced."""
        with self._lock:
            if self._over or self._file is None:
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._path)
            self._over = True

    def discard(self) -> None:
        """Leave nothing behind; after `publish`: nothing happens."""
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
                self._temporary.unlink(missing_ok=True)


async def receive(
    pieces: AsyncGenerator[Any, None], path: Path, what: str, expected_sha256: str = ""
) -> tuple[ClipInfo, Any]:
    """Write what comes to a file.

    Args:
        pieces: Messages with `info` in the first, and `data`.
        path: Where to; it is there only when all has come and the hashes agree.
        what: What is fetched, for messages.
        expected_sha256: What the hash must be by what was known before, unless it is transcoded; empty: unknown.

    Returns:
        What it is, and the first message.

    Raises:
        IntegrityError: Its length or its hash is wrong; there is no file.
        ProtocolError: The first message does not say what it is.
    """
    incoming = _Incoming(path)
    first: Any = None
    try:
        async for piece in pieces:
            if first is None:
                if not piece.HasField("info"):
                    raise ProtocolError(f"the server's first message does not say what {what} is")
                first = piece
            await asyncio.to_thread(incoming.write, piece.data)
            if incoming.size_bytes > first.info.size_bytes:
                break  # it may never end; the check of the length says so
        if first is None:
            raise ProtocolError(f"the server sent nothing of {what}")
        info = _info(first.info)
        check(what, info.sha256, incoming.sha256, info.size_bytes, incoming.size_bytes)
        if expected_sha256 and not info.transcoded and info.sha256.lower() != expected_sha256.lower():
            raise IntegrityError(f"{what} has another hash, {info.sha256}, than its event says: {expected_sha256}")
        await asyncio.to_thread(incoming.publish)
        return info, first
    finally:
        incoming.discard()
        await pieces.aclose()


def check(what: str, said: str, found: str, said_bytes: int | None = None, found_bytes: int = 0) -> None:
    """Compare length and hash of what came with what the server said.

    Raises:
        IntegrityError: They differ.
    """
    if said_bytes is not None and said_bytes != found_bytes:
        raise IntegrityError(f"{what} has {found_bytes} bytes, not {said_bytes} as the server said; nothing was kept")
    if said.lower() != found:
        raise IntegrityError(f"{what} has the hash {found}, not {said} as the server said; nothing was kept")


def _info(wire: event_pb2.ClipInfo) -> ClipInfo:
    start_ns = time_from_wire(wire.start_time) if wire.HasField("start_time") else None
    return ClipInfo(wire.media_type, wire.size_bytes, wire.sha256, wire.transcoded, start_ns)
