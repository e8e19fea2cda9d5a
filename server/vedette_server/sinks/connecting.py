"""What sinks share that connect to somebody: the TLS context of a client."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from vedette_server.errors import SettingsError

if TYPE_CHECKING:
    from vedette_server.sinks.table import Table


def read_tls(table: Table) -> ssl.SSLContext:
    """Make a context of `ca_file`, `cert_file` and `key_file`; whom the other side is, is always verified.

    Without `ca_file` the public authorities that this machine knows are believed, with it only those in it.

    Raises:
        SettingsError: A file cannot be read, or is not what it should be.
    """
    ca_file, cert_file, key_file = table.path("ca_file"), table.path("cert_file"), table.path("key_file")
    if (cert_file is None) != (key_file is None):
        raise SettingsError(f"{table.where}: of cert_file and key_file one is given; allowed: both or none")
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except (OSError, ssl.SSLError) as error:
        table.refuse("ca_file", str(ca_file), f"a file of certificates in PEM ({_why(error)})")
    if cert_file is None:
        return context
    try:
        # A key under a password would ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        allowed = f"a certificate in PEM, and in key_file its key without a password ({_why(error)})"
        table.refuse("cert_file", str(cert_file), allowed)
    return context


def _why(error: OSError) -> str:
    return error.strerror or str(error)
