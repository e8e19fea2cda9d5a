"""Write the messages of a streamed answer: within a client's patience, and files in pieces. On the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from vedette_server.errors import DamagedError, SilentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import grpc

PIECE_BYTES = 64 * 1024
# Read at once, so that a thread is asked once for many pieces.
READ_BYTES = 16 * PIECE_BYTES
# So long a client may take to read one message.
PATIENCE_S = 120.0


async def write(context: grpc.aio.ServicerContext[Any, Any], message: Any, patience_s: float) -> None:
    """Write one message.

    Raises:
        SilentError: READS_NOTHING: the client has not read for `patience_s`.
    """
    try:
        async with asyncio.timeout(patience_s):
            await context.write(message)
    except TimeoutError:
        raise SilentError("READS_NOTHING", f"nothing was read for {patience_s:g} s") from None


async def pieces(read: Callable[[int], Awaitable[bytes]], size_bytes: int, what: str) -> AsyncIterator[bytes]:
    """Give a file's bytes in pieces of at most `PIECE_BYTES`.

    Args:
        read: Reads the next bytes, at most so many, on a thread.
        size_bytes: The file's length, as its hash was told for.
        what: What it is, in words.

    Raises:
        DamagedError: EVIDENCE_LOST: it became shorter meanwhile.
    """
    left = size_bytes
    while left:
        block = await read(min(READ_BYTES, left))
        if not block:
            raise DamagedError("EVIDENCE_LOST", f"{what} became shorter while it was read")
        left -= len(block)
        for start in range(0, len(block), PIECE_BYTES):
            yield block[start : start + PIECE_BYTES]
