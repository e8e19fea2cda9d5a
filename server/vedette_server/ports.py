"""Keep a port for workers to come: clients look for a server where they found it.

The socket is bound and never listens. On Linux another one with SO_REUSEADDR may then bind and listen beside
it, which the worker's do, while the kernel gives the port to nobody who asks for any free one. Elsewhere two
such sockets exclude each other; there only the number is remembered.
"""

from __future__ import annotations

import contextlib
import socket
import sys


class Port:
    """A port that is kept as long as this is open.

    Args:
        host: Address or name to listen on.
        number: The port; 0: any free one.

    Attributes:
        number: The port; 0 where none could be had, for the worker to try and to tell why.
    """

    def __init__(self, host: str, number: int) -> None:
        self.number = number
        self._held: socket.socket | None = None
        with contextlib.suppress(OSError):
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            held = socket.socket(family, kind, protocol)
            try:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind(address)
                self.number = held.getsockname()[1]
            except OSError:
                held.close()
                raise
            if sys.platform == "linux":
                self._held = held
            else:
                held.close()

    def close(self) -> None:
        """Keep it no longer; may be called twice."""
        if self._held is not None:
            self._held.close()
            self._held = None
