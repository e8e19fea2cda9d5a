"""The options that all commands of the client share: which server to talk to, and how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from vedette_client import OptionsError, TlsOptions
from vedette_client.credentials import checked_token
from vedette_client.reach import Reach

DEFAULT_SERVER = "127.0.0.1:50051"
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")

Server = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", envvar="VEDETTE_SERVER", help="Address of the server.")
]
Tls = Annotated[
    bool, typer.Option("--tls", help="Encrypt, and trust the authorities that gRPC brings along; implied by --tls-*.")
]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="PEM file of the authorities to trust. Default: none.")
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", metavar="FILE", help="PEM file of the client's certificate, for mutual TLS. Default: none."
    ),
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM file of its private key. Default: none.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="VEDETTE_TOKEN",
        show_default=False,
        help="Bearer token; better given in the environment than here. Default: none.",
    ),
]


def reach(
    server: str, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, token: str | None
) -> Reach:
    """Read the options.

    Raises:
        OptionsError: The address is none, a file is missing, a certificate has no key, or the token cannot be sent.
    """
    found = _ADDRESS.fullmatch(server)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise OptionsError(f"--server is {server!r}; HOST:PORT is wanted")
    options = None
    if tls or ca or certificate or key:
        options = TlsOptions(ca=ca, certificate=certificate, key=key)
        options.read()
    return Reach(server, options, checked_token(token))
