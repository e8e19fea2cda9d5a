"""An engine that throws: its batch's frames are told, the lane goes on, and the health says when it stays bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_serving import ServerProcess
from support_streams import BRIGHTEST, grey
from support_wire import until
from vedette_client import Client, Policy, SkipReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DARK, BRIGHT = 50, BRIGHTEST + 40


@pytest.fixture(scope="module")
def moody_server(gauges: Path) -> Iterator[ServerProcess]:
    """One frame in a batch, so that a failure has one frame; its log is full of tracebacks, rightly."""
    flags = ("--engine", "moody", "--lanes", "1", "--max-batch", "1", "--tune-budget-s", "0")
    with ServerProcess(*flags, "--engines-dir", str(gauges)) as process:
        yield process


async def test_a_frame_on_which_the_engine_fails_is_told_and_the_rest_is_analysed(moody_server: ServerProcess) -> None:
    values = [DARK, BRIGHT, DARK, DARK, BRIGHT, BRIGHT, DARK]
    async with Client(moody_server.address) as client:
        wanted = client.analyze(grey(values), "moody", engines=["moody"], policy=Policy.EVERY_FRAME)
        verdicts = [verdict async for verdict in wanted]
    assert [v.reason for v in verdicts] == [SkipReason.ENGINE_ERROR if v == BRIGHT else None for v in values]
    assert all(v.detail for v in verdicts if v.reason)
    assert all(v.detections[0].score == pytest.approx(DARK / 256) for v in verdicts if not v.reason)


async def test_repeated_failure_turns_the_health_until_a_batch_succeeds(moody_server: ServerProcess) -> None:
    async with Client(moody_server.address) as client:
        assert await client.health() == "SERVING"
        stream = await client.open("health", grey([]).video, engines=["moody"], policy=Policy.EVERY_FRAME)
        for packet in grey([BRIGHT] * 3).packets():
            await stream.send(packet)

        async def is_not_serving() -> bool:
            return await client.health() == "NOT_SERVING"

        async def is_serving() -> bool:
            return await client.health() == "SERVING"

        await until(is_not_serving)
        for packet in grey([DARK]).packets():
            await stream.send(packet)
        await until(is_serving)
        account = await stream.finish()
        assert (account.analysed, account.skipped[SkipReason.ENGINE_ERROR]) == (1, 3)


async def test_one_of_two_engines_that_fails_costs_the_frame(moody_server: ServerProcess) -> None:
    async with Client(moody_server.address) as client:
        wanted = client.analyze(
            grey([DARK, BRIGHT, DARK]), "both", engines=["gauge", "moody"], policy=Policy.EVERY_FRAME
        )
        verdicts = [verdict async for verdict in wanted]
    assert [v.reason for v in verdicts] == [None, SkipReason.ENGINE_ERROR, None]
    assert [result.engine for result in verdicts[0].results] == ["gauge", "moody"]
