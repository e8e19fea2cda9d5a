"""Make the server's TLS credentials from files, with errors that say which file is wrong and how."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import grpc

from vedette_server.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.settings import TlsSettings


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """Read certificate, key and client CA; None when no TLS is wanted.

    A client CA makes it mutual: a client without a certificate of that authority is refused at the
    handshake.

    Raises:
        SettingsError: A file is missing, is not PEM, or the key is not the certificate's.
    """
    if settings.certificate is None or settings.key is None:
        return None
    certificate = _read("tls.certificate", settings.certificate)
    key = _read("tls.key", settings.key)
    _check_pair(settings.certificate, settings.key)
    client_ca = None
    if settings.client_ca is not None:
        client_ca = _read("tls.client_ca", settings.client_ca)
        _check_authority(settings.client_ca)
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=client_ca, require_client_auth=client_ca is not None
    )


def _read(name: str, file: Path) -> bytes:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} is {str(file)!r}, which cannot be read: {error.strerror}") from error
    if b"-----BEGIN " not in text:
        raise SettingsError(f"{name} is {str(file)!r}, which is not PEM; allowed: a file with -----BEGIN ...-----")
    return text


def _check_pair(certificate: Path, key: Path) -> None:
    """Let OpenSSL judge the pair now: gRPC would only fail at the first handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key under a password would make OpenSSL ask on the terminal.
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error.reason):
            message = f"tls.key is {str(key)!r}, which is not the key of tls.certificate, {str(certificate)!r}"
        else:
            message = (
                f"tls.certificate {str(certificate)!r} and tls.key {str(key)!r} cannot be used: "
                f"{error.reason or error}; allowed: a PEM certificate chain and its PEM key without a password"
            )
        raise SettingsError(message) from error


def _check_authority(file: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except ssl.SSLError as error:
        raise SettingsError(
            f"tls.client_ca is {str(file)!r}, which holds no certificate: {error.reason or error}; allowed: PEM"
        ) from error


def _no_password() -> str:
    return ""
