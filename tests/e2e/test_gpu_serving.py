"""The whole server on simulated GPUs: gRPC in, verdicts out, equal to those of the CPU."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support_gpu_serving import Gpus, Serving, serving
from support_streams import encoded, grey, outcome, publish_gauge
from vedette_client import Client, Policy, ReconnectOptions, SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support_streams import Packets
    from vedette_client import Verdict

VALUES = [5, 90, 30, 200, 60, 120] * 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_gauge(tmp_path)
    return tmp_path


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().out


async def analysed(
    server: Serving, source: Packets, channel: str = "a", engines: Sequence[str] = ("gauge",), **wishes: Any
) -> list[Verdict]:
    async with Client(server.address, reconnect=ReconnectOptions(give_up_s=20.0)) as client:
        analysis = await client.start(
            source, channel, engines=list(engines), **({"policy": Policy.EVERY_FRAME} | wishes)
        )
        return [verdict async for verdict in analysis]


@pytest.mark.parametrize("count", [1, 2])
async def test_verdicts_are_those_of_the_cpu(root: Path, printed: Callable[[], str], count: int) -> None:
    async with serving(root, None, printed) as server:
        wanted = outcome(await analysed(server, grey(VALUES)))
    gpus = Gpus(count)
    async with serving(root, gpus, printed) as server:
        verdicts = await analysed(server, grey(VALUES))
        figures = await server.metrics()
    assert outcome(verdicts) == wanted
    assert len(wanted) == len(VALUES)
    assert {result.backend for verdict in verdicts for result in verdict.results} == {"simulated"}
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="slot"}'] == len(VALUES)
    assert sum(value for name, value in figures.items() if name.startswith("vedette_batch_part_seconds_count")) > 0
    assert [name for name in figures if name.startswith("vedette_engine_backend{")] == [
        'vedette_engine_backend{backend="simulated",engine="gauge",fallback="the plan is for another GPU",version="1"}'
    ]
    assert {f'vedette_lane_overlap_ratio{{gpu="{gpu}"}}' for gpu in range(count)} <= figures.keys()
    assert figures['vedette_batches_in_flight{engine="gauge",version="1"}'] == 0
