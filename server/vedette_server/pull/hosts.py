"""Which hosts the server may call for a channel's source.

A source is given by whoever may administer its channel, and calling it tells whether something answers there. So
nothing on this machine or this link is called unless it is named: no database on loopback, no cloud's 169.254.169.254.

What can be told without asking anybody is refused when a channel is made: an address, and a name where only names are
allowed. What a name resolves to is looked at just before FFmpeg is given the URL. FFmpeg resolves it again, follows an
RTSP camera's redirection, and over UDP sends where the camera says: a name or a camera that lies is not stopped here,
but by a firewall.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, NoReturn

from vedette_server.errors import SettingsError
from vedette_server.pull.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOWED = "names, with * for any part, and networks such as 10.20.0.0/16 or fd00::/8"
_NAME = re.compile(r"[A-Za-z0-9_*]([A-Za-z0-9_.*-]*[A-Za-z0-9_*])?")
_LOCALHOST = ("127.0.0.1", "::1")
_NUMBERS = re.compile(r"[0-9.*]*[0-9][0-9.*]*")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts that may be called.

    Attributes:
        names: Patterns in lower case.
        networks: Networks; they alone allow loopback and link-local addresses.
    """

    names: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> Hosts:
        """Read the entries of `monitor.source_hosts`.

        Raises:
            SettingsError: One is neither a name nor a network.
        """
        names: list[str] = []
        networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                # 10.0.* would be the name 10.0.example.com, too.
                if not _NAME.fullmatch(entry) or _NUMBERS.fullmatch(entry):
                    raise SettingsError(f"monitor.source_hosts has {entry!r}; allowed: {ALLOWED}") from None
                names.append(entry.lower())
        return cls(tuple(names), tuple(networks))

    def check(self, host: str) -> None:
        """Refuse to call a host; resolves its name.

        Raises:
            SourceError: It may not be called, or nobody knows it. Its addresses are not told.
        """
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise SourceError("it cannot be opened as video: its host is not known") from None
        for *_, place in found:
            if not self._allows(host, str(place[0])):
                _refuse(host)

    def check_unresolved(self, host: str) -> None:
        """Refuse a host that `check` always refuses, as far as that is known without asking anybody.

        Raises:
            SourceError: It may never be called.
        """
        if _bare(host) == "localhost":
            if not any(self._allows(host, address) for address in _LOCALHOST):
                _refuse(host)
            return
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            # A name: whether it is in a network is seen when it is called.
            if not self.networks and not self._is_named(host):
                _refuse(host)
            return
        for *_, place in found:
            if not self._allows(host, str(place[0])):
                _refuse(host)

    def _allows(self, host: str, resolved: str) -> bool:
        address = _plain(ip_address(resolved.partition("%")[0]))
        return self._names(address) or (not _is_near(address) and self._is_named(host))

    def _is_named(self, host: str) -> bool:
        return not (self.names or self.networks) or any(fnmatchcase(_bare(host), pattern) for pattern in self.names)

    def _names(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


def _bare(host: str) -> str:
    return host.lower().removesuffix(".")


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that is called by way of an IPv6 one."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _is_near(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is of this machine or this link; 0.0.0.0 is this machine's, too."""
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _refuse(host: str) -> NoReturn:
    raise SourceError(
        f"host {host!r} may not be called; allowed are those of monitor.source_hosts, and loopback and link-local "
        "addresses only by a network there"
    )
