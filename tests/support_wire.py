"""A client that says on the wire whatever a test wants it to say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from support_streams import HEIGHT, WIDTH
from vedette.v1 import media_pb2, session_pb2, session_pb2_grpc, stream_pb2, stream_pb2_grpc

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PATIENCE_S = 20.0


def grey_config(name: str, engine: str = "gauge", **fields: Any) -> stream_pb2.StreamConfig:
    """Configure raw grey pictures of 64 x 48; further fields replace those."""
    values: dict[str, Any] = {
        "channel": f"channels/{name}",
        "format": media_pb2.VideoFormat(
            codec=media_pb2.CODEC_RAW,
            width=WIDTH,
            height=HEIGHT,
            pixel_format=media_pb2.PIXEL_FORMAT_GRAY8,
            time_base=media_pb2.Rational(num=1, den=100),
        ),
        "engines": [stream_pb2.EngineRef(name=engine)],
        "policy": stream_pb2.DELIVERY_POLICY_EVERY_FRAME,
    }
    return stream_pb2.StreamConfig(**(values | fields))


def grey_packet(sequence: int, value: int = 100, **fields: Any) -> stream_pb2.Packet:
    """One grey picture."""
    values: dict[str, Any] = {
        "sequence": sequence,
        "pts": sequence,
        "keyframe": True,
        "data": bytes([value]) * (WIDTH * HEIGHT),
    }
    return stream_pb2.Packet(**(values | fields))


class Refused(Exception):  # noqa: N818 - an end of a call like others
    """The call ended with a status other than OK."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(error.details())
        self.code = error.code()
        self.reasons = _reasons(error)


def _reasons(error: grpc.aio.AioRpcError) -> list[str]:
    found = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                assert detail.Unpack(info)
                found.append(info.reason)
    return found


class Wire:
    """One AnalyzeStream call; `async with`. Leaving cancels it."""

    def __init__(self, address: str, channel: str, *, metadata: tuple[tuple[str, str], ...] | None = None) -> None:
        named = (("x-vedette-channel", f"channels/{channel}"),)
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.grpc = grpc.aio.insecure_channel(address, options)
        stub = stream_pb2_grpc.StreamServiceStub(self.grpc)
        self.call: Any = stub.AnalyzeStream(metadata=named if metadata is None else metadata)
        self.verdicts: list[Any] = []
        self.accepted: stream_pb2.Accepted | None = None
        self.flow: stream_pb2.FlowControl | None = None
        self.closing: session_pb2.Account | None = None
        self.drain: stream_pb2.Drain | None = None
        self.updates: list[stream_pb2.ConfigUpdated] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call.cancel()
        await self.grpc.close()

    async def say(self, **fields: Any) -> None:
        """Send a message; when the call is over, `hear` says why."""
        if self.call.done():
            # grpc.aio would put an error of its own in place of the status.
            return
        try:
            await self.call.write(stream_pb2.AnalyzeStreamRequest(**fields))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    async def open(self, config: stream_pb2.StreamConfig) -> stream_pb2.Accepted:
        """Configure, and wait to be accepted."""
        await self.say(config=config)
        while self.accepted is None:
            assert await self.hear() is not None
        return self.accepted

    async def hear(self) -> stream_pb2.AnalyzeStreamResponse | None:
        """Read one message; None at the end.

        Raises:
            Refused: The call ended with a status other than OK.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                message = await self.call.read()
                if message is grpc.aio.EOF:
                    assert await self.call.code() is grpc.StatusCode.OK
                    return None
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None
        kind = message.WhichOneof("control")
        if kind in {"accepted", "drain"}:
            setattr(self, kind, getattr(message, kind))
        elif kind == "closing_account":
            self.closing = message.closing_account
        elif kind == "config_updated":
            self.updates.append(message.config_updated)
        if kind == "accepted":
            self.flow = message.accepted.flow
        if message.HasField("flow"):
            self.flow = message.flow
        self.verdicts += message.verdicts
        return message

    async def hear_verdicts(self, count: int) -> list[Any]:
        """Read until so many verdicts have come."""
        while len(self.verdicts) < count:
            assert await self.hear() is not None
        return self.verdicts

    async def hear_all(self) -> None:
        """Read to the end."""
        while await self.hear() is not None:
            pass

    async def finish(self) -> session_pb2.Account:
        """Half-close, and read to the closing account."""
        await self.call.done_writing()
        await self.hear_all()
        assert self.closing is not None
        return self.closing


async def session_of(address: str, channel: str, session: str = "-") -> session_pb2.Session:
    """Ask for a session's account."""
    async with grpc.aio.insecure_channel(address) as channel_:
        stub: Any = session_pb2_grpc.SessionServiceStub(channel_)
        request = session_pb2.GetSessionRequest(name=f"channels/{channel}/sessions/{session}")
        answer = await stub.GetSession(request, timeout=PATIENCE_S)
        found: session_pb2.Session = answer.session
        return found


async def until(condition: Any, timeout_s: float = PATIENCE_S) -> None:
    """Wait until a coroutine function says that it is so."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)
