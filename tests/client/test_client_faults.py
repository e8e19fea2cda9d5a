"""Dead links, servers that drain or send elsewhere, and servers that break the contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

from support_fakeserver import Behaviour, FakeServer, TcpProxy
from support_toyvideo import FORMAT, video
from vedette_client import Client, ConnectionLostError, Policy, ProtocolError, ReconnectOptions, TlsOptions

if TYPE_CHECKING:
    from pathlib import Path

EVERY = Policy.EVERY_FRAME
QUICK = ReconnectOptions(initial_s=0.001, max_s=0.05, accept_s=0.5, connect_s=2.0, give_up_s=10.0)
PACKETS = video(groups=4, length=6)


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.01)


async def test_a_black_hole_is_noticed_by_its_silence_and_left() -> None:
    behaviour = Behaviour(window=6, heartbeat_s=0.1)
    async with FakeServer(behaviour) as server, TcpProxy(server.address) as proxy:
        async with Client(proxy.address, reconnect=QUICK) as client:
            stream = await client.open("a", FORMAT, policy=EVERY)
            for item in PACKETS[:8]:
                await stream.send(item)
            await stream.read()
            proxy.swallow = True
            for item in PACKETS[8:]:
                await stream.send(item, wait=False)
            await asyncio.sleep(0.2)
            proxy.swallow = False  # the old connection stays dead, a new one works
            account = await stream.finish()
        assert proxy.connections >= 2
    assert account.analysed == len(PACKETS) - account.client_dropped
    assert account.pending == 0


async def test_a_server_that_takes_connections_and_never_answers_is_given_up() -> None:
    async with FakeServer() as server, TcpProxy(server.address) as proxy:
        proxy.swallow = True
        reconnect = ReconnectOptions(initial_s=0.001, accept_s=0.2, connect_s=0.5)
        async with Client(proxy.address, reconnect=reconnect) as client:
            with pytest.raises(ConnectionLostError, match="given up"):
                await client.open("a", FORMAT)


async def test_a_server_that_loads_the_engine_first_may_take_longer_than_a_connection() -> None:
    reconnect = ReconnectOptions(initial_s=0.001, connect_s=0.2)
    async with (
        FakeServer(Behaviour(accept_after_s=0.6)) as server,
        Client(server.address, reconnect=reconnect) as client,
    ):
        stream = await client.open("a", FORMAT)
        assert stream.connections == 1


async def test_a_server_that_never_accepts_is_given_up_in_its_own_time() -> None:
    reconnect = ReconnectOptions(initial_s=0.001, accept_s=0.4, connect_s=0.2)
    async with (
        FakeServer(Behaviour(accept_after_s=60)) as server,
        Client(server.address, reconnect=reconnect) as client,
    ):
        with pytest.raises(ConnectionLostError, match=r"no answer within 0\.4 s"):
            await client.open("a", FORMAT)


async def test_a_broken_tcp_connection_is_resumed() -> None:
    async with (
        FakeServer(Behaviour(window=6)) as server,
        TcpProxy(server.address) as proxy,
        Client(proxy.address, reconnect=QUICK) as client,
    ):
        stream = await client.open("a", FORMAT, policy=EVERY)
        for number, item in enumerate(PACKETS):
            await stream.send(item)
            if number % 7 == 6:
                await asyncio.sleep(0.01)
                proxy.cut()
        account = await stream.finish()
    assert account.analysed == len(PACKETS)
    assert stream.connections > 1


async def test_an_idle_client_says_that_it_lives() -> None:
    async with FakeServer(Behaviour(heartbeat_s=0.1)) as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT, policy=EVERY)
        await until(lambda: server.heartbeats >= 3)
        await stream.finish()
    assert server.calls == 1


async def test_a_draining_server_is_left_for_the_one_it_names() -> None:
    async with FakeServer(Behaviour(window=6)) as old, FakeServer(Behaviour(window=6)) as new:
        old.behaviour.drain_endpoint = new.address
        async with Client(old.address, reconnect=QUICK) as client:
            stream = await client.open("a", FORMAT, policy=EVERY)
            for item in PACKETS[:9]:
                await stream.send(item)
            old.behaviour.drain.set()
            for item in PACKETS[9:]:
                await stream.send(item)
            account = await stream.finish()
            verdicts = [v async for v in stream]
    assert new.calls == 1
    assert account.analysed == len(PACKETS)
    assert [v.pts for v in verdicts] == sorted(v.pts for v in verdicts if v.pts is not None)


async def test_a_stream_that_has_sent_everything_ends_on_the_draining_server() -> None:
    async with FakeServer() as server, Client(server.address, reconnect=QUICK) as client:
        stream = await client.open("a", FORMAT, policy=EVERY)
        for item in PACKETS:
            await stream.send(item)
        await until(lambda: len(server.packets) == len(PACKETS))
        server.behaviour.drain.set()
        finished = await asyncio.gather(stream.finish())
    assert finished[0].analysed == len(PACKETS)


async def test_a_stream_is_taken_where_the_server_sends_it() -> None:
    async with (
        FakeServer() as there,
        FakeServer(Behaviour(endpoint=there.address)) as here,
        Client(here.address) as client,
    ):
        stream = await client.open("a", FORMAT, policy=EVERY)
        for item in PACKETS:
            await stream.send(item)
        account = await stream.finish()
    assert (here.calls, there.calls) == (1, 1)
    assert account.analysed == len(PACKETS)


async def test_a_circle_of_servers_is_left() -> None:
    async with FakeServer() as one, FakeServer(Behaviour(endpoint=one.address)) as two:
        one.behaviour.endpoint = two.address
        async with Client(one.address, reconnect=QUICK) as client:
            with pytest.raises(ProtocolError, match="from one server to another"):
                await client.open("a", FORMAT)


async def test_streams_of_one_client_share_a_connection() -> None:
    async with FakeServer() as server, TcpProxy(server.address) as proxy, Client(proxy.address) as client:
        streams = [await client.open(f"c{n}", FORMAT, policy=EVERY) for n in range(5)]
        for stream in streams:
            await stream.finish()
        assert proxy.connections == 1


async def test_a_server_with_a_certificate_is_trusted_through_its_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    server_cert = authority.issue_cert("localhost")
    client_cert = authority.issue_cert("camera-box")
    for name, blob in (
        ("ca.pem", authority.cert_pem),
        ("client.pem", client_cert.cert_chain_pems[0]),
        ("client.key", client_cert.private_key_pem),
    ):
        blob.write_to_path(tmp_path / name)
    credentials = grpc.ssl_server_credentials(
        [(server_cert.private_key_pem.bytes(), server_cert.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    tls = TlsOptions(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key", server_name="localhost")
    async with FakeServer(credentials=credentials) as server:
        async with Client(server.address, tls=tls) as client:
            stream = await client.open("a", FORMAT, policy=EVERY)
            assert (await stream.finish()).pending == 0
        async with Client(server.address, reconnect=ReconnectOptions(connect_s=0.3)) as stranger:
            with pytest.raises(ConnectionLostError):
                await stranger.open("a", FORMAT)
