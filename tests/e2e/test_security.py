"""Who may connect, and what they may do, with the real server and the bundled client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from support_serving import ServerProcess
from support_streams import grey
from vedette_client import Client, ConnectionLostError, Policy, ReconnectOptions, RefusedError, TlsOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = ("--engine", "gauge", "--lanes", "1", "--max-batch", "1", "--tune-budget-s", "0")
IMPATIENT = ReconnectOptions(connect_s=1.0)
TOKENS = """
[[tokens]]
name = "gates"
token = "gate-secret"
channels = ["gate-*"]
permissions = ["publish"]

[[tokens]]
name = "desk"
token = "desk-secret"
channels = ["*"]
permissions = ["watch"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of one authority for server and client, and tokens."""
    root = tmp_path_factory.mktemp("security")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(root / "ca.pem"))
    for name in ("server", "client"):
        issued = authority.issue_cert("localhost", "127.0.0.1", common_name=name)
        issued.private_key_pem.write_to_path(str(root / f"{name}.key"))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(root / f"{name}.pem"), append=True)
    trustme.CA().cert_pem.write_to_path(str(root / "other.pem"))
    (root / "tokens.toml").write_text(TOKENS)
    return root


@pytest.fixture(scope="module")
def mutual(folder: Path, gauges: Path) -> Iterator[ServerProcess]:
    tls = ("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key"))
    with ServerProcess(*FLAGS, "--engines-dir", str(gauges), *tls, "--client-ca", str(folder / "ca.pem")) as process:
        yield process


@pytest.fixture(scope="module")
def guarded(folder: Path, gauges: Path) -> Iterator[ServerProcess]:
    tokens = ("--tokens", str(folder / "tokens.toml"))
    tls = ("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key"))
    with ServerProcess(*FLAGS, "--engines-dir", str(gauges), *tokens, *tls) as process:
        yield process


async def analysed(client: Client, channel: str) -> int:
    wanted = client.analyze(grey([9] * 5), channel, engines=["gauge"], policy=Policy.EVERY_FRAME)
    return sum([verdict.analysed async for verdict in wanted])


async def test_mutual_tls_lets_known_clients_in(folder: Path, mutual: ServerProcess) -> None:
    tls = TlsOptions(ca=folder / "ca.pem", certificate=folder / "client.pem", key=folder / "client.key")
    async with Client(mutual.address, tls=tls) as client:
        assert await client.health() == "SERVING"
        assert await analysed(client, "known") == 5
        assert (await client.session("channels/known/sessions/-")).account.analysed == 5


@pytest.mark.parametrize("options", ["no certificate", "no encryption", "another authority"])
async def test_others_stay_outside(folder: Path, mutual: ServerProcess, options: str) -> None:
    tls = {
        "no certificate": TlsOptions(ca=folder / "ca.pem"),
        "no encryption": None,
        "another authority": TlsOptions(
            ca=folder / "other.pem", certificate=folder / "client.pem", key=folder / "client.key"
        ),
    }[options]
    async with Client(mutual.address, tls=tls, reconnect=IMPATIENT) as client:
        with pytest.raises(ConnectionLostError):
            await analysed(client, "unknown")


async def test_a_token_publishes_on_its_channels_only(folder: Path, guarded: ServerProcess) -> None:
    tls = TlsOptions(ca=folder / "ca.pem")
    async with Client(guarded.address, tls=tls, token="gate-secret") as client:
        assert await analysed(client, "gate-1") == 5
        with pytest.raises(RefusedError) as caught:
            await analysed(client, "hall")
        assert caught.value.code == "PERMISSION_DENIED"
        with pytest.raises(RefusedError) as caught:
            await client.session("channels/gate-1/sessions/-")
        assert caught.value.code == "PERMISSION_DENIED"


async def test_a_token_that_watches_does_not_publish(folder: Path, guarded: ServerProcess) -> None:
    tls = TlsOptions(ca=folder / "ca.pem")
    async with Client(guarded.address, tls=tls, token="gate-secret") as client:
        await analysed(client, "gate-2")
    async with Client(guarded.address, tls=tls, token="desk-secret") as client:
        assert (await client.session("channels/gate-2/sessions/-")).account.analysed == 5
        assert "channels/gate-2" in {info.name.partition("/sessions/")[0] for info in await client.sessions()}
        with pytest.raises(RefusedError) as caught:
            await analysed(client, "gate-2")
        assert caught.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_a_known_token_nothing_is_allowed(
    folder: Path, guarded: ServerProcess, token: str | None
) -> None:
    async with Client(guarded.address, tls=TlsOptions(ca=folder / "ca.pem"), token=token) as client:
        for ask in (analysed(client, "gate-3"), client.session("channels/gate-1/sessions/-"), client.sessions()):
            with pytest.raises(RefusedError) as caught:
                await ask
            assert caught.value.code == "UNAUTHENTICATED"
