"""A man in the middle of gRPC calls: passes messages on as bytes, and cuts a call at a message boundary.

What it has read and not passed on when it cuts is lost, as on a network.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass
class Cut:
    """Break the next call after so many messages were passed on in one direction.

    Attributes:
        direction: `up`, client to server, or `down`.
        after: Messages that still pass.
        then: What happens between the cut and the next connection.
    """

    direction: str
    after: int
    then: Callable[[], Awaitable[None]] | None = None


class Middle:
    """Listens on `address` and passes calls on to `target`; `async with`.

    Attributes:
        target: The server that the next call goes to.
        cuts: What to do to the next calls, in order; those beyond are passed on whole.
        met: How many cuts were carried out.
        calls: How many calls came.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.cuts: list[Cut] = []
        self.met = 0
        self.calls = 0
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Middle:
        self._server = grpc.aio.server(options=[*_OPTIONS, ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop(0)

    async def carry(self, method: str, context: Any) -> None:
        """Pass one call on."""
        self.calls += 1
        cut = self.cuts.pop(0) if self.cuts else None
        async with grpc.aio.insecure_channel(self.target, _OPTIONS) as channel:
            metadata = tuple((k, v) for k, v in context.invocation_metadata() if k.startswith("x-"))
            call = channel.stream_stream(method)(metadata=metadata)
            broken = asyncio.Event()
            up = asyncio.create_task(self._up(call, context, cut, broken))
            down = asyncio.create_task(self._down(call, context, cut, broken))
            cutting = asyncio.create_task(broken.wait())
            try:
                await asyncio.wait({down, cutting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down, cutting):
                    task.cancel()
                await asyncio.gather(up, down, cutting, return_exceptions=True)
                call.cancel()
            if broken.is_set():
                self.met += 1
            else:
                await self._end_alike(call, context)
                return
        if cut is not None and cut.then is not None:
            await cut.then()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def _up(self, call: Any, context: Any, cut: Cut | None, broken: asyncio.Event) -> None:
        passed = 0
        while True:
            if cut is not None and cut.direction == "up" and passed >= cut.after:
                broken.set()
                return
            message = await context.read()
            if message is grpc.aio.EOF:
                await call.done_writing()
                return
            await call.write(message)
            passed += 1

    async def _down(self, call: Any, context: Any, cut: Cut | None, broken: asyncio.Event) -> None:
        passed = 0
        while True:
            if cut is not None and cut.direction == "down" and passed >= cut.after:
                broken.set()
                await asyncio.Event().wait()
            message = await call.read()
            if message is grpc.aio.EOF:
                return
            await context.write(message)
            passed += 1

    async def _end_alike(self, call: Any, context: Any) -> None:
        context.set_trailing_metadata(await call.trailing_metadata())
        context.set_code(await call.code())
        context.set_details(await call.details())


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, middle: Middle) -> None:
        self._middle = middle

    def service(self, handler_call_details: Any) -> Any:
        async def carry(_: Any, context: Any) -> None:
            await self._middle.carry(handler_call_details.method, context)

        return grpc.stream_stream_rpc_method_handler(carry)
