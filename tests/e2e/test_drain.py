"""A server that is told to stop: clients are told, what is held is finished, and then it goes."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from support_serving import ServerProcess
from support_streams import grey
from support_wire import Refused, Wire, grey_config, grey_packet
from vedette.v1 import stream_pb2
from vedette_client import Client, Policy, ReconnectOptions, SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Freshness, memory and graces are judged.
pytestmark = pytest.mark.alone


@pytest.fixture
def start(gauges: Path) -> Callable[..., ServerProcess]:
    def serve(*flags: str, port: int = 0) -> ServerProcess:
        common = ("--engine", "gauge", "--lanes", "1", "--max-batch", "2", "--tune-budget-s", "0")
        return ServerProcess(*common, "--engines-dir", str(gauges), *flags, port=port)

    return serve


def exit_of(server: ServerProcess) -> asyncio.Future[int]:
    """Wait for the process to end by itself."""
    return asyncio.get_running_loop().run_in_executor(None, server.process.wait, 30)


async def test_an_idle_server_stops_at_once(start: Callable[..., ServerProcess]) -> None:
    with start() as server:
        begun_s = time.monotonic()
        assert await asyncio.to_thread(server.stop, signal.SIGTERM) == 0
        assert time.monotonic() - begun_s < 5


async def test_clients_are_told_and_what_is_held_is_finished(start: Callable[..., ServerProcess]) -> None:
    with start("--drain-grace-s", "20") as server:
        async with Wire(server.address, "held") as camera, Wire(server.address, "late") as late:
            await camera.open(grey_config("held", "slow"))
            await camera.say(packets=[grey_packet(number) for number in range(12)])
            await camera.hear_verdicts(1)
            server.process.send_signal(signal.SIGTERM)
            while camera.drain is None:
                assert await camera.hear() is not None
            assert camera.drain.grace.seconds == 20

            with pytest.raises(Refused) as caught:
                await late.open(grey_config("late"))
            assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.UNAVAILABLE, ["DRAINING"])

            account = await camera.finish()
            assert account.analysed == 12
            # It ends when nobody is left, not when the grace is over.
            assert await asyncio.wait_for(exit_of(server), 10) == 0


async def test_a_stream_that_does_not_end_is_ended_at_the_grace(start: Callable[..., ServerProcess]) -> None:
    with start("--drain-grace-s", "0.5") as server:
        async with Wire(server.address, "endless") as camera:
            await camera.open(grey_config("endless", "slow"))
            # More than the engine can do within the grace.
            await camera.say(packets=[grey_packet(number) for number in range(32)])
            await camera.hear_verdicts(1)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(Refused) as caught:
                await camera.hear_all()
            assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.UNAVAILABLE, ["DRAINING"])
            assert camera.closing is not None
            account = camera.closing
            skipped = {entry.reason: entry.count for entry in account.skipped}
            assert skipped.keys() == {SkipReason.DRAINING}
            assert account.packets_pending == 0
            assert account.packets_received == 32 == account.analysed + skipped[SkipReason.DRAINING]
            assert len(camera.verdicts) == 32
        assert await asyncio.wait_for(exit_of(server), 10) == 0


async def test_a_second_signal_stops_now(start: Callable[..., ServerProcess]) -> None:
    with start("--drain-grace-s", "600") as server:
        async with Wire(server.address, "endless") as camera:
            await camera.open(grey_config("endless", policy=stream_pb2.DELIVERY_POLICY_LIVE))
            server.process.send_signal(signal.SIGTERM)
            while camera.drain is None:
                assert await camera.hear() is not None
            begun_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(exit_of(server), 15) == 0
            assert time.monotonic() - begun_s < 10


async def test_a_live_camera_moves_to_the_next_server(start: Callable[..., ServerProcess]) -> None:
    """The bundled client goes through a drain and a restart on the same port without losing a packet."""
    server = start("--drain-grace-s", "5")
    quick = ReconnectOptions(initial_s=0.02, max_s=0.1, give_up_s=20.0)
    try:
        async with Client(server.address, reconnect=quick) as client:
            source = grey([value % 200 for value in range(90)], fps=20)
            analysis = await client.start(source, "mover", engines=["gauge"], policy=Policy.EVERY_FRAME)
            verdicts = [await anext(analysis) for _ in range(10)]
            server.process.send_signal(signal.SIGTERM)
            assert await exit_of(server) == 0
            server.kill()
            server = await asyncio.to_thread(start, port=server.port)
            verdicts += [verdict async for verdict in analysis]
            assert analysis.stream.connections >= 2
        assert [v.sequence for v in verdicts] == list(range(90))
        assert all(v.analysed for v in verdicts)
    finally:
        server.kill()
