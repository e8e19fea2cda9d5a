"""One exchange of HTTP, a request and the head of its answer, within a deadline for all of it.

httpx counts its timeout for each read and each write: who sends a byte of his answer now and then would hold us for
ever. Here whatever touches the network waits at most for what is left, and httpcore closes a connection that failed.
Only the system's own look-up of a name has no such bound.

Threads: one at a time.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from httpcore import SOCKET_OPTION

# Written at once: a write of its own may wait for as long as is left, each time the other side takes a little.
_PIECE_BYTES = 16 * 1024


class Exchange(httpx.BaseTransport):
    """Connects, sends and waits for an answer, all of it within one deadline.

    Args:
        tls: Whom is believed.
        proxy: A proxy's URL; None: none.
        within_s: From the beginning of a request to the head of its answer.
        clock: Gives seconds that only rise.
    """

    def __init__(
        self, tls: ssl.SSLContext, proxy: str | None, within_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._within_s = within_s
        self._network = _Network(clock)
        if proxy is None:
            self._pool = httpcore.ConnectionPool(tls, max_connections=1, network_backend=self._network)
        else:
            self._pool = httpcore.HTTPProxy(proxy, ssl_context=tls, max_connections=1, network_backend=self._network)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and give the head of its answer; its body is still to be read.

        Raises:
            httpx.TimeoutException: The deadline has passed.
            httpx.TransportError: It failed.
        """
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        asked = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.read(), extensions=request.extensions
        )
        self._network.begin(self._within_s)
        try:
            answer = self._pool.handle_request(asked)
        except httpcore.TimeoutException as error:
            raise httpx.TimeoutException(str(error), request=request) from error
        except _FAILED as error:
            raise httpx.TransportError(str(error), request=request) from error
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


_FAILED = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol)


class _Body(httpx.SyncByteStream):
    """The body of an answer, which nobody reads."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def close(self) -> None:
        self._answer.close()


class _Network(httpcore.NetworkBackend):
    """The system's network, within a deadline."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._plain = httpcore.SyncBackend()
        self._until_s = float("inf")

    def begin(self, within_s: float) -> None:
        self._until_s = self._clock() + within_s

    def left_s(self, at_most_s: float | None) -> float:
        """Say how long may still be waited.

        Raises:
            httpcore.TimeoutException: No longer.
        """
        left_s = self._until_s - self._clock()
        if left_s <= 0:
            raise httpcore.TimeoutException("the time for the whole exchange is over")
        return left_s if at_most_s is None else min(left_s, at_most_s)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _addresses(host, port)
        for index, address in enumerate(addresses):
            # An address where nobody answers leaves the next ones their share.
            within_s = self.left_s(timeout) / (len(addresses) - index)
            try:
                return _Stream(
                    self._plain.connect_tcp(address, port, within_s, local_address, socket_options), self.left_s
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"{host}: has no address")


class _Stream(httpcore.NetworkStream):
    """A connection whose waits are bounded by what is left."""

    def __init__(self, plain: httpcore.NetworkStream, left_s: Callable[[float | None], float]) -> None:
        self._plain = plain
        self._left_s = left_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._plain.read(max_bytes, self._left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for begin in range(0, len(buffer), _PIECE_BYTES):
            self._plain.write(buffer[begin : begin + _PIECE_BYTES], self._left_s(timeout))

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._plain.start_tls(ssl_context, server_hostname, self._left_s(timeout)), self._left_s)

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for _family, _kind, _protocol, _name, address in found))
