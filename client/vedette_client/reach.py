"""Which server to talk to, and how to be let in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_client.client import Client
from vedette_client.options import ReconnectOptions

if TYPE_CHECKING:
    from vedette_client.options import TlsOptions


@dataclass(frozen=True, slots=True)
class Reach:
    """A server, and how to be let in; plain data that another process may be given.

    Attributes:
        address: `host:port`.
        tls: How to trust it; None: unencrypted.
        token: Bearer token.
        connect_s: How long a connection may take; loading an engine behind it may take longer.
    """

    address: str
    tls: TlsOptions | None = None
    token: str | None = None
    connect_s: float = 5.0

    def client(self) -> Client:
        """Build a client."""
        reconnect = ReconnectOptions(connect_s=self.connect_s)
        return Client(self.address, tls=self.tls, token=self.token, reconnect=reconnect)

    def through(self, address: str) -> Reach:
        """Go through a relay that listens at `address`, and still expect the server's own name."""
        tls = self.tls and replace(self.tls, server_name=self.tls.server_name or self.host)
        return replace(self, address=address, tls=tls)

    @property
    def host(self) -> str:
        """The server's host."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.address.rpartition(":")[2])
