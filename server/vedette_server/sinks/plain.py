"""Says at start which sinks send over the network what others on the way should not read."""

from __future__ import annotations

import ipaddress
import logging

_log = logging.getLogger(__name__)


def tell_plain(sink: str, host: str, what: str) -> None:
    """Log that a connection is not encrypted; of one within this machine nothing is said.

    Args:
        sink: Its name in the file of sinks.
        host: Who is connected to.
        what: What can be read on the way, in words; empty: nothing that was meant to be secret.
    """
    if what and not _is_loopback(host):
        _log.warning("sink_not_encrypted", extra={"sink": sink, "host": host, "readable": what})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
