"""gRPC channels, and single AnalyzeStream calls on them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from vedette.v1 import stream_pb2, stream_pb2_grpc
from vedette_client.errors import ConnectionLostError
from vedette_client.status import error_from_rpc

if TYPE_CHECKING:
    from vedette_client.options import TlsOptions

Metadata = tuple[tuple[str, str], ...]

_CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),  # a stream is resumed here, not repeated there
    ("grpc.use_local_subchannel_pool", 1),  # a fresh channel must mean a fresh connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # the limit of one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


@dataclass(slots=True, eq=False)
class Lease:
    """A share of a gRPC channel.

    Attributes:
        address: `host:port`.
        channel: The channel.
        users: How many streams hold it.
        stale: It is not given out any more, and closed with its last user.
    """

    address: str
    channel: grpc.aio.Channel
    users: int = 0
    stale: bool = False


class ChannelPool:
    """One gRPC channel for each address, shared by the streams of a client; belongs to one event loop."""

    def __init__(self, tls: TlsOptions | None, token: str | None) -> None:
        self._tls = tls
        self._leases: dict[str, Lease] = {}
        self.metadata: Metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def acquire(self, address: str) -> Lease:
        """Share the channel to an address; give it back with `release`."""
        lease = self._leases.get(address)
        if lease is None:
            lease = self._leases[address] = Lease(address, self._open(address))
        lease.users += 1
        return lease

    async def release(self, lease: Lease, *, broken: bool = False) -> None:
        """Give a share back; a broken channel is replaced for whoever comes next."""
        lease.users -= 1
        if broken and self._leases.get(lease.address) is lease:
            del self._leases[lease.address]
            lease.stale = True
        if lease.stale and lease.users == 0:
            await lease.channel.close()

    async def close(self) -> None:
        """Close all channels, those in use too."""
        leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            await lease.channel.close()

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(address, _CHANNEL_OPTIONS)
        ca, key, certificate = self._tls.read()
        options: list[tuple[str, Any]] = list(_CHANNEL_OPTIONS)
        if self._tls.server_name:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), options)


class Connection:
    """One call from its first message to its end; one task reads, one writes."""

    def __init__(self, lease: Lease, metadata: Metadata, *, reconnecting: bool) -> None:
        stub = stream_pb2_grpc.StreamServiceStub(lease.channel)
        self._channel = lease.channel
        self._call = stub.AnalyzeStream(metadata=metadata)
        self._reconnecting = reconnecting
        self._aborted: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether the server can be talked to: the connection stands, TLS included."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def read(self) -> stream_pb2.AnalyzeStreamResponse | None:
        """Read the next message; None when the server ended the call in good order.

        Raises:
            ConnectionLostError: The connection broke, or `abort` was called.
            RefusedError: The server ended the call for a reason that stays.
        """
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            if self._is_ours():
                raise ConnectionLostError(self._aborted) from None
            raise
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, reconnecting=self._reconnecting) from error
        return message if isinstance(message, stream_pb2.AnalyzeStreamResponse) else None

    async def write(self, message: stream_pb2.AnalyzeStreamRequest) -> bool:
        """Write a message; False when the call is over, and `read` says why."""
        try:
            await self._call.write(message)
        except asyncio.CancelledError:
            if self._is_ours():
                return False
            raise
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        return True

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        try:
            await self._call.done_writing()
        except asyncio.CancelledError:
            if not self._is_ours():
                raise
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    def abort(self, why: str) -> None:
        """End the call at once; a pending `read` raises ConnectionLostError."""
        if self._aborted is None:
            self._aborted = why
            self._call.cancel()

    def _is_ours(self) -> bool:
        """Whether a CancelledError stems from `abort`, not from the cancellation of the task."""
        task = asyncio.current_task()
        return self._aborted is not None and not (task is not None and task.cancelling())
