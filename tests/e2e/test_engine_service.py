"""Engines steered while cameras run: the real server, the bundled client and its commands."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import support_cli
from support_serving import ServerProcess
from support_streams import HEIGHT, WIDTH, grey, publish_gauge
from vedette_client import Client, EngineState, EngineTask, Policy, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from vedette_client import Verdict

FLAGS = ("--lanes", "1", "--max-batch", "2", "--tune-budget-s", "0")
PATIENCE_S = 30.0
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

[[tokens]]
name = "head"
token = "head-secret"
channels = ["*"]
permissions = ["publish", "watch", "administer"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of engines in which there is version 1 of `gauge`."""
    publish_gauge(tmp_path / "engines")
    return tmp_path / "engines"


@pytest.fixture
def server(root: Path) -> Iterator[ServerProcess]:
    with ServerProcess(*FLAGS, "--engines-dir", str(root), "--engine", "gauge") as process:
        yield process
        assert "Traceback" not in process.output, process.output


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await look():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def cameras(client: Client, *names: str) -> AsyncIterator[dict[str, list[Verdict]]]:
    """Cameras that send 50 pictures a second for as long as the block lasts, and what was said of each."""
    heard: dict[str, list[Verdict]] = {name: [] for name in names}

    async def watch(name: str) -> None:
        async for verdict in client.analyze(grey([90] * 5000, fps=50), name, engines=["gauge"], policy=Policy.LIVE):
            heard[name].append(verdict)

    tasks = [asyncio.create_task(watch(name)) for name in names]
    try:

        async def all_heard() -> bool:
            return all(heard.values())

        await until(all_heard)
        yield heard
        assert not any(task.done() for task in tasks), "a stream was cut"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def running(heard: dict[str, list[Verdict]]) -> dict[str, str]:
    """The version that each camera ran last."""
    latest = {name: [one for one in said if one.analysed][-1] for name, said in heard.items()}
    return {name: one.results[0].version for name, one in latest.items()}


async def test_a_version_goes_from_canary_to_stable_and_back_under_cameras(server: ServerProcess, root: Path) -> None:
    names = [f"gate-{number}" for number in range(4)]
    async with Client(server.address) as client, cameras(client, *names) as heard:
        route = await client.engines.update_route("gauge", stable="1")
        assert (route.stable, route.follows) == ("1", False)
        publish_gauge(root, version="2")

        async def listed() -> bool:
            return len((await client.engines.get("gauge")).versions) == 2

        await until(listed)
        assert (await client.engines.load("gauge", "2")).state is EngineState.READY
        route = await client.engines.update_route("gauge", canary="2", canary_share=0.25)
        assert (route.canary, route.canary_share) == ("2", 0.25)

        async def runs(*versions: str) -> None:
            async def is_so() -> bool:
                return sorted(running(heard).values()) == sorted(versions)

            await until(is_so)

        await runs("1", "1", "1", "2")
        first = [name for name, version in running(heard).items() if version == "2"]
        await client.engines.update_route("gauge", canary_share=0.5)
        await runs("1", "1", "2", "2")
        assert running(heard)[first[0]] == "2"
        route = await client.engines.promote("gauge")
        assert (route.stable, route.canary, route.previous[0]) == ("2", "", "1")
        await runs("2", "2", "2", "2")
        with pytest.raises(RefusedError) as refused:
            await client.engines.unload("gauge", "2")
        assert refused.value.code == "FAILED_PRECONDITION"
        route = await client.engines.roll_back("gauge")
        assert route.stable == "1"
        await runs("1", "1", "1", "1")
        newest, _ = (await client.engines.get("gauge")).versions
        assert (newest.version, newest.withdrawn) == ("2", True)
        with pytest.raises(RefusedError) as refused:
            await client.engines.update_route("gauge", canary="2", canary_share=0.5, revision=route.revision - 1)
        assert refused.value.code == "ABORTED"
        for said in heard.values():
            assert not [one.reason for one in said if one.reason is not None and one.reason.name == "ENGINE_ERROR"]


