"""Ask one server single questions, and take answers that come in pieces; every wait has a deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from vedette_client.errors import ConnectionLostError, RefusedError
from vedette_client.status import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from vedette_client.connection import ChannelPool
    from vedette_client.errors import ClientError

TIMEOUT_S = 10.0
PIECE_TIMEOUT_S = 120.0
"""The next piece may have to be transcoded, or read from a disk that sleeps."""


class Calls:
    """The calls of one service of one server.

    Args:
        pool: Where channels come from.
        address: `host:port`.
        stub: The service's stub.
        absent: What to say when the server does not have this service.
    """

    def __init__(self, pool: ChannelPool, address: str, stub: Callable[[grpc.aio.Channel], Any], absent: str) -> None:
        self._pool = pool
        self._address = address
        self._stub = stub
        self._absent = absent

    async def ask(self, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """Ask, and wait for the answer.

        Raises:
            RefusedError: The server said no.
            ConnectionLostError: The server cannot be reached, or does not answer in time.
        """
        lease = self._pool.acquire(self._address)
        try:
            call = getattr(self._stub(lease.channel), method)
            return await call(request, timeout=timeout_s, metadata=self._pool.metadata)
        except grpc.aio.AioRpcError as error:
            raise self._error(error, timeout_s) from error
        finally:
            await self._pool.release(lease)

    async def pieces(self, method: str, request: Any, timeout_s: float = PIECE_TIMEOUT_S) -> AsyncGenerator[Any, None]:
        """Iterate over an answer's pieces; each may take so long.

        Raises:
            RefusedError: The server said no.
            ConnectionLostError: The server cannot be reached, or falls silent.
        """
        lease = self._pool.acquire(self._address)
        call = getattr(self._stub(lease.channel), method)(request, metadata=self._pool.metadata)
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    piece = await call.read()
                if piece is grpc.aio.EOF:
                    return
                yield piece
        except TimeoutError:
            raise ConnectionLostError(f"{self._address}: nothing came for {timeout_s:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise self._error(error, timeout_s) from error
        finally:
            call.cancel()
            await self._pool.release(lease)

    def _error(self, error: grpc.aio.AioRpcError, timeout_s: float) -> ClientError:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return RefusedError("UNIMPLEMENTED", "", f"{self._address}: {self._absent}")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ConnectionLostError(f"{self._address}: no answer within {timeout_s:g} s")
        return error_from_rpc(error)
