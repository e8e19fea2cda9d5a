"""Small load tests against a real server, and the parts that touch the machine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path

import pytest
import trustme

import support_cli
from support_serving import ServerProcess
from vedette_client.loadtest.proc import MachineLoad, find_listener, usage
from vedette_client.loadtest.relay import Relay


@pytest.fixture(scope="module")
def server():
    with ServerProcess("--engine", "blobs", "--tune-budget-s", "0") as process:
        yield process


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server whose certificate is for its own name only, so that a relay before it must not pass for it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    (folder / "tokens.toml").write_text(
        '[[tokens]]\nname = "tester"\ntoken = "open sesame"\nchannels = ["*"]\npermissions = ["publish", "watch"]\n'
    )
    pem = str(folder / "server.pem")
    flags = ("--tls-cert", pem, "--tls-key", pem, "--tokens", str(folder / "tokens.toml"))
    with ServerProcess("--engine", "blobs", "--tune-budget-s", "0", *flags) as process:
        process.address = f"localhost:{process.port}"
        process.ca = folder / "ca.pem"
        yield process


def loadtest(server: ServerProcess, file, *args: object) -> dict:
    said = support_cli.vedette(
        *("loadtest", "--server", server.address, "--engine", "blobs", "--source", "synthetic:blobs", "--fps", "10"),
        *("--json", file, *map(str, args)),
        VEDETTE_TOKEN="open sesame",
    )
    assert said.code == 0, said.err
    return json.loads(file.read_text())


def test_a_small_load_closes_its_accounts_and_finds_what_is_there(server, tmp_path) -> None:
    page = tmp_path / "load.html"
    data = loadtest(server, tmp_path / "a.json", "--channels", 2, "--duration", 2, "--html", page)
    figures = data["figures"]
    counts, accounts, truth = figures["counts"], figures["accounts"], figures["truth"]
    assert counts["scheduled"] == 40
    assert counts["sent"] + counts["unsent"] == 40
    assert counts["analysed"] + sum(counts["skipped"].values()) == counts["sent"]
    assert (accounts["cameras"], accounts["closed"], accounts["problems"]) == (2, 2, {})
    assert truth["frames"] == counts["analysed"] > 0
    assert truth["hits"] >= 0.95 * (truth["hits"] + truth["misses"]) > 0
    assert truth["wrong_labels"] == 0
    assert figures["latency"]["count"] == counts["analysed"]
    assert data["circumstances"]["server"]
    assert data["circumstances"]["server_pid"] == server.process.pid
    assert figures["server"]["rss_most_mib"] > 10
    assert page.read_text().startswith("<!doctype html>")


def test_storms_of_reconnects_change_no_account_encrypted_or_not(secure, tmp_path) -> None:
    data = loadtest(
        secure,
        tmp_path / "b.json",
        *("--tls-ca", secure.ca),
        *("--channels", 3, "--duration", 3, "--reconnect-every", 1, "--processes", 2, "--policy", "every-frame"),
    )
    figures = data["figures"]
    assert figures["storms"] == 2
    assert figures["accounts"]["closed"] == 3
    assert figures["accounts"]["connections"] > 3
    assert figures["counts"]["analysed"] == figures["counts"]["scheduled"] == 90


def test_a_token_that_is_not_known_is_told_in_one_line(secure) -> None:
    flags = ("--server", secure.address, "--tls-ca", str(secure.ca), "--token", "wrong", "--engine", "blobs")
    for command in (("loadtest", "--channels", "1"), ("stream", "synthetic:blobs"), ("watch", "--once")):
        wanted = flags[:-2] if command[0] == "watch" else flags
        said = support_cli.vedette(*command, *wanted)
        assert (said.code, said.err.count("\n")) == (1, 1), said
        assert "UNAUTHENTICATED" in said.err


def test_ctrl_c_ends_a_load_test_and_its_processes(server) -> None:
    process = support_cli.start(
        *("loadtest", "--server", server.address, "--engine", "blobs", "--source", "synthetic:blobs"),
        *("--duration", "60", "--channels", "2", "--processes", "2"),
    )
    head = process.stdout.readline()
    assert "2 cameras" in head
    deadline_s = time.monotonic() + 20
    while len(children(process.pid)) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    started = children(process.pid)
    said = support_cli.interrupt(process)
    assert (said.code, said.err) == (130, "")
    assert len(started) >= 2
    assert all(support_cli.is_gone(pid) for pid in started)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_search_tells_every_step_and_stops_at_its_limit(server, tmp_path) -> None:
    file = tmp_path / "c.json"
    said = support_cli.vedette(
        *("loadtest", "--server", server.address, "--engine", "blobs", "--source", "synthetic:blobs", "--fps", "5"),
        *("--duration", "1", "--channels", "1", "--max-channels", "2", "--json", str(file)),
        *("--search", "--slo-p95-ms", "60000", "--max-skip", "100"),
    )
    assert said.code == 0, said.err
    found = json.loads(file.read_text())["search"]
    assert [step["channels"] for step in found["steps"]] == [1, 2]
    assert (found["channels"], found["limited"]) == (2, True)
    assert said.out.count("held") == 2


async def test_a_relay_passes_on_until_it_is_cut_and_takes_new_connections_after() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        async with Relay("127.0.0.1", port) as relay:
            for _ in range(2):
                host, _, relay_port = relay.address.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(relay_port))
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                relay.cut()
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()
            assert relay.cuts == 2


async def test_a_relay_to_nowhere_hangs_up() -> None:
    async with Relay("127.0.0.1", 1) as relay:
        host, _, port = relay.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


def test_whoever_listens_on_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert find_listener(port) == os.getpid()
    assert find_listener(port) is None


def test_a_process_tells_what_it_uses_and_a_dead_one_nothing() -> None:
    mine = usage(os.getpid())
    assert mine is not None
    assert mine.cpu_s > 0
    assert mine.rss_bytes > 1 << 20
    assert usage(2**22 + 1) is None
    assert 0 <= MachineLoad().busy_share() <= 1