async def test_what_the_server_has_is_listed_and_loaded_and_let_go_of(server: ServerProcess, root: Path) -> None:
    publish_gauge(root, "other")
    bad = root / "torn" / "1"
    bad.mkdir(parents=True)
    (bad / "engine.toml").write_text("nothing = ")
    async with Client(server.address) as client:

        async def seen() -> bool:
            return {"gauge", "other", "torn", "person", "blobs"} <= {one.name for one in await client.engines.list()}

        await until(seen)
        engines = {one.name: one for one in await client.engines.list()}
        (gauge,) = engines["gauge"].versions
        assert (gauge.state, gauge.task) == (EngineState.READY, EngineTask.DETECTOR)
        assert (gauge.width, gauge.height, gauge.labels) == (WIDTH, HEIGHT, ("grey",))
        assert (gauge.backend, gauge.file, gauge.lanes) == ("onnxruntime:CPUExecutionProvider", "model.onnx", 1)
        assert engines["other"].versions[0].state is EngineState.AVAILABLE
        assert engines["torn"].versions[0].state is EngineState.BAD
        assert engines["torn"].versions[0].reason
        assert (await client.engines.load("other")).state is EngineState.READY
        gone = await client.engines.unload("other", "1")
        assert gone.state in {EngineState.DRAINING, EngineState.AVAILABLE}
        for call in (client.engines.load("torn"), client.engines.load("nobody"), client.engines.route("nobody")):
            with pytest.raises(RefusedError) as refused:
                await call
            assert refused.value.code == "NOT_FOUND"
        with pytest.raises(RefusedError) as refused:
            await client.engines.promote("gauge")
        assert refused.value.code == "FAILED_PRECONDITION"


async def test_a_shadow_is_compared_and_frames_are_sampled(server: ServerProcess, root: Path, tmp_path: Path) -> None:
    async with Client(server.address) as client, cameras(client, "gate", "yard") as heard:
        await client.engines.update_route("gauge", stable="1")
        publish_gauge(root, version="2")

        async def listed() -> bool:
            return len((await client.engines.get("gauge")).versions) == 2

        await until(listed)
        await client.engines.update_route("gauge", shadow="2")

        async def compared() -> bool:
            return (await client.engines.shadow("gauge")).compared > 5

        await until(compared)
        report = await client.engines.shadow("gauge")
        assert (report.version, report.against, report.failed) == ("2", "1", 0)
        assert set(running(heard).values()) == {"1"}
        frames = [one async for one in client.engines.frames("gauge", count=4, interval_s=0.05)]
        assert {frame.channel for frame in frames} == {"gate", "yard"}
        with Image.open(io.BytesIO(frames[0].png)) as image:
            assert (image.size, image.getpixel((5, 5))) == ((WIDTH, HEIGHT), (90, 90, 90))
        said = await asyncio.to_thread(
            support_cli.vedette,
            *("engine", "frames", "gauge", "--server", server.address, "--count", "3", "--interval", "0.05"),
            *("-o", tmp_path / "frames", "--channel", "yard"),
        )
        assert (said.code, said.out) == (0, f"3 frames of 1 channel in {tmp_path / 'frames'}\n"), said.err
        said = await asyncio.to_thread(
            support_cli.vedette, "engine", "shadow", "gauge", "--server", server.address, "-o", tmp_path / "seen"
        )
        assert said.code == 0, said.err
        assert "shadow 2 against stable 1" in said.out


async def test_tokens_say_who_may_steer(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text(TOKENS)
    tokens = ("--tokens", str(tmp_path / "tokens.toml"))
    with ServerProcess(*FLAGS, "--engines-dir", str(root), "--engine", "gauge", *tokens) as process:
        async with Client(process.address, token="head-secret") as head:
            assert (await head.engines.update_route("gauge", stable="1")).stable == "1"
        async with Client(process.address, token="desk-secret") as desk:
            assert (await desk.engines.route("gauge")).stable == "1"
            for call in (desk.engines.load("gauge"), desk.engines.promote("gauge")):
                with pytest.raises(RefusedError) as refused:
                    await call
                assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
            with pytest.raises(RefusedError):
                await anext(desk.engines.frames("gauge"))
        async with Client(process.address, token="gate-secret") as gates:
            with pytest.raises(RefusedError):
                await gates.engines.list()
        async with Client(process.address) as nobody:
            with pytest.raises(RefusedError) as refused:
                await nobody.engines.list()
            assert refused.value.reason == "NO_TOKEN"
