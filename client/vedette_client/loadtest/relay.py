"""A relay whose connections can all be cut at once: how a load test makes a storm of reconnects."""

from __future__ import annotations

import asyncio
from typing import Self

_CHUNK_BYTES = 256 * 1024


class Relay:
    """Listens on a free port of loopback and passes everything on to one server.

    Args:
        host: The server's host.
        port: The server's port.

    Attributes:
        address: Where it listens.
        cuts: How often `cut` was called.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = ""
        self.cuts = 0
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK_BYTES)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        self._abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Cut all connections, as a router that restarts does; new ones are taken at once."""
        self.cuts += 1
        self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            upstream, onward = await asyncio.open_connection(self._host, self._port, limit=_CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onward}
        try:
            await asyncio.gather(_pass_on(reader, onward), _pass_on(upstream, writer))
        finally:
            self._writers -= {writer, onward}
            writer.transport.abort()
            onward.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until its end; either end of the connection ends both."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
