"""Which hosts are called for a source: by what they resolve to, not by what they are named."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette_server.errors import SettingsError
from vedette_server.pull.errors import SourceError
from vedette_server.pull.hosts import Hosts
from vedette_server.pull.options import PullOptions

NAMES = {
    "cam.example": ["203.0.113.7"],
    "yard.cams.example": ["10.20.0.7"],
    "rebound.cams.example": ["127.0.0.1"],
    "both.cams.example": ["10.20.0.7", "169.254.169.254"],
}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = socket.getaddrinfo

    def resolve(host: str, *given: Any, **more: Any) -> list[Any]:
        addresses = NAMES.get(host.lower().removesuffix("."), [host])
        return [
            one for address in addresses for one in plain(address, *given, **more | {"flags": socket.AI_NUMERICHOST})
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def may_call(host: str, *entries: str) -> bool:
    with contextlib.suppress(SourceError):
        Hosts.read(entries).check(host)
        return True
    return False


@pytest.mark.parametrize("host", ["cam.example", "10.20.0.7", "yard.cams.example", "2001:db8::1"])
def test_without_a_setting_cameras_are_called_wherever_they_are(host: str) -> None:
    assert may_call(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "fe80::1",
        "rebound.cams.example",
        "both.cams.example",
    ],
)
def test_this_machine_and_this_link_are_called_only_by_a_network(host: str) -> None:
    assert not may_call(host)
    assert not may_call(host, "*")
    assert not may_call(host, "*.cams.example", "10.0.0.0/8", "192.0.2.0/24")
    assert may_call(host, "*", "0.0.0.0/0", "::/0")


def test_a_list_allows_what_is_on_it_and_nothing_else() -> None:
    listed = "*.cams.example", "192.0.2.0/24", "2001:db8::/32"
    assert may_call("yard.cams.example", *listed)
    assert may_call("YARD.Cams.example.", *listed)
    assert may_call("192.0.2.9", *listed)
    assert may_call("2001:db8::9", *listed)
    assert not may_call("cam.example", *listed)
    assert not may_call("10.20.0.7", *listed)
    assert may_call("yard.cams.example", "10.20.0.0/16")


@pytest.mark.parametrize(
    ("host", "entries", "may"),
    [
        ("10.20.0.7", (), True),
        ("127.0.0.1", (), False),
        ("127.1", (), False),
        ("::1", ("*",), False),
        ("LocalHost.", (), False),
        ("localhost", ("localhost",), False),
        ("localhost", ("127.0.0.0/8",), True),
        ("127.0.0.1", ("127.0.0.0/8",), True),
        ("10.20.0.7", ("10.20.0.0/16",), True),
        ("10.21.0.7", ("10.20.0.0/16",), False),
        ("10.21.0.7", ("*.cams.example",), False),
        ("cam.example", (), True),
        ("cam.example", ("*.cams.example",), False),
        ("Yard.cams.example.", ("*.cams.example",), True),
        ("cam.example", ("*.cams.example", "10.20.0.0/16"), True),
        ("rebound.cams.example", (), True),
        ("no such host\udcff", (), True),
    ],
)
def test_what_may_never_be_called_is_known_without_asking_anybody(
    host: str, entries: tuple[str, ...], may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMES, host, [host])
    plain = socket.getaddrinfo

    def numeric(*given: Any, **more: Any) -> list[Any]:
        assert more["flags"] == socket.AI_NUMERICHOST, "a name was asked for"
        return plain(*given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", numeric)
    try:
        Hosts.read(entries).check_unresolved(host)
    except SourceError:
        assert not may
    else:
        assert may


@given(
    st.sampled_from(["127.0.0.1", "::1", "localhost", "10.20.0.7", "192.0.2.9", *NAMES]),
    st.sets(st.sampled_from(["*", "*.cams.example", "cam.example", "10.0.0.0/8", "127.0.0.0/8", "::/0"])),
)
def test_what_is_refused_without_asking_is_never_called(host: str, entries: set[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NAMES, "localhost", ["127.0.0.1"])
        try:
            Hosts.read(entries).check_unresolved(host)
        except SourceError:
            assert not may_call(host, *entries)


def test_a_host_that_nobody_knows_is_told_as_such() -> None:
    with pytest.raises(SourceError, match="its host is not known"):
        Hosts().check("nobody.invalid")


@pytest.mark.parametrize("entry", ["10.0.*", "10.0.0.1/8", "http://cam", "a b", "cam:80", "-", "[::1]", "10.0.0.300"])
def test_what_is_neither_a_name_nor_a_network_is_refused_at_start(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"monitor\.source_hosts has") as refused:
        PullOptions(hosts=("cam", entry))
    assert repr(entry) in str(refused.value)
