"""Steering a server's engines with the client's library: the real service, and a control that runs no engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from support_steering import WAIT_S, FakeControl, picture, sample, steering_server
from vedette.v1 import engine_pb2
from vedette_client import Client, ConnectionLostError, EngineState, EngineTask, OptionsError, RefusedError, sync
from vedette_client.engine_info import version_from_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@asynccontextmanager
async def connected(control: FakeControl) -> AsyncIterator[Client]:
    async with steering_server(control) as address, Client(address) as client:
        yield client


async def test_engines_come_with_their_versions_and_routes(control: FakeControl) -> None:
    async with connected(control) as client:
        person, scene, torn = await client.engines.list()
        assert await client.engines.get("person") == person
    assert [one.version for one in person.versions] == ["3", "2", "1"]
    running = person.versions[2]
    assert (running.engine, running.state, running.task) == ("person", EngineState.READY, EngineTask.DETECTOR)
    assert (running.backend, running.labels, running.memory_bytes) == (
        "CPUExecutionProvider",
        ("person", "car"),
        12_300_000,
    )
    assert person.route is not None
    assert (person.route.stable, person.route.follows) == ("1", True)
    assert scene.versions[0].task is EngineTask.CLASSIFIER
    assert (torn.route, torn.versions[0].reason) == (None, "model.onnx: its sha256 differs")


async def test_the_way_of_a_new_version_from_canary_to_stable_and_back(control: FakeControl) -> None:
    async with connected(control) as client:
        engines = client.engines
        assert (await engines.load("person", "2")).state is EngineState.READY
        route = await engines.update_route("person", canary="2", canary_share=0.1)
        assert (route.stable, route.canary, route.canary_share, route.revision) == ("1", "2", 0.1, 1)
        route = await engines.update_route("person", canary_share=0.2, revision=1)
        assert (route.canary, route.canary_share) == ("2", 0.2)
        assert (await engines.promote("person")).stable == "2"
        assert (await engines.roll_back("person")).stable == "1"
        assert (await engines.update_route("person", stable="")).follows
        assert (await engines.unload("person", "2")).state is EngineState.AVAILABLE
        assert await engines.route("person") == (await engines.get("person")).route


async def test_a_refusal_carries_the_servers_reason(control: FakeControl) -> None:
    async with connected(control) as client:
        with pytest.raises(RefusedError, match="neither a canary nor a shadow") as refused:
            await client.engines.promote("person")
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "NOTHING_TO_PROMOTE")
        with pytest.raises(RefusedError) as refused:
            await client.engines.update_route("person", shadow="2", revision=7)
        assert (refused.value.code, refused.value.reason) == ("ABORTED", "ROUTE_CHANGED")
        with pytest.raises(OptionsError, match="nothing of the route"):
            await client.engines.update_route("person", revision=7)


async def test_who_waits_no_longer_is_told_that_the_server_goes_on(control: FakeControl) -> None:
    control.hold.clear()
    async with connected(control) as client:
        with pytest.raises(ConnectionLostError, match=r"no answer within 0\.2 s; what the server has begun"):
            await client.engines.load("person", timeout_s=0.2)
        control.hold.set()
        async with asyncio.timeout(WAIT_S):
            while (await client.engines.get("person")).versions[0].state is not EngineState.READY:
                await asyncio.sleep(0.01)


async def test_a_shadow_is_told_with_as_many_samples_as_wanted(control: FakeControl) -> None:
    control.samples = [sample(index, jpeg=bytes(1_500_000)) for index in range(1, 6)]
    async with connected(control) as client:
        with pytest.raises(RefusedError, match="no version"):
            await client.engines.shadow("person")
        await client.engines.update_route("person", shadow="2")
        report = await client.engines.shadow("person")
        assert (report.version, report.against, report.compared, report.only_stable) == ("2", "1", 200, 9)
        plain = await client.engines.shadow_samples("person")
        assert [(one.index, one.channel, one.sequence, one.jpeg) for one in plain] == [
            (index, "gate", 100 + index, b"") for index in (5, 4, 3, 2, 1)
        ]
        lost = plain[0].stable[1]
        assert (lost.label, lost.unmatched, lost.box) == ("person", True, (0.5, 0.5, 0.75, 0.75))
        seen = await client.engines.shadow_samples("person", pictures=True, limit=4)
        assert [len(one.jpeg) for one in seen] == [1_500_000] * 4


async def test_frames_come_until_there_are_enough(control: FakeControl) -> None:
    async with connected(control) as client:
        frames = [frame async for frame in client.engines.frames("person", count=4, interval_s=0.5, channels=["yard"])]
        assert [frame.channel for frame in frames] == ["yard"] * 4
        assert frames[0].png == picture("PNG", shade=frames[0].sequence)
        assert control.samplers[0][0] == 0.5
        with pytest.raises(OptionsError, match="count is 0"):
            await anext(client.engines.frames("person", count=0))


async def test_leaving_the_loop_early_stops_the_sampling(control: FakeControl) -> None:
    async with connected(control) as client:
        frames = client.engines.frames("person")
        await anext(frames)
        await frames.aclose()
        assert await asyncio.to_thread(control.stopped.wait, WAIT_S)


async def test_the_blocking_twin_does_the_same(control: FakeControl) -> None:
    def drive(address: str) -> list[object]:
        with sync.Client(address) as client:
            engines = client.engines
            seen: list[object] = [[one.name for one in engines.list()], engines.load("person").version]
            seen += [engines.update_route("person", shadow="3").shadow, engines.shadow("person").compared]
            seen += [len(engines.shadow_samples("person")), engines.promote("person").stable]
            seen += [engines.update_route("person", stable="2").stable, engines.roll_back("person").stable]
            seen += [engines.route("person").stable, engines.get("person").name]
            seen += [len(list(engines.frames("person", count=3))), engines.unload("person", "2").version]
            next(iter(engines.frames("person")))
            return seen

    async with steering_server(control) as address:
        seen = await asyncio.to_thread(drive, address)
    assert seen == [["person", "scene", "torn"], "3", "3", 200, 0, "3", "2", "3", "3", "person", 3, "2"]


def test_a_state_that_a_newer_server_invents_is_unknown() -> None:
    wire = engine_pb2.EngineVersion(name="engines/person/versions/1", state=99, task=99)  # type: ignore[arg-type]
    one = version_from_wire(wire)
    assert (one.engine, one.version, one.state, one.task) == ("person", "1", EngineState.UNKNOWN, EngineTask.UNKNOWN)
