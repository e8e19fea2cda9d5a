"""A bare gRPC server and its certificates, for tests of the server's edge."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

METHOD = "/vedette.test.Echo/Call"


@asynccontextmanager
async def echo_server(
    answer: Callable[[bytes, Any], Awaitable[bytes]], credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """Serve one method of bytes on loopback, and give `host:port`."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_registered_method_handlers("vedette.test.Echo", {"Call": handler})
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("vedette.test.Echo", {"Call": handler}),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(0)
