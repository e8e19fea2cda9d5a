"""Tell whether a server serves, for healthchecks: `python -m vedette_client.health [ADDRESS]`.

Prints the status of `grpc.health.v1` and ends with 0 for SERVING, 1 for anything else, 2 for a wrong call.
A container's healthcheck gives no arguments, so everything can stand in the environment: `VEDETTE_SERVER_PORT`,
and for TLS `VEDETTE_HEALTH_CA`, `_CERT`, `_KEY` and `_SERVER_NAME`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from vedette_client.client import Client
from vedette_client.errors import ClientError, OptionsError
from vedette_client.options import TlsOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOT_SERVING = 1
_WRONG_CALL = 2


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Ask once, print the answer, return the exit code.

    Args:
        arguments: Of the command line; None: the process's.
        environ: The environment; None: the process's.
    """
    wanted = _parser(os.environ if environ is None else environ).parse_args(arguments)
    try:
        tls = TlsOptions(wanted.ca, wanted.cert, wanted.key, wanted.server_name) if wanted.ca else None
        status = asyncio.run(_ask(wanted.address, tls, wanted.timeout_s))
    except OptionsError as error:
        print(f"vedette health: {error}", file=sys.stderr)  # noqa: T201
        return _WRONG_CALL
    except ClientError as error:
        print(f"vedette health: {error}", file=sys.stderr)  # noqa: T201
        return _NOT_SERVING
    print(status)  # noqa: T201
    return 0 if status == "SERVING" else _NOT_SERVING


async def _ask(address: str, tls: TlsOptions | None, timeout_s: float) -> str:
    async with Client(address, tls=tls) as client:
        return await client.health(timeout_s=timeout_s)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    def told(name: str) -> str | None:
        return environ.get(f"VEDETTE_HEALTH_{name}") or None

    parser = argparse.ArgumentParser(prog="python -m vedette_client.health", description="Ask a server for its health.")
    port = environ.get("VEDETTE_SERVER_PORT") or "50051"
    parser.add_argument("address", nargs="?", default=f"127.0.0.1:{port}", help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--ca", default=told("CA"), help="PEM of the authority to trust; given: TLS is used")
    parser.add_argument("--cert", default=told("CERT"), help="PEM of the client's certificate, for mutual TLS")
    parser.add_argument("--key", default=told("KEY"), help="PEM of its key")
    parser.add_argument("--server-name", default=told("SERVER_NAME"), help="name in the server's certificate")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="longest wait in seconds (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
