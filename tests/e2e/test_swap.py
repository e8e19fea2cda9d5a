"""A newer version takes over under live channels: no frame is lost, none has two verdicts, pinned channels stay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support_middle import Cut, Middle
from support_serving import ServerProcess
from support_streams import GREY_FORMAT, grey, publish_gauge
from support_wire import until
from vedette_client import Client, Policy, ReconnectOptions

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = ("--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0", "--watch-interval-s", "0.1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_gauge(tmp_path, version="1")
    return tmp_path


class Camera:
    """A channel that sends until it is told to stop, and keeps what it hears."""

    def __init__(self, client: Client, name: str, engine: str = "gauge", policy: Policy = Policy.LIVE) -> None:
        self.client, self.name, self.engine, self.policy = client, name, engine, policy
        self.sent = 0
        self.versions: list[str] = []
        self.sequences: list[int] = []
        self.skipped = 0
        self.stopping = False

    async def run(self) -> None:
        stream = await self.client.open(self.name, GREY_FORMAT, engines=[self.engine], policy=self.policy)
        reader = asyncio.create_task(self.read(stream))
        packets = grey([100] * 100_000).packets()
        while not self.stopping:
            await stream.send(next(packets))
            self.sent += 1
            await asyncio.sleep(0.01)
        self.account = await stream.finish()
        await reader

    async def read(self, stream: object) -> None:
        while verdicts := await stream.read():  # type: ignore[attr-defined]
            for verdict in verdicts:
                self.sequences.append(verdict.sequence)
                self.skipped += not verdict.analysed
                self.versions += [result.version for result in verdict.results]

    def check(self) -> None:
        assert self.sequences == list(range(self.sent))
        assert self.versions == sorted(self.versions)


async def test_a_newer_version_takes_over_between_two_batches(root: Path) -> None:
    with ServerProcess("--engines-dir", str(root), "--engine", "gauge", *FLAGS, "--metrics-port", "0") as server:
        assert server.metrics.get('vedette_engine_swaps_total{engine="gauge"}', 0.0) == 0.0
        async with Client(server.address) as client:
            cameras = [Camera(client, f"live-{n}") for n in range(4)]
            cameras += [Camera(client, f"file-{n}", policy=Policy.EVERY_FRAME) for n in range(2)]
            pinned = Camera(client, "pinned", "gauge@1")
            async with asyncio.TaskGroup() as group:
                for camera in (*cameras, pinned):
                    group.create_task(camera.run())

                async def have(version: str) -> bool:
                    return all(camera.versions[-1:] == [version] for camera in cameras)

                await until(lambda: have("1"))
                await asyncio.to_thread(publish_gauge, root, version="2")
                await until(lambda: have("2"))
                for camera in (*cameras, pinned):
                    camera.stopping = True
            for camera in (*cameras, pinned):
                camera.check()
            assert set(pinned.versions) == {"1"}
            await asyncio.to_thread(server.wait_for, "engine swap")
            assert server.metrics['vedette_engine_swaps_total{engine="gauge"}'] == 1
        assert "Traceback" not in server.output


async def test_a_stream_that_is_cut_while_a_version_takes_over_goes_on_where_it_was(root: Path) -> None:
    async with Middle("") as middle:
        with ServerProcess("--engines-dir", str(root), "--engine", "gauge", *FLAGS) as server:
            middle.target = server.address

            async def publish() -> None:
                await asyncio.to_thread(publish_gauge, root, version="2")
                await asyncio.to_thread(server.wait_for, "engine taken over")

            middle.cuts = [Cut("down", 6, publish), Cut("up", 3), Cut("down", 2)]
            async with Client(
                middle.address, reconnect=ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=20.0)
            ) as client:
                wanted = client.analyze(grey(range(120), fps=100), "cut", engines=["gauge"], policy=Policy.EVERY_FRAME)
                verdicts = [verdict async for verdict in wanted]
            assert middle.met == 3
            assert "Traceback" not in server.output
    assert [verdict.sequence for verdict in verdicts] == list(range(120))
    versions = [verdict.results[0].version for verdict in verdicts]
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}
    scores = [verdict.detections[0].score for verdict in verdicts if verdict.detections]
    assert scores == pytest.approx([value / 256 for value in range(120)][-len(scores) :])
