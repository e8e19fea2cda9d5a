"""`vedette serve` over a worker that is killed under running cameras: each goes on by itself."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from support_serving import ServerProcess
from support_streams import grey
from support_wire import Wire, grey_config
from vedette.v1 import stream_pb2
from vedette_client import Client, Policy, ReconnectOptions, SkipReason
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client import Account, Stream, Verdict

COMMAND = (str(Path(sys.executable).parent / "vedette"), "serve")
FLAGS = ("--engine", "blobs", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0", "--restart-backoff-s", "0.1")
RECONNECT = ReconnectOptions(initial_s=0.05, max_s=0.5, give_up_s=60.0)
H264 = "synthetic:blobs?bframes=2&gop=10&seconds=600&width=128&height=96&count=2&fps=15&seed={seed}"
FPS = 15
# Python imports this at its start: a worker can be told from outside to end as it does when its device is lost.
LOST_AT_SIGNAL = """
import os, signal
if "VEDETTE_WORKER" in os.environ:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(70))
"""


@pytest.fixture
def server(gauges: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "sitecustomize.py").write_text(LOST_AT_SIGNAL, encoding="utf-8")
    flags = (*FLAGS, "--engines-dir", str(gauges), "--metrics-port", "0", "--heartbeat-interval-s", "0.5")
    flags += ("--drain-grace-s", "600")
    with ServerProcess(*flags, command=COMMAND, paths=(str(tmp_path),)) as process:
        yield process


def worker_of(server: ServerProcess) -> int:
    [worker] = psutil.Process(server.process.pid).children()
    return worker.pid


@dataclass
class Camera:
    """One channel that sends until it is told to end, and notes what it hears."""

    name: str
    source: str
    engine: str
    policy: Policy
    verdicts: list[Verdict] = field(default_factory=list)
    sent: int = 0
    account: Account | None = None
    connections: int = 0

    async def run(self, client: Client, end: asyncio.Event) -> None:
        source = open_source(self.source, pace=False) if self.source else grey([value % 200 for value in range(9000)])
        async with await client.open(
            self.name, source.open(), engines=[self.engine], policy=self.policy, max_age_s=1.0
        ) as stream:
            hearing = asyncio.create_task(self._hear(stream))
            packets = source.packets()
            while not end.is_set():
                await stream.send(next(packets), wait=self.policy is Policy.EVERY_FRAME)
                self.sent += 1
                await asyncio.sleep(1 / FPS)
            self.account = await stream.finish()
            await hearing
            self.connections = stream.connections
        source.close()

    async def _hear(self, stream: Stream) -> None:
        async for verdict in stream:
            self.verdicts.append(verdict)

    @property
    def analysed(self) -> int:
        return sum(verdict.analysed for verdict in self.verdicts)


async def all_go_on(cameras: list[Camera], frames: int = 5) -> None:
    """Wait until every camera has so many more analysed frames."""
    goals = [(camera, camera.analysed + frames) for camera in cameras]
    async with asyncio.timeout(60):
        while any(camera.analysed < goal for camera, goal in goals):
            await asyncio.sleep(0.02)


@pytest.mark.timeout(240)
async def test_every_camera_goes_on_by_itself_after_each_death_of_the_worker(server: ServerProcess) -> None:
    cameras = [
        Camera("recorded-h264", H264.format(seed=1), "blobs", Policy.EVERY_FRAME),
        Camera("live-h264", H264.format(seed=2), "blobs", Policy.LIVE),
        Camera("live-h264-too", H264.format(seed=3), "blobs", Policy.LIVE),
        Camera("recorded-raw", "", "gauge", Policy.EVERY_FRAME),
    ]
    end = asyncio.Event()
    workers = [worker_of(server)]
    async with Client(server.address, reconnect=RECONNECT) as client, asyncio.TaskGroup() as group:
        for camera in cameras:
            group.create_task(camera.run(client, end))
        for number in (signal.SIGKILL, signal.SIGUSR1, signal.SIGKILL):
            await all_go_on(cameras)
            os.kill(workers[-1], number)
            # Nobody tells the cameras anything: what is new to them they find by themselves.
            await asyncio.to_thread(server.wait_for, "serving on ")
            workers.append(worker_of(server))
        await all_go_on(cameras)
        end.set()
    metrics = server.metrics
    assert server.stop() == 0
    assert "Traceback" not in server.output, server.output
    assert len(set(workers)) == 4
    assert {line.rpartition(":")[2] for line in server.lines if "serving on" in line} == {f"{server.port}\n"}
    ends = re.findall(r"worker ended \((.*?)\), restart in", server.output)
    assert ends == ["SIGKILL: out of memory?", "device lost, exit code 70", "SIGKILL: out of memory?"]
    assert metrics['vedette_worker_restarts_total{reason="SIGKILL"}'] == 2
    assert metrics['vedette_worker_restarts_total{reason="device_lost"}'] == 1
    for camera in cameras:
        assert camera.connections >= 4, camera.name
        check_account(camera)


def check_account(camera: Camera) -> None:
    """Every packet has one verdict, told once, and the account says the same."""
    account = camera.account
    assert account is not None
    # A live camera drops what it cannot send in time before it is numbered.
    numbered = camera.sent - account.client_dropped
    assert sorted(verdict.sequence for verdict in camera.verdicts) == list(range(numbered))
    assert (account.packets, account.pending) == (numbered, 0)
    assert account.analysed == camera.analysed
    assert account.skipped == Counter(verdict.reason for verdict in camera.verdicts if not verdict.analysed)
    if camera.policy is Policy.EVERY_FRAME:
        # It has kept what it would need, and waited: nothing is lost.
        assert account.analysed == camera.sent, [(v.sequence, v.reason, v.detail) for v in camera.verdicts if v.reason]
    else:
        # Too old by now, lost with the worker, or left out to catch up; nothing is wrong with the packets.
        harmless = {SkipReason.STALE, SkipReason.SESSION_LOST, SkipReason.SUPERSEDED, SkipReason.OVERLOAD}
        assert account.skipped.keys() <= harmless, account.skipped


def test_wrong_settings_end_it_without_a_second_try() -> None:
    flags = ("--port", "0", "--metrics-port", "off", "--engine", "nowhere")
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("vedette serve: engines.preload: ")
    assert done.stderr.count("\n") == 1


async def test_a_service_manager_that_signals_both_processes_asks_for_one_drain(server: ServerProcess) -> None:
    """As systemd does; only a second wish, to the supervisor, ends the drain's grace."""
    async with Wire(server.address, "endless") as camera:
        await camera.open(grey_config("endless", policy=stream_pb2.DELIVERY_POLICY_LIVE))
        for process in (server.process.pid, worker_of(server)):
            os.kill(process, signal.SIGTERM)
        while camera.drain is None:
            assert await camera.hear() is not None
        await asyncio.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 20) == 0
    assert "restart" not in server.output
