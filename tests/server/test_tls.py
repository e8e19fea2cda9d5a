from __future__ import annotations

import grpc
import pytest
import trustme

from support_edge import METHOD, echo_server
from vedette_server.errors import SettingsError
from vedette_server.rpc.tls import server_credentials
from vedette_server.settings import TlsSettings


async def echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return request


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def settings(authority, tmp_path):
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return TlsSettings(tmp_path / "cert.pem", tmp_path / "key.pem")


async def call(address: str, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(address, credentials) as channel:
        return await channel.unary_unary(METHOD)(b"hello", timeout=10)


def test_no_certificate_means_no_tls():
    assert server_credentials(TlsSettings()) is None


async def test_a_client_that_trusts_the_authority_is_served(settings, authority):
    async with echo_server(echo, server_credentials(settings)) as address:
        assert await call(address, grpc.ssl_channel_credentials(authority.cert_pem.bytes())) == b"hello"


async def test_a_client_that_trusts_another_authority_turns_away(settings):
    async with echo_server(echo, server_credentials(settings)) as address:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(address, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes()))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_with_a_client_ca_only_its_clients_are_served(settings, authority, tmp_path):
    mutual = TlsSettings(settings.certificate, settings.key, tmp_path / "ca.pem")
    root = authority.cert_pem.bytes()

    def client_of(issuer: trustme.CA) -> grpc.ChannelCredentials:
        mine = issuer.issue_cert("camera.example")
        return grpc.ssl_channel_credentials(root, mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())

    async with echo_server(echo, server_credentials(mutual)) as address:
        assert await call(address, client_of(authority)) == b"hello"
        for stranger in (grpc.ssl_channel_credentials(root), client_of(trustme.CA())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(address, stranger)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_a_missing_file_is_named(settings, tmp_path, name):
    parts = {"certificate": settings.certificate, "key": settings.key, "client_ca": tmp_path / "ca.pem"}
    parts[name] = tmp_path / "absent.pem"
    with pytest.raises(SettingsError, match=rf"tls\.{name} is '.*absent\.pem', which cannot be read: No such file"):
        server_credentials(TlsSettings(**parts))


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_a_file_that_is_not_pem_is_named(settings, tmp_path, name):
    parts = {"certificate": settings.certificate, "key": settings.key, "client_ca": tmp_path / "ca.pem"}
    parts[name] = tmp_path / "noise.pem"
    parts[name].write_bytes(b"\x00\xffnoise")
    with pytest.raises(SettingsError, match=rf"tls\.{name} is '.*noise\.pem', which is not PEM"):
        server_credentials(TlsSettings(**parts))


def test_a_key_of_another_certificate_is_told(settings, authority, tmp_path):
    authority.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(SettingsError, match=r"other\.pem', which is not the key of tls\.certificate"):
        server_credentials(TlsSettings(settings.certificate, tmp_path / "other.pem"))


def test_a_damaged_pem_is_told(settings, tmp_path):
    for name in ("certificate", "key"):
        damaged = tmp_path / "damaged.pem"
        damaged.write_bytes(getattr(settings, name).read_bytes().replace(b"M", b"!", 40))
        parts = {"certificate": settings.certificate, "key": settings.key, name: damaged}
        with pytest.raises(SettingsError, match="cannot be used"):
            server_credentials(TlsSettings(**parts))


def test_a_client_ca_without_a_certificate_is_told(settings):
    with pytest.raises(SettingsError, match=r"tls\.client_ca is '.*key\.pem', which holds no certificate"):
        server_credentials(TlsSettings(settings.certificate, settings.key, settings.key))
