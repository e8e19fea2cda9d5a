"""Put the gRPC server together: services, health, reflection, credentials, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vedette.v1 import engine_pb2, engine_pb2_grpc, session_pb2, session_pb2_grpc, stream_pb2, stream_pb2_grpc
from vedette_server.errors import SettingsError
from vedette_server.rpc.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.rpc.engine_service import EngineService
    from vedette_server.rpc.session_service import SessionService
    from vedette_server.rpc.stream_service import StreamService
    from vedette_server.settings import Settings

STREAMS = stream_pb2.DESCRIPTOR.services_by_name["StreamService"].full_name
SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
ENGINES = engine_pb2.DESCRIPTOR.services_by_name["EngineService"].full_name
# Our own limit is checked on the whole message and told with a reason; the transport's, which ends a
# call without one, stands above it.
TRANSPORT_MARGIN = 2


class Service(NamedTuple):
    """A service that some servers have: its full name, and what adds it to a server."""

    name: str
    add: Callable[[grpc.aio.Server], None]


class Server:
    """The listening gRPC server.

    Args:
        settings: All settings.
        streams: The StreamService.
        sessions: The SessionService.
        engines: The EngineService.
        others: Further services.

    Attributes:
        port: The port that it listens on.
        address: The same as `host:port`.

    Raises:
        SettingsError: The address cannot be listened on, or a credential cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        streams: StreamService,
        sessions: SessionService,
        engines: EngineService,
        others: Sequence[Service] = (),
    ) -> None:
        server = settings.server
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", server.max_message_bytes * TRANSPORT_MARGIN),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        stream_pb2_grpc.add_StreamServiceServicer_to_server(streams, self._grpc)
        session_pb2_grpc.add_SessionServiceServicer_to_server(sessions, self._grpc)
        engine_pb2_grpc.add_EngineServiceServicer_to_server(engines, self._grpc)
        for service in others:
            service.add(self._grpc)
        self._names = (STREAMS, SESSIONS, ENGINES, *(service.name for service in others))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if server.reflection:
            reflection.enable_server_reflection(
                (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc
            )
        self.port = self._listen(settings)
        self.address = f"{_host(settings)}:{self.port}"

    def _listen(self, settings: Settings) -> int:
        host = _host(settings)
        address = f"{host}:{settings.server.port}"
        credentials = server_credentials(settings.tls)
        try:
            if credentials is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"server.host and server.port: cannot listen on {address}; is another server there?"
            ) from error
        if port == 0:
            raise SettingsError(f"server.host and server.port: cannot listen on {address}; is another server there?")
        return int(port)

    async def start(self) -> None:
        """Begin to take calls."""
        await self._grpc.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell the health of the whole and of each service."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and end those there are after the grace."""
        await self._grpc.stop(grace_s)


def _host(settings: Settings) -> str:
    """Return the host as addresses have it: an IPv6 address in brackets."""
    host = settings.server.host
    return f"[{host}]" if ":" in host else host
