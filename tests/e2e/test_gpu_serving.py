"""The whole server on simulated GPUs: gRPC in, verdicts out, equal to those of the CPU."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from support_gpu_serving import Gpus, Serving, serving
from support_streams import GREY_FORMAT, encoded, grey, outcome, publish_gauge
from vedette_client import Client, ClientError, Policy, ReconnectOptions, SkipReason
from vedette_server.data.engine import RouteChange
from vedette_server.execute.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_streams import Packets
    from vedette_client import Verdict
    from vedette_server.data.engine import SampledFrame
    from vedette_server.execute.engines import Engines

VALUES = [5, 90, 30, 200, 60, 120] * 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_gauge(tmp_path)
    return tmp_path


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().out


async def analysed(
    server: Serving, source: Packets, channel: str = "a", policy: Policy = Policy.EVERY_FRAME
) -> list[Verdict]:
    async with Client(server.address, reconnect=ReconnectOptions(give_up_s=20.0)) as client:
        analysis = await client.start(source, channel, engines=["gauge"], policy=policy)
        return [verdict async for verdict in analysis]


def batches_on(gpus: Gpus, gpu: int) -> int:
    return sum("engine" in span.label for span in gpus.devices[gpu].timeline.spans)


def engines_of(server: Serving) -> Engines:
    assert server.app._engines is not None
    return server.app._engines


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


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


async def test_two_gpus_share_the_frames(root: Path, printed: Callable[[], str]) -> None:
    gpus = Gpus(2, duration_s=lambda _: 0.002)
    async with serving(root, gpus, printed) as server:
        await asyncio.gather(*(analysed(server, grey(VALUES), f"cam-{index}") for index in range(4)))
        after = [batches_on(gpus, 0), batches_on(gpus, 1)]
    assert min(after) > 3


async def test_a_device_that_letterboxes_gives_the_cpus_verdicts_within_its_bound(
    root: Path, printed: Callable[[], str]
) -> None:
    async with serving(root, None, printed) as server:
        wanted = await analysed(server, encoded("h264-b"))
    gpus = Gpus(1)
    async with serving(root, gpus, printed, preprocess="device") as server:
        verdicts = await analysed(server, encoded("h264-b"))
        figures = await server.metrics()
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="host"}'] == len(wanted)
    scores, expected = (
        {v.sequence: [d.score for d in v.detections] for v in verdicts} for verdicts in (verdicts, wanted)
    )
    assert scores.keys() == expected.keys()
    for sequence, those in expected.items():
        # The kernel's bound: half a level on the mean of a picture.
        assert scores[sequence] == pytest.approx(those, abs=0.5 / 256)


async def test_grey_pictures_have_no_layout_for_the_device_and_are_letterboxed_by_the_cpu(
    root: Path, printed: Callable[[], str]
) -> None:
    async with serving(root, Gpus(1), printed, preprocess="device") as server:
        verdicts = await analysed(server, grey(VALUES))
        figures = await server.metrics()
    assert all(verdict.analysed for verdict in verdicts)
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="slot"}'] == len(VALUES)


async def test_batches_that_fail_cost_their_frames_and_no_more(root: Path, printed: Callable[[], str]) -> None:
    gpus = Gpus(1)
    async with serving(root, gpus, printed, preload=("gauge",)) as server:
        gpus.refuses = 2
        verdicts = await analysed(server, grey(VALUES))
        figures = await server.metrics()
    failed = [verdict for verdict in verdicts if not verdict.analysed]
    assert {verdict.reason for verdict in failed} == {SkipReason.ENGINE_ERROR}
    assert 2 <= len(failed) <= 8
    assert sorted(verdict.sequence for verdict in verdicts) == list(range(len(VALUES)))
    assert figures['vedette_engine_failures_total{engine="gauge",version="1"}'] == 2
    assert figures['vedette_slots_in_use{engine="gauge",version="1"}'] == 0


async def test_a_gpu_that_is_lost_costs_its_share_while_another_is_left(root: Path, printed: Callable[[], str]) -> None:
    gpus = Gpus(2, duration_s=lambda _: 0.01)
    async with serving(root, gpus, printed, preload=("gauge",)) as server:
        stream = asyncio.create_task(analysed(server, grey([50] * 200, fps=200)))
        await until(lambda: batches_on(gpus, 0) > 20)
        gpus.devices[0].lose()
        verdicts = await stream
        later = await analysed(server, grey(VALUES), "b")
        figures = await server.metrics()
        assert not server.task.done()
    assert sorted(verdict.sequence for verdict in verdicts) == list(range(200))
    failed = [verdict for verdict in verdicts if not verdict.analysed]
    assert {verdict.reason for verdict in failed} <= {SkipReason.ENGINE_ERROR}
    assert len(failed) < 100
    assert all(verdict.analysed for verdict in later)
    assert [figures[f'vedette_gpu_lost{{gpu="{gpu}"}}'] for gpu in (0, 1)] == [1, 0]
    assert server.code == 0


async def test_when_the_last_gpu_is_lost_the_process_ends_with_its_own_code_and_says_why(
    root: Path, printed: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    gpus = Gpus(1, duration_s=lambda _: 0.01)
    async with serving(root, gpus, printed, preload=("gauge",)) as server:
        async with Client(server.address, reconnect=ReconnectOptions(give_up_s=0)) as client:
            analysis = await client.start(grey([50] * 10_000, fps=100), "a", engines=["gauge"])
            await until(lambda: batches_on(gpus, 0) > 20)
            gpus.devices[0].lose("CUDA_ERROR_ILLEGAL_ADDRESS")
            with contextlib.suppress(ClientError):
                async for _ in analysis:
                    pass
        assert await asyncio.wait_for(asyncio.shield(server.task), 20) == 70
    assert "this process ends: GPU 0 is lost (CUDA_ERROR_ILLEGAL_ADDRESS" in caplog.text
    assert "nothing is left that runs gauge" in caplog.text


async def test_a_gpu_that_is_lost_before_it_was_used_ends_the_process_too(
    root: Path, printed: Callable[[], str]
) -> None:
    gpus = Gpus(1)
    gpus.opener.executor(0)
    gpus.devices[0].lose()
    async with serving(root, gpus, printed, preload=("gauge",)) as server:
        assert server.address == ""
    assert server.code == 70


async def test_a_newer_version_takes_over_on_the_gpus_and_no_frame_is_lost(
    root: Path, printed: Callable[[], str]
) -> None:
    gpus = Gpus(2, duration_s=lambda _: 0.003)
    async with serving(root, gpus, printed, watch_interval_s=0.05, keep_previous_s=0.05) as server:
        stream = asyncio.create_task(analysed(server, grey([50] * 300, fps=150)))
        await until(lambda: gpus.devices.keys() == {0, 1} and batches_on(gpus, 0) > 20)
        publish_gauge(root, version="2")
        verdicts = await stream
        await until(lambda: len(engines_of(server).fleet.loaded) == 1)
    assert sorted(verdict.sequence for verdict in verdicts) == list(range(300))
    assert all(verdict.analysed for verdict in verdicts)
    versions = [verdict.results[0].version for verdict in verdicts]
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}


async def test_canary_and_shadow_run_on_the_gpus_and_a_shadow_says_how_it_compares(
    root: Path, printed: Callable[[], str]
) -> None:
    publish_gauge(root, version="2")
    async with serving(root, Gpus(2), printed, preprocess="device") as server:
        steering = Steering(engines_of(server))
        await asyncio.to_thread(steering.change_route, "gauge", RouteChange(stable="1", shadow="2"))
        verdicts = await analysed(server, grey([50] * 100, fps=100), policy=Policy.LIVE)
        totals, _ = await asyncio.to_thread(steering.shadow, "gauge")
        assert {verdict.results[0].version for verdict in verdicts if verdict.results} == {"1"}
        assert totals is not None
        assert totals.compared > 10
        assert (totals.differing, totals.failed) == (0, 0)
        await asyncio.to_thread(steering.change_route, "gauge", RouteChange(shadow="", canary="2", canary_share=1.0))
        verdicts = await analysed(server, grey(VALUES), "b")
        assert {verdict.results[0].version for verdict in verdicts} == {"2"}


async def test_who_samples_frames_gets_pixels_where_the_device_letterboxes(
    root: Path, printed: Callable[[], str]
) -> None:
    async with serving(root, Gpus(1), printed, preload=("gauge",), preprocess="device") as server:
        frames: list[SampledFrame] = []
        stop = Steering(engines_of(server)).sample_frames("gauge", 0.0, frames.append)
        verdicts = await analysed(server, encoded("h264-b"))
        await until(lambda: bool(frames))
        stop()
    shown = cv2.imdecode(np.frombuffer(frames[0].png, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    wanted = next(verdict for verdict in verdicts if verdict.sequence == frames[0].sequence).detections[0].score
    assert float(shown.mean()) / 256 == pytest.approx(wanted, abs=0.5 / 256)


async def test_a_drain_finishes_what_is_on_the_gpu(root: Path, printed: Callable[[], str]) -> None:
    gpus = Gpus(1, duration_s=lambda _: 0.05)
    async with (
        serving(root, gpus, printed, preload=("gauge",)) as server,
        Client(server.address, reconnect=ReconnectOptions(give_up_s=0)) as client,
    ):
        stream = await client.open("a", GREY_FORMAT, engines=["gauge"], policy=Policy.EVERY_FRAME)
        source = grey([50] * 30).packets()
        for packet in source:
            await stream.send(packet)
        await until(lambda: batches_on(gpus, 0) > 1)
        ending = asyncio.create_task(server.end())
        account = await stream.finish()
        assert await ending == 0
    assert account.packets == account.analysed + account.skipped.total() == 30


async def test_a_server_that_must_end_at_once_lets_go_of_frames_that_are_under_way(
    root: Path, printed: Callable[[], str]
) -> None:
    gpus = Gpus(2, duration_s=lambda _: 0.05)
    async with (
        serving(root, gpus, printed, preload=("gauge",), preprocess="device") as server,
        Client(server.address, reconnect=ReconnectOptions(give_up_s=0)) as client,
    ):
        analysis = await client.start(grey([50] * 10_000, fps=500), "a", engines=["gauge"])
        await until(lambda: batches_on(gpus, 0) > 5)
        # A device that has something left open when it closes fails the test.
        server.app._end_at_once()
        with contextlib.suppress(ClientError):
            async for _ in analysis:
                pass
        await server.end()
